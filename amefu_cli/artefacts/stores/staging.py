"""A private folder in which one process writes videos before they take their place in a store.

The folder is named at random and its lock is held for as long as the process lives, so any later run can tell the
leftovers of a dead process (the lock is free) from the work of a live one.
"""

from __future__ import annotations

import contextlib
import errno
import filecmp
import itertools
import os
import shutil
import threading
import uuid
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

from amefu_cli.artefacts.files.atomic import acquire, release, sync, write_atomic
from amefu_cli.artefacts.stores.header import (
    HEADER,
    STAGING,
    UnusableName,
    VideoRecord,
    group_json,
    read_attributes,
    read_record,
)
from amefu_cli.errors import DamagedFile


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
            return self._claimed[0] / uuid.uuid4().hex

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


Fresh = Callable[[], Path]
"""Gives new names in the staging area of the store, where nobody looks."""


def publish(staged: Path, place: Path, *, video: str, fingerprint: str, store: Path, fresh: Fresh) -> None:
    """Move a synced folder to its place; another writer's equal one is kept instead, anything else replaced.

    Raises:
        UnusableName: the file system takes two ids for one, or finds the path too long.
    """
    try:
        _make_parents(place, store, fresh)
        _move(staged, place, video=video, fingerprint=fingerprint, store=store, fresh=fresh)
    except OSError as error:
        if error.errno != errno.ENAMETOOLONG:
            raise
        raise UnusableName(f"{store}: its file system finds the path of {video!r} too long; shorten the id") from error
    sync(place.parent)


def _move(staged: Path, place: Path, *, video: str, fingerprint: str, store: Path, fresh: Fresh) -> None:
    while True:
        try:
            os.rename(staged, place)
            return
        except OSError as error:
            if error.errno not in (errno.ENOTEMPTY, errno.EEXIST):
                raise
        there = _sound_record(place)
        if there is not None and there.id != video:
            raise UnusableName(f"{store}: its file system does not tell {video!r} from {there.id!r}; rename one")
        if there is not None and there.fingerprint == fingerprint and _are_equal(staged, place):
            shutil.rmtree(staged)  # so that nobody who reads the other one is disturbed
            return
        discard(place, fresh)


def write_group(folder: Path, fresh: Fresh) -> None:
    """Make a folder on the way to videos a Zarr group, so that any Zarr reader can walk the store."""
    write_atomic(folder / HEADER, group_json({}), temporary=fresh())


def _make_parents(place: Path, store: Path, fresh: Fresh) -> None:
    for parent in reversed([*itertools.takewhile(lambda folder: folder != store, place.parents)]):
        attributes = None
        with suppress(DamagedFile):
            attributes = read_attributes(parent / HEADER)
        if attributes is not None and "fingerprint" in attributes:
            discard(parent, fresh)  # a clip of this name has become a folder of clips
            attributes = None
        if attributes is None:
            write_group(parent, fresh)


def _sound_record(place: Path) -> VideoRecord | None:
    """The record of the video that stands there, unless it is damaged."""
    with suppress(DamagedFile):
        record = read_record(place)
        return None if record is None or record.damaged else record
    return None


def discard(place: Path, fresh: Fresh) -> None:
    """Take a folder out of the store: renamed away first, so that it is never seen half removed."""
    old = fresh()
    with suppress(FileNotFoundError):
        os.rename(place, old)
        shutil.rmtree(old, ignore_errors=True)


def _are_equal(folder: Path, other: Path) -> bool:
    """Whether two folders hold the same files, byte for byte."""
    with suppress(FileNotFoundError):  # the other one is just being replaced
        names = [sorted(path.relative_to(top) for path in top.rglob("*") if path.is_file()) for top in (folder, other)]
        return names[0] == names[1] and all(filecmp.cmp(folder / name, other / name, False) for name in names[0])
    return False
