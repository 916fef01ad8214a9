from __future__ import annotations

import errno
import shutil
from pathlib import Path

import numpy as np
import pytest
import zarr
from conftest import tree
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from amefu_cli.artefacts.stores import writing as video_writer
from amefu_cli.artefacts.stores.header import STAGING
from amefu_cli.artefacts.stores.store import VideoStore, prepare_store
from amefu_cli.artefacts.stores.writing import GrowingArray, VideoWriter
from amefu_cli.errors import AmefuError, DamagedFile

COMMIT = {"fps": None, "source": "a/b.mp4", "made_from": {}}


@pytest.fixture
def store(tmp_path: Path) -> VideoStore:
    return prepare_store(tmp_path / "s.zarr", "features", settings={}, made_from={}, notes={}, rebuild=False).begin()


def test_what_was_not_committed_leaves_no_trace(store: VideoStore) -> None:
    with pytest.raises(ZeroDivisionError), VideoWriter(store, "a/b", {"x": 0}) as writer:  # noqa: PT012
        writer.append("x", np.zeros((2, 3 << 20), np.uint8))
        raise ZeroDivisionError
    with VideoWriter(store, "a/c", {"x": 0}) as writer:
        writer.append("x", np.zeros(4, np.uint8))
    assert store.records() == {}
    assert list((store.path / STAGING).glob("*/*")) == []
    store.close()
    assert [path.name for path in store.path.iterdir()] == ["zarr.json"]


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(blocks=st.lists(st.integers(1, 9), min_size=1, max_size=6), axis=st.integers(0, 1), compressed=st.booleans())
def test_blocks_of_any_length_come_back_as_one_array(
    store: VideoStore, monkeypatch: pytest.MonkeyPatch, blocks: list[int], axis: int, compressed: bool
) -> None:
    """With chunks of 3 rows of 8 bytes (axis 0) or of 6 rows of 4 bytes (axis 1)."""
    monkeypatch.setattr(video_writer, "CHUNK_BYTES", 24)
    whole = np.arange(2 * sum(blocks), dtype=np.float32).reshape((-1, 2) if axis == 0 else (2, -1))
    names = frozenset({"x"}) if compressed else frozenset()
    with VideoWriter(store, "a/b", {"x": axis}, compressed=names) as writer:
        for begin, length in zip(np.cumsum([0, *blocks[:-1]]), blocks, strict=True):
            writer.append("x", np.take(whole, range(begin, begin + length), axis=axis))
        writer.commit(frames=sum(blocks), **{**COMMIT, "made_from": {"blocks": blocks, "axis": axis}})
    stored = store.read("a/b")
    np.testing.assert_array_equal(stored.array("x"), whole)
    assert stored.arrays["x"].chunks[axis] == min(3 if axis == 0 else 6, stored.arrays["x"].shape[axis])


def test_rows_go_to_the_disk_as_they_come(store: VideoStore) -> None:
    """So that an hour of video costs no more memory than a second."""
    with VideoWriter(store, "a/b", {"x": 0}) as writer:
        for _ in range(10):
            writer.append("x", np.zeros((1, 1 << 20), np.uint8))
        growing = writer._growing["x"]
        growing.wait()
        waiting = sum(block.nbytes for block in growing._pending)
        written = sum(path.stat().st_size for path in (store.path / STAGING).rglob("c/*/*"))
    assert waiting <= 2 << 20
    assert written >= 8 << 20


@pytest.mark.parametrize("compressed", [False, True])
@pytest.mark.parametrize("kind", ["uint8", "int64", "float16", ">f4"])
def test_zarr_would_have_written_the_same_files(
    store: VideoStore, monkeypatch: pytest.MonkeyPatch, kind: str, compressed: bool
) -> None:
    """The chunks are written without it: rows along the middle axis, two to a chunk, the last one padded."""
    whole = np.random.default_rng(0).integers(0, 200, (2, 5, 1000)).astype(kind)
    monkeypatch.setattr(video_writer, "CHUNK_BYTES", 2000 * whole.itemsize)
    with VideoWriter(store, "a/b", {"x": 1}, compressed=frozenset({"x"} if compressed else ())) as writer:
        for rows in np.split(whole, [1, 2, 4], axis=1):
            writer.append("x", rows)
        writer.commit(frames=5, **COMMIT)
    ours, theirs = store.path / "videos/a/b/x", store.path.parent / "theirs"
    array = zarr.open_array(ours, mode="r")
    zarr.create_array(
        theirs, data=whole.astype(array.dtype), chunks=array.chunks, compressors=array.compressors, filters=None
    )
    assert array.chunks == (1, 2, 1000)
    assert tree(ours) == tree(theirs)


def test_chunks_are_a_megabyte_with_a_checksum_and_zeros_are_written(store: VideoStore) -> None:
    with VideoWriter(store, "a/b", {"x": 0, "y": 0}, compressed=frozenset({"y"})) as writer:
        for name in ("x", "y"):
            writer.append(name, np.zeros((5, 1 << 18), np.float32))
        writer.commit(frames=5, **COMMIT)
    arrays = store.read("a/b").arrays
    assert arrays["x"].chunks == (1, 1 << 18)
    assert [type(codec).__name__ for codec in arrays["x"].compressors] == ["Crc32cCodec"]
    assert [type(codec).__name__ for codec in arrays["y"].compressors] == ["ZstdCodec", "Crc32cCodec"]
    chunks = sorted((store.path / "videos/a/b/x/c").glob("*/0"))
    assert [chunk.stat().st_size for chunk in chunks] == [(1 << 20) + 4] * 5


def test_rows_that_were_lost_are_missed_before_the_video_counts(
    store: VideoStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    write = GrowingArray._write_chunk
    monkeypatch.setattr(GrowingArray, "_write_chunk", lambda growing, rows: write(growing, rows[:-1]))
    with VideoWriter(store, "a/b", {"x": 0}) as writer:
        writer.append("x", np.zeros(8, np.uint8))
        with pytest.raises(DamagedFile, match=r"'x' of 'a/b' holds 7 rows, 8 were written"):
            writer.commit(frames=8, **COMMIT)
    assert store.records() == {}


@pytest.mark.parametrize("rows", [1, 3])
def test_a_full_disk_behind_the_decoder_ends_the_video(
    store: VideoStore, monkeypatch: pytest.MonkeyPatch, rows: int
) -> None:
    """The first of some chunks that are written while others are made, or the one at the end."""

    def full(folder: Path, position: tuple[int, ...]) -> Path:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(video_writer, "chunk_file", full)
    with pytest.raises(OSError, match="No space left"), VideoWriter(store, "a/b", {"x": 0}) as writer:  # noqa: PT012
        for _ in range(rows):
            writer.append("x", np.zeros((1, 700_000), np.uint8))
        writer.commit(frames=rows, **COMMIT)
    assert store.records() == {}
    assert list((store.path / STAGING).glob("*/*")) == []


def test_the_rename_is_the_commit(store: VideoStore, monkeypatch: pytest.MonkeyPatch) -> None:
    """Everything is on the disk, and synced, before the video takes its place."""
    calls: list[str] = []
    monkeypatch.setattr(video_writer, "sync_tree", lambda folder: calls.append(f"sync {sorted(_names(folder))}"))
    publish = VideoStore.publish
    monkeypatch.setattr(VideoStore, "publish", lambda *words: (calls.append("publish"), publish(*words)))
    with VideoWriter(store, "a/b", {"x": 0}) as writer:
        writer.append("x", np.zeros(8, np.uint8))
        writer.commit(frames=8, **COMMIT)
    assert calls == ["sync ['x', 'x/c', 'x/c/0', 'x/zarr.json', 'zarr.json']", "publish"]


def _names(folder: Path) -> set[str]:
    return {str(path.relative_to(folder)) for path in folder.rglob("*")}


def test_a_vanished_store_is_an_error_not_a_video(store: VideoStore) -> None:
    with VideoWriter(store, "a/b", {"x": 0}) as writer:
        writer.append("x", np.zeros(8, np.uint8))
        shutil.rmtree(store.path)
        with pytest.raises(AmefuError, match="is not there any more"):
            writer.commit(frames=8, **COMMIT)
    store.close()
    assert list(store.path.iterdir()) == []
