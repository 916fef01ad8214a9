"""VIDEOS -> frames.zarr: every clip decoded, resized and stored as JPEG frames, one clip to a worker process.

The pool survives a decoder that crashes or hangs: that costs its one clip. Workers are spawned, and each puts the
clips that it has decoded into the store by itself.
"""

from __future__ import annotations

import functools
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path

from amefu_cli.artefacts.stores.header import FramesHeader
from amefu_cli.artefacts.stores.pictures import append_frames
from amefu_cli.artefacts.stores.store import VideoStore, open_store
from amefu_cli.artefacts.stores.writing import frame_writer
from amefu_cli.artefacts.videos.copies import content_sha256
from amefu_cli.artefacts.videos.decode import open_clip
from amefu_cli.artefacts.videos.find import Clip, is_unchanged
from amefu_cli.artefacts.videos.opening import VanishedFile
from amefu_cli.engines.workers import WorkerPool
from amefu_cli.errors import AmefuError, VideoError, shown
from amefu_cli.method.geometry import stored_size
from amefu_cli.stages import ClipJob, Outcome, Progress


def extract_frames(
    store: VideoStore[FramesHeader], jobs: Sequence[ClipJob], *, processes: int, timeout: float, allow_partial: bool,
    failed: Callable[[str, AmefuError], None], progress: Progress,
) -> Outcome:  # fmt: skip
    """Decode and store `jobs` in worker processes; what a clip fails with goes to `failed` and the run goes on.

    A clip fails after `timeout` seconds. Raises AmefuError or OSError where the store cannot be written (disk full,
    read-only); nothing half-written counts.
    """
    outcome, started = Outcome(), time.monotonic()
    work = functools.partial(extract_clip, store.path, allow_partial=allow_partial)
    with WorkerPool(work, jobs, deed="decoded", processes=processes, timeout=timeout) as pool:
        while pool.fill():
            for job, result in pool.ended():
                if isinstance(result, VideoError):
                    store.sweep()  # what a worker left that could not do it
                    outcome.failed[job.id] = str(result)
                    failed(job.id, result)
                else:
                    store.forget(job.id)
                    outcome.done.append(job.id)
                progress(len(outcome.done) + len(outcome.failed), len(jobs), job.id)
    outcome.seconds = time.monotonic() - started
    return outcome


def extract_clip(path: Path, job: ClipJob, *, allow_partial: bool) -> int:
    """In a worker: one clip from its source into the frame store at `path`; returns how many frames it has."""
    store, clip = _store(path), job.clip
    settings = store.header.settings
    size_of = functools.partial(stored_size, geometry=settings.geometry, size=settings.size)
    with open_clip(clip, allow_partial=allow_partial) as reader, frame_writer(store, clip.id) as writer:
        count = append_frames(writer, reader.frames(size_of), quality=settings.quality)
        # Where it is not known by its hash, that is noted too, so that a copy of it can be recognised.
        made_from = job.made_from if settings.checksum else {**job.made_from, "sha256": content_sha256(clip.path)}
        _check_unchanged(clip)
        writer.commit(frames=count, fps=reader.fps, source=clip.source, made_from=made_from, partial=reader.partial)
    return count


def _check_unchanged(clip: Clip) -> None:
    """A source that was rewritten while it was decoded is not what its record would say."""
    with suppress(OSError):
        if is_unchanged(clip):
            return
    raise VanishedFile(f"`{shown(clip.path)}` changed while it was read; run the same command again")


@functools.cache
def _store(path: Path) -> VideoStore[FramesHeader]:
    """One open store for the life of a worker, whose staging folder is swept when it has ended."""
    return open_store(path, FramesHeader, fix="amefu frames")
