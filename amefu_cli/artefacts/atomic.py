"""Files that are either wholly there or not there: written under a temporary name, synced, renamed."""

from __future__ import annotations

import json
import os
import uuid
from collections.abc import Mapping
from pathlib import Path
from typing import Any


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


def write_atomic(path: Path, content: bytes) -> None:
    """Replace `path` by `content`; a reader sees the old bytes or the new ones, never a mixture."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = temporary_beside(path)
    try:
        with temporary.open("wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)
    sync(path.parent)


def create_atomic(path: Path, content: bytes) -> bool:
    """Write `path` unless it is there already; of several processes exactly one gets True."""
    temporary = temporary_beside(path)
    try:
        temporary.write_bytes(content)
        sync(temporary)
        os.link(temporary, path)
    except FileExistsError:
        return False
    finally:
        temporary.unlink(missing_ok=True)
    return True


def to_json(document: Mapping[str, Any]) -> bytes:
    """One JSON document as ASCII bytes; names that are not UTF-8 survive as escaped surrogates."""
    return (json.dumps(document, indent=2, allow_nan=False) + "\n").encode("ascii")
