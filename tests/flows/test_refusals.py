"""What is refused is refused before any work: nothing is made, replaced or deleted for it (exit 2)."""

from __future__ import annotations

import os
import shutil
from pathlib import Path
from typing import Any

import pytest
from conftest import SPLIT, tree
from typer.testing import CliRunner, Result

from amefu_cli.artefacts.files.split import make_split, write_split
from amefu_cli.artefacts.weights import sources as weights
from amefu_cli.errors import AmefuError, UsageError
from amefu_cli.stages import meta_train

ABSENT = ("--device", "cuda:99")


def amefu(workspace: Path, *words: object) -> Result:
    """One command in this process; its errors are raised."""
    from amefu_cli.commands.app import app

    done = CliRunner().invoke(app, [*map(str, words), "--workspace", str(workspace)], catch_exceptions=False)
    assert done.exit_code == 0, done.output
    return done


@pytest.mark.parametrize("stage", ["frames", "depth", "features"])
def test_a_dry_run_of_a_rebuild_deletes_nothing(workspace: Path, stage: str) -> None:
    before = tree(workspace)
    done = amefu(workspace, stage, "--rebuild", "--dry-run", "--no-upstream")
    assert f"{stage}: 21 videos to make, 0 already in" in done.stderr
    assert tree(workspace) == before


@pytest.mark.parametrize("stage", ["frames", "depth", "features"])
def test_a_dry_run_begins_no_store(workspace: Path, stage: str) -> None:
    before = tree(workspace.parent)
    amefu(workspace, stage, "--dry-run", "--no-upstream", "--out", workspace.parent / "new" / "other.zarr", *(
        [workspace.parent / "videos"] if stage == "frames" else []
    ))  # fmt: skip
    assert tree(workspace.parent) == before
    assert not (workspace.parent / "new").exists()


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ("depth --estimator bogus", "depth estimator 'bogus' is not known"),
        ("depth --estimator onnx:absent.onnx", "no such file; write onnx:FILE"),
        (f"depth --precision float32 {' '.join(ABSENT)}", "cuda:99: not present on this machine"),
        ("depth --out WORK/features.zarr", "holds 'features', not 'depth'; make one with `amefu depth`"),
        ("features --crop 500", "--crop 500: the frames in .* are only 32 pixels high"),
        ("features --backbone bogus", "backbone 'bogus' is not known"),
        ("features --weights absent.pt", "--weights absent.pt: no such file"),
        ("pretrain --modality rgb --backbone bogus", "backbone 'bogus' is not known"),
        ("pretrain --modality rgb --crop 500", "--crop 500: the frames in .* are only 32 pixels high"),
        ("pretrain --modality rgb --weights absent.pt", "--weights absent.pt: no such file"),
        ("meta-train --shot 50", "50-shot with 1 query needs 51"),
        ("meta-train --way 3 --queries 50", "dive holds 3 videos but 1-shot with 50 queries needs 51"),
        (f"meta-train {' '.join(ABSENT)}", "cuda:99: not present on this machine"),
    ],
)
@pytest.mark.parametrize("upstream", ["--upstream", "--no-upstream"])
def test_a_rebuild_with_an_option_that_is_refused_keeps_what_is_there(
    workspace: Path, words: str, message: str, upstream: str
) -> None:
    if words.startswith("pretrain"):
        (workspace / "rgb.safetensors").touch()
    before = tree(workspace)
    with pytest.raises(UsageError, match=message):
        amefu(workspace, *words.replace("WORK", str(workspace)).split(), "--rebuild", upstream)
    assert tree(workspace) == before


def test_a_rebuild_that_fails_leaves_the_old_result_and_goes_on(
    workspace: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = workspace / "fusion.safetensors"
    before, step, steps = path.read_bytes(), meta_train.meta_train_episode, iter(range(7))

    def failing(*inputs: Any, **options: Any) -> Any:
        if next(steps, None) is None:
            raise AmefuError("the second epoch breaks off")
        return step(*inputs, **options)

    typed = ("meta-train", "--num-aug", "1", "--rebuild", "--no-upstream")
    with monkeypatch.context() as patch:
        patch.setattr(meta_train, "meta_train_episode", failing)
        with pytest.raises(AmefuError, match="the second epoch breaks off"):
            amefu(workspace, *typed)
    assert path.read_bytes() == before
    assert "; goes on after step 0 of epoch 2" in amefu(workspace, *typed).stderr
    assert path.read_bytes() != before
    assert "is up to date" in amefu(workspace, *typed[:-2], "--no-upstream").stderr
    assert sorted(found.name for found in workspace.glob("fusion.*")) == ["fusion.metrics.jsonl", "fusion.safetensors"]


def test_a_first_run_that_fails_begins_no_store(workspace: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """So that the right command, typed next, meets no header of the wrong one."""
    for stage in ("depth", "features"):
        shutil.rmtree(workspace / f"{stage}.zarr")

    def offline(*_: Any, **__: Any) -> None:
        raise AmefuError("offline")

    monkeypatch.setattr(weights, "fetch", offline)
    monkeypatch.setenv("AMEFU_CACHE", str(workspace / "cache"))
    before = tree(workspace)
    for estimator, error in (("bogus", UsageError), ("onnx:absent", UsageError), ("monodepth2", AmefuError)):
        with pytest.raises(error):
            amefu(workspace, "depth", "--estimator", estimator)
        assert tree(workspace) == before
    amefu(workspace, "depth", "--estimator", "tiny")
    with pytest.raises(AmefuError, match="offline"):
        amefu(workspace, "features", "--backbone", "resnet18", "--weights", "imagenet")
    assert not (workspace / "features.zarr").exists()


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ("evaluate --shot 10", "spin holds 3 videos, wave holds 3 videos but 10-shot with 1 query needs 11"),
        ("evaluate --way 20", "20-way episodes need 20 classes but only 2 hold videos"),
        ("evaluate --episodes 0", "--episodes 0: must be at least 2"),
        ("evaluate --episodes lots", "lots: no such file of episodes"),
        ("evaluate --fusion absent.safetensors", "absent.safetensors: no such checkpoint"),
        (f"evaluate {' '.join(ABSENT)}", "cuda:99: not present on this machine"),
        ("episodes --way 2 --shot 10", "10-shot with 1 query needs 11"),
        ("meta-train --way 20", "20-way episodes need 20 classes but only 3 hold videos"),
        ("meta-train --way 2 --shot 3", "bow holds 3 videos, clap holds 3 videos, dive holds 3 videos but 3-shot"),
        (f"meta-train {' '.join(ABSENT)}", "cuda:99: not present on this machine"),
        ("meta-train --features WORK/frames.zarr", "holds 'frames', not 'features'; make one with `amefu features`"),
        ("features --backbone bogus", "backbone 'bogus' is not known"),
        (f"features {' '.join(ABSENT)}", "cuda:99: not present on this machine"),
    ],
)
def test_what_cannot_be_done_is_refused_before_any_network_runs(workspace: Path, words: str, message: str) -> None:
    for stage in ("depth", "features"):
        shutil.rmtree(workspace / f"{stage}.zarr")
    before = tree(workspace)
    with pytest.raises(UsageError, match=message):
        amefu(workspace, *words.replace("WORK", str(workspace)).split())
    assert tree(workspace) == before


@pytest.mark.parametrize(
    "words",
    [
        ("depth", *ABSENT),
        ("depth", "--estimator", "bogus"),
        ("pretrain", "--modality", "rgb", *ABSENT),
        ("pretrain", "--modality", "rgb", "--backbone", "bogus"),
        ("features", "--backbone", "bogus"),
    ],
)
def test_what_names_nothing_is_refused_before_a_video_is_decoded(workspace: Path, words: tuple[str, ...]) -> None:
    for stage in ("depth", "features"):
        shutil.rmtree(workspace / f"{stage}.zarr")
    shutil.rmtree(workspace / "frames.zarr/videos")
    before = tree(workspace)
    with pytest.raises(UsageError, match=r"not present on this machine|is not known"):
        amefu(workspace, *words)
    assert tree(workspace) == before


def test_an_unknown_estimator_is_named_where_a_store_of_another_is_there(workspace: Path) -> None:
    with pytest.raises(UsageError, match="depth estimator 'tinny' is not known; did you mean 'tiny'"):
        amefu(workspace, "depth", "--estimator", "tinny")


@pytest.mark.parametrize("name", ["episodes", "ablate", "features"])
def test_where_there_is_no_store_nothing_is_said_of_its_streams(tmp_path: Path, name: str) -> None:
    from amefu_cli.commands.app import app

    done = CliRunner().invoke(app, [name, "--workspace", str(tmp_path / "none")])
    assert isinstance(done.exception, UsageError)
    assert f"{tmp_path / 'none' / 'frames.zarr'}: no such store" in str(done.exception)
    assert done.stderr == ""


def test_a_pretraining_without_a_base_video_is_refused(workspace: Path) -> None:
    split = workspace / "misspelt.json"
    write_split(split, make_split(["bwo"], [], SPLIT["test"], source=""))
    with pytest.raises(UsageError, match=r"frames\.zarr: holds no video of a base class; see `amefu status`"):
        amefu(workspace, "pretrain", "--modality", "rgb", "--split", split)


@pytest.mark.parametrize("words", [("pretrain", "--modality", "rgb"), ("meta-train", "--rebuild")])
def test_a_training_is_not_started_where_it_may_not_write(
    workspace: Path, words: tuple[str, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    shutil.rmtree(workspace / "features.zarr")
    before = tree(workspace)
    monkeypatch.setattr(os, "access", lambda _, mode: mode != os.W_OK)  # root may write anywhere
    with pytest.raises(UsageError, match="may not be written to; choose another place with --out"):
        amefu(workspace, *words)
    assert tree(workspace) == before
