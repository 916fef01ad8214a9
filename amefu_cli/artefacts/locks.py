"""Locks that no dead process keeps: `flock` on a file of their own, which is removed when the lock is let go."""

from __future__ import annotations

import fcntl
import os
from pathlib import Path


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
