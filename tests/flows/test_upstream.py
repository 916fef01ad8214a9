"""How a command brings its inputs up to date: which videos, what a dry run leaves alone, what VIDEOS no longer has."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from conftest import CONFIG, MakeClips, tree
from typer.testing import CliRunner

from amefu_cli.artefacts.stores.header import KINDS
from amefu_cli.artefacts.stores.store import open_store
from amefu_cli.commands.app import app
from amefu_cli.engines.workers import shard_of
from amefu_cli.errors import SettingsMismatch, UsageError

STORES = ("frames", "depth", "features")
ARRAY = {"ID": "0", "COUNT": "3", "MIN": "0", "MAX": "2"}


def amefu(work: Path, *words: str | Path) -> str:
    """What one command of the workspace `work` says on stderr, run in this process; its errors are raised."""
    done = CliRunner().invoke(app, [*map(str, words), "--workspace", str(work)], catch_exceptions=False)
    assert done.exit_code == 0, done.output
    return done.stderr


def _refused(work: Path, *words: str) -> str:
    """What one command says on stderr before it is refused."""
    done = CliRunner().invoke(app, [*words, "--workspace", str(work)])
    assert isinstance(done.exception, UsageError)
    return done.stderr


def videos_in(store: Path) -> list[str]:
    return list(open_store(store, KINDS[store.stem], fix="").records())


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


def test_no_split_is_drawn_from_the_classes_of_a_share(fresh: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    in_array(monkeypatch)
    amefu(fresh, "frames", fresh.parent / "videos", "--only", "bow/clip_0")
    before = tree(fresh)
    with pytest.raises(UsageError, match="is not drawn from the classes of one share of the videos"):
        amefu(fresh, "features")
    assert tree(fresh) == before
    amefu(fresh, "features", "--shard", "none")
    assert (fresh / "split.json").is_file()
    assert len(videos_in(fresh / "features.zarr")) == 6
    amefu(fresh, "features")


def test_a_dry_run_in_a_fresh_folder_says_what_it_can_know_and_writes_nothing(fresh: Path) -> None:
    before, videos = tree(fresh.parent), fresh.parent / "videos"
    assert "frames: 6 videos to make, 0 already" in amefu(fresh, "frames", videos, "--dry-run")
    said = amefu(fresh, "depth", videos, "--dry-run")
    assert "frames: 6 videos to make, 0 already" in said
    assert f"depth: what more there is to do is known once {fresh / 'frames.zarr'} is up to date" in said
    assert tree(fresh.parent) == before


def test_a_dry_run_goes_down_the_chain_as_far_as_it_is_known(workspace: Path) -> None:
    for name in ("frames.zarr/videos/bow/clip_1.zip", "depth.zarr/videos/clap/clip_0.zip"):
        (workspace / name).unlink()
    shutil.rmtree(workspace / "features.zarr/videos/clap")
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
    for name in STORES:
        assert f"{name}: 21 videos to make, 0 already" in amefu(workspace, name, "--rebuild", "--dry-run")
    assert "meta-train: would train" in amefu(workspace, "meta-train", "--rebuild", "--num-aug", "1", "--dry-run")
    assert tree(workspace) == before


def test_links_that_were_followed_are_followed_by_every_later_line(fresh: Path) -> None:
    videos = fresh.parent / "linked"
    videos.mkdir()
    for folder in (fresh.parent / "videos").iterdir():
        (videos / folder.name).symlink_to(folder)
    with pytest.raises(UsageError, match="holds no clip"):
        amefu(fresh, "frames", videos)
    amefu(fresh, "frames", videos, "--follow-links")
    for words in (("depth", "--dry-run"), ("depth", videos, "--dry-run"), ("frames",)):
        assert f"frames: {fresh / 'frames.zarr'} is up to date (6 videos)" in amefu(fresh, *words)
    (fresh / "split.json").write_text('{"train": ["bow"], "test": ["clap", "dive"]}')
    assert "skipped" not in amefu(fresh, "split", "check")
    with pytest.raises(UsageError, match="holds no clip"):
        amefu(fresh, "frames", videos)


def test_a_clip_that_is_gone_is_named_until_it_is_taken_out(workspace: Path) -> None:
    videos, stores = workspace.parent / "videos", [workspace / f"{name}.zarr" for name in STORES]
    gone, moved = videos / "bow/clip_0.mp4", videos / "clap/clip_9.mp4"
    amefu(workspace, "frames", videos)
    shutil.move(gone, moved)
    warning = f"1 videos of {stores[0]} are no longer in {videos} (bow/clip_0), but are still used; take them out with"
    assert warning in amefu(workspace, "depth")
    assert warning in amefu(workspace, "frames")
    assert "(bow/clip_0); they would be taken out" in amefu(workspace, "frames", "--prune", "--dry-run")
    assert [len(videos_in(store)) for store in stores] == [22, 22, 21]
    assert "taken out" not in _refused(workspace, "frames", "--prune", "--only", "bow/typo")
    assert "(bow/clip_0); they are taken out" in amefu(workspace, "frames", "--prune")
    assert [len(videos_in(store)) for store in stores] == [21, 21, 20]
    assert not any("bow/clip_0" in videos_in(store) for store in stores)
    said = amefu(workspace, "features")
    assert "no longer in" not in said
    assert "features: 1 videos to make, 20 already" in said

    shutil.move(moved, gone)  # and it comes back: only its frames are made again
    amefu(workspace, "frames", "--prune")
    said = amefu(workspace, "features")
    assert [f"{store.stem}: {store} is up to date (21 videos)" in said for store in stores] == [True] * 3


def test_features_without_any_frames_beside_them_are_all_used(workspace: Path) -> None:
    shutil.rmtree(workspace / "frames.zarr")
    assert len(videos_in(workspace / "features.zarr")) == 21


def test_pruning_needs_the_folder(fresh: Path) -> None:
    videos = fresh.parent / "videos"
    amefu(fresh, "frames", videos)
    videos.rename(fresh.parent / "elsewhere")
    with pytest.raises(UsageError, match="is not there, so nothing says which of its clips are gone; name VIDEOS"):
        amefu(fresh, "frames", "--prune")
    assert "is up to date (6 videos)" in amefu(fresh, "frames", fresh.parent / "elsewhere", "--prune")


def test_another_folder_is_not_mixed_into_a_store(fresh: Path, make_clips: MakeClips) -> None:
    first, second = fresh.parent / "videos", fresh.parent / "other"
    make_clips(second, ("jump",), 1)
    amefu(fresh, "frames", first)
    before = tree(fresh)
    with pytest.raises(UsageError, match=r"holds none of the 6 videos of .*; take another --workspace, or replace"):
        amefu(fresh, "depth", second)
    assert tree(fresh) == before
    amefu(fresh, "frames", second, "--rebuild")
    assert videos_in(fresh / "frames.zarr") == ["jump/clip_0"]


def test_a_stream_that_was_never_pretrained_is_like_the_other_one(workspace: Path) -> None:
    """Of equal width and crop, though neither --backbone nor --crop stands anywhere but in the pretraining's line."""
    for name in ("features.zarr", "fusion.safetensors"):
        shutil.move(workspace / name, workspace.parent / name)
    settings = (workspace / "amefu.toml").read_text()
    for line in ('backbone = "squeezenet1_1"', "crop = 32"):
        settings = settings.replace(line, "")
    (workspace / "amefu.toml").write_text(settings)
    amefu(workspace, "pretrain", "--modality", "depth", "--backbone", "squeezenet1_1", "--crop", "32")
    said = amefu(workspace, "features")
    assert "the rgb stream was never pretrained" in said
    assert "squeezenet1_1 is used with weights 'none'" in said
    store = open_store(workspace / "features.zarr", KINDS["features"], fix="")
    assert store.header.streams["rgb"].crop == 32
    assert store.read("bow/clip_0").shape("rgb") == store.read("bow/clip_0").shape("depth")
    assert f"features: {store.path} is up to date (21 videos)" in amefu(workspace, "features")
    with pytest.raises(SettingsMismatch, match="backbone: squeezenet1_1 in the file, resnet50 asked for"):
        amefu(workspace, "features", "--backbone", "resnet50")
