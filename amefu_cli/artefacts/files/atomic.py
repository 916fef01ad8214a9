"""Files that are either wholly there or not there: written under a temporary name, synced, renamed."""

from __future__ import annotations

import fcntl
import json
import os
import uuid
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from amefu_cli.errors import UsageError


def sync(path: Path) -> None:
    """Flush one file or folder to the disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def sync_tree(folder: Path) -> None:
    """Flush a folder and everything under it to the disk."""
    for parent, _, names in os.walk(folder):
        for name in names:
            sync(Path(parent, name))
        sync(Path(parent))


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


def create_atomic(path: Path, content: bytes, *, temporary: Path | None = None) -> bool:
    """Write `path` unless it is there already; of several processes exactly one gets True."""
    temporary = temporary or temporary_beside(path)
    try:
        _write_synced(temporary, content)
        os.link(temporary, path)
    except FileExistsError:
        return False
    finally:
        temporary.unlink(missing_ok=True)
    sync(path.parent)
    return True


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


def acquire(path: Path) -> int | None:
    """Take the lock at `path`, for as long as the descriptor that this returns stays open.

    None where a live process holds it. Raises FileNotFoundError where its folder is gone.
    """
    while True:
        descriptor = os.open(path, os.O_CREAT | os.O_RDWR | os.O_CLOEXEC, 0o644)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(descriptor)
            return None
        if _is_at(descriptor, path):
            return descriptor
        os.close(descriptor)  # whoever held it has removed the file between our two calls


def release(path: Path, descriptor: int) -> None:
    """Let go of a lock taken by `acquire`."""
    path.unlink(missing_ok=True)
    os.close(descriptor)


def _is_at(descriptor: int, path: Path) -> bool:
    try:
        return os.path.samestat(os.fstat(descriptor), path.stat())
    except FileNotFoundError:
        return False
