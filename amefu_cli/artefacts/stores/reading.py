"""Reading one video of a store: every read is checked, so that damage is an error that names the video, never zeros.

Archives are read a member at a time by a small reader, since `zipfile` takes longer to open one than to read all of it.
Every member is read whole and held to its CRC-32. What is not as `writing.py` or any other writer of uncompressed zip
archives makes it raises ValueError.
"""

from __future__ import annotations

import functools
import json
import math
import os
import struct
import zipfile
import zlib
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numcodecs.zstd import Zstd
from numpy.typing import NDArray

from amefu_cli.artefacts.stores.header import HEADER, VideoRecord, parse_record
from amefu_cli.errors import AmefuError, DamagedFile

TAIL = 1 << 17  # bytes that are read at once from the end: all of a small archive, else its directory and comment
RECORD_TAIL = 1 << 11  # bytes that hold most comments
END = struct.Struct("<10xHLLH")  # members, size and place of their directory, length of the comment
MEMBER = struct.Struct("<4s6xH4x3L3H8xL")  # method, CRC-32, two sizes, lengths of name, extra and comment, place
LOCAL = struct.Struct("<4s22x2H")  # lengths of name and extra
IN_ZIP64 = (0xFFFF, 0xFFFFFFFF)  # a number that is too large for its field says so
ALL = slice(None)


class Member(NamedTuple):
    """Where one member stands, its bytes and their CRC-32."""

    place: int
    size: int
    crc: int


class Archive:
    """One open archive: its members by name, and its comment. It stays as it is, whatever becomes of its name."""

    def __init__(self, path: str) -> None:
        self._descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        self.size = os.fstat(self._descriptor).st_size
        self._tail_at = max(0, self.size - TAIL)
        self._tail = os.pread(self._descriptor, min(self.size, TAIL), self._tail_at)
        count, size, place, self.comment = _end_of(self._tail)
        is_large = count in IN_ZIP64 or size in IN_ZIP64 or place in IN_ZIP64
        members = None if is_large else self._directory(count, self._bytes(place, size))
        self.members: Mapping[str, Member] = self._by_zipfile() if members is None else members

    def __del__(self) -> None:
        if hasattr(self, "_descriptor"):
            os.close(self._descriptor)

    @property
    def inode(self) -> int:
        """What tells the file from another of the same name."""
        return os.fstat(self._descriptor).st_ino

    def read(self, name: str) -> memoryview:
        """The bytes of one member. Raises ValueError where it is missing or is not what was written."""
        member = self.members.get(name)
        if member is None:
            raise ValueError(f"{name!r} is missing")
        encoded = name.encode()
        begin = LOCAL.size + len(encoded)
        head, content = self._bytes(member.place, begin + member.size), memoryview(b"")
        if head[LOCAL.size : begin] == encoded:
            mark, length, extra = LOCAL.unpack_from(head)
            if mark == b"PK\3\4" and length == len(encoded):
                content = head[begin:] if not extra else self._bytes(member.place + begin + extra, member.size)
        if len(content) != member.size or zlib.crc32(content) != member.crc:
            raise ValueError(f"{name!r} is not what was written: its checksum differs")
        return content

    def _bytes(self, begin: int, length: int) -> memoryview:
        length = max(0, min(length, self.size - begin))  # no allocation for what a damaged directory says
        if begin >= self._tail_at:
            return memoryview(self._tail)[begin - self._tail_at :][:length]
        return memoryview(os.pread(self._descriptor, length, begin))

    @staticmethod
    def _directory(count: int, directory: memoryview) -> dict[str, Member] | None:
        """The members that a directory lists; None where a number is too large for it."""
        members, at = {}, 0
        for _ in range(count):
            if at + MEMBER.size > len(directory):
                raise ValueError("its directory is cut")
            mark, method, crc, stored, full, name, extra, note, begin = MEMBER.unpack_from(directory, at)
            if mark != b"PK\1\2" or method != zipfile.ZIP_STORED or stored != full:
                raise ValueError("its directory is not one of uncompressed members")
            if stored in IN_ZIP64 or begin in IN_ZIP64:
                return None
            at += MEMBER.size
            members[str(directory[at : at + name], "utf-8", "replace")] = Member(begin, stored, crc)
            at += name + extra + note
        return members

    def _by_zipfile(self) -> dict[str, Member]:
        """An archive of over 2 GiB or 65,535 members, where the time to open it does not count."""
        try:
            with os.fdopen(os.dup(self._descriptor), "rb") as file, zipfile.ZipFile(file) as archive:
                entries = archive.infolist()
        except (zipfile.BadZipFile, struct.error) as error:
            raise ValueError(str(error)) from error
        return {entry.filename: Member(entry.header_offset, entry.file_size, entry.CRC) for entry in entries}


def read_comment(path: str) -> bytes:
    """The comment of the archive at `path`, read alone. Raises ValueError."""
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        size = os.lseek(descriptor, 0, os.SEEK_END)
        tail = os.pread(descriptor, RECORD_TAIL, max(0, size - RECORD_TAIL))
        if size > RECORD_TAIL and tail.rfind(b"PK\5\6") < 0:
            tail = os.pread(descriptor, TAIL, max(0, size - TAIL))
    finally:
        os.close(descriptor)
    return _end_of(tail)[-1]


def _end_of(tail: bytes) -> tuple[int, int, int, bytes]:
    """Members, size and place of the directory of an archive, and its comment, which holds no control characters."""
    at = tail.rfind(b"PK\5\6")
    if at < 0 or at + END.size > len(tail):
        raise ValueError("it is cut, or not an archive")
    count, size, place, length = END.unpack_from(tail, at)
    comment = tail[at + END.size :]
    if len(comment) != length:
        raise ValueError("it does not end where it says")
    return count, size, place, comment


@dataclass(frozen=True)
class ArrayHeader:
    """What the header of an array says. `chunks` is the shape of each of its chunks."""

    shape: tuple[int, ...]
    chunks: tuple[int, ...]
    dtype: np.dtype[Any]
    compressed: bool

    @functools.cached_property
    def grid(self) -> tuple[int, ...]:
        """How many chunks there are along each axis."""
        return tuple(math.ceil(length / chunk) for length, chunk in zip(self.shape, self.chunks, strict=True))

    @functools.cached_property
    def chunk_bytes(self) -> int:
        return math.prod(self.chunks) * self.dtype.itemsize

    def members(self, name: str) -> list[str]:
        """The member of every chunk of the array, which is called `name`."""
        return [chunk_name(name, position) for position in np.ndindex(*self.grid)]


@functools.lru_cache(maxsize=1024)
def parse_array(header: bytes) -> ArrayHeader:
    """An array by its Zarr header. Raises ValueError where it is not as we write arrays."""
    try:
        document = json.loads(header)
        codecs = [codec["name"] for codec in document["codecs"]]
        endian = document["codecs"][0].get("configuration", {}).get("endian", "little")
        grid, keys = document["chunk_grid"], document["chunk_key_encoding"]
        shape, chunks = document["shape"], grid["configuration"]["chunk_shape"]
        fits = (
            codecs in (["bytes"], ["bytes", "zstd"])
            and endian == "little"
            and (grid["name"], keys["name"], keys["configuration"]["separator"]) == ("regular", "default", "/")
            and len(shape) == len(chunks)
            and all(type(length) is int and length > 0 for length in [*shape, *chunks])
        )
        dtype = np.dtype(document["data_type"]).newbyteorder("<")
    except (ValueError, KeyError, TypeError, IndexError, AttributeError, RecursionError):
        fits = False
    if not fits:
        raise ValueError("not the header of an array of ours")
    return ArrayHeader(tuple(shape), tuple(chunks), dtype, "zstd" in codecs)


class StoredVideo:
    """One open video: the store's path, the record, and the arrays behind checks. It holds the file open, so that it
    stays the video that it was when it is replaced. Of one thread at a time."""

    def __init__(self, store: Path, record: VideoRecord, archive: Archive) -> None:
        self.store, self.record, self.archive = store, record, archive
        self._last: tuple[str, NDArray[Any]] | None = None  # chunk; frames are mostly read in ascending order

    def names(self) -> list[str]:
        """Those of the arrays."""
        return [name.removesuffix(f"/{HEADER}") for name in self.archive.members if name.endswith(f"/{HEADER}")]

    def holds(self, name: str) -> bool:
        """Whether there is anything of an array of this name; if not all, reading it says so."""
        return any(member.startswith(f"{name}/") for member in self.archive.members)

    def shape(self, name: str) -> tuple[int, ...]:
        """The shape of the array `name`, from its header."""
        with damage_named(self.store, self.record.id):
            return self.header(name).shape

    def array(self, name: str, rows: slice = ALL) -> NDArray[Any]:
        """A NumPy array, perhaps not writable: the rows from `start` to `stop` of the first axis of the array `name`.
        Raises DamagedFile, which names the video, where a checksum fails or the array ends before `stop`."""
        with damage_named(self.store, self.record.id):
            header = self.header(name)
            first, last = rows.start or 0, header.shape[0] if rows.stop is None else rows.stop
            if last > header.shape[0]:
                raise ValueError(f"array {name!r} ends before row {last}")
            return self._rows(name, header, first, last)

    def header(self, name: str) -> ArrayHeader:
        """What the header of an array says. Raises ValueError."""
        try:
            return parse_array(bytes(self.archive.read(f"{name}/{HEADER}")))
        except ValueError as error:
            raise ValueError(f"the header of {name!r}: {error}") from error

    def _rows(self, name: str, header: ArrayHeader, first: int, last: int) -> NDArray[Any]:
        if header.shape == header.chunks:  # as almost all are
            return self._chunk(name, header, (0,) * len(header.shape))[first:last]
        rows = header.chunks[0]
        skipped = first // rows
        grid = (math.ceil(last / rows) - skipped, *header.grid[1:])
        whole = np.empty(np.multiply(grid, header.chunks), header.dtype)  # of all chunks that hold some of it
        for place in np.ndindex(*grid):
            into = (slice(at * length, (at + 1) * length) for at, length in zip(place, header.chunks, strict=True))
            whole[*into] = self._chunk(name, header, (skipped + place[0], *place[1:]))
        return whole[first - skipped * rows : last - skipped * rows, *map(slice, header.shape[1:])]

    def _chunk(self, name: str, header: ArrayHeader, position: tuple[int, ...]) -> NDArray[Any]:
        key = chunk_name(name, position)
        if self._last is None or self._last[0] != key:
            content: Any = self.archive.read(key)
            if header.compressed:
                content = Zstd().decode(content)
            if len(content) != header.chunk_bytes:
                raise ValueError(f"{key!r} holds {len(content)} bytes, not those of {header.chunks} {header.dtype}")
            self._last = key, np.frombuffer(content, header.dtype).reshape(header.chunks)
        return self._last[1]


def open_video(store: Path, path: str, video: str) -> StoredVideo:
    """The video whose archive is at `path`. Raises DamagedFile, or FileNotFoundError."""
    with damage_named(store, video):
        archive = Archive(path)
        record = parse_record(archive.comment)
        if record.id != video:
            raise ValueError(f"it is that of {record.id!r}")
        return StoredVideo(store, record, archive)


def chunk_name(name: str, position: tuple[int, ...]) -> str:
    """The member that holds one chunk of an array, by its place in the grid of chunks.

    >>> chunk_name("rgb", (0, 2, 0))
    'rgb/c/0/2/0'
    """
    return "/".join([name, "c", *map(str, position)])


@contextmanager
def damage_named(store: Path, video: str) -> Iterator[None]:
    """Turn what a lost, cut or flipped byte leads to into an error that names the video."""
    try:
        yield
    except (AmefuError, FileNotFoundError, MemoryError):
        raise
    except Exception as error:  # a damaged header of an array can raise almost anything
        fix = "`amefu verify` finds all such videos, and the command that made them makes them again"
        raise DamagedFile(f"{store}: video {video!r} is damaged ({type(error).__name__}: {error}); {fix}") from error
