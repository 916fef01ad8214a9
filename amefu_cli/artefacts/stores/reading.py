"""Reading one video of a store: every read is checked, so that damage is an error that names the video, never zeros."""

from __future__ import annotations

import functools
import itertools
import json
import math
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numcodecs.zstd import Zstd
from numpy.typing import NDArray

from amefu_cli.artefacts.stores.archive import Archive
from amefu_cli.artefacts.stores.header import HEADER, VideoRecord, parse_record
from amefu_cli.errors import AmefuError, DamagedFile

ALL = slice(None)


@dataclass(frozen=True)
class ArrayHeader:
    """What the header of an array says of it. `chunks` is the shape of each of its chunks."""

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
    """One open video: the store's path, the record, and the arrays behind checks.

    It holds the file open, so that it stays the video that it was when it is replaced. Of one thread at a time.
    """

    def __init__(self, store: Path, record: VideoRecord, archive: Archive) -> None:
        self.store, self.record, self.archive = store, record, archive
        self._last: tuple[str, NDArray[Any]] | None = None  # chunk; frames are mostly read in ascending order

    def names(self) -> list[str]:
        """The names of the arrays."""
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

        Raises:
            DamagedFile: a checksum fails, or the array ends before `stop`; names the video.
        """
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

    def stored_chunk(self, name: str, position: tuple[int, ...]) -> memoryview:
        """The bytes of one chunk, compressed or not as they are stored. Raises ValueError."""
        return self.archive.read(chunk_name(name, position))

    def _rows(self, name: str, header: ArrayHeader, first: int, last: int) -> NDArray[Any]:
        if header.shape == header.chunks:  # as almost all are
            return self._chunk(name, header, (0,) * len(header.shape))[first:last]
        rows = header.chunks[0]
        result = np.empty((last - first, *header.shape[1:]), header.dtype)
        grid = [range(first // rows, math.ceil(last / rows)), *map(range, header.grid[1:])]
        for position in itertools.product(*grid):
            begin = [place * length for place, length in zip(position, header.chunks, strict=True)]
            chunk, skipped = self._chunk(name, header, position), max(0, first - begin[0])
            into = result[max(0, begin[0] - first) :][tuple(slice(start, None) for start in (0, *begin[1:]))]
            fitting = tuple(slice(length) for length in into.shape)
            part = chunk[skipped:][fitting]
            into[tuple(slice(length) for length in part.shape)] = part
        return result

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
        raise DamagedFile(
            f"{store}: video {video!r} is damaged ({type(error).__name__}: {error}); "
            f"`amefu verify` finds all such videos, and the command that made them makes them again"
        ) from error
