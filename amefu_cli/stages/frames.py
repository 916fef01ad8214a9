"""VIDEOS -> frames.zarr: every clip decoded, resized and stored as JPEG frames, one clip to a worker process.

The pool survives a decoder that crashes or hangs: that costs its one clip. Workers are spawned, write to the store
themselves and send back only whether it went well.
"""

from __future__ import annotations

import functools
import multiprocessing
import os
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, wait
from pathlib import Path

from pebble import ProcessExpired, ProcessPool

from amefu_cli.artefacts.clips import Clip
from amefu_cli.artefacts.decoding import open_clip
from amefu_cli.artefacts.frame_store import KIND, append_frames, frame_writer
from amefu_cli.artefacts.video_errors import VanishedFile, shown
from amefu_cli.artefacts.video_store import VideoStore, open_store
from amefu_cli.errors import AmefuError, VideoError
from amefu_cli.method.frame_size import stored_size
from amefu_cli.recipes import FramesRecipe
from amefu_cli.stages import Outcome, Progress
from amefu_cli.stages.pending import ClipJob


class WorkerCrash(VideoError):
    """The decoder crashed its process, or the process was killed."""


class WorkerTimeout(VideoError):
    """The video was not finished in the time allowed (--timeout)."""


def extract_frames(
    jobs: Sequence[ClipJob],
    store: VideoStore,
    *,
    recipe: FramesRecipe,
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
    pool = ProcessPool(max_workers=processes, context=multiprocessing.get_context("spawn"))
    try:
        schedule = functools.partial(_schedule, pool, store.path, recipe, timeout, allow_partial)
        for clip, future in _as_completed(jobs, schedule, most=2 * processes):
            error = _error_of(future, clip, timeout)
            if error is None:
                outcome.done.append(clip.id)
            else:
                outcome.failed[clip.id] = str(error)
                failed(clip.id, error)
            progress(len(outcome.done) + len(outcome.failed), len(jobs), clip.id)
        pool.close()
    except BaseException:
        pool.stop()
        raise
    finally:
        pool.join()
    outcome.seconds = time.monotonic() - started
    return outcome


def _schedule(
    pool: ProcessPool, store: Path, recipe: FramesRecipe, timeout: float, allow_partial: bool, job: ClipJob
) -> Future[None]:
    future: Future[None] = pool.schedule(extract_clip, args=(store, job, recipe, allow_partial), timeout=timeout)
    return future


def _as_completed(
    jobs: Iterable[ClipJob], schedule: Callable[[ClipJob], Future[None]], *, most: int
) -> Iterator[tuple[Clip, Future[None]]]:
    """Run the jobs, at most so many in the pool's queue at a time; each as it ends."""
    queue = iter(jobs)
    running: dict[Future[None], Clip] = {}
    while True:
        while len(running) < most and (job := next(queue, None)) is not None:
            running[schedule(job)] = job.clip
        if not running:
            return
        ended, _ = wait(running, return_when=FIRST_COMPLETED)
        for future in ended:
            yield running.pop(future), future


def _error_of(future: Future[None], clip: Clip, timeout: float) -> VideoError | None:
    """What one clip failed with; what concerns the whole run is raised."""
    try:
        future.result()
    except VideoError as error:
        return error
    except TimeoutError:
        return WorkerTimeout(f"`{shown(clip.path)}` was not decoded in {timeout:g} s; raise --timeout")
    except ProcessExpired as error:
        return WorkerCrash(f"`{shown(clip.path)}` ended its worker process (exit code {error.exitcode})")
    return None


def extract_clip(path: Path, job: ClipJob, recipe: FramesRecipe, allow_partial: bool) -> None:
    """In a worker: one clip from source to store."""
    store, clip = _store(path), job.clip
    size_of = functools.partial(stored_size, geometry=recipe.geometry, size=recipe.size)
    with (
        open_clip(clip, allow_partial=allow_partial) as reader,
        frame_writer(store, clip.id) as writer,
    ):
        count = append_frames(writer, reader.frames(size_of), quality=recipe.quality)
        _check_unchanged(clip)
        writer.commit(
            frames=count, fps=reader.fps, source=_source(clip), made_from=job.made_from, partial=reader.partial
        )


def _source(clip: Clip) -> str:
    """The path of a clip below VIDEOS, whatever VIDEOS was called in this run."""
    return "/".join([*clip.id.split("/")[:-1], clip.path.name])


def _check_unchanged(clip: Clip) -> None:
    """A file that was rewritten while it was decoded is not what its record would say."""
    if clip.kind == "video":
        found = os.stat(clip.path)
        if (found.st_size, found.st_mtime_ns) != (clip.size, clip.mtime_ns):
            raise VanishedFile(f"`{shown(clip.path)}` changed while it was read; run the same command again")


@functools.cache
def _store(path: Path) -> VideoStore:
    """One open store, and so one staging folder, for the life of a worker."""
    return open_store(path, KIND, mend="amefu frames")
