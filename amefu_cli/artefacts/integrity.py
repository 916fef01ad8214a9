"""Reading everything of one stored video back: every chunk against its checksum, and what the numbers must agree in.

The chunks are read as the files that the Zarr specification says they are, so that a store is checked at about the
speed of its disk. A checksum is that of the stored bytes, so nothing has to be decompressed for it.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import google_crc32c
import numpy as np
from numpy.typing import NDArray

from amefu_cli.artefacts.store_headers import HEADER, LARGEST_HEADER, VideoRecord, read_attributes, read_record
from amefu_cli.artefacts.stored_video import CHECKSUM_BYTES, chunk_files
from amefu_cli.artefacts.video_store import VideoStore
from amefu_cli.errors import DamagedFile

ARRAYS = {
    "frames": {"jpeg": ("uint8", 1), "offset": ("int64", 1)},
    "depth": {"disparity": ("uint8", 3), "low": ("float32", 1), "high": ("float32", 1)},
    "features": {"frame": ("int64", 1), "rgb": ("float16", 3), "depth": ("float16", 3)},
}
"""By kind of store, the arrays of every video: type and number of axes."""
OPTIONAL = {"features": {"imagenet": ("float16", 3)}}
EXPONENT = {"float16": ("uint16", 0x7C00), "float32": ("uint32", 0x7F800000)}  # all of its bits set: NaN or infinity


@dataclass(frozen=True)
class StoredArray:
    """One array of a video, known from its header alone."""

    folder: Path
    shape: tuple[int, ...]
    chunks: tuple[int, ...]
    dtype: str
    compressed: bool

    def checked_chunks(self) -> Iterator[NDArray[np.uint8]]:
        """The bytes of every chunk, as stored, without their checksum; raises ValueError where it does not fit."""
        for path in chunk_files(self.folder, self.shape, self.chunks):
            name = f"chunk {path.relative_to(self.folder)} of {self.folder.name!r}"
            try:
                stored = path.read_bytes()
            except FileNotFoundError:
                raise ValueError(f"{name} is missing") from None
            content, checksum = stored[:-CHECKSUM_BYTES], stored[-CHECKSUM_BYTES:]
            if not content or google_crc32c.value(content) != int.from_bytes(checksum, "little"):
                raise ValueError(f"{name} is not what was written: its checksum differs")
            if not self.compressed and len(content) != math.prod(self.chunks) * np.dtype(self.dtype).itemsize:
                raise ValueError(f"{name} holds {len(content)} bytes, not those of {self.chunks} {self.dtype}")
            yield np.frombuffer(content, np.uint8)

    def check(self) -> None:
        """Read every chunk; raises ValueError where one is damaged, or holds a number that is not finite."""
        for chunk in self.checked_chunks():
            if self.dtype in EXPONENT:
                bits, exponent = EXPONENT[self.dtype]
                if (chunk.view(bits) & exponent == exponent).any():
                    raise ValueError(f"{self.folder.name!r} holds NaN or infinity")

    def values(self) -> NDArray[Any]:
        """All values of a one-dimensional, uncompressed array."""
        parts = [chunk.view(self.dtype) for chunk in self.checked_chunks()]
        return np.concatenate([*parts, np.empty(0, self.dtype)])[: self.shape[0]]


def damage_of(folder: Path, video: str, store: VideoStore) -> str | None:
    """What is wrong with the video in this folder of a store; None where all is well."""
    try:
        record = read_record(folder)
        if record is None:
            raise ValueError("its header is lost")
        if (record.id, record.fingerprint) != (video, store.expected_fingerprint(record.made_from)):
            raise ValueError("its header is that of another video, or of another store")
        arrays = {name: _open(folder / name, *of) for name, of in ARRAYS[store.kind].items()}
        for name, of in OPTIONAL.get(store.kind, {}).items():
            if (folder / name).exists():
                arrays[name] = _open(folder / name, *of)
        CHECKS[store.kind](record, arrays)
    except (DamagedFile, ValueError, OSError) as error:
        return str(error)
    return None


def video_folders(folder: Path, kind: str) -> Iterator[tuple[Path, bool]]:
    """Every folder below that holds a video, however damaged (True), or groups without a sound header (False)."""
    for below in sorted(path for path in folder.iterdir() if path.is_dir()):
        try:
            attributes = read_attributes(below / HEADER)
        except DamagedFile:
            attributes = None
        holds_arrays = any((below / name / "c").is_dir() for name in ARRAYS[kind])
        is_video = holds_arrays or "fingerprint" in (attributes or {})
        if is_video or attributes is None:
            yield below, is_video
        if not is_video:
            yield from video_folders(below, kind)


def _open(folder: Path, dtype: str, axes: int) -> StoredArray:
    """An array by its header; raises ValueError where that is not one of ours."""
    try:
        with (folder / HEADER).open("rb") as file:
            header = json.loads(file.read(LARGEST_HEADER))
        codecs = [codec["name"] for codec in header["codecs"]]
        shape, chunks = header["shape"], header["chunk_grid"]["configuration"]["chunk_shape"]
        fits = (
            header["data_type"] == dtype
            and codecs in (["bytes", "crc32c"], ["bytes", "zstd", "crc32c"])
            and len(shape) == len(chunks) == axes
            and all(type(length) is int and length > 0 for length in [*shape, *chunks])
        )
    except (ValueError, KeyError, TypeError, RecursionError, FileNotFoundError):
        fits = False
    if not fits:
        raise ValueError(f"the header of {folder.name!r} is not that of {axes} axes of {dtype}")
    return StoredArray(folder, tuple(shape), tuple(chunks), dtype, "zstd" in codecs)


def _check_frames(record: VideoRecord, arrays: dict[str, StoredArray]) -> None:
    """Offsets ascend from 0 to the end of the bytes, one more than there are frames, and lead to JPEG files."""
    offset = arrays["offset"].values()
    total = arrays["jpeg"].shape[0]
    if len(offset) != record.frames + 1 or offset[0] != 0 or offset[-1] != total or (np.diff(offset) < 4).any():
        raise ValueError(f"'offset' does not lead through {total} bytes of 'jpeg' in {record.frames} frames")
    begin = 0
    for chunk in arrays["jpeg"].checked_chunks():
        for places, mark in ((offset[:-1], (0xFF, 0xD8)), (offset[1:] - 2, (0xFF, 0xD9))):
            inside = places[(places >= begin) & (places < begin + chunk.size - 1)] - begin
            if not ((chunk[inside] == mark[0]) & (chunk[inside + 1] == mark[1])).all():
                raise ValueError("'offset' leads to bytes of 'jpeg' that are no JPEG file")
        begin += chunk.size


def _check_depth(record: VideoRecord, arrays: dict[str, StoredArray]) -> None:
    for array in arrays.values():
        _check_length(record, array, array.shape[0], record.frames)
        array.check()
    if (arrays["low"].values() > arrays["high"].values()).any():
        raise ValueError("'low' is above 'high'")


def _check_features(record: VideoRecord, arrays: dict[str, StoredArray]) -> None:
    frame = arrays["frame"].values()
    if (np.diff(frame) <= 0).any() or frame[0] < 0 or frame[-1] >= record.frames:
        raise ValueError(f"'frame' does not ascend within the {record.frames} frames of the video")
    for name, array in arrays.items():
        if name != "frame":
            _check_length(record, array, array.shape[1], len(frame))
            array.check()


def _check_length(record: VideoRecord, array: StoredArray, found: int, expected: int) -> None:
    if found != expected:
        raise ValueError(f"{array.folder.name!r} holds {found} frames of {expected}")


CHECKS = {"frames": _check_frames, "depth": _check_depth, "features": _check_features}
