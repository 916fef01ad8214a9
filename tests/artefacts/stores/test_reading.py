"""What is read of an archive: Zarr is the referee, and no damage passes for content."""

from __future__ import annotations

import os
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import zarr
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from small_stores import PUT, begin, commit, features_header, frames_header, put_frames, store_of
from zarr.codecs import ZstdCodec
from zarr.storage import ZipStore

from amefu_cli.artefacts.stores import reading as archive_module
from amefu_cli.artefacts.stores import writing
from amefu_cli.artefacts.stores.check import damage_of
from amefu_cli.artefacts.stores.features import dim_of, read_features
from amefu_cli.artefacts.stores.header import VideoRecord
from amefu_cli.artefacts.stores.reading import Archive, StoredVideo, open_video
from amefu_cli.artefacts.stores.store import VideoStore
from amefu_cli.artefacts.stores.writing import VideoWriter, depth_writer
from amefu_cli.errors import DamagedFile

TINY = 60  # bytes of a chunk, where several are wanted


def path_of(store: VideoStore[Any], video: str = "a/b") -> Path:
    return store.path / "videos" / f"{video}.zip"


def everything(stored: StoredVideo) -> dict[str, np.ndarray[Any, Any]]:
    return {name: stored.array(name) for name in stored.names()}


@pytest.mark.parametrize("kind", PUT)
@pytest.mark.parametrize("chunk_bytes", [1 << 20, TINY])
def test_zarr_finds_in_every_array_what_we_find(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str, chunk_bytes: int
) -> None:
    monkeypatch.setattr(writing, "CHUNK_BYTES", chunk_bytes)
    with store_of(tmp_path, kind) as store:
        PUT[kind](store, "a/b")
    stored = store.read("a/b")
    with ZipStore(path_of(store), mode="r") as opened:
        group = zarr.open_group(opened, mode="r", zarr_format=3)
        arrays = dict(group.arrays())
        assert arrays.keys() == {*stored.names()}
        for name, array in arrays.items():
            ours: Any = stored.array(name)
            assert (array.shape, array.dtype, array.chunks) == (ours.shape, ours.dtype, stored.header(name).chunks)
            np.testing.assert_array_equal(array[:], ours)
        attributes = dict(group.attrs)
    record = stored.record
    assert attributes.pop("checksum")
    assert VideoRecord(**attributes) == record  # type: ignore[arg-type]


@pytest.mark.parametrize("compressed", [False, True])
@pytest.mark.parametrize("dtype", ["uint8", "int64", "float16", "float32"])
def test_we_find_in_every_array_what_zarr_wrote(tmp_path: Path, dtype: str, compressed: bool) -> None:
    """In chunks that we would not make: cut along every axis."""
    path = tmp_path / "theirs.zip"
    whole = np.random.default_rng(0).integers(1, 200, (5, 7, 3)).astype(dtype)
    with ZipStore(path, mode="w") as written:
        group = zarr.create_group(written, zarr_format=3)
        for name, chunks in {"cut": (2, 3, 2), "whole": (5, 7, 3), "larger": (8, 8, 8)}.items():
            group.create_array(
                name, data=whole, chunks=chunks, filters=None, compressors=ZstdCodec(level=3) if compressed else None
            )
    stored = StoredVideo(tmp_path, VideoRecord("a/b", "", 5, None, {}, ""), Archive(str(path)))
    assert sorted(stored.names()) == ["cut", "larger", "whole"]
    for name in stored.names():
        np.testing.assert_array_equal(stored.array(name), whole)
        for first in range(5):
            np.testing.assert_array_equal(stored.array(name, slice(first, 5)), whole[first:])
            np.testing.assert_array_equal(stored.array(name, slice(0, first + 1)), whole[: first + 1])
        with pytest.raises(DamagedFile, match="ends before row 6"):
            stored.array(name, slice(0, 6))


def test_python_finds_every_member_sound(tmp_path: Path) -> None:
    with store_of(tmp_path, "depth") as store:
        PUT["depth"](store, "a/b")
    with zipfile.ZipFile(path_of(store)) as opened:
        assert opened.testzip() is None
        assert {entry.compress_type for entry in opened.infolist()} == {zipfile.ZIP_STORED}
        assert Archive(str(path_of(store))).comment == opened.comment


@pytest.mark.parametrize("limit", ["ZIP64_LIMIT", "ZIP_FILECOUNT_LIMIT"])
def test_an_archive_that_is_too_large_for_plain_zip_is_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, limit: str
) -> None:
    """Over 2 GiB, or over 65,535 members, here where the limits are lower."""
    monkeypatch.setattr(zipfile, limit, 4 if limit == "ZIP_FILECOUNT_LIMIT" else 600)
    with begin(tmp_path / "frames.zarr") as store:
        put_frames(store, "a/b")
    monkeypatch.undo()
    assert b"PK\x06\x06" in path_of(store).read_bytes()
    with begin(tmp_path / "plain.zarr") as plain:
        put_frames(plain, "a/b")
    ours, expected = everything(store.read("a/b")), everything(plain.read("a/b"))
    assert ours.keys() == expected.keys()
    for name, array in expected.items():
        np.testing.assert_array_equal(ours[name], array)
    assert store.records() == plain.records()


def test_a_large_archive_is_read_in_parts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of a clip of it, only the chunks that hold it, and a chunk that holds two frames once."""
    monkeypatch.setattr(writing, "CHUNK_BYTES", 2000)
    monkeypatch.setattr(archive_module, "TAIL", 1500)
    whole = np.random.default_rng(0).integers(0, 256, (40, 1000), np.uint8)
    with begin(tmp_path / "frames.zarr") as store, VideoWriter(store, "a/b", {"x": 0}) as writer:
        writer.append({"x": whole})
        commit(writer)
    stored, read = store.read("a/b"), []
    content = Archive.read
    monkeypatch.setattr(Archive, "read", lambda self, name: read.append(name) or content(self, name))
    for row in (6, 7, 8):
        np.testing.assert_array_equal(stored.array("x", slice(row, row + 1)), whole[row : row + 1])
    assert [name for name in read if "/c/" in name] == ["x/c/3/0", "x/c/4/0"]
    np.testing.assert_array_equal(stored.array("x"), whole)


def lose(content: bytes) -> bytes:
    return b""


def cut(content: bytes) -> bytes:
    return content[:-9]


def half(content: bytes) -> bytes:
    return content[: len(content) // 2]


def behead(content: bytes) -> bytes:
    return content[9:]


def lengthen(content: bytes) -> bytes:
    return content + b"\0"


def zeros(content: bytes) -> bytes:
    """As a file system may leave after a power cut: the length is right, a block is not."""
    return content[:100] + bytes(200) + content[300:]


@pytest.mark.parametrize("kind", PUT)
@pytest.mark.parametrize("damage", [lose, cut, half, behead, lengthen, zeros])
def test_damage_is_an_error_that_names_the_video_and_never_zeros(
    tmp_path: Path, kind: str, damage: Callable[[bytes], bytes]
) -> None:
    with store_of(tmp_path, kind) as store:
        PUT[kind](store, "a/b")
        PUT[kind](store, "a/c")
    path = path_of(store)
    path.write_bytes(damage(path.read_bytes()))
    with pytest.raises(DamagedFile, match=rf"{kind}\.zarr: video 'a/b' is damaged"):
        everything(store.read("a/b"))
    everything(store.read("a/c"))


@pytest.fixture(scope="module")
def small_archive(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[VideoStore[Any], bytes]]:
    """A depth store and the bytes of the one video in it, of a kilobyte or two."""
    store = store_of(tmp_path_factory.mktemp("small"), "depth")
    with depth_writer(store, "a/b") as writer:
        ramp = np.arange(2, dtype=np.float32)
        writer.append({"disparity": np.arange(8, dtype=np.uint8).reshape(2, 2, 2), "low": ramp, "high": ramp + 1})
        commit(writer, frames=2)
    yield store, path_of(store).read_bytes()
    store.close()


def outcome_of(store: VideoStore[Any]) -> tuple[Any, Any] | None:
    """What a reader gets of the video: its record and its arrays; None where it is told of damage."""
    try:
        stored = open_video(store.path, str(path_of(store)), "a/b")
        return stored.record, [stored.array(name).tolist() for name in ("disparity", "low", "high")]
    except DamagedFile:
        return None


def test_every_flipped_bit_is_found_or_harmless(small_archive: tuple[VideoStore[Any], bytes]) -> None:
    """Harmless: in what is read of nobody, as the times of members. Then all that is read is as it was."""
    store, sound = small_archive
    path_of(store).write_bytes(sound)
    expected, found = outcome_of(store), 0
    assert expected is not None
    with path_of(store).open("r+b", buffering=0) as file:
        for place, byte in enumerate(sound):
            bit = 1 << place % 8
            for flipped in (byte ^ bit, byte ^ 0xFF):
                os.pwrite(file.fileno(), bytes([flipped]), place)
                outcome = outcome_of(store)
                assert outcome in (None, expected), f"byte {place}"
                found += outcome is None
            os.pwrite(file.fileno(), bytes([byte]), place)
    assert found > len(sound)
    assert outcome_of(store) == expected


def test_what_is_lost_of_a_file_is_found(small_archive: tuple[VideoStore[Any], bytes]) -> None:
    """One that is cut at any place, or in which any sixteen bytes are lost."""
    store, sound = small_archive
    path_of(store).write_bytes(sound)
    expected = outcome_of(store)
    for place in range(0, len(sound), 7):
        path_of(store).write_bytes(sound[:place])
        assert outcome_of(store) is None, place
        path_of(store).write_bytes(sound[:place] + sound[place + 16 :])
        assert outcome_of(store) in (None, expected), place
    path_of(store).write_bytes(sound)
    assert damage_of(store.read("a/b"), store) is None


def test_a_stream_whose_header_is_lost_is_damaged_and_not_absent(tmp_path: Path) -> None:
    with store_of(tmp_path, "features") as store:
        PUT["features"](store, "a/b")
    sound = path_of(store).read_bytes()
    path_of(store).write_bytes(sound.replace(b"rgb/zarr.json", b"rgc/zarr.json"))
    with pytest.raises(DamagedFile, match=r"'rgb/zarr\.json' is missing"):
        read_features(store, store.records(), ["a"], streams=["rgb"], views=1)
    with pytest.raises(DamagedFile, match=r"'rgb/zarr\.json' is missing"):
        dim_of(store, store.records())


@settings(max_examples=200, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(content=st.binary(max_size=300), place=st.integers(0, 3000), keep=st.booleans())
def test_garbage_for_an_archive_is_answered_with_our_error(
    small_archive: tuple[VideoStore[Any], bytes], content: bytes, place: int, keep: bool
) -> None:
    store, sound = small_archive
    expected = (path_of(store).write_bytes(sound), outcome_of(store))[1]
    mixed = sound[:place] + content + sound[place + len(content) :] if keep else content
    path_of(store).write_bytes(mixed)
    assert outcome_of(store) in (None, expected)


def test_an_open_video_keeps_one_file_open_and_lets_go_of_it(tmp_path: Path) -> None:
    with begin(tmp_path / "frames.zarr", frames_header()) as store:
        put_frames(store, "a/b")

    def open_files() -> int:
        return len(os.listdir("/proc/self/fd"))

    before = open_files()
    stored = store.read("a/b")
    stored.array("jpeg")
    assert open_files() == before + 1
    del stored
    assert open_files() == before
    path_of(store).write_bytes(b"")
    with pytest.raises(DamagedFile):
        store.read("a/b")
    assert open_files() == before


def test_the_features_of_a_store_have_one_header_each(tmp_path: Path) -> None:
    with begin(tmp_path / "features.zarr", features_header()) as store:
        PUT["features"](store, "a/b")
    stored = store.read("a/b")
    assert (stored.shape("rgb"), stored.shape("frame")) == ((2, 3, 8), (3,))
    assert (stored.holds("rgb"), stored.holds("clip")) == (True, False)
