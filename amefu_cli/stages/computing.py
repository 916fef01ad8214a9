"""Work done ahead by threads; and videos through a network: decoding and computing ahead, writing behind."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import closing
from dataclasses import dataclass
from itertools import chain, groupby
from typing import Any, TypeVar

import numpy as np
import torch
from numpy.typing import NDArray

from amefu_cli.artefacts.stores.writing import VideoWriter
from amefu_cli.errors import AmefuError, DamagedFile, VideoError, shown
from amefu_cli.stages import Outcome, Progress, VideoJob

LOADERS = 2  # threads that read and decode while the network computes

Item = TypeVar("Item")
Result = TypeVar("Result")


def ahead(
    work: Callable[[Item], Result], items: Iterable[Item], *, threads: int, depth: int,
    start: Callable[[], None] | None = None,
) -> Generator[Result, None, None]:  # fmt: skip
    """`map(work, items)` in order, computed by threads up to `depth` items before it is asked for. An exception of
    `work` is raised at its item's turn. `start` is called once in every thread."""
    with ThreadPoolExecutor(threads, thread_name_prefix="ahead", initializer=start) as pool:
        waiting: deque[Future[Result]] = deque()
        try:
            for item in items:
                waiting.append(pool.submit(work, item))
                if len(waiting) > depth:
                    yield waiting.popleft().result()
            while waiting:
                yield waiting.popleft().result()
        finally:
            for future in waiting:
                future.cancel()


class VideoFault(VideoError):
    """Making a video raised what nobody foresaw, or memory was short."""


@dataclass(frozen=True)
class Piece:
    """Some frames of one video that go through the network together."""

    job: VideoJob
    numbers: NDArray[np.int64]


def pieces(jobs: Iterable[VideoJob], *, batch: int) -> Iterator[Piece]:
    """Cut every video into pieces of at most `batch` frames, counting each view.

    No piece spans two videos: what a network computes depends in its last bits on what else is in the batch, and
    a video must come out the same whichever others are still to be made.
    """
    for job in jobs:
        size = max(1, batch // job.views)
        for begin in range(0, len(job.numbers), size):
            yield Piece(job, job.numbers[begin : begin + size])


def make_videos(
    jobs: Sequence[VideoJob], *, batch: int, load: Callable[[Piece], Any],
    compute: Callable[[Piece, Any], Mapping[str, NDArray[Any]]], writer_of: Callable[[VideoJob], VideoWriter],
    device: torch.device, failed: Callable[[str, AmefuError], None], progress: Progress,
) -> Outcome:  # fmt: skip
    """Load, compute and write every video: threads load and compute ahead of this one, which writes.

    On a CPU as many pieces are computed at once as there are cores, each on one: that is faster than one piece on all
    cores, whose threads wait for each other at every layer, and makes the result independent of their number. What
    concerns one video alone goes to `failed` and the run goes on: DamagedFile, VideoError, and what nobody foresaw.
    """
    outcome, started, cores = Outcome(), time.monotonic(), torch.get_num_threads()
    networks = cores if device.type == "cpu" else 1
    loaded = ahead(lambda piece: _tried(piece, load), pieces(jobs, batch=batch), threads=LOADERS, depth=LOADERS)
    computed = ahead(
        lambda ready: ready if isinstance(ready[1], AmefuError) else _tried(ready[0], compute, ready[1]),
        loaded, threads=networks, depth=networks + 2, start=lambda: torch.set_num_threads(1),
    )  # fmt: skip
    try:
        with closing(computed):
            for video, results in groupby(computed, key=lambda result: result[0].job.id):
                error = _written(writer_of, results)
                if error is None:
                    outcome.done.append(video)
                else:
                    outcome.failed[video] = str(error)
                    failed(video, error)
                progress(len(outcome.done) + len(outcome.failed), len(jobs), video)
    finally:
        torch.set_num_threads(cores)
    outcome.seconds = time.monotonic() - started
    return outcome


def _tried(piece: Piece, work: Callable[..., Any], *content: Any) -> tuple[Piece, Any]:
    """What `work` gives for a piece, or what it fails with where that concerns its video alone."""
    try:
        return piece, work(piece, *content)
    except Exception as error:
        return piece, _of_one_video(error, piece.job.id)


def _written(writer_of: Callable[[VideoJob], VideoWriter], results: Iterator[tuple[Piece, Any]]) -> AmefuError | None:
    """All pieces of one video into the store; nothing of it where one is an error, which is returned."""
    piece, content = next(results)
    job = piece.job
    try:
        with writer_of(job) as writer:
            for _, block in chain([(piece, content)], results):
                if isinstance(block, AmefuError):
                    return block
                writer.append(block)
            writer.commit(
                frames=job.record.frames, fps=job.record.fps, source=job.record.source, made_from=job.made_from,
                partial=job.record.partial,
            )  # fmt: skip
    except Exception as error:
        return _of_one_video(error, job.id)
    return None


def _of_one_video(error: Exception, video: str) -> AmefuError:
    """What an exception costs its video; what concerns the whole run is raised again."""
    if isinstance(error, DamagedFile | VideoError):
        return error
    if isinstance(error, AmefuError | OSError):
        raise error
    return VideoFault(f"{shown(video)}: {type(error).__name__}: {error}")
