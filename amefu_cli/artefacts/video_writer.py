"""Writing one video into a store: arrays that grow by appending, in constant memory, then one rename."""

from __future__ import annotations

import math
import os
import shutil
import time
from collections.abc import Mapping
from typing import Any

import numpy as np
import zarr
from zarr.codecs import Crc32cCodec, ZstdCodec

from amefu_cli.artefacts.atomic import sync_tree
from amefu_cli.artefacts.store_headers import HEADER, VideoRecord, record_json
from amefu_cli.artefacts.stored_video import check_chunks
from amefu_cli.artefacts.video_store import VideoStore
from amefu_cli.errors import DamagedFile

CHUNK_BYTES = 1 << 20  # so that a clip's frames are read without the rest of the video
Array = np.ndarray[Any, np.dtype[Any]]


class GrowingArray:
    """One Zarr array that grows along `axis` in whole chunks; an array of one chunk is cut to its size."""

    def __init__(self, group: zarr.Group, name: str, *, axis: int, compressed: bool) -> None:
        self._group, self._name, self._axis = group, name, axis
        self._compressors = [ZstdCodec(level=1), Crc32cCodec()] if compressed else [Crc32cCodec()]
        self._pending: list[Array] = []
        self._array: zarr.Array[Any] | None = None
        self._rows_per_chunk = 0
        self.length = 0

    def append(self, block: Array) -> None:
        """Add `block` along the axis; whole chunks go to the disk, the rest waits."""
        self._pending.append(block)
        self.length += block.shape[self._axis]
        row_bytes = block.itemsize * math.prod(block.shape[self._axis + 1 :])
        self._rows_per_chunk = max(1, CHUNK_BYTES // row_bytes)
        waiting = sum(part.shape[self._axis] for part in self._pending)
        if waiting >= 2 * self._rows_per_chunk:
            self._flush(waiting - waiting % self._rows_per_chunk)

    def finish(self) -> None:
        """Write what waits."""
        self._flush(sum(part.shape[self._axis] for part in self._pending))

    def _flush(self, rows: int) -> None:
        if rows == 0:
            return
        joined = np.concatenate(self._pending, axis=self._axis)
        ready, rest = np.split(joined, [rows], axis=self._axis)
        self._pending = [rest] if rest.shape[self._axis] else []
        if self._array is None:
            self._array = self._create(ready)
        else:
            self._array.append(ready, axis=self._axis)

    def _create(self, first: Array) -> zarr.Array[Any]:
        rows = min(self._rows_per_chunk, first.shape[self._axis])
        chunks = tuple(
            rows if axis == self._axis else (1 if axis < self._axis else length)
            for axis, length in enumerate(first.shape)
        )
        array = self._group.create_array(
            self._name,
            shape=first.shape,
            chunks=chunks,
            dtype=first.dtype,
            filters=None,
            compressors=self._compressors,
            config={"write_empty_chunks": True},  # so that a chunk that is not there is always damage
        )
        array[...] = first
        return array


class VideoWriter:
    """Append to arrays, then `commit`; `close`, or leaving the context, leaves no trace of what was not committed.

    >>> with VideoWriter(store, "archery/v_03", {"jpeg": 0}) as writer:    # doctest: +SKIP
    ...     writer.append("jpeg", block)
    ...     writer.commit(frames=31, fps=25.0, source="archery/v_03.mp4", made_from={...})
    """

    def __init__(
        self,
        store: VideoStore,
        video: str,
        axes: Mapping[str, int],
        *,
        compressed: frozenset[str] = frozenset(),
    ) -> None:
        self._store, self._video, self._axes = store, video, axes
        self._folder = store.fresh_folder()
        self._group = zarr.create_group(self._folder, zarr_format=3)
        self._growing = {
            name: GrowingArray(self._group, name, axis=axis, compressed=name in compressed)
            for name, axis in axes.items()
        }

    def append(self, name: str, block: Array) -> None:
        """Add `block` to the array `name`, along that array's own axis."""
        self._growing[name].append(block)

    def commit(
        self,
        *,
        frames: int,
        fps: float | None,
        source: str,
        made_from: Mapping[str, Any],
        partial: bool = False,
    ) -> None:
        """Finish the arrays, reopen and check them, sync, and move the video to its place in the store."""
        expected = self._store.expected_fingerprint(made_from)
        for growing in self._growing.values():
            growing.finish()
        record = VideoRecord(self._video, frames, fps, source, made_from, expected, partial)
        self._group.attrs.put(record_json(record))
        now = time.time_ns()  # the kernel's own stamp may be milliseconds old; readers tell two editions apart by this
        os.utime(self._folder / HEADER, ns=(now, now))
        self._check()
        sync_tree(self._folder)
        self._store.publish(self._folder, self._video, expected)

    def _check(self) -> None:
        arrays = dict(zarr.open_group(self._folder, mode="r", zarr_format=3).arrays())
        for name, growing in self._growing.items():
            stored = arrays[name].shape[self._axes[name]]
            if stored != growing.length:
                raise DamagedFile(
                    f"{self._store.path}: {name!r} of {self._video!r} holds {stored} rows, "
                    f"{growing.length} were written"
                )
            check_chunks(self._folder / name, arrays[name])

    def close(self) -> None:
        """Remove what is still staged; after a commit that is nothing."""
        shutil.rmtree(self._folder, ignore_errors=True)

    def __enter__(self) -> VideoWriter:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()
