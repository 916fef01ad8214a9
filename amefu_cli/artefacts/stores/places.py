"""Where the archives of a store lie: listed, their records read, put in their place, discarded."""

from __future__ import annotations

import errno
import glob
import os
import shutil
import uuid
from contextlib import suppress
from pathlib import Path

from amefu_cli.artefacts.files.atomic import sync
from amefu_cli.artefacts.files.names import ARCHIVE, DAMAGED, video_id
from amefu_cli.artefacts.stores.archive import read_comment
from amefu_cli.artefacts.stores.header import FIX, STAGING, VideoRecord, parse_record, require_kind
from amefu_cli.artefacts.stores.staging import sweep
from amefu_cli.errors import DamagedFile, UsageError


def archives_below(folder: str, prefix: str = "") -> dict[str, str]:
    """The archive of every video below a folder, by its id: the damaged one only where there is no other."""
    sound: dict[str, str] = {}
    damaged: dict[str, str] = {}
    try:
        entries = list(os.scandir(folder))
    except (FileNotFoundError, NotADirectoryError):
        return {}
    for entry in entries:
        name = entry.name
        if name.endswith(ARCHIVE):
            sound[video_id(prefix + name)] = entry.path
        elif name.endswith(DAMAGED):
            damaged[video_id(prefix + name)] = entry.path
        elif entry.is_dir():
            sound |= archives_below(entry.path, f"{prefix}{name}/")
    return damaged | sound


def damaged_path(archive: str) -> str:
    """Where an archive is put that was found damaged."""
    return archive.removesuffix(ARCHIVE) + DAMAGED


def read_record(path: str) -> VideoRecord | None:
    """The record of the video whose archive is at `path`; None where there is none, or where it is marked and broken.

    Raises DamagedFile where another one cannot be read.
    """
    damaged = path.endswith(DAMAGED)
    try:
        return parse_record(read_comment(path), damaged=damaged)
    except (FileNotFoundError, NotADirectoryError):
        return None
    except OSError as error:
        if error.errno == errno.ENAMETOOLONG:  # whoever makes it is told so
            return None
        raise
    except ValueError as error:
        if damaged:  # it is known, and made again by the next run
            return None
        raise DamagedFile(f"{path}: not the archive of a video ({error}); {FIX}") from error


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

    Raises:
        UsageError: it is of another kind, or none of ours; another process writes into it.
    """
    if not require_kind(path, kind):
        return
    sweep(path)
    if (path / STAGING).exists():
        raise UsageError(
            f"{path}: another process writes into it at this moment, so it is not replaced; wait for it, or choose "
            "another --out"
        )
    with suppress(FileNotFoundError):  # another process has just done it
        os.rename(path, path.with_name(f".{path.name}.discarded-{uuid.uuid4().hex}"))
    clear_discarded(path)


def clear_discarded(path: Path) -> None:
    """Delete what `discard_store` renamed away, now or before it was killed."""
    for away in path.parent.glob(f".{glob.escape(path.name)}.discarded-*"):
        shutil.rmtree(away, ignore_errors=True)
