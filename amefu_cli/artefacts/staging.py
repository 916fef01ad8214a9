"""A private folder in which one process writes videos before they take their place in a store.

The folder is named at random and its lock file is held with `flock` for as long as the process lives, so any
later run can tell the leavings of a dead process (the lock is free) from the work of a live one.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import shutil
import uuid
from pathlib import Path

STAGING = ".staging"


class Staging:
    """This process's folder below `store/.staging`, made at the first use and removed by `close`."""

    def __init__(self, store: Path) -> None:
        self._root = store / STAGING
        self._descriptor: int | None = None
        self._folder: Path | None = None

    def fresh(self) -> Path:
        """A new name inside this process's folder, on the store's own file system."""
        if self._folder is None:
            self._folder = self._claim()
        return self._folder / uuid.uuid4().hex

    def close(self) -> None:
        """Remove the folder and release its lock."""
        if self._folder is None or self._descriptor is None:
            return
        shutil.rmtree(self._folder, ignore_errors=True)
        _lock_path(self._folder).unlink(missing_ok=True)
        os.close(self._descriptor)
        self._folder = self._descriptor = None

    def _claim(self) -> Path:
        while True:
            self._root.mkdir(parents=True, exist_ok=True)
            folder = self._root / uuid.uuid4().hex
            lock = _lock_path(folder)
            try:
                descriptor = os.open(lock, os.O_CREAT | os.O_RDWR | os.O_CLOEXEC, 0o644)
            except FileNotFoundError:  # another process has just removed the empty root
                continue
            fcntl.flock(descriptor, fcntl.LOCK_EX)
            # A sweeper may have taken the lock and removed its file between our open and our flock.
            if _is_same_file(descriptor, lock):
                folder.mkdir()
                self._descriptor = descriptor
                return folder
            os.close(descriptor)


def sweep(store: Path) -> int:
    """Remove what dead processes left in `.staging`; returns how many folders. Live ones are left alone."""
    root = store / STAGING
    if not root.is_dir():
        return 0
    removed = 0
    for entry in list(os.scandir(root)):
        if entry.name.endswith(".lock"):
            removed += _sweep_one(Path(entry.path))
    for entry in list(os.scandir(root)):  # a folder whose lock file is gone belongs to nobody
        if entry.is_dir() and not _lock_path(Path(entry.path)).exists():
            shutil.rmtree(entry.path, ignore_errors=True)
            removed += 1
    with contextlib.suppress(OSError):  # others still work in it
        root.rmdir()
    return removed


def _sweep_one(lock: Path) -> int:
    try:
        descriptor = os.open(lock, os.O_RDWR | os.O_CLOEXEC)
    except FileNotFoundError:
        return 0
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        folder = lock.with_suffix("")
        existed = folder.is_dir()
        shutil.rmtree(folder, ignore_errors=True)
        lock.unlink(missing_ok=True)
        return int(existed)
    except BlockingIOError:
        return 0
    finally:
        os.close(descriptor)


def _is_same_file(descriptor: int, path: Path) -> bool:
    try:
        return os.path.samestat(os.fstat(descriptor), path.stat())
    except FileNotFoundError:
        return False


def _lock_path(folder: Path) -> Path:
    return folder.with_suffix(".lock")
