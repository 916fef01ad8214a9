"""`amefu verify`: everything is read back, what is damaged is named, and the next run makes only that again."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from conftest import RunAmefu, tree

from amefu_cli.artefacts.stores.check import verify_store
from amefu_cli.artefacts.stores.features import feature_writer
from amefu_cli.artefacts.stores.header import DAMAGED, HEADER
from amefu_cli.artefacts.stores.pictures import append_frames, depth_writer, frame_writer
from amefu_cli.artefacts.stores.store import VideoStore, prepare_store
from amefu_cli.artefacts.stores.writing import VideoWriter
from amefu_cli.artefacts.weights.checkpoint import verify_checkpoint

COMMIT: dict[str, Any] = {"fps": 25.0, "source": "a/b.mp4", "made_from": {}}
FRAMES = 5


def store_of(folder: Path, kind: str) -> VideoStore:
    return prepare_store(folder / f"{kind}.zarr", kind, settings={}, made_from={}, notes={}, rebuild=False).begin()


def put_frames(store: VideoStore, video: str) -> None:
    frames = np.random.default_rng(0).integers(0, 256, (FRAMES, 16, 16, 3), np.uint8)
    with frame_writer(store, video) as writer:
        writer.commit(frames=append_frames(writer, frames, quality=95), **COMMIT)


def put_depth(store: VideoStore, video: str, low: float = 0.0, high: float = 1.0) -> None:
    with depth_writer(store, video) as writer:
        writer.append("disparity", np.zeros((FRAMES, 16, 16), np.uint8))
        writer.append("low", np.full(FRAMES, low, np.float32))
        writer.append("high", np.full(FRAMES, high, np.float32))
        writer.commit(frames=FRAMES, **COMMIT)


def put_features(store: VideoStore, video: str, value: float = 1.0, frame: tuple[int, ...] = (0, 2, 4)) -> None:
    with feature_writer(store, video) as writer:
        writer.append("frame", np.array(frame, np.int64))
        for stream in ("rgb", "depth"):
            block = np.ones((2, len(frame), 8), np.float16)
            block[1, -1, 3] = value
            writer.append(stream, block)
        writer.commit(frames=FRAMES, **COMMIT)


PUT: dict[str, Callable[..., None]] = {"frames": put_frames, "depth": put_depth, "features": put_features}


def damaged(store: VideoStore) -> dict[str, str]:
    return verify_store(store, progress=lambda *_: None).damaged


@pytest.mark.parametrize("kind", PUT)
def test_a_sound_store_is_found_sound(tmp_path: Path, kind: str) -> None:
    store = store_of(tmp_path, kind)
    for video in ("a/b", "a/deep/c"):
        PUT[kind](store, video)
    seen: list[tuple[int, int, str]] = []
    findings = verify_store(store, progress=lambda *words: seen.append(words))
    assert (findings.videos, findings.damaged, findings.marked) == (2, {}, True)
    assert seen == [(1, 2, "a/b"), (2, 2, "a/deep/c")]


def test_an_empty_store_is_sound(tmp_path: Path) -> None:
    assert damaged(store_of(tmp_path, "frames")) == {}


def flip(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[len(content) // 3] ^= 1
    path.write_bytes(content)


CHUNKS = [
    ("frames", "jpeg/c/0"), ("frames", "offset/c/0"), ("depth", "disparity/c/0/0/0"), ("depth", "low/c/0"),
    ("depth", "high/c/0"), ("features", "frame/c/0"), ("features", "rgb/c/0/0/0"), ("features", "depth/c/1/0/0"),
]  # fmt: skip


@pytest.mark.parametrize(("kind", "chunk"), CHUNKS)
@pytest.mark.parametrize(
    ("damage", "reason"),
    [
        (flip, "is not what was written: its checksum differs"),
        (Path.unlink, "is missing"),
        (lambda path: path.write_bytes(path.read_bytes()[:-5]), "its checksum differs"),
        (lambda path: path.write_bytes(b""), "its checksum differs"),
    ],
)
def test_every_chunk_is_read(
    tmp_path: Path, kind: str, chunk: str, damage: Callable[[Path], object], reason: str
) -> None:
    store = store_of(tmp_path, kind)
    PUT[kind](store, "a/b")
    PUT[kind](store, "a/c")
    damage(store.path / "videos/a/b" / chunk)
    found = damaged(store)
    assert list(found) == ["a/b"]
    array, _, rest = chunk.partition("/")
    assert found["a/b"].startswith(f"chunk {rest} of '{array}' ")
    assert reason in found["a/b"]
    assert store.records()["a/b"].damaged


@pytest.mark.parametrize(
    ("edit", "reason"),
    [
        (('"frames": 5', '"frames": 6'), "not the attributes of a video as it was written (their checksum differs)"),
        (('"fps": 25.0', '"fps": 24.0'), "(their checksum differs)"),
        (('"fps": 25.0', '"fps": NaN'), "not the attributes of a video as it was written"),
        (("a/b.mp4", "a/c.mp4"), "(their checksum differs)"),
        (('"partial": false', '"partial": true'), "(their checksum differs)"),
        (('"fingerprint": "', '"fingerprint": "0'), "(their checksum differs)"),
        (('"fingerprint"', '"gingerprint"'), "its header is lost"),
        (("{", "<"), "not a Zarr header"),
    ],
)
def test_a_header_must_fit_its_video(tmp_path: Path, edit: tuple[str, str], reason: str) -> None:
    store = store_of(tmp_path, "frames")
    put_frames(store, "a/b")
    header = store.path / "videos/a/b" / HEADER
    header.write_text(header.read_text().replace(*edit))
    assert reason in damaged(store)["a/b"]
    put_frames(store, "a/b")
    assert damaged(store) == {}


def test_a_whole_video_in_the_place_of_another_is_found(tmp_path: Path) -> None:
    store, other = (store_of(tmp_path / name, "frames") for name in ("one", "two"))
    put_frames(store, "a/b")
    put_frames(other, "a/c")
    shutil.copytree(other.path / "videos/a/c", store.path / "videos/a/d")
    assert damaged(store) == {"a/d": "its header is that of another video, or of another store"}


def test_a_changed_header_is_read_by_nobody(workspace: Path, run_amefu: RunAmefu) -> None:
    header = workspace / "frames.zarr/videos/bow/clip_0" / HEADER
    header.write_text(header.read_text().replace('"frames": 8', '"frames": 1'))
    words = ("depth", "--only", "bow/clip_0", "--workspace", workspace, "--no-upstream")
    assert "bow/clip_0/zarr.json: not the attributes of a video" in run_amefu(*words, code=1).stderr
    run_amefu("verify", "--workspace", workspace, code=3)
    run_amefu("frames", "--workspace", workspace)
    run_amefu(*words)
    run_amefu("verify", "--workspace", workspace)


@pytest.mark.parametrize(
    "edit", [("uint8", "int16"), ("crc32c", "crc32d"), ('"shape"', '"shade"'), ("{", "<"), ("[", "[[")]
)
def test_an_array_header_must_be_one_of_ours(tmp_path: Path, edit: tuple[str, str]) -> None:
    store = store_of(tmp_path, "frames")
    put_frames(store, "a/b")
    header = store.path / "videos/a/b/jpeg" / HEADER
    header.write_text(header.read_text().replace(*edit))
    assert damaged(store) == {"a/b": "the header of 'jpeg' is not that of 1 axes of uint8"}
    header.unlink()
    assert damaged(store) == {"a/b": "the header of 'jpeg' is not that of 1 axes of uint8"}


def test_numbers_that_are_whole_but_wrong_are_found(tmp_path: Path) -> None:
    depth, features, frames = (store_of(tmp_path, kind) for kind in ("depth", "features", "frames"))
    put_depth(depth, "a/nan", low=float("nan"))
    put_depth(depth, "a/inf", high=float("inf"))
    put_depth(depth, "a/turned", low=2.0)
    assert damaged(depth) == {
        "a/inf": "'high' holds NaN or infinity",
        "a/nan": "'low' holds NaN or infinity",
        "a/turned": "'low' is above 'high'",
    }
    put_features(features, "a/nan", value=float("nan"))
    put_features(features, "a/inf", value=float("-inf"))
    put_features(features, "a/largest", value=65504.0)
    put_features(features, "a/twice", frame=(0, 2, 2))
    put_features(features, "a/beyond", frame=(0, 2, 5))
    assert damaged(features) == {
        "a/beyond": "'frame' does not ascend within the 5 frames of the video",
        "a/inf": "'rgb' holds NaN or infinity",
        "a/nan": "'rgb' holds NaN or infinity",
        "a/twice": "'frame' does not ascend within the 5 frames of the video",
    }
    with VideoWriter(frames, "a/text", {"jpeg": 0, "offset": 0}) as writer:
        writer.append("jpeg", np.frombuffer(b"no picture" * FRAMES, np.uint8))
        writer.append("offset", np.arange(0, 10 * FRAMES + 1, 10))
        writer.commit(frames=FRAMES, **COMMIT)
    assert damaged(frames) == {"a/text": "'offset' leads to bytes of 'jpeg' that are not a JPEG file"}


def test_streams_of_unequal_length_are_found(tmp_path: Path) -> None:
    store = store_of(tmp_path, "features")
    with feature_writer(store, "a/b") as writer:
        writer.append("frame", np.array([0, 2], np.int64))
        writer.append("rgb", np.ones((1, 2, 8), np.float16))
        writer.append("depth", np.ones((1, 3, 8), np.float16))
        writer.commit(frames=FRAMES, **COMMIT)
    assert damaged(store) == {"a/b": "'depth' holds 3 frames of 2"}


def test_a_mark_goes_when_the_video_is_sound_again(tmp_path: Path) -> None:
    """As after a disk that could not be read for a while."""
    store = store_of(tmp_path, "depth")
    put_depth(store, "a/b")
    chunk = store.path / "videos/a/b/low/c/0"
    chunk.rename(chunk.with_suffix(".away"))
    assert list(damaged(store)) == ["a/b"]
    chunk.with_suffix(".away").rename(chunk)
    assert damaged(store) == {}
    assert not (store.path / "videos/a/b" / DAMAGED).exists()
    assert not store.records()["a/b"].damaged


def test_a_lost_header_of_a_class_is_written_again(tmp_path: Path) -> None:
    store = store_of(tmp_path, "depth")
    put_depth(store, "a/deep/b")
    store.close()
    before = tree(store.path)
    (store.path / "videos/a" / HEADER).unlink()
    (store.path / "videos/a/deep" / HEADER).write_bytes(b"")
    assert damaged(store) == {}
    store.close()
    assert tree(store.path) == before


def test_checkpoints_are_read_back(tmp_path: Path, finished_workspace: Path) -> None:
    path = tmp_path / "fusion.safetensors"
    shutil.copy(finished_workspace / "work/fusion.safetensors", path)
    assert verify_checkpoint(path) is None
    sound = path.read_bytes()
    path.write_bytes(sound[:-4] + bytes([sound[-4] ^ 1]) + sound[-3:])
    assert "is not what was written: its checksum differs" in (verify_checkpoint(path) or "")
    path.write_bytes(path.read_bytes()[:-1])
    assert "not a whole safetensors file" in (verify_checkpoint(path) or "")


def test_the_rerun_repairs_what_was_found_and_nothing_else(workspace: Path, run_amefu: RunAmefu) -> None:
    before = tree(workspace)
    flip(workspace / "frames.zarr/videos/bow/clip_0/jpeg/c/0")
    (workspace / "depth.zarr/videos/dive/clip_1/low/c/0").unlink()
    (workspace / "features.zarr/videos/jump/clip_2" / HEADER).write_bytes(b"{")
    done = run_amefu("verify", "--json", "--workspace", workspace, code=3)
    found = {Path(item["path"]).name: list(item["damaged"]) for item in json.loads(done.stdout)["checked"]}
    assert found == {
        "frames.zarr": ["bow/clip_0"], "depth.zarr": ["dive/clip_1"], "features.zarr": ["jump/clip_2"],
        "fusion.safetensors": [],
    }  # fmt: skip
    for video in ("bow/clip_0", "dive/clip_1", "jump/clip_2"):
        assert video in done.stderr
    status = json.loads(run_amefu("status", "--json", "--workspace", workspace).stdout)
    assert [(store["done"], store["missing"]) for store in status["stores"]] == [(20, 1)] * 3
    done = run_amefu("features", "--workspace", workspace)
    for name in ("frames", "depth", "features"):
        assert f"{name}: 1 videos to make, 20 already in" in done.stderr
    run_amefu("verify", "--workspace", workspace)
    assert tree(workspace) == before


def test_a_repaired_input_is_tried_again(workspace: Path, run_amefu: RunAmefu) -> None:
    flip(workspace / "frames.zarr/videos/bow/clip_0/jpeg/c/0")
    shutil.rmtree(workspace / "depth.zarr/videos/bow/clip_0")
    words = ("depth", "--workspace", workspace, "--no-upstream")
    for _ in range(2):
        assert "'bow/clip_0' is damaged" in run_amefu(*words, "--max-attempts", "1", code=3).stderr
    run_amefu("verify", workspace / "frames.zarr", code=3)
    run_amefu("frames", "--workspace", workspace)
    run_amefu(*words, "--max-attempts", "1")


def test_paths_that_are_none_are_said(tmp_path: Path, run_amefu: RunAmefu) -> None:
    done = run_amefu("verify", tmp_path / "x.zarr", code=2)
    assert "no such store or checkpoint" in done.stderr
    done = run_amefu("verify", "--workspace", tmp_path, code=2)
    assert "holds no store and no checkpoint" in done.stderr
