"""How a command brings its inputs up to date: which videos, what a dry run leaves alone, what VIDEOS no longer has."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from conftest import CONFIG, MakeClips, tree
from typer.testing import CliRunner

from amefu_cli.artefacts.video_store import open_store
from amefu_cli.cli import app
from amefu_cli.commands.work import shard_of

ARRAY = {"ID": "0", "COUNT": "3", "MIN": "0", "MAX": "2"}


def amefu(work: Path, *words: str | Path) -> str:
    """What one command of the workspace `work` says on stderr, run in this process; its errors are raised."""
    done = CliRunner().invoke(app, [*map(str, words), "--workspace", str(work)], catch_exceptions=False)
    assert done.exit_code == 0, done.output
    return done.stderr


def videos_in(store: Path) -> list[str]:
    return list(open_store(store, store.stem, mend="").records())


@pytest.fixture
def fresh(tmp_path: Path, make_clips: MakeClips) -> Path:
    """A workspace with nothing but settings, beside `videos` of three classes of two clips each."""
    make_clips(tmp_path / "videos", ("bow", "clap", "dive"), 2)
    (tmp_path / "work").mkdir()
    (tmp_path / "work/amefu.toml").write_text(CONFIG)
    return tmp_path / "work"


def in_array(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in ARRAY.items():
        monkeypatch.setenv(f"SLURM_ARRAY_TASK_{name}", value)


def test_a_share_of_the_disparity_needs_that_share_of_the_frames(fresh: Path) -> None:
    amefu(fresh, "depth", fresh.parent / "videos", "--shard", "1/3")
    share = [f"{name}/clip_{n}" for name in ("bow", "clap", "dive") for n in range(2)]
    share = [video for video in share if shard_of(video, 3) == 1]
    assert 0 < len(share) < 6
    assert videos_in(fresh / "frames.zarr") == videos_in(fresh / "depth.zarr") == share


def test_without_shares_an_array_task_makes_all_of_what_it_reads(fresh: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    in_array(monkeypatch)
    said = amefu(fresh, "depth", fresh.parent / "videos", "--shard", "none", "--dry-run")
    assert "frames: 6 videos to make" in said
    assert "frames: 6 videos to make" not in amefu(fresh, "depth", fresh.parent / "videos", "--dry-run")


def test_what_is_trained_in_an_array_is_trained_on_all_videos(workspace: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    in_array(monkeypatch)
    shutil.rmtree(workspace / "features.zarr")
    assert "features: 21 videos to make, 0 already" in amefu(workspace, "meta-train", "--dry-run")
    assert "features: 21 videos to make, 0 already" in amefu(workspace, "ablate", "--dry-run")
    shutil.rmtree(workspace / "depth.zarr/videos")
    said = amefu(workspace, "pretrain", "--modality", "depth", "--dry-run")
    assert "frames: " in said
    assert "depth: 21 videos to make, 0 already" in said


def test_a_dry_run_in_a_fresh_folder_says_what_it_can_know_and_writes_nothing(fresh: Path) -> None:
    before, videos = tree(fresh.parent), fresh.parent / "videos"
    assert "frames: 6 videos to make, 0 already" in amefu(fresh, "frames", videos, "--dry-run")
    said = amefu(fresh, "depth", videos, "--dry-run")
    assert "frames: 6 videos to make, 0 already" in said
    assert f"depth: what more there is to do is known once {fresh / 'frames.zarr'} is up to date" in said
    assert tree(fresh.parent) == before


def test_a_dry_run_goes_down_the_chain_as_far_as_it_is_known(workspace: Path) -> None:
    for name in ("frames.zarr/videos/bow/clip_1", "depth.zarr/videos/clap/clip_0", "features.zarr/videos/clap"):
        shutil.rmtree(workspace / name)
    before = tree(workspace)
    said = amefu(workspace, "meta-train", "--dry-run")
    assert "frames: 1 videos to make, 20 already" in said
    assert "depth: 1 videos to make, 19 already" in said
    assert "features: 2 videos to make, 17 already" in said
    assert f"meta-train: what more there is to do is known once {workspace / 'features.zarr'} is up to date" in said
    for words in (("ablate",), ("pretrain", "--modality", "rgb"), ("pretrain", "--modality", "depth"), ("features",)):
        assert "frames: 1 videos to make, 20 already" in amefu(workspace, *words, "--dry-run")
    assert tree(workspace) == before


@pytest.mark.parametrize("words", [("features",), ("meta-train",), ("pretrain", "--modality", "rgb")])
def test_a_dry_run_draws_no_split(workspace: Path, words: tuple[str, ...]) -> None:
    (workspace / "split.json").unlink()
    before = tree(workspace)
    amefu(workspace, *words, "--dry-run")
    assert tree(workspace) == before


def test_a_dry_run_of_a_rebuild_throws_nothing_away(workspace: Path) -> None:
    before = tree(workspace)
    for name in ("frames", "depth", "features"):
        assert f"{name}: 21 videos to make, 0 already" in amefu(workspace, name, "--rebuild", "--dry-run")
    assert "meta-train: would train" in amefu(workspace, "meta-train", "--rebuild", "--num-aug", "1", "--dry-run")
    assert tree(workspace) == before
