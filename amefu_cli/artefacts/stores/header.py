"""The headers of our Zarr stores, read and written as the plain JSON that the Zarr specification says they are.

So a thousand videos are listed without opening a thousand arrays.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from amefu_cli.artefacts.files.atomic import to_json
from amefu_cli.artefacts.files.fingerprint import as_fields, fingerprint
from amefu_cli.errors import DamagedFile, SettingsMismatch, UsageError, VideoError

SCHEMA = 1
HEADER = "zarr.json"
DAMAGED = ".damaged"  # a file with the reason, in the folder of a video that `amefu verify` found damaged
LARGEST_HEADER = 1 << 17  # bytes; ours are a few hundred, so anything near this is not ours
FIX = "`amefu verify` marks it, and the command that made it makes it again"


@dataclass(frozen=True)
class VideoRecord:
    """The attributes of one stored video; `damaged` where `amefu verify` has marked it."""

    id: str
    frames: int
    fps: float | None
    source: str
    made_from: Mapping[str, Any]
    fingerprint: str
    partial: bool = False
    damaged: bool = False

    @property
    def class_name(self) -> str:
        return self.id.split("/", 1)[0]


def read_header(path: Path) -> dict[str, Any] | None:
    """The store's header, or None where nothing is; raises DamagedFile where something else is."""
    attributes = read_attributes(path / HEADER)
    if attributes is None:
        if path.exists() and not _is_started(path):
            raise UsageError(f"{path}: is there, but is not a store of amefu's; choose another path")
        return None
    header = as_fields(attributes.get("amefu"), path)
    fields = {"kind": str, "schema": int, "settings": dict, "made_from": dict, "notes": dict}
    if not isinstance(header, dict) or any(
        not isinstance(header.get(name), expected) for name, expected in fields.items()
    ):
        raise DamagedFile(f"{path / HEADER}: not the header of a store of amefu's; choose another path")
    if header["schema"] != SCHEMA:
        raise SettingsMismatch(
            f"{path}: schema {header['schema']}, this version writes {SCHEMA}; "
            f"replace it with `amefu {header['kind']} --rebuild`"
        )
    return header


def header_of(path: Path, kind: str) -> dict[str, Any] | None:
    """The header of a store of this kind, or None where nothing is; raises UsageError for a store of another kind."""
    header = read_header(path)
    if header is not None and header["kind"] != kind:
        raise UsageError(f"{path}: holds {header['kind']!r}, not {kind!r}; make one with `amefu {kind}`")
    return header


def _is_started(path: Path) -> bool:
    """Whether a folder holds no more than another process needs that makes a store of it at this moment."""
    return path.is_dir() and {entry.name for entry in os.scandir(path)} <= {STAGING, HEADER}


def record_json(record: VideoRecord) -> dict[str, Any]:
    """The attributes of a video's group, and their checksum."""
    attributes = {
        "id": record.id,
        "frames": record.frames,
        "fps": record.fps,
        "source": record.source,
        "made_from": dict(record.made_from),
        "fingerprint": record.fingerprint,
        "partial": record.partial,
    }
    return {**attributes, "checksum": fingerprint(attributes)}


def group_json(attributes: Mapping[str, Any]) -> bytes:
    return to_json({"attributes": attributes, "zarr_format": 3, "node_type": "group"})


def read_attributes(header: str | Path) -> dict[str, Any] | None:
    try:
        descriptor = os.open(header, os.O_RDONLY | os.O_CLOEXEC)  # half the cost of `open`, thousands of times
    except (FileNotFoundError, NotADirectoryError):
        return None
    try:
        document = json.loads(os.read(descriptor, LARGEST_HEADER))
    except (ValueError, RecursionError) as error:
        raise DamagedFile(f"{header}: not a Zarr header ({error}); {FIX}") from error
    finally:
        os.close(descriptor)
    attributes = document.get("attributes") if isinstance(document, dict) else None
    if not isinstance(attributes, dict):
        raise DamagedFile(f"{header}: no 'attributes' object; not a Zarr v3 header; {FIX}")
    return attributes


def read_record(folder: str | Path) -> VideoRecord | None:
    """The record of the video in this folder; None where there is no video.

    Raises:
        DamagedFile: something else is there.
    """
    header = os.path.join(folder, HEADER)  # this is called for every video of a store, where a Path costs too much
    attributes = read_attributes(header)
    if attributes is None or "fingerprint" not in attributes:
        return None
    try:
        if attributes.pop("checksum", None) != fingerprint(attributes):
            raise ValueError("their checksum differs")
        return VideoRecord(**attributes, damaged=os.path.exists(os.path.join(folder, DAMAGED)))
    except (TypeError, ValueError, RecursionError) as error:
        raise DamagedFile(f"{header}: not the attributes of a video as it was written ({error}); {FIX}") from error


def video_records(folder: str) -> Iterator[VideoRecord]:
    """The records of all video groups below a folder, without a look at their arrays."""
    try:
        names = os.listdir(folder)
    except (FileNotFoundError, NotADirectoryError):
        return
    for name in names:
        below = os.path.join(folder, name)
        try:
            record = None if name == HEADER else read_record(below)
        except DamagedFile:
            if os.path.exists(os.path.join(below, DAMAGED)):  # already known, and made again by the next run
                continue
            raise
        if record is not None:
            yield record
        elif name != HEADER:
            yield from video_records(below)


class UnusableName(VideoError):
    """The file system of a store takes the video's id for another's, or finds its path too long."""


STAGING = ".staging"
