"""VIDEOS -> frames.zarr: every clip decoded, resized and stored as JPEG frames, one clip to a worker process.

The pool survives a decoder that crashes or hangs: that costs its one clip. Workers are spawned, and write each clip
into the staging area of this process, which publishes it.
"""

from __future__ import annotations

import functools
import multiprocessing
import os
import shutil
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from pathlib import Path
from typing import Any

from pebble import ProcessExpired, ProcessPool

from amefu_cli.artefacts.clips import Clip
from amefu_cli.artefacts.decoding import open_clip
from amefu_cli.artefacts.frame_store import KIND, append_frames, frame_writer
from amefu_cli.artefacts.video_errors import VanishedFile, shown
from amefu_cli.artefacts.video_store import VideoStore, open_store
from amefu_cli.artefacts.video_writer import StagedVideo, publish_video
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
    context = multiprocessing.get_context("spawn")
    pool = ProcessPool(max_workers=processes, context=context, initializer=_end_with_parent)
    threads = ThreadPoolExecutor(processes, thread_name_prefix="publish")

    def decode(job: ClipJob, folder: Path) -> Future[StagedVideo]:
        words = (store.path, folder, job, recipe, allow_partial)
        future: Future[StagedVideo] = pool.schedule(extract_clip, args=words, timeout=timeout)
        return future

    def publish(staged: StagedVideo) -> Future[None]:
        return threads.submit(publish_video, store, staged)

    try:
        for clip, error in _as_completed(jobs, store, decode, publish, timeout=timeout, most=2 * processes):
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
        threads.shutdown(cancel_futures=True)
        pool.join()
    outcome.seconds = time.monotonic() - started
    return outcome


def _as_completed(
    jobs: Iterable[ClipJob],
    store: VideoStore,
    decode: Callable[[ClipJob, Path], Future[StagedVideo]],
    publish: Callable[[StagedVideo], Future[None]],
    *,
    timeout: float,
    most: int,
) -> Iterator[tuple[Clip, VideoError | None]]:
    """Decode the jobs, at most so many in the pool's queue at a time, and publish each; each as it ends.

    The disk is waited for here, by threads, while the workers decode the next clips.
    """
    queue = iter(jobs)
    decoding: dict[Future[Any], tuple[Clip, Path]] = {}
    publishing: dict[Future[Any], Clip] = {}
    while True:
        while len(decoding) < most and (job := next(queue, None)) is not None:
            folder = store.fresh_folder()
            decoding[decode(job, folder)] = job.clip, folder
        if not decoding and not publishing:
            return
        # Of two signals at once the kernel may give both to another thread, and then nothing ends a wait without a
        # timeout: Python's handlers run in this thread alone.
        ended, _ = wait([*decoding, *publishing], timeout=1.0, return_when=FIRST_COMPLETED)
        for future in ended:
            if future in publishing:
                future.result()
                yield publishing.pop(future), None
                continue
            clip, folder = decoding.pop(future)
            error = _error_of(future, clip, timeout)
            if error is None:
                publishing[publish(future.result())] = clip
            else:
                shutil.rmtree(folder, ignore_errors=True)  # of a worker that could not do it
                yield clip, error


def _error_of(future: Future[Any], clip: Clip, timeout: float) -> VideoError | None:
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


def _end_with_parent() -> None:
    """In a worker: end at once when the run has died (kill -9, a second Ctrl-C), whatever clip is being decoded."""

    def watch() -> None:
        parent = multiprocessing.parent_process()
        assert parent is not None
        parent.join()
        os._exit(1)

    threading.Thread(target=watch, name="watch-parent", daemon=True).start()


def extract_clip(path: Path, folder: Path, job: ClipJob, recipe: FramesRecipe, allow_partial: bool) -> StagedVideo:
    """In a worker: one clip from source to `folder`, in the staging area of the process that will publish it."""
    store, clip = _store(path), job.clip
    size_of = functools.partial(stored_size, geometry=recipe.geometry, size=recipe.size)
    with (
        open_clip(clip, allow_partial=allow_partial) as reader,
        frame_writer(store, clip.id, folder) as writer,
    ):
        count = append_frames(writer, reader.frames(size_of), quality=recipe.quality)
        _check_unchanged(clip)
        return writer.finish(
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
    """One open store for the life of a worker."""
    return open_store(path, KIND, mend="amefu frames")
