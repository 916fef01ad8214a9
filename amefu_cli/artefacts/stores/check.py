"""Reading everything of every stored video back: every member against its checksum, and what the numbers must agree in.

A checksum is that of the stored bytes, so nothing large has to be decompressed for it.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from amefu_cli.artefacts.files.names import ARCHIVE
from amefu_cli.artefacts.stores.header import ARRAYS, HEADER, STREAM_ARRAY, FeaturesHeader, record_json
from amefu_cli.artefacts.stores.reading import ArrayHeader, StoredVideo, open_video
from amefu_cli.artefacts.stores.staging import archives_below, damaged_path
from amefu_cli.artefacts.stores.store import VideoStore
from amefu_cli.errors import DamagedFile

READERS = 8  # threads: reading releases the interpreter, and a disk is fastest when it is asked for several files
EXPONENT = {"float16": ("uint16", 0x7C00), "float32": ("uint32", 0x7F800000)}  # all of its bits set: NaN or infinity


@dataclass
class Findings:
    """How many videos were checked, what is wrong with which, and whether all of that could be marked."""

    videos: int = 0
    damaged: dict[str, str] = field(default_factory=dict)
    marked: bool = True
    seconds: float = 0.0


def verify_store(store: VideoStore[Any], *, progress: Callable[[int, int, str], None]) -> Findings:
    """Check every video of a store; a damaged one is marked, and a mark on a sound one is taken off again. `progress`
    is told how many of how many videos are checked, and the id of the last one."""
    findings, started = Findings(), time.monotonic()
    archives = dict(sorted(archives_below(str(store.path / "videos")).items()))
    with ThreadPoolExecutor(READERS, thread_name_prefix="verify") as threads:
        verified = threads.map(partial(_verify, store), archives, archives.values())
        for video, (reason, marked) in zip(archives, verified, strict=True):
            findings.videos += 1
            if reason is not None:
                findings.damaged[video] = reason
            findings.marked &= marked
            progress(findings.videos, len(archives), video)
    findings.seconds = time.monotonic() - started
    return findings


def _verify(store: VideoStore[Any], video: str, path: str) -> tuple[str | None, bool]:
    """What is wrong with a video, if anything, and whether its mark could be brought up to date."""
    inode = None
    try:
        inode = os.stat(path).st_ino
        stored = open_video(store.path, path, video)
        inode = stored.archive.inode
        reason = damage_of(stored, store)
    except FileNotFoundError:  # just removed
        return None, True
    except DamagedFile as error:
        reason = str(error)
    sound = path[: -len(ARCHIVE)] + ARCHIVE
    wanted = sound if reason is None else damaged_path(sound)
    try:
        if wanted != path and os.stat(path).st_ino == inode:  # else another writer has replaced it meanwhile
            os.replace(path, wanted)
        if reason is None and wanted == path:
            with suppress(FileNotFoundError):
                os.unlink(damaged_path(sound))  # of a writer that was killed just after it had replaced it
    except FileNotFoundError:
        pass
    except OSError:
        return reason, False
    return reason, True


def damage_of(stored: StoredVideo, store: VideoStore[Any]) -> str | None:
    """What is wrong with a stored video; None where all is well."""
    try:
        record = stored.record
        if record.fingerprint != store.expected_fingerprint(record.made_from):
            raise ValueError("its record is that of another store")
        if record_json(record) not in bytes(stored.archive.read(HEADER)):
            raise ValueError("its group has other attributes than its record")
        arrays = _arrays(stored, store)
        expected = {HEADER, *(f"{name}/{HEADER}" for name in arrays)}
        expected.update(*(array.members(name) for name, array in arrays.items()))
        if foreign := stored.archive.members.keys() - expected:
            raise ValueError(f"it holds {min(foreign)!r}, which is not of a video")
        CHECKS[store.kind](stored, arrays)
    except (DamagedFile, ValueError, OSError) as error:
        return str(error)
    return None


def _arrays(stored: StoredVideo, store: VideoStore[Any]) -> dict[str, ArrayHeader]:
    """The arrays that a video must have, and those of streams that it has; ValueError for one of another type."""
    kinds = dict(ARRAYS[store.kind])
    if isinstance(store.header, FeaturesHeader):
        kinds |= dict.fromkeys(sorted(store.header.streams.keys() & stored.names()), STREAM_ARRAY)
    arrays = {name: stored.header(name) for name in kinds}
    for name, (dtype, axes) in kinds.items():
        if (arrays[name].dtype, len(arrays[name].shape)) != (np.dtype(dtype), axes):
            raise ValueError(f"{name!r} is not of {axes} axes of {dtype}")
    return arrays


def _contents(stored: StoredVideo, name: str, array: ArrayHeader) -> Iterator[NDArray[np.uint8]]:
    """The bytes of every chunk, as stored; raises ValueError where one is damaged."""
    for member in array.members(name):
        content = stored.archive.read(member)
        if not array.compressed and len(content) != array.chunk_bytes:
            raise ValueError(f"{member!r} holds {len(content)} bytes, not those of {array.chunks} {array.dtype}")
        yield np.frombuffer(content, np.uint8)


def _check_values(stored: StoredVideo, name: str, array: ArrayHeader, frames: int, axis: int = 0) -> None:
    """All of an array; raises ValueError where a chunk is damaged, or holds a number that is not finite."""
    if array.shape[axis] != frames:
        raise ValueError(f"{name!r} holds {array.shape[axis]} frames of {frames}")
    for content in _contents(stored, name, array):
        if array.dtype.name in EXPONENT:
            bits, exponent = EXPONENT[array.dtype.name]
            if (content.view(bits) & exponent == exponent).any():
                raise ValueError(f"{name!r} holds NaN or infinity")


def _check_frames(stored: StoredVideo, arrays: Mapping[str, ArrayHeader]) -> None:
    """Offsets ascend from 0 to the end of the bytes, one more than there are frames, and lead to JPEG files."""
    offset, frames = stored.array("offset"), stored.record.frames
    (total,) = arrays["jpeg"].shape
    if len(offset) != frames + 1 or offset[0] != 0 or offset[-1] != total or (np.diff(offset) < 4).any():
        raise ValueError(f"'offset' does not lead through {total} bytes of 'jpeg' in {frames} frames")
    begin = 0
    for chunk in _contents(stored, "jpeg", arrays["jpeg"]):
        for places, mark in ((offset[:-1], (0xFF, 0xD8)), (offset[1:] - 2, (0xFF, 0xD9))):
            inside = places[(places >= begin) & (places < begin + chunk.size - 1)] - begin
            if not ((chunk[inside] == mark[0]) & (chunk[inside + 1] == mark[1])).all():
                raise ValueError("'offset' leads to bytes of 'jpeg' that are not a JPEG file")
        begin += chunk.size


def _check_depth(stored: StoredVideo, arrays: Mapping[str, ArrayHeader]) -> None:
    for name, array in arrays.items():
        _check_values(stored, name, array, stored.record.frames)
    if (stored.array("low") > stored.array("high")).any():
        raise ValueError("'low' is above 'high'")


def _check_features(stored: StoredVideo, arrays: Mapping[str, ArrayHeader]) -> None:
    frame = stored.array("frame")
    if (np.diff(frame) <= 0).any() or frame[0] < 0 or frame[-1] >= stored.record.frames:
        raise ValueError(f"'frame' does not ascend within the {stored.record.frames} frames of the video")
    for name, array in arrays.items():
        if name != "frame":
            _check_values(stored, name, array, len(frame), axis=1)


CHECKS = {"frames": _check_frames, "depth": _check_depth, "features": _check_features}
