"""A private folder in which one process writes archives before they take their place in a store.

The folder is named at random and its lock is held for as long as the process lives, so any later run can tell the
leftovers of a dead process (the lock is free) from the work of a live one.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import threading
import uuid
from pathlib import Path

from amefu_cli.artefacts.files.locks import acquire, release
from amefu_cli.artefacts.stores.header import STAGING


class Staging:
    """This process's folder below `store/.staging`, made at the first use and removed by `close`."""

    def __init__(self, store: Path) -> None:
        self._root = store / STAGING
        self._claimed: tuple[Path, int] | None = None
        self._claiming = threading.Lock()

    def fresh(self) -> Path:
        """A new name inside this process's folder, on the store's own file system."""
        with self._claiming:
            if self._claimed is None:
                self._claimed = self._claim()
            folder, descriptor = self._claimed
        os.utime(descriptor)  # a sign of life, for other machines on file systems that do not know of flock
        return folder / uuid.uuid4().hex

    def close(self) -> None:
        """Remove the folder and release its lock."""
        if self._claimed is None:
            return
        folder, descriptor = self._claimed
        self._claimed = None
        shutil.rmtree(folder, ignore_errors=True)
        release(_lock_path(folder), descriptor)

    def _claim(self) -> tuple[Path, int]:
        while True:
            folder = self._root / uuid.uuid4().hex
            # Another process may remove the empty root between any two of these calls, and even inside of mkdir.
            with contextlib.suppress(FileExistsError):
                self._root.mkdir(parents=True, exist_ok=True)
            with contextlib.suppress(FileNotFoundError):
                descriptor = acquire(_lock_path(folder))
                if descriptor is not None:  # else a sweeper looks into the lock at this moment
                    folder.mkdir()
                    return folder, descriptor


def sweep(store: Path) -> int:
    """Remove what dead processes left in `.staging`; returns how many folders. Live ones are left alone."""
    root = store / STAGING
    removed = 0
    with contextlib.suppress(OSError):  # no such folder, others still work in it, or a store that is read-only
        for name in os.listdir(root):
            if name.endswith(".lock"):
                removed += _sweep_one(root / name)
        for name in os.listdir(root):  # a folder whose lock file is gone belongs to nobody
            if not name.endswith(".lock") and not _lock_path(root / name).exists():
                shutil.rmtree(root / name, ignore_errors=True)
                removed += 1
        root.rmdir()
    return removed


def _sweep_one(lock: Path) -> int:
    descriptor = acquire(lock)
    if descriptor is None:
        return 0
    folder = lock.with_suffix("")
    existed = folder.is_dir()
    shutil.rmtree(folder, ignore_errors=True)
    release(lock, descriptor)
    return int(existed)


def _lock_path(folder: Path) -> Path:
    return folder.with_suffix(".lock")
