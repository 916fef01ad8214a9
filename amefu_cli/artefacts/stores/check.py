"""Reading everything of one stored video back: every chunk against its checksum, and what the numbers must agree in.

The chunks are read as the files that the Zarr specification says they are, so that a store is checked at about the
speed of its disk. A checksum is that of the stored bytes, so nothing has to be decompressed for it.
"""

from __future__ import annotations

import json
import math
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path, PurePosixPath
from typing import Any

import google_crc32c
import numpy as np
from numpy.typing import NDArray

from amefu_cli.artefacts.files.names import video_id
from amefu_cli.artefacts.stores.header import DAMAGED, HEADER, LARGEST_HEADER, VideoRecord, read_attributes, read_record
from amefu_cli.artefacts.stores.reading import CHECKSUM_BYTES, chunk_files, edition_of
from amefu_cli.artefacts.stores.store import VideoStore
from amefu_cli.errors import DamagedFile
from amefu_cli.stages import Progress

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
                raise ValueError("'offset' leads to bytes of 'jpeg' that are not a JPEG file")
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
READERS = 8  # threads: reading releases the interpreter, and a disk is fastest when it is asked for several files


@dataclass
class Findings:
    """What one check found: how many videos, what is wrong with which, and whether that could be written down."""

    videos: int = 0
    damaged: dict[str, str] = field(default_factory=dict)
    marked: bool = True
    seconds: float = 0.0


def verify_store(store: VideoStore, *, progress: Progress) -> Findings:
    """Check every video of a store; a damaged one is marked, and a mark on a sound one is taken off again."""
    findings, started = Findings(), time.monotonic()
    root = store.path / "videos"
    folders = list(_videos_of(store, root)) if root.is_dir() else []
    ids = [video_id(PurePosixPath(folder.relative_to(root))) for folder in folders]
    with ThreadPoolExecutor(READERS, thread_name_prefix="verify") as pool:
        checked = pool.map(partial(_damage, store), folders, ids)
        for folder, video, reason in zip(folders, ids, checked, strict=True):
            findings.videos += 1
            if reason is not None:
                findings.damaged[video] = reason
            findings.marked &= _mark(store, folder, reason)
            progress(findings.videos, len(folders), video)
    findings.seconds = time.monotonic() - started
    return findings


def _videos_of(store: VideoStore, root: Path) -> Iterator[Path]:
    """The folders of all videos; a lost header of a class folder, which says nothing, is written again."""
    for folder, is_video in video_folders(root, store.kind):
        if is_video:
            yield folder
        else:
            with suppress(OSError):
                store.fix_group(folder)


def _damage(store: VideoStore, folder: Path, video: str) -> str | None:
    """What is wrong with a video that nobody replaces or removes at the same time."""
    while True:
        edition = edition_of(folder)
        reason = damage_of(folder, video, store)
        if reason is None or not folder.is_dir():
            return None
        if edition_of(folder) == edition:
            return reason


def _mark(store: VideoStore, folder: Path, reason: str | None) -> bool:
    """Keep the mark of a video up to date; False where the store cannot be written."""
    try:
        if reason is not None:
            store.mark_damaged(folder, reason)
        else:
            (folder / DAMAGED).unlink(missing_ok=True)
    except OSError:
        return False
    return True
