"""Writing one video into a store: arrays that grow by appending, in constant memory, then one rename."""

from __future__ import annotations

import math
import os
import shutil
import time
from collections.abc import Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import google_crc32c
import numpy as np
import zarr
from numcodecs.zstd import Zstd
from zarr.codecs import Crc32cCodec, ZstdCodec

from amefu_cli.artefacts.files.atomic import sync_tree
from amefu_cli.artefacts.stores.header import HEADER, VideoRecord, group_json, record_json
from amefu_cli.artefacts.stores.reading import CHECKSUM_BYTES, check_chunks, chunk_file
from amefu_cli.artefacts.stores.store import VideoStore
from amefu_cli.errors import DamagedFile

CHUNK_BYTES = 1 << 20  # so that a clip's frames are read without the rest of the video
ZSTD_LEVEL = 1
Array = np.ndarray[Any, np.dtype[Any]]


class GrowingArray:
    """One Zarr array that grows along `axis` in whole chunks; an array of one chunk is cut to its size.

    Zarr writes the header alone. The chunks are written here, as the v3 format says: the values in C order, compressed
    or not, then their CRC-32C. Through Zarr each is a round of its event loop, in Python, for which the decoder waits.
    """

    def __init__(self, folder: Path, threads: ThreadPoolExecutor, *, axis: int, compressed: bool) -> None:
        self._folder, self._threads, self._axis, self._compressed = folder, threads, axis, compressed
        self._pending: list[Array] = []
        self._writing: Future[None] | None = None
        self._rows_per_chunk = self._waiting = self._chunks = self._written = self.length = 0

    def append(self, block: Array) -> None:
        """Add `block` along the axis; whole chunks are written behind the caller's back, the rest waits."""
        self._pending.append(block)
        self._waiting += block.shape[self._axis]
        self.length += block.shape[self._axis]
        row_bytes = block.itemsize * math.prod(block.shape[self._axis + 1 :])
        self._rows_per_chunk = max(1, CHUNK_BYTES // row_bytes)
        if self._waiting < self._rows_per_chunk:
            return
        parts, self._pending = self._pending, []
        self._waiting %= self._rows_per_chunk
        if self._waiting:
            parts[-1], rest = np.split(parts[-1], [parts[-1].shape[self._axis] - self._waiting], axis=self._axis)
            self._pending = [rest]
        self.wait()  # so that memory stays bounded where the disk is slower than the decoder
        self._writing = self._threads.submit(self._write, parts)

    def finish(self) -> None:
        """Have the rest written, and the header."""
        self.wait()
        self._writing = self._threads.submit(self._finish)

    def wait(self) -> None:
        """Return once all that was to be written is on the disk."""
        if self._writing is not None:
            self._writing.result()

    def _write(self, parts: list[Array]) -> None:
        rows = np.concatenate(parts, axis=self._axis)
        for chunk in np.split(rows, rows.shape[self._axis] // self._rows_per_chunk, axis=self._axis):
            self._write_chunk(chunk)

    def _finish(self) -> None:
        if self._waiting:
            rest = np.concatenate(self._pending, axis=self._axis)
            padding = [(0, 0)] * rest.ndim
            if self._chunks:  # as the chunks of one array all have one size
                padding[self._axis] = (0, self._rows_per_chunk - rest.shape[self._axis])
            self._write_chunk(np.pad(rest, padding))
            self._written -= padding[self._axis][1]
        before, after = self._shape[: self._axis], self._shape[self._axis + 1 :]
        zarr.create_array(
            self._folder,
            shape=(*before, self._written, *after),
            chunks=(*[1] * self._axis, self._shape[self._axis], *after),
            dtype=self._dtype,
            filters=None,
            compressors=[ZstdCodec(level=ZSTD_LEVEL), Crc32cCodec()] if self._compressed else [Crc32cCodec()],
        )

    def _write_chunk(self, rows: Array) -> None:
        """The next chunk along the axis: one file for every place on the axes before it."""
        little_endian = rows.dtype.newbyteorder("<")
        for place in np.ndindex(rows.shape[: self._axis]):
            path = chunk_file(self._folder, (*place, self._chunks, *[0] * (rows.ndim - self._axis - 1)))
            content: bytes = rows[place].astype(little_endian, copy=False).tobytes()
            if self._compressed:
                content = Zstd(level=ZSTD_LEVEL).encode(content)
            path.parent.mkdir(parents=True, exist_ok=True)
            with path.open("wb") as file:
                file.write(content)
                file.write(google_crc32c.value(content).to_bytes(CHECKSUM_BYTES, "little"))
        self._chunks += 1
        self._written += rows.shape[self._axis]
        self._shape, self._dtype = rows.shape, little_endian  # of every chunk


@dataclass(frozen=True)
class StagedVideo:
    """A video that is wholly written, but stands where nobody looks until `publish_video` moves it to its place."""

    folder: Path
    record: VideoRecord
    rows: Mapping[str, tuple[int, int]]
    """By array: the axis along which it grew, and its length there."""


def publish_video(store: VideoStore, staged: StagedVideo) -> None:
    """Check a staged video, sync it, and move it to its place in the store; a failure leaves nothing of it."""
    try:
        _check(store, staged)
        sync_tree(staged.folder)
        store.publish(staged.folder, staged.record.id, staged.record.fingerprint)
    finally:
        shutil.rmtree(staged.folder, ignore_errors=True)


def _check(store: VideoStore, staged: StagedVideo) -> None:
    arrays = dict(zarr.open_group(staged.folder, mode="r", zarr_format=3).arrays())
    for name, (axis, length) in staged.rows.items():
        stored = arrays[name].shape[axis]
        if stored != length:
            raise DamagedFile(
                f"{store.path}: {name!r} of {staged.record.id!r} holds {stored} rows, {length} were written"
            )
        check_chunks(staged.folder / name, arrays[name])


class VideoWriter:
    """Append to arrays, then `commit`; `close`, or leftover the context, leaves no trace of what was not finished.

    >>> with VideoWriter(store, "archery/v_03", {"jpeg": 0}) as writer:    # doctest: +SKIP
    ...     writer.append("jpeg", block)
    ...     writer.commit(frames=31, fps=25.0, source="archery/v_03.mp4", made_from={...})

    `folder` is where it writes until then, by default a new one in the store's own staging area.
    """

    def __init__(
        self,
        store: VideoStore,
        video: str,
        axes: Mapping[str, int],
        *,
        compressed: frozenset[str] = frozenset(),
        folder: Path | None = None,
    ) -> None:
        self._store, self._video, self._axes = store, video, axes
        self._folder = folder or store.fresh_folder()
        self._folder.mkdir()
        self._finished = False
        self._threads = ThreadPoolExecutor(len(axes), thread_name_prefix="writer")
        self._growing = {
            name: GrowingArray(self._folder / name, self._threads, axis=axis, compressed=name in compressed)
            for name, axis in axes.items()
        }

    def append(self, name: str, block: Array) -> None:
        """Add `block` to the array `name`, along that array's own axis."""
        self._growing[name].append(block)

    def commit(
        self, *, frames: int, fps: float | None, source: str, made_from: Mapping[str, Any], partial: bool = False
    ) -> None:
        """Finish the arrays, reopen and check them, sync, and move the video to its place in the store."""
        staged = self.finish(frames=frames, fps=fps, source=source, made_from=made_from, partial=partial)
        publish_video(self._store, staged)

    def finish(
        self, *, frames: int, fps: float | None, source: str, made_from: Mapping[str, Any], partial: bool = False
    ) -> StagedVideo:
        """Finish the arrays; from here on the folder is the caller's, who gives it to `publish_video`."""
        expected = self._store.expected_fingerprint(made_from)
        for growing in self._growing.values():
            growing.finish()
        for growing in self._growing.values():
            growing.wait()
        record = VideoRecord(self._video, frames, fps, source, made_from, expected, partial)
        (self._folder / HEADER).write_bytes(group_json(record_json(record)))
        now = time.time_ns()  # the kernel's own stamp may be milliseconds old; readers tell two editions apart by this
        os.utime(self._folder / HEADER, ns=(now, now))
        self._finished = True
        rows = {name: (self._axes[name], growing.length) for name, growing in self._growing.items()}
        return StagedVideo(self._folder, record, rows)

    def close(self) -> None:
        """Remove what is staged and was not finished."""
        self._threads.shutdown(cancel_futures=True)
        if not self._finished:
            shutil.rmtree(self._folder, ignore_errors=True)

    def __enter__(self) -> VideoWriter:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()
