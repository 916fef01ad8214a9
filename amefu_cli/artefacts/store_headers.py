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

from amefu_cli.artefacts.atomic import to_json
from amefu_cli.errors import DamagedFile, RecipeMismatch, UsageError

SCHEMA = 1
HEADER = "zarr.json"
LARGEST_HEADER = 1 << 20  # bytes; ours are a few hundred, so anything near this is not ours


@dataclass(frozen=True)
class VideoRecord:
    """The attributes of one stored video."""

    id: str
    frames: int
    fps: float | None
    source: str
    made_from: Mapping[str, Any]
    fingerprint: str
    partial: bool = False

    @property
    def class_name(self) -> str:
        return self.id.split("/", 1)[0]


def read_header(path: Path) -> dict[str, Any] | None:
    """The store's header, or None where nothing is; raises DamagedFile where something else is."""
    attributes = read_attributes(path / HEADER)
    if attributes is None:
        if path.is_dir() and not any(path.iterdir()):
            return None
        if path.exists():
            raise UsageError(f"{path}: is there, but is not a store of amefu's; choose another path")
        return None
    header = attributes.get("amefu")
    fields = {"kind": str, "schema": int, "recipe": dict, "made_from": dict, "notes": dict}
    if not isinstance(header, dict) or any(
        not isinstance(header.get(name), expected) for name, expected in fields.items()
    ):
        raise DamagedFile(f"{path / HEADER}: not the header of a store of amefu's; choose another path")
    if header["schema"] != SCHEMA:
        raise RecipeMismatch(
            f"{path}: schema {header['schema']}, this version writes {SCHEMA}; "
            f"replace it with `amefu {header['kind']} --rebuild`"
        )
    return header


def record_json(record: VideoRecord) -> dict[str, Any]:
    """The attributes of a video's group."""
    return {
        "id": record.id,
        "frames": record.frames,
        "fps": record.fps,
        "source": record.source,
        "made_from": dict(record.made_from),
        "fingerprint": record.fingerprint,
        "partial": record.partial,
    }


def group_json(attributes: Mapping[str, Any]) -> bytes:
    return to_json({"attributes": attributes, "zarr_format": 3, "node_type": "group"})


def read_attributes(header: Path) -> dict[str, Any] | None:
    try:
        with header.open("rb") as file:
            document = json.loads(file.read(LARGEST_HEADER))
    except (FileNotFoundError, NotADirectoryError):
        return None
    except (ValueError, RecursionError) as error:
        raise DamagedFile(f"{header}: not a Zarr header ({error})") from error
    attributes = document.get("attributes") if isinstance(document, dict) else None
    if not isinstance(attributes, dict):
        raise DamagedFile(f"{header}: no 'attributes' object; not a Zarr v3 header")
    return attributes


def read_record(header: Path) -> VideoRecord | None:
    attributes = read_attributes(header)
    if attributes is None or "fingerprint" not in attributes:
        return None
    try:
        record = VideoRecord(**attributes)
    except TypeError as error:
        raise DamagedFile(f"{header}: not the attributes of a video ({error})") from error
    if not (
        isinstance(record.id, str)
        and isinstance(record.fingerprint, str)
        and isinstance(record.made_from, dict)
        and isinstance(record.frames, int)
        and record.frames > 0
    ):
        raise DamagedFile(f"{header}: attributes of a video with a field of another type")
    return record


def video_headers(folder: Path) -> Iterator[Path]:
    """The headers of all video groups: folders whose own sub-folders are arrays are not descended into."""
    try:
        entries = list(os.scandir(folder))
    except (FileNotFoundError, NotADirectoryError):
        return
    for entry in entries:
        if not entry.is_dir(follow_symlinks=False):
            continue
        header = Path(entry.path, HEADER)
        attributes = read_attributes(header)
        if attributes is not None and "fingerprint" in attributes:
            yield header
        else:
            yield from video_headers(Path(entry.path))
