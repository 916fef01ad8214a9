"""Any store -> which of its videos are damaged: everything is read back, and what is bad is marked to be made anew."""

from __future__ import annotations

import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path, PurePosixPath

from amefu_cli.artefacts.checkpoint import read_checkpoint, read_header
from amefu_cli.artefacts.integrity import damage_of, video_folders
from amefu_cli.artefacts.store_headers import DAMAGED
from amefu_cli.artefacts.stored_video import edition_of
from amefu_cli.artefacts.video_names import video_id
from amefu_cli.artefacts.video_store import VideoStore
from amefu_cli.errors import DamagedFile
from amefu_cli.stages import Progress

READERS = 8  # threads: reading releases the interpreter, and a disk is fastest when it is asked for several files


@dataclass
class Findings:
    """What one check found: how many videos, what is wrong with which, and whether that could be written down."""

    videos: int = 0
    damaged: dict[str, str] = field(default_factory=dict)
    marked: bool = True
    seconds: float = 0.0


def verify_store(store: VideoStore, *, progress: Progress) -> Findings:
    """Check every video of a store; a damaged one is marked, and a mark on a sound one is taken off again."""
    findings, started = Findings(), time.monotonic()
    root = store.path / "videos"
    folders = list(_videos_of(store, root)) if root.is_dir() else []
    ids = [video_id(PurePosixPath(folder.relative_to(root))) for folder in folders]
    with ThreadPoolExecutor(READERS, thread_name_prefix="verify") as pool:
        checked = pool.map(partial(_damage, store), folders, ids)
        for folder, video, reason in zip(folders, ids, checked, strict=True):
            findings.videos += 1
            if reason is not None:
                findings.damaged[video] = reason
            findings.marked &= _mark(store, folder, reason)
            progress(findings.videos, len(folders), video)
    findings.seconds = time.monotonic() - started
    return findings


def verify_checkpoint(path: Path) -> str | None:
    """What is wrong with a checkpoint; None where all is well."""
    try:
        read_header(path)
        read_checkpoint(path)
    except DamagedFile as error:
        return str(error)
    return None


def _videos_of(store: VideoStore, root: Path) -> Iterator[Path]:
    """The folders of all videos; a lost header of a class folder, which says nothing, is written again."""
    for folder, is_video in video_folders(root, store.kind):
        if is_video:
            yield folder
        else:
            with suppress(OSError):
                store.mend_group(folder)


def _damage(store: VideoStore, folder: Path, video: str) -> str | None:
    """What is wrong with a video that nobody replaces or removes at the same time."""
    while True:
        edition = edition_of(folder)
        reason = damage_of(folder, video, store)
        if reason is None or not folder.is_dir():
            return None
        if edition_of(folder) == edition:
            return reason


def _mark(store: VideoStore, folder: Path, reason: str | None) -> bool:
    """Keep the mark of a video up to date; False where the store cannot be written."""
    try:
        if reason is not None:
            store.mark_damaged(folder, reason)
        else:
            (folder / DAMAGED).unlink(missing_ok=True)
    except OSError:
        return False
    return True
