"""Files that are either wholly there or not there: written under a temporary name, synced, renamed."""

from __future__ import annotations

import json
import os
import uuid
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from amefu_cli.artefacts.files.locks import NOT_OFFERED, locked
from amefu_cli.errors import UsageError


def sync(path: str | Path) -> None:
    """Flush one file or folder to the disk; a folder only where its file system can."""
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    except OSError as error:
        if error.errno not in NOT_OFFERED or not os.path.isdir(path):
            raise
    finally:
        os.close(descriptor)


def temporary_beside(path: Path) -> Path:
    """A name in the same folder that no other process uses."""
    return path.with_name(f".{path.name[:64]}.{uuid.uuid4().hex}.tmp")


def write_atomic(path: Path, content: bytes, *, temporary: Path | None = None) -> None:
    """Replace `path` by `content`; a reader sees the old bytes or the new ones, never a mixture.

    `temporary` is a name on the same file system to write under first, where one beside `path` would be in the way.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = temporary or temporary_beside(path)
    try:
        _write_synced(temporary, content)
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)
    sync(path.parent)


def create_atomic(path: Path, content: bytes) -> bool:
    """Write `path` unless it is there already; of several processes exactly one gets True."""
    temporary = temporary_beside(path)
    try:
        _write_synced(temporary, content)
        _link(temporary, path)
    except FileExistsError:
        return False
    finally:
        temporary.unlink(missing_ok=True)
    sync(path.parent)
    return True


def _link(temporary: Path, path: Path) -> None:
    """Give a file a second name, unless there is one of this name. Raises FileExistsError."""
    try:
        os.link(temporary, path)
    except OSError as error:
        if error.errno not in NOT_OFFERED:
            raise
        with locked(path.with_name(f".{path.name[:64]}.lock")):
            if path.exists():
                raise FileExistsError(path) from None
            os.replace(temporary, path)


def require_writable(path: Path) -> None:
    """Raise UsageError where this process may not write at `path`, or where it would be made."""
    there = next(place for place in (path, *path.absolute().parents) if place.exists())
    if not os.access(there, os.W_OK):
        raise UsageError(f"{path}: may not be written to; choose another place with --out")


def _write_synced(path: Path, content: bytes) -> None:
    with path.open("wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())


def to_json(document: Mapping[str, Any]) -> bytes:
    """One JSON document as ASCII bytes; names that are not UTF-8 survive as escaped surrogates."""
    return (json.dumps(document, indent=2, allow_nan=False) + "\n").encode("ascii")
