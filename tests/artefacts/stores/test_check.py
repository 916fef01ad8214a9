"""`amefu verify`: everything is read back, what is damaged is named, and the next run makes only that again."""

from __future__ import annotations

import json
import os
import shutil
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from conftest import RunAmefu, tree
from small_stores import FRAMES, PUT, commit, put_depth, put_features, put_frames, store_of

from amefu_cli.artefacts.stores import check
from amefu_cli.artefacts.stores.check import verify_store
from amefu_cli.artefacts.stores.store import VideoStore
from amefu_cli.artefacts.stores.writing import VideoWriter, feature_writer
from amefu_cli.artefacts.weights.checkpoint import verify_checkpoint


def damaged(store: VideoStore[Any]) -> dict[str, str]:
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


def rewrite(path: Path, edit: Callable[[str, bytes], bytes | None], comment: bytes | None = None) -> None:
    """An archive with other members (None: without one) or another comment, and whole as such."""
    with zipfile.ZipFile(path) as before:
        members = {name: edit(name, before.read(name)) for name in before.namelist()}
        comment = before.comment if comment is None else comment
    with zipfile.ZipFile(path, "w") as after:
        after.comment = comment
        for name, content in members.items():
            if content is not None:
                after.writestr(name, content)


def archive(store: VideoStore[Any], video: str) -> Path:
    return store.path / "videos" / f"{video}.zip"


CHUNKS = [
    ("frames", "jpeg/c/0"), ("frames", "offset/c/0"), ("depth", "disparity/c/0/0/0"), ("depth", "low/c/0"),
    ("depth", "high/c/0"), ("features", "frame/c/0"), ("features", "rgb/c/0/0/0"), ("features", "depth/c/0/0/0"),
]  # fmt: skip


@pytest.mark.parametrize(
    ("kind", "chunk", "damage"),
    [
        (*chunk, damage)
        for chunk in CHUNKS
        for damage in ("flipped", "lost", "cut")
        if (*chunk, damage) != ("depth", "disparity/c/0/0/0", "cut")  # its length is not known before it is decoded
    ],
)
def test_every_chunk_is_read(tmp_path: Path, kind: str, chunk: str, damage: str) -> None:
    store = store_of(tmp_path, kind)
    PUT[kind](store, "a/b")
    PUT[kind](store, "a/c")
    place = store.read("a/b").archive.members[chunk].place + 30 + len(chunk)
    if damage == "flipped":
        content = bytearray(archive(store, "a/b").read_bytes())
        content[place] ^= 1
        archive(store, "a/b").write_bytes(content)
    else:
        rewrite(
            archive(store, "a/b"),
            lambda name, content: content if name != chunk else None if damage == "lost" else content[:-1],
        )
    found = damaged(store)
    assert list(found) == ["a/b"]
    assert f"'{chunk}'" in found["a/b"]
    expected = {"flipped": "is not what was written: its checksum differs", "lost": "is missing", "cut": ""}
    assert expected[damage] in found["a/b"]
    assert store.records()["a/b"].damaged
    assert not archive(store, "a/b").exists()


@pytest.mark.parametrize(
    ("edit", "reason"),
    [
        ((b'"frames": 5', b'"frames": 6'), "its record is not what was written: its checksum differs"),
        ((b'"fps": 25.0', b'"fps": NaN0'), "its checksum differs"),
        ((b"a/b.mp4", b"a/c.mp4"), "its checksum differs"),
        ((b'"partial": false', b'"partial": true '), "its checksum differs"),
        ((b'"fingerprint"', b'"gingerprint"'), "its checksum differs"),
        ((b"{", b"<"), "its checksum differs"),
    ],
)
def test_a_record_must_be_what_was_written(tmp_path: Path, edit: tuple[bytes, bytes], reason: str) -> None:
    store = store_of(tmp_path, "frames")
    put_frames(store, "a/b")
    with zipfile.ZipFile(archive(store, "a/b")) as opened:
        comment = opened.comment
    rewrite(archive(store, "a/b"), lambda name, content: content, comment.replace(*edit))
    assert reason in damaged(store)["a/b"]
    put_frames(store, "a/b")
    assert damaged(store) == {}


def test_the_attributes_of_the_group_must_be_the_record(tmp_path: Path) -> None:
    store = store_of(tmp_path, "frames")
    put_frames(store, "a/b")
    edit = (b'"fps": 25.0', b'"fps": 24.0')
    rewrite(archive(store, "a/b"), lambda name, content: content.replace(*edit) if name == "zarr.json" else content)
    assert damaged(store) == {"a/b": "its group has other attributes than its record"}


def test_a_member_that_is_not_of_a_video_is_found(tmp_path: Path) -> None:
    store = store_of(tmp_path, "frames")
    put_frames(store, "a/b")
    with zipfile.ZipFile(archive(store, "a/b"), "a") as opened:
        opened.writestr("thesis.tex", b"x")
    assert damaged(store) == {"a/b": "it holds 'thesis.tex', which is not of a video"}


def test_a_whole_video_in_the_place_of_another_is_found(tmp_path: Path) -> None:
    store, other, sizes = (
        store_of(tmp_path / name, kind) for name, kind in (("1", "frames"), ("2", "frames"), ("3", "depth"))
    )
    put_frames(store, "a/b")
    put_frames(other, "a/c")
    put_frames(sizes, "a/e")
    shutil.copy(archive(other, "a/c"), archive(store, "a/d"))
    shutil.copy(archive(sizes, "a/e"), archive(store, "a/e"))
    found = damaged(store)
    assert found.keys() == {"a/d", "a/e"}
    assert "it is that of 'a/c'" in found["a/d"]
    assert found["a/e"] == "its record is that of another store"


def test_a_changed_record_is_read_by_nobody(workspace: Path, run_amefu: RunAmefu) -> None:
    path = workspace / "frames.zarr/videos/bow/clip_0.zip"
    content = path.read_bytes()
    path.write_bytes(content[:-300] + content[-300:].replace(b'"frames": 8', b'"frames": 1'))
    words = ("depth", "--only", "bow/clip_0", "--workspace", workspace, "--no-upstream")
    assert "bow/clip_0.zip: not the archive of a video" in run_amefu(*words, code=1).stderr
    run_amefu("verify", "--workspace", workspace, code=3)
    run_amefu("frames", "--workspace", workspace)
    run_amefu(*words)
    run_amefu("verify", "--workspace", workspace)


@pytest.mark.parametrize(
    "edit", [(b"uint8", b"int16"), (b'"bytes"', b'"bites"'), (b'"shape"', b'"shade"'), (b"{", b"<"), (b"[", b"[[")]
)
def test_an_array_header_must_be_one_of_ours(tmp_path: Path, edit: tuple[bytes, bytes]) -> None:
    store = store_of(tmp_path, "frames")
    put_frames(store, "a/b")
    rewrite(
        archive(store, "a/b"), lambda name, content: content.replace(*edit) if name == "jpeg/zarr.json" else content
    )
    expected = (
        "'jpeg' is not of 1 axes of uint8"
        if edit[1] == b"int16"
        else "the header of 'jpeg': not the header of an array of ours"
    )
    assert damaged(store) == {"a/b": expected}
    put_frames(store, "a/b")
    rewrite(archive(store, "a/b"), lambda name, content: None if name == "jpeg/zarr.json" else content)
    assert damaged(store) == {"a/b": "the header of 'jpeg': 'jpeg/zarr.json' is missing"}


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
        "a/inf": "'depth' holds NaN or infinity",
        "a/nan": "'depth' holds NaN or infinity",
        "a/twice": "'frame' does not ascend within the 5 frames of the video",
    }
    with VideoWriter(frames, "a/text", {"jpeg": 0, "offset": 0}) as writer:
        writer.append({"jpeg": np.frombuffer(b"no picture" * FRAMES, np.uint8)})
        writer.append({"offset": np.arange(0, 10 * FRAMES + 1, 10)})
        commit(writer)
    assert damaged(frames) == {"a/text": "'offset' leads to bytes of 'jpeg' that are not a JPEG file"}


def test_streams_of_unequal_length_are_found(tmp_path: Path) -> None:
    store = store_of(tmp_path, "features")
    with feature_writer(store, "a/b", ["rgb", "depth"]) as writer:
        writer.append(
            {
                "frame": np.array([0, 2], np.int64),
                "rgb": np.ones((1, 2, 8), np.float16),
                "depth": np.ones((1, 3, 8), np.float16),
            }
        )
        commit(writer)
    assert damaged(store) == {"a/b": "'depth' holds 3 frames of 2"}


def test_a_mark_goes_when_the_video_is_sound_again(tmp_path: Path) -> None:
    """As after a disk that could not be read for a while."""
    store = store_of(tmp_path, "depth")
    put_depth(store, "a/b")
    before = tree(store.path)
    sound = archive(store, "a/b").read_bytes()
    archive(store, "a/b").write_bytes(sound[:-1])
    assert list(damaged(store)) == ["a/b"]
    archive(store, "a/b").with_suffix(".bad").write_bytes(sound)
    assert damaged(store) == {}
    assert tree(store.path) == before
    assert not store.records()["a/b"].damaged


def test_a_mark_beside_a_sound_video_goes(tmp_path: Path) -> None:
    """As of a writer that was killed just after it had replaced the damaged one."""
    store = store_of(tmp_path, "depth")
    put_depth(store, "a/b")
    before = tree(store.path)
    archive(store, "a/b").with_suffix(".bad").write_bytes(b"")
    assert not store.records()["a/b"].damaged
    assert damaged(store) == {}
    assert tree(store.path) == before


def test_what_is_replaced_while_it_is_checked_is_not_marked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store = store_of(tmp_path, "depth")
    put_depth(store, "a/b", low=2.0)
    replaced = check.damage_of

    def slow(*words: Any) -> str | None:
        reason = replaced(*words)
        put_depth(store, "a/b")
        return reason

    monkeypatch.setattr(check, "damage_of", slow)
    verify_store(store, progress=lambda *_: None)
    monkeypatch.undo()
    assert archive(store, "a/b").exists()
    assert damaged(store) == {}


def test_a_store_that_cannot_be_written_is_checked_and_not_marked(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = store_of(tmp_path, "depth")
    put_depth(store, "a/b", low=2.0)

    def refuse(*words: Any) -> None:
        raise PermissionError(words)

    monkeypatch.setattr(os, "replace", refuse)
    findings = verify_store(store, progress=lambda *_: None)
    assert (findings.damaged, findings.marked) == ({"a/b": "'low' is above 'high'"}, False)
    assert archive(store, "a/b").exists()


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
    flip(workspace / "frames.zarr/videos/bow/clip_0.zip")
    (workspace / "depth.zarr/videos/dive/clip_1.zip").write_bytes(b"")
    path = workspace / "features.zarr/videos/jump/clip_2.zip"
    path.write_bytes(path.read_bytes()[:-9])
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
    flip(workspace / "frames.zarr/videos/bow/clip_0.zip")
    (workspace / "depth.zarr/videos/bow/clip_0.zip").unlink()
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
