"""The same weights under another path are the same, and other weights under the same name are refused."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from conftest import RunAmefu, tree
from synthetic_features import amefu

from amefu_cli.artefacts.files.fingerprint import Provenance, path_identity
from amefu_cli.artefacts.weights import sources as weights
from amefu_cli.artefacts.weights.checkpoint import open_stream
from amefu_cli.errors import SettingsMismatch, UsageError
from amefu_cli.method.backbones import build_backbone
from amefu_cli.stages import networks as streams
from amefu_cli.stages.public import write_tensors

BACKBONE = ("--backbone", "squeezenet1_1", "--crop", "32")


def tiny_of(sha256: str) -> Callable[..., Any]:
    """A loader of the tiny network that says another hash, as after an update that brought another network."""

    def load(*words: Any) -> Any:
        tensors, provenance = weights.tiny_weights(*words)
        return tensors, replace(provenance, sha256=sha256)

    return load


def imagenet_of(sha256: str) -> Callable[..., Any]:
    """A loader of ImageNet weights of this hash, without the network."""

    def load(source: str, *, expected: Any, cache: Any) -> Any:
        return {name: torch.zeros(shape) for name, shape in expected.items()}, Provenance(source, sha256, None)

    return load


def no_weights(*_: Any, **__: Any) -> Any:
    raise AssertionError("weights are loaded though nothing is to be done")


def test_a_depth_store_of_other_weights_of_the_same_name_is_refused(
    workspace: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(weights.DEPTH_LOADERS, "tiny", no_weights)
    amefu(workspace, "depth")
    (workspace / "depth.zarr/videos/bow/clip_0.zip").unlink()
    before = tree(workspace)
    monkeypatch.setitem(weights.DEPTH_LOADERS, "tiny", tiny_of("b" * 64))
    with pytest.raises(
        SettingsMismatch, match=r"made by other weights of 'estimator' \(sha256:\w+ in the file, sha256:b"
    ):
        amefu(workspace, "depth")
    assert tree(workspace) == before
    amefu(workspace, "depth", "--rebuild")


def test_a_feature_store_of_other_imagenet_weights_is_refused(workspace: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store = workspace / "other.zarr"
    words = ("features", "--out", store, "--weights", "imagenet", *BACKBONE)
    monkeypatch.setattr(streams, "imagenet_weights", imagenet_of("a" * 64))
    amefu(workspace, *words)
    monkeypatch.setattr(streams, "imagenet_weights", no_weights)
    amefu(workspace, *words)
    (store / "videos/bow/clip_0.zip").unlink()
    before = tree(workspace)
    monkeypatch.setattr(streams, "imagenet_weights", imagenet_of("b" * 64))
    with pytest.raises(SettingsMismatch, match=r"made by other weights of 'rgb' .*amefu features --out OTHER"):
        amefu(workspace, *words)
    assert tree(workspace) == before
    monkeypatch.setattr(streams, "imagenet_weights", imagenet_of("a" * 64))
    amefu(workspace, *words)


def test_the_same_weights_under_another_path_are_the_same(workspace: Path, run_amefu: RunAmefu) -> None:
    above, sub = workspace.parent, workspace.parent / "sub"
    sub.mkdir()
    backbone = build_backbone("squeezenet1_1")
    write_tensors(above / "mine.safetensors", backbone.network.state_dict())
    here, there = (above, Path("work")), (sub, Path("../work"))
    for name in ("features.zarr", "fusion.safetensors"):
        os.rename(workspace / name, above / name)
    for folder, work in (here, there):
        source = ("--weights", os.path.relpath(above / "mine.safetensors", folder), "--workspace", work)
        trained = run_amefu("pretrain", "--modality", "rgb", *source, cwd=folder).stderr
        made = run_amefu("features", *source, cwd=folder).stderr
    assert "pretrain: ../work/rgb.safetensors is up to date" in trained
    assert "features: ../work/features.zarr is up to date" in made
    said = run_amefu("meta-train", "--workspace", there[1], cwd=sub).stderr
    assert "features: ../work/features.zarr is up to date" in said
    shutil.move(above / "mine.safetensors", sub)
    said = run_amefu("features", "--weights", "mine.safetensors", "--workspace", there[1], cwd=sub).stderr
    assert "features: ../work/features.zarr is up to date" in said
    (sub / "mine.safetensors").write_bytes(b"other weights")
    said = run_amefu("features", "--weights", "mine.safetensors", "--workspace", there[1], cwd=sub, code=2).stderr
    assert "streams.depth.network: " in said


def test_a_checkpoint_says_which_imagenet_weights_it_started_from(
    workspace: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(streams, "imagenet_weights", imagenet_of("a" * 64))
    out = workspace / "rgb.v2"
    amefu(workspace, "pretrain", "--modality", "rgb", *BACKBONE, "--weights", "imagenet", "--epochs", "1", "--out", out)
    header = open_stream(out, "rgb")
    source = "https://download.pytorch.org/models/squeezenet1_1-b8a52dc0.pth"
    assert header.notes.started_from == Provenance(source, "a" * 64, None)
    assert header.training is not None
    assert header.training.weights == "imagenet"
    amefu(workspace, "features", "--out", workspace / "other.zarr", "--rgb", out)  # of any name


def test_weights_that_are_not_there_have_no_identity(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"gone\.pth: no such file of weights"):
        path_identity(tmp_path / "gone.pth")
