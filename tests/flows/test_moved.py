"""What was copied or moved is the same: videos under new times, a project with its videos, a model of depth."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path

import numpy as np
import pytest
from conftest import CONFIG, MakeClips, amefu, lay_clips, tree
from PIL import Image

from amefu_cli.artefacts.files.workspace import located, noted
from amefu_cli.artefacts.stores.header import FramesHeader
from amefu_cli.artefacts.stores.store import open_store
from amefu_cli.flows import frames as frames_flow


def copied(folder: Path) -> None:
    """As `cp -r` does it: the same bytes, other times."""
    for path in folder.rglob("*"):
        os.utime(path, ns=(1, path.stat().st_mtime_ns + 10**9))


def said(workspace: Path, *words: object) -> str:
    return amefu(*words, "--workspace", workspace).stderr


def test_copied_videos_are_known_by_their_bytes_down_the_whole_chain(
    workspace: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = tree(workspace)
    copied(workspace.parent / "videos")
    lines = said(workspace, "evaluate")
    assert all(f"{store}.zarr is up to date" in lines for store in ("frames", "depth", "features"))
    after = tree(workspace)
    assert after.pop("frames.zarr/copies.json")
    assert after == before
    monkeypatch.setattr(frames_flow, "content_sha256", None)  # what was told once is not read again
    assert "up to date (21 videos)" in said(workspace, "frames")
    stores = json.loads(amefu("status", "--json", "--workspace", workspace).stdout)["stores"]
    assert [(store["done"], store["missing"]) for store in stores] == [(21, 0)] * 3


def test_other_bytes_of_the_same_size_are_made_again(workspace: Path) -> None:
    videos = workspace.parent / "videos"
    changed = videos / "bow/clip_0.mp4"
    content = bytearray(changed.read_bytes())
    content[-1] ^= 1
    changed.write_bytes(content)
    copied(videos)
    assert "frames: 1 videos to make, 20 already" in said(workspace, "frames")
    assert "up to date (21 videos)" in said(workspace, "frames")


def test_a_dry_run_knows_copies_and_notes_nothing(workspace: Path) -> None:
    copied(workspace.parent / "videos")
    before = tree(workspace)
    assert "up to date (21 videos)" in said(workspace, "frames", "--dry-run")
    assert tree(workspace) == before


def test_copied_folders_of_images_are_known_and_a_changed_one_is_not(tmp_path: Path) -> None:
    for base, clip in enumerate(("one", "two")):
        folder = tmp_path / "videos/jump" / clip
        folder.mkdir(parents=True)
        for number in range(3):
            picture = np.full((32, 32, 3), 40 * number + base, np.uint8)
            Image.fromarray(picture).save(folder / f"img_{number}.png")
    words = ("frames", tmp_path / "videos", "--size", "32", "--jobs", "1", "--workspace", tmp_path / "work")
    amefu(*words)
    copied(tmp_path / "videos")
    assert "up to date (2 videos)" in amefu(*words).stderr
    first, second = (tmp_path / "videos/jump/one" / f"img_{number}.png" for number in (0, 1))
    swap = first.read_bytes()
    shutil.copy(second, first)
    second.write_bytes(swap)
    assert "1 videos to make, 1 already" in amefu(*words).stderr


@pytest.mark.parametrize("keep", [False, True])
def test_a_project_is_moved_or_copied_with_its_videos(tmp_path: Path, make_clips: MakeClips, keep: bool) -> None:
    """The videos of the new place are read, also where those of the old one are still there."""
    old, new = tmp_path / "old", tmp_path / "far/away/new"
    lay_clips(old / "videos", ("bow", "clap"), 1)
    (old / "work").mkdir()
    (old / "work/amefu.toml").write_text(CONFIG)
    said(old / "work", "depth", old / "videos")
    new.parent.mkdir(parents=True)
    if keep:
        shutil.copytree(old, new)
        copied(new / "videos")
    else:
        old.rename(new)
    lines = said(new / "work", "depth")
    assert "is not there" not in lines
    assert lines.count("is up to date (2 videos)") == 2
    lay_clips(new / "videos", ("dive",), 1)
    assert "frames: 1 videos to make, 2 already" in said(new / "work", "depth")


def test_where_files_lie_is_noted_from_the_store_within_its_project(tmp_path: Path) -> None:
    store = tmp_path / "project/work/frames.zarr"
    places = {
        "../videos": tmp_path / "project/videos",
        "../data/videos": tmp_path / "project/data/videos",
        "rgb.safetensors": tmp_path / "project/work/rgb.safetensors",
        str(tmp_path / "elsewhere"): tmp_path / "elsewhere",
    }
    for note, path in places.items():
        assert (noted(path, store), located(note, store)) == (note, path)
    assert noted(Path("/videos"), Path("/work/frames.zarr")) == "/videos"


@pytest.mark.parametrize("moved", ["project", "model", "renamed"])
def test_a_depth_model_is_known_by_its_bytes_wherever_it_lies(tmp_path: Path, moved: str) -> None:
    onnx = pytest.importorskip("onnx")
    pytest.importorskip("onnxruntime")
    project = tmp_path / "project"
    lay_clips(project / "videos", ("bow", "clap", "dive", "jump"), 1)
    model, work = project / "models/mean.onnx", project / "work"
    model.parent.mkdir()
    helper, types = onnx.helper, onnx.TensorProto
    nodes = [
        helper.make_node("Constant", [], ["axes"], value_ints=[1]),
        helper.make_node("ReduceMean", ["frames", "axes"], ["map"], keepdims=1),
    ]
    shape = ["batch", 3, 16, 16]
    ends = [helper.make_tensor_value_info("frames", types.FLOAT, shape)]
    graph = helper.make_graph(nodes, "mean", ends, [helper.make_tensor_value_info("map", types.FLOAT, None)])
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=8), model)
    amefu("frames", project / "videos", "--size", "32", "--jobs", "1", "--workspace", work)
    said(work, "depth", "--estimator", f"onnx:{model}")
    before = tree(work / "depth.zarr/videos")
    if moved == "project":
        work = project.rename(tmp_path / "moved") / "work"
        words: tuple[object, ...] = ("pretrain", "--modality", "depth", "--crop", "32", "--dry-run")  # as started
    else:
        there = tmp_path / ("mean.onnx" if moved == "model" else "other-name.onnx")
        words = ("depth", "--estimator", f"onnx:{model.rename(there)}")
    assert "depth.zarr is up to date (4 videos)" in said(work, *words)
    (work / "depth.zarr/videos/bow/clip_0.zip").unlink()
    assert "depth: 1 videos to make" in said(work, *words)
    if moved != "project":
        assert tree(work / "depth.zarr/videos") == before


def test_a_source_is_still_known_by_its_checksum_alone_where_that_was_asked_for(tmp_path: Path) -> None:
    lay_clips(tmp_path / "videos", ("bow",), 1)
    words = ("frames", tmp_path / "videos", "--size", "32", "--jobs", "1", "--workspace", tmp_path / "work")
    amefu(*words, "--checksum")
    made = open_store(tmp_path / "work/frames.zarr", FramesHeader, fix="").records()["bow/clip_0"].made_from
    assert [*made] == ["sha256"]
