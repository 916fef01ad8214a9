"""Writing one video into a store: arrays that grow by appending, in constant memory, then one rename."""

from __future__ import annotations

import functools
import json
import os
import zipfile
from collections.abc import Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from typing import Any, NamedTuple, Self

import numpy as np
import zarr
from numcodecs.zstd import Zstd
from numpy.typing import NDArray
from zarr.codecs import ZstdCodec
from zarr.storage import MemoryStore

from amefu_cli.artefacts.stores.header import HEADER, VideoRecord, record_json
from amefu_cli.artefacts.stores.reading import chunk_name
from amefu_cli.artefacts.stores.store import VideoStore
from amefu_cli.errors import DamagedFile

CHUNK_BYTES = 1 << 20  # so that a clip's frames are read without the rest of the video
ZSTD_LEVEL = 1
ALWAYS = (1980, 1, 1, 0, 0, 0)  # the time of every member, so that equal videos are equal files
UNIX, PLAIN_FILE = 3, 0o100644 << 16
Arrays = Mapping[str, NDArray[Any]]
NOTHING: Arrays = {}


class Chunk(NamedTuple):
    """One chunk that is whole. In this order, the order of an archive does not depend on how many rows came at once."""

    end: int  # the row up to which it reaches
    member: str
    array: GrowingArray
    rows: NDArray[Any]


class GrowingArray:
    """One array that grows along `axis` and is cut into chunks of equal length, all of the other axes in each."""

    def __init__(self, name: str, axis: int, *, compressed: bool) -> None:
        self.name, self.axis, self.compressed = name, axis, compressed
        self._pending: list[NDArray[Any]] = []
        self.length = self._rows_per_chunk = self._waiting = self._chunks = 0

    def append(self, block: NDArray[Any]) -> list[Chunk]:
        """Add `block` along the axis; the chunks that are whole now, while the rest waits."""
        self._pending.append(block)
        rows = block.shape[self.axis]
        self.length += rows
        self._waiting += rows
        self._rows_per_chunk = max(1, CHUNK_BYTES * rows // block.nbytes) if rows else self._rows_per_chunk
        if not rows or self._waiting < self._rows_per_chunk:
            return []
        whole = np.concatenate(self._pending, axis=self.axis)
        count, self._waiting = divmod(self._waiting, self._rows_per_chunk)
        *chunks, rest = np.split(whole, [self._rows_per_chunk * (n + 1) for n in range(count)], axis=self.axis)
        self._pending = [rest]
        return [self._chunk(chunk) for chunk in chunks]

    def finish(self) -> list[Chunk]:
        """The last chunk: as long as the array, or filled up with zeros to the length of the others."""
        if not self._waiting:
            return []
        rest = np.concatenate(self._pending, axis=self.axis)
        if self._chunks:
            padding = [(0, 0)] * rest.ndim
            padding[self.axis] = (0, self._rows_per_chunk - self._waiting)
            rest = np.pad(rest, padding)
        return [self._chunk(rest)]

    def _chunk(self, rows: NDArray[Any]) -> Chunk:
        self._shape, self._dtype = rows.shape, rows.dtype  # of every chunk
        place = tuple(self._chunks if axis == self.axis else 0 for axis in range(rows.ndim))
        self._chunks += 1
        return Chunk(self._chunks * rows.shape[self.axis], chunk_name(self.name, place), self, rows)

    def encode(self, rows: NDArray[Any]) -> bytes:
        """The bytes of a chunk: its values in C order, little-endian, compressed or not."""
        content = rows.astype(rows.dtype.newbyteorder("<"), copy=False).tobytes()
        return Zstd(ZSTD_LEVEL).encode(content) if self.compressed else content

    def header(self) -> bytes:
        """What Zarr would write of this array."""
        shape = list(self._shape)
        shape[self.axis] = self.length
        document = json.loads(zarr_header(self._dtype.name, len(shape), compressed=self.compressed))
        document["shape"] = shape
        document["chunk_grid"]["configuration"]["chunk_shape"] = self._shape
        return json.dumps(document, indent=2).encode("ascii")


@functools.cache
def zarr_header(dtype: str, axes: int, *, compressed: bool) -> bytes:
    """The header that Zarr gives an array, whose shape and chunks are still to be put in. It takes Zarr a while."""
    held: dict[str, Any] = {}
    zarr.create_array(
        MemoryStore(held), shape=(1,) * axes, chunks=(1,) * axes, dtype=dtype, filters=None,
        compressors=ZstdCodec(level=ZSTD_LEVEL) if compressed else None,
    )  # fmt: skip
    header: bytes = held[HEADER].to_bytes()
    return header


class VideoWriter:
    """Append to arrays, then `commit`; `close`, or leaving the context, leaves no trace of what was not committed.

    >>> with VideoWriter(store, "archery/v_03", {"jpeg": 0}) as writer:    # doctest: +SKIP
    ...     writer.append({"jpeg": block})
    ...     writer.commit(frames=31, fps=25.0, source="archery/v_03.mp4", made_from={...})

    `axes` are the arrays by name, and the axis along which each grows. Those that are `copied` grow by as many of their
    rows as are appended to the others.
    """

    def __init__(
        self, store: VideoStore[Any], video: str, axes: Mapping[str, int], *,
        compressed: frozenset[str] = frozenset(), copied: Arrays = NOTHING,
    ) -> None:  # fmt: skip
        self._store, self._video, self._copied = store, video, copied
        self._arrays = {name: GrowingArray(name, axes[name], compressed=name in compressed) for name in sorted(axes)}
        self._path = store.fresh()
        self._file = self._path.open("wb")
        self._archive = zipfile.ZipFile(self._file, "w")
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="writer")
        self._writing: Future[None] | None = None

    def append(self, blocks: Arrays) -> None:
        """Add a block to each of some arrays, along its own axis; whole chunks are written behind the caller's back."""
        added = {block.shape[self._arrays[name].axis] for name, block in blocks.items()}
        for name, rows in self._copied.items():
            array = self._arrays[name]
            blocks = {**blocks, name: np.split(rows, [array.length, array.length + max(added)], array.axis)[1]}
        whole = [chunk for name, block in blocks.items() for chunk in self._arrays[name].append(block)]
        if whole:
            self._wait()  # so that memory stays bounded where the disk is slower than the decoder
            self._writing = self._thread.submit(self._write, whole)

    def commit(
        self, *, frames: int, fps: float | None, source: str, made_from: Mapping[str, Any], partial: bool = False
    ) -> None:
        """Finish the arrays, sync the archive, and move it to its place in the store."""
        self._wait()
        self._write([chunk for array in self._arrays.values() for chunk in array.finish()])
        kept = self._arrays["frame"].length if "frame" in self._arrays else None
        expected = self._store.expected_fingerprint(made_from)
        record = record_json(VideoRecord(self._video, source, frames, fps, made_from, expected, partial, kept))
        for name, array in self._arrays.items():
            if not array.length:
                raise DamagedFile(f"{self._store.path}: nothing of {name!r} of {self._video!r} was written")
            self._put(f"{name}/{HEADER}", array.header())
        self._put(HEADER, b'{"attributes": %b, "zarr_format": 3, "node_type": "group"}' % record)
        self._archive.comment = record
        self._archive.close()
        self._file.flush()
        os.fsync(self._file.fileno())
        self._file.close()
        self._store.publish(self._path, self._video)

    def close(self) -> None:
        """Remove what was not committed."""
        self._thread.shutdown(cancel_futures=True)
        for end in (self._archive.close, self._file.close):
            with suppress(OSError, ValueError):  # the disk is full, say
                end()
        self._path.unlink(missing_ok=True)

    def _wait(self) -> None:
        if self._writing is not None:
            self._writing.result()

    def _write(self, chunks: list[Chunk]) -> None:
        for chunk in sorted(chunks, key=lambda chunk: chunk[:2]):
            self._put(chunk.member, chunk.array.encode(chunk.rows))

    def _put(self, name: str, content: bytes) -> None:
        member = zipfile.ZipInfo(name, ALWAYS)
        member.create_system, member.external_attr = UNIX, PLAIN_FILE
        self._archive.writestr(member, content)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def frame_writer(store: VideoStore[Any], video: str) -> VideoWriter:
    """A writer for one video: `jpeg` uint8 (bytes of all frames) and `offset` int64 (frames + 1)."""
    return VideoWriter(store, video, {"jpeg": 0, "offset": 0})


def depth_writer(store: VideoStore[Any], video: str) -> VideoWriter:
    """A writer for one video: `disparity` uint8 (frames, height, width), `low` and `high` float32 (frames,). disparity
    = low + value / 255 * (high - low); larger = nearer."""
    return VideoWriter(store, video, {"disparity": 0, "low": 0, "high": 0}, compressed=frozenset({"disparity"}))


def feature_writer(store: VideoStore[Any], video: str, streams: Sequence[str], copied: Arrays = NOTHING) -> VideoWriter:
    """A writer for one video: `frame` int64 (kept,), and of each of `streams` float16 (views, kept, dim). View 0 is the
    centre crop, the others are random crops shared by all streams. The streams that are `copied` are those of the video
    that are stored already."""
    return VideoWriter(store, video, {"frame": 0, **dict.fromkeys([*streams, *copied], 1)}, copied=copied)
