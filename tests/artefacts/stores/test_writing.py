from __future__ import annotations

import errno
import io
import os
import shutil
import zipfile
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import zarr
from conftest import tree
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from small_stores import PUT, STREAMS, begin, commit, features_header, put_features, put_frames, store_of
from zarr.codecs import ZstdCodec
from zarr.storage import MemoryStore

from amefu_cli.artefacts.stores import writing
from amefu_cli.artefacts.stores.header import STAGING, FeaturesHeader, record_json
from amefu_cli.artefacts.stores.reading import chunk_name
from amefu_cli.artefacts.stores.store import VideoStore
from amefu_cli.artefacts.stores.writing import GrowingArray, VideoWriter, depth_writer, feature_writer, frame_writer
from amefu_cli.errors import AmefuError, DamagedFile


@pytest.fixture
def store(tmp_path: Path) -> VideoStore[FeaturesHeader]:
    return store_of(tmp_path, "features")


def archive(store: VideoStore[Any], video: str) -> Path:
    return store.path / "videos" / f"{video}.zip"


def staged(store: VideoStore[Any]) -> list[Path]:
    return list((store.path / STAGING).glob("*/*"))


def test_what_was_not_committed_leaves_no_trace(store: VideoStore[FeaturesHeader]) -> None:
    with pytest.raises(ZeroDivisionError), VideoWriter(store, "a/b", {"x": 0}) as writer:  # noqa: PT012
        writer.append({"x": np.zeros((2, 3 << 20), np.uint8)})
        raise ZeroDivisionError
    with VideoWriter(store, "a/c", {"x": 0}) as writer:
        writer.append({"x": np.zeros(4, np.uint8)})
    assert store.records() == {}
    assert staged(store) == []
    store.close()
    assert [path.name for path in store.path.iterdir()] == ["zarr.json"]


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(blocks=st.lists(st.integers(1, 9), min_size=1, max_size=6), axis=st.integers(0, 1), compressed=st.booleans())
def test_blocks_of_any_length_come_back_as_one_array(
    store: VideoStore[FeaturesHeader],
    monkeypatch: pytest.MonkeyPatch,
    blocks: list[int],
    axis: int,
    compressed: bool,
) -> None:
    """With chunks of 3 rows of 8 bytes, which are columns of two rows where axis is 1."""
    monkeypatch.setattr(writing, "CHUNK_BYTES", 24)
    whole = np.arange(2 * sum(blocks), dtype=np.float32).reshape((-1, 2) if axis == 0 else (2, -1))
    names = frozenset({"x"}) if compressed else frozenset()
    with VideoWriter(store, "a/b", {"x": axis}, compressed=names) as writer:
        for begin, length in zip(np.cumsum([0, *blocks[:-1]]), blocks, strict=True):
            writer.append({"x": np.take(whole, range(begin, begin + length), axis=axis)})
        commit(writer)
    stored = store.read("a/b")
    np.testing.assert_array_equal(stored.array("x"), whole)
    assert stored.header("x").chunks[axis] == min(3, sum(blocks))
    assert stored.header("x").chunks[1 - axis] == 2
    for begin in range(len(whole)):
        rows = slice(begin, len(whole) - (len(whole) - begin) // 3)
        np.testing.assert_array_equal(stored.array("x", rows), whole[rows])


@pytest.mark.parametrize("lengths", [[1] * 11, [11], [4, 7], [2, 2, 7]])
def test_the_bytes_do_not_depend_on_how_many_rows_came_at_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, lengths: list[int]
) -> None:
    """Chunks of several arrays, of unequal length: 2 rows of one, 3 of the other."""
    monkeypatch.setattr(writing, "CHUNK_BYTES", 24)
    rng = np.random.default_rng(0)
    whole = {"a": rng.random((11, 3), np.float32), "b": rng.random((11, 2), np.float32), "c": rng.random(11)}
    found = []
    for name, parts in (("one", [5, 6]), ("two", lengths)):
        with (
            store_of(tmp_path / name, "features") as store,
            VideoWriter(store, "a/b", dict.fromkeys(whole, 0)) as writer,
        ):
            for begin, length in zip(np.cumsum([0, *parts[:-1]]), parts, strict=True):
                writer.append({key: rows[begin : begin + length] for key, rows in whole.items()})
            commit(writer)
        found.append(archive(store, "a/b").read_bytes())
    assert found[0] == found[1]


@pytest.mark.parametrize("kind", PUT)
def test_equal_videos_are_equal_files(tmp_path: Path, kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    trees = []
    for name in ("one", "two"):
        monkeypatch.setenv("TZ", {"one": "UTC", "two": "Asia/Tokyo"}[name])
        with store_of(tmp_path / name, kind) as store:
            PUT[kind](store, "a/b")
        trees.append(tree(store.path))
    assert trees[0] == trees[1]


def test_rows_go_to_the_disk_as_they_come(store: VideoStore[FeaturesHeader]) -> None:
    """So that an hour of video costs no more memory than a second."""
    with VideoWriter(store, "a/b", {"x": 0}) as writer:
        for _ in range(10):
            writer.append({"x": np.zeros((1, 1 << 20), np.uint8)})
        writer._wait()
        waiting = sum(block.nbytes for block in writer._arrays["x"]._pending)
        (path,) = staged(store)
        written = path.stat().st_size
    assert waiting <= 1 << 20
    assert written >= 8 << 20


def expected_members(array: dict[str, bytes], record: bytes) -> list[tuple[str, bytes]]:
    """The chunks of an array `x`, then its header, then the group."""
    header = array.pop("zarr.json")
    group = b'{"attributes": %b, "zarr_format": 3, "node_type": "group"}' % record
    chunks = [(f"x/{name}", array[name]) for name in sorted(array)]
    return [*chunks, ("x/zarr.json", header), ("zarr.json", group)]


def by_zarr(data: np.ndarray[Any, Any], chunks: tuple[int, ...], compressed: bool) -> dict[str, bytes]:
    """The files that Zarr makes of an array."""
    held: dict[str, Any] = {}
    zarr.create_array(
        MemoryStore(held), data=data, chunks=chunks, filters=None, config={"write_empty_chunks": True},
        compressors=ZstdCodec(level=1) if compressed else None,
    )  # fmt: skip
    return {name: content.to_bytes() for name, content in held.items()}


@pytest.mark.parametrize("compressed", [False, True])
@pytest.mark.parametrize("kind", ["uint8", "int64", "float16", "float32"])
@pytest.mark.parametrize("axis", [0, 1])
def test_every_byte_of_an_archive(
    store: VideoStore[FeaturesHeader], monkeypatch: pytest.MonkeyPatch, kind: str, compressed: bool, axis: int
) -> None:
    """Members are what Zarr makes of the array, the last chunk padded, not compressed and with fixed attributes."""
    whole = np.random.default_rng(0).integers(0, 200, (5, 3, 400) if axis == 0 else (3, 5, 400)).astype(kind)
    monkeypatch.setattr(writing, "CHUNK_BYTES", 2 * 3 * 400 * whole.itemsize)
    with VideoWriter(store, "a/b", {"x": axis}, compressed=frozenset({"x"} if compressed else ())) as writer:
        for rows in np.split(whole, [1, 2, 4], axis=axis):
            writer.append({"x": rows.astype(rows.dtype.newbyteorder(">"))})
        commit(writer)
    stored = store.read("a/b")
    record = record_json(stored.record)
    array = by_zarr(whole, (2, 3, 400) if axis == 0 else (3, 2, 400), compressed)
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as expected:
        for name, content in expected_members(array, record):
            member = zipfile.ZipInfo(name, (1980, 1, 1, 0, 0, 0))
            member.create_system, member.external_attr = 3, 0o100644 << 16
            expected.writestr(member, content)
        expected.comment = record
    assert archive(store, "a/b").read_bytes() == buffer.getvalue()
    body, mark, checksum = record.rpartition(b', "checksum": "')
    assert mark
    assert checksum == f'{zlib.crc32(body):08x}"}}'.encode()


def test_chunks_are_a_megabyte_and_zeros_are_written(store: VideoStore[FeaturesHeader]) -> None:
    with VideoWriter(store, "a/b", {"x": 0, "y": 1}) as writer:
        writer.append({"x": np.zeros((5, 1 << 18), np.float32), "y": np.zeros((2, 5, 1 << 17), np.float32)})
        commit(writer)
    stored = store.read("a/b")
    assert (stored.header("x").chunks, stored.header("y").chunks) == ((1, 1 << 18), (2, 1, 1 << 17))
    sizes = [stored.archive.members[chunk_name("x", (place, 0))].size for place in range(5)]
    assert sizes == [1 << 20] * 5


def test_a_stream_that_is_added_leaves_the_others_and_gives_the_same_bytes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(writing, "CHUNK_BYTES", 64)  # two rows of a stream
    header = features_header({**STREAMS, "clip": STREAMS["rgb"]})
    frame = range(7)
    with begin(tmp_path / "one.zarr", header) as one:
        put_features(one, "a/b", frame=frame, streams=("rgb", "depth", "clip"))
    with begin(tmp_path / "two.zarr", header) as two:
        put_features(two, "a/b", frame=frame, streams=("rgb", "depth"))
        added, before = one.read("a/b").array("clip"), two.read("a/b")
        copied = {name: before.array(name) for name in ("rgb", "depth")}
        with feature_writer(two, "a/b", ["clip"], copied) as writer:
            for begin_row, end in ((0, 3), (3, 7)):
                writer.append({"frame": np.arange(begin_row, end), "clip": added[:, begin_row:end]})
            commit(writer)
    assert tree(one.path) == tree(two.path)


def test_an_array_of_which_nothing_came_is_missed(store: VideoStore[FeaturesHeader]) -> None:
    with VideoWriter(store, "a/b", {"x": 0, "y": 0}) as writer:
        writer.append({"x": np.zeros(8, np.uint8)})
        with pytest.raises(DamagedFile, match="nothing of 'y' of 'a/b' was written"):
            commit(writer)
    assert store.records() == {}
    assert staged(store) == []


@pytest.mark.parametrize("room", [0, 1000, 700_000, 2_099_900])
def test_a_full_disk_ends_the_video(
    store: VideoStore[FeaturesHeader], monkeypatch: pytest.MonkeyPatch, room: int
) -> None:
    """At the first chunk that is written while others are made, in the middle of one, or in the directory."""

    class Full(io.FileIO):
        def write(self, content: Any) -> int:  # type: ignore[override]
            if self.tell() + len(content) > room:
                raise OSError(errno.ENOSPC, "No space left on device")
            return super().write(content)

    monkeypatch.setattr(Path, "open", lambda path, mode: io.BufferedWriter(Full(path, mode)))
    with pytest.raises(OSError, match="No space left"), VideoWriter(store, "a/b", {"x": 0}) as writer:  # noqa: PT012
        for _ in range(3):
            writer.append({"x": np.zeros((1, 700_000), np.uint8)})
        commit(writer)
    assert store.records() == {}
    assert staged(store) == []


def test_the_rename_is_the_commit(store: VideoStore[FeaturesHeader], monkeypatch: pytest.MonkeyPatch) -> None:
    """Everything is on the disk, and synced, before the video takes its place."""
    calls: list[str] = []
    sync, publish = os.fsync, VideoStore.publish
    monkeypatch.setattr(
        os, "fsync", lambda descriptor: (calls.append(f"sync {os.fstat(descriptor).st_size}"), sync(descriptor))
    )
    monkeypatch.setattr(VideoStore, "publish", lambda *words: (calls.append("publish"), publish(*words)))
    with VideoWriter(store, "a/b", {"x": 0}) as writer:
        writer.append({"x": np.zeros(8, np.uint8)})
        commit(writer)
    assert calls[:2] == [f"sync {archive(store, 'a/b').stat().st_size}", "publish"]
    assert len(calls) > 2  # the folders


def test_a_vanished_store_is_an_error_not_a_video(store: VideoStore[FeaturesHeader]) -> None:
    with VideoWriter(store, "a/b", {"x": 0}) as writer:
        writer.append({"x": np.zeros(8, np.uint8)})
        shutil.rmtree(store.path)
        with pytest.raises(AmefuError, match="is not there any more"):
            commit(writer)
    store.close()
    assert not store.path.exists()


def test_zarr_is_asked_once_for_the_header_of_a_kind_of_array(
    store: VideoStore[FeaturesHeader], monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[Any] = []
    create = zarr.create_array
    monkeypatch.setattr(
        zarr, "create_array", lambda *words, **options: asked.append(options) or create(*words, **options)
    )
    writing.zarr_header.cache_clear()
    for number in range(3):
        put_features(store, f"a/{number}", frame=range(number + 1))
    assert len(asked) == 2  # of int64 and float16


def test_the_arrays_of_each_kind(tmp_path: Path) -> None:
    frames = store_of(tmp_path, "frames")
    writers = (frame_writer(frames, "a/b"), depth_writer(frames, "a/b"), feature_writer(frames, "a/b", ["rgb", "x"]))
    found = []
    for writer in writers:
        arrays: dict[str, GrowingArray] = writer._arrays
        found.append({name: (array.axis, array.compressed) for name, array in arrays.items()})
        writer.close()
    assert found == [
        {"jpeg": (0, False), "offset": (0, False)},
        {"disparity": (0, True), "high": (0, False), "low": (0, False)},
        {"frame": (0, False), "rgb": (1, False), "x": (1, False)},
    ]
    put_frames(frames, "a/b")
    assert frames.ids() == ["a/b"]
