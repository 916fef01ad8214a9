"""Putting a finished video folder into its place in a store, beside other writers and readers."""

from __future__ import annotations

import errno
import filecmp
import itertools
import os
import shutil
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

from amefu_cli.artefacts.atomic import sync, write_atomic
from amefu_cli.artefacts.store_headers import HEADER, VideoRecord, group_json, read_attributes, read_record
from amefu_cli.errors import DamagedFile, UsageError

Fresh = Callable[[], Path]
"""Gives new names in the staging area of the store, where nobody looks."""


def publish(staged: Path, place: Path, *, video: str, fingerprint: str, store: Path, fresh: Fresh) -> None:
    """Move a synced folder to its place; another writer's equal one is kept instead, anything else replaced.

    Raises:
        UsageError: the file system takes two ids for one.
    """
    _make_parents(place, store, fresh)
    while True:
        try:
            os.rename(staged, place)
            break
        except OSError as error:
            if error.errno not in (errno.ENOTEMPTY, errno.EEXIST):
                raise
        there = _sound_record(place)
        if there is not None and there.id != video:
            raise UsageError(f"{store}: its file system does not tell {video!r} from {there.id!r}; rename one")
        if there is not None and there.fingerprint == fingerprint and _are_equal(staged, place):
            shutil.rmtree(staged)  # so that nobody who reads the other one is disturbed
            return
        discard(place, fresh)
    sync(place.parent)


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
