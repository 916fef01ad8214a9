"""Where archives lie: private folders in which processes write them, and their places in a store.

A private folder is named at random and its lock is held for as long as the process lives, so any later run can tell
the leftovers of a dead process (the lock is free) from the work of a live one.
"""

from __future__ import annotations

import errno
import glob
import os
import shutil
import threading
import uuid
from contextlib import suppress
from pathlib import Path

from amefu_cli.artefacts.files.atomic import acquire, release, sync
from amefu_cli.artefacts.files.names import ARCHIVE, DAMAGED, video_id
from amefu_cli.artefacts.stores.header import FIX, STAGING, VideoRecord, parse_record, require_kind
from amefu_cli.artefacts.stores.reading import read_comment
from amefu_cli.errors import DamagedFile, UsageError


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
        if self._claimed is not None:
            folder, descriptor = self._claimed
            self._claimed = None
            shutil.rmtree(folder, ignore_errors=True)
            release(_lock_path(folder), descriptor)

    def _claim(self) -> tuple[Path, int]:
        while True:
            folder = self._root / uuid.uuid4().hex
            # Another process may remove the empty root between any two of these calls, and even inside of mkdir.
            with suppress(FileExistsError):
                self._root.mkdir(parents=True, exist_ok=True)
            with suppress(FileNotFoundError):
                descriptor = acquire(_lock_path(folder))
                if descriptor is not None:  # else a sweeper looks into the lock at this moment
                    folder.mkdir()
                    return folder, descriptor


def sweep(store: Path) -> int:
    """Remove what dead processes left in `.staging`; returns how many folders. Live ones are left alone."""
    root = store / STAGING
    removed = 0
    with suppress(OSError):  # no such folder, others still work in it, or a store that is read-only
        for folder in sorted({root / name.removesuffix(".lock") for name in os.listdir(root)}):
            descriptor = acquire(_lock_path(folder))
            if descriptor is not None:
                removed += folder.is_dir()
                shutil.rmtree(folder, ignore_errors=True)
                release(_lock_path(folder), descriptor)
        root.rmdir()
    return removed


def _lock_path(folder: Path) -> Path:
    return folder.with_suffix(".lock")


def archives_below(folder: str, prefix: str = "") -> dict[str, str]:
    """The archive of every video below a folder, by its id: the damaged one only where there is no other."""
    sound: dict[str, str] = {}
    damaged: dict[str, str] = {}
    with suppress(FileNotFoundError, NotADirectoryError):
        for entry in os.scandir(folder):
            name = entry.name
            if name.startswith("."):  # what other systems leave; ours are encoded
                continue
            if entry.is_dir():
                sound |= archives_below(entry.path, f"{prefix}{name}/")
            elif name.endswith(ARCHIVE):
                sound[video_id(prefix + name)] = entry.path
            elif name.endswith(DAMAGED):
                damaged[video_id(prefix + name)] = entry.path
    return damaged | sound


def damaged_path(archive: str) -> str:
    """Where an archive is put that was found damaged."""
    return archive.removesuffix(ARCHIVE) + DAMAGED


def read_record(path: str) -> VideoRecord | None:
    """The record of the video whose archive is at `path`; None where there is none, or where it is marked and broken.
    Raises DamagedFile where another one cannot be read."""
    damaged = path.endswith(DAMAGED)
    try:
        return parse_record(read_comment(path), damaged=damaged)
    except OSError as error:
        if error.errno not in (errno.ENOENT, errno.ENOTDIR, errno.ENAMETOOLONG):  # too long: whoever makes it is told
            raise
    except ValueError as error:
        if not damaged:  # else it is known, and made again by the next run
            raise DamagedFile(f"{path}: not the archive of a video ({error}); {FIX}") from error
    return None


def rename_into_place(staged: Path, place: Path, *, top: Path) -> None:
    """Move a file to its place and have the folder remember it, also where folders on the way are new."""
    try:
        os.replace(staged, place)
        folders = [place.parent]
    except FileNotFoundError:
        place.parent.mkdir(parents=True, exist_ok=True)
        os.replace(staged, place)
        folders = [parent for parent in place.parents if parent.is_relative_to(top)]
    for folder in folders:
        sync(folder)


def discard_store(path: Path, kind: str) -> None:
    """Delete a whole store of one kind, if it is there: renamed away first, so that it is never seen half removed.
    Raises UsageError where it is of another kind or none of ours, or where another process writes into it."""
    if not require_kind(path, kind):
        return
    sweep(path)
    if (path / STAGING).exists():
        found = "another process writes into it at this moment, so it is not replaced"
        raise UsageError(f"{path}: {found}; wait for it, or choose another --out")
    try:
        os.rename(path, path.with_name(f".{path.name}.discarded-{uuid.uuid4().hex}"))
    except FileNotFoundError:  # another process has just done it
        pass
    except OSError as error:
        if error.errno != errno.EXDEV:
            raise
        for part in (path / "videos", path):  # of an overlay's lower layer; the header is the last to go
            shutil.rmtree(part)
    clear_discarded(path)


def clear_discarded(path: Path) -> None:
    """Delete what `discard_store` renamed away, now or before it was killed."""
    for away in path.parent.glob(f".{glob.escape(path.name)}.discarded-*"):
        shutil.rmtree(away, ignore_errors=True)
