"""VIDEOS -> frames.zarr: every clip decoded, resized and stored as JPEG frames, one clip to a worker process.

The pool survives a decoder that crashes or hangs: that costs its one clip. Workers are spawned, and write each clip
into the staging area of this process, which publishes it.
"""

from __future__ import annotations

import functools
import shutil
import time
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from amefu_cli.artefacts.stores.pictures import append_frames, frame_writer
from amefu_cli.artefacts.stores.store import VideoStore, open_store
from amefu_cli.artefacts.stores.writing import StagedVideo, publish_video
from amefu_cli.artefacts.videos.decode import open_clip
from amefu_cli.artefacts.videos.errors import VanishedFile
from amefu_cli.artefacts.videos.find import Clip, is_unchanged
from amefu_cli.engines.workers import WorkerPool
from amefu_cli.errors import AmefuError, VideoError, shown
from amefu_cli.method.geometry import stored_size
from amefu_cli.settings import FramesSettings
from amefu_cli.stages import Outcome, Progress
from amefu_cli.stages.pending import ClipJob


@dataclass(frozen=True)
class Task:
    """One clip, and the folder that it is to be written to, in the staging area of the process that publishes it."""

    job: ClipJob
    folder: Path

    @property
    def name(self) -> str:
        return str(self.job.clip.path)


def extract_frames(
    jobs: Sequence[ClipJob],
    store: VideoStore,
    *,
    settings: FramesSettings,
    processes: int,
    timeout: float,
    allow_partial: bool,
    failed: Callable[[str, AmefuError], None],
    progress: Progress,
) -> Outcome:
    """Decode and store `jobs` in worker processes; what a clip fails with goes to `failed` and the run goes on.

    Raises:
        AmefuError: the store cannot be written (disk full, read-only); nothing half-written is left.
    """
    outcome, started = Outcome(), time.monotonic()

    def ended(clip: Clip, error: VideoError | None) -> None:
        if error is None:
            outcome.done.append(clip.id)
        else:
            outcome.failed[clip.id] = str(error)
            failed(clip.id, error)
        progress(len(outcome.done) + len(outcome.failed), len(jobs), clip.id)

    decode = functools.partial(extract_clip, store.path, settings=settings, allow_partial=allow_partial)
    tasks = (Task(job, store.fresh_folder()) for job in jobs)
    threads = ThreadPoolExecutor(processes, thread_name_prefix="publish")
    publishing: dict[Future[None], Clip] = {}  # the disk is waited for there, while the workers decode the next clips
    try:
        with WorkerPool(decode, tasks, deed="decoded", processes=processes, timeout=timeout) as pool:
            while pool.fill() or publishing:
                for task, result in pool.ended():
                    if isinstance(result, VideoError):
                        shutil.rmtree(task.folder, ignore_errors=True)  # of a worker that could not do it
                        ended(task.job.clip, result)
                    else:
                        publishing[threads.submit(publish_video, store, result)] = task.job.clip
                for future in [future for future in publishing if future.done()]:
                    ended(publishing.pop(future), _error_of(future))
    finally:
        threads.shutdown(cancel_futures=True)
    outcome.seconds = time.monotonic() - started
    return outcome


def _error_of(publishing: Future[None]) -> VideoError | None:
    """What publishing one video failed with; what concerns the whole run is raised."""
    try:
        publishing.result()
    except VideoError as error:
        return error
    return None


def extract_clip(path: Path, task: Task, *, settings: FramesSettings, allow_partial: bool) -> StagedVideo:
    """In a worker: one clip from its source to the folder of `task`, for the frame store at `path`."""
    store, clip = _store(path), task.job.clip
    size_of = functools.partial(stored_size, geometry=settings.geometry, size=settings.size)
    with (
        open_clip(clip, allow_partial=allow_partial) as reader,
        frame_writer(store, clip.id, task.folder) as writer,
    ):
        count = append_frames(writer, reader.frames(size_of), quality=settings.quality)
        _check_unchanged(clip)
        return writer.finish(
            frames=count, fps=reader.fps, source=_source(clip), made_from=task.job.made_from, partial=reader.partial
        )


def _source(clip: Clip) -> str:
    """The path of a clip below VIDEOS, whatever VIDEOS was called in this run."""
    return "/".join([*clip.id.split("/")[:-1], clip.path.name])


def _check_unchanged(clip: Clip) -> None:
    """A source that was rewritten while it was decoded is not what its record would say."""
    with suppress(OSError):
        if is_unchanged(clip):
            return
    raise VanishedFile(f"`{shown(clip.path)}` changed while it was read; run the same command again")


@functools.cache
def _store(path: Path) -> VideoStore:
    """One open store for the life of a worker."""
    return open_store(path, "frames", fix="amefu frames")
