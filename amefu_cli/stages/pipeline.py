"""What the stages that run a network over videos share: decoding and computing ahead, writing behind."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import closing
from dataclasses import dataclass
from itertools import groupby
from typing import Any, TypeVar

import numpy as np
import torch
from numpy.typing import NDArray

from amefu_cli.artefacts.stores.writing import VideoWriter
from amefu_cli.errors import AmefuError, DamagedFile, VideoError
from amefu_cli.stages import Outcome, Progress
from amefu_cli.stages.pending import VideoJob

LOADERS = 2  # threads that read and decode while the network computes

Item = TypeVar("Item")
Result = TypeVar("Result")


def ahead(
    work: Callable[[Item], Result],
    items: Iterable[Item],
    *,
    threads: int,
    depth: int,
    start: Callable[[], None] | None = None,
) -> Generator[Result, None, None]:
    """`map(work, items)` in order, computed by threads up to `depth` items before it is asked for.

    An exception of `work` is raised at its item's turn. `start` is called once in every thread.
    """
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
    jobs: Sequence[VideoJob],
    *,
    batch: int,
    load: Callable[[Piece], Any],
    compute: Callable[[Piece, Any], Mapping[str, NDArray[Any]]],
    writer_of: Callable[[str], VideoWriter],
    networks: int,
    failed: Callable[[str, AmefuError], None],
    progress: Progress,
) -> Outcome:
    """Load, compute and write every video: threads load and compute ahead of this one, which writes.

    `networks` pieces are computed at once, each on one core: on a CPU that is faster than one piece on all cores,
    whose threads wait for each other at every layer, and it makes the result independent of the number of cores.
    `load` may raise DamagedFile or VideoError: that video is reported to `failed` and the run goes on.
    """
    outcome, started, cores = Outcome(), time.monotonic(), torch.get_num_threads()

    def load_or_error(piece: Piece) -> tuple[Piece, Any]:
        try:
            return piece, load(piece)
        except (DamagedFile, VideoError) as error:
            return piece, error

    def compute_or_error(loaded: tuple[Piece, Any]) -> tuple[Piece, Any]:
        piece, content = loaded
        return piece, content if isinstance(content, AmefuError) else compute(piece, content)

    loaded = ahead(load_or_error, pieces(jobs, batch=batch), threads=LOADERS, depth=LOADERS)
    computed = ahead(
        compute_or_error, loaded, threads=networks, depth=networks + 2, start=lambda: torch.set_num_threads(1)
    )
    with closing(computed):
        for video, results in groupby(computed, key=lambda result: result[0].job.record.id):
            error = _write(writer_of(video), results)
            if error is None:
                outcome.done.append(video)
            else:
                outcome.failed[video] = str(error)
                failed(video, error)
            progress(len(outcome.done) + len(outcome.failed), len(jobs), video)
    torch.set_num_threads(cores)
    outcome.seconds = time.monotonic() - started
    return outcome


def _write(writer: VideoWriter, results: Iterable[tuple[Piece, Any]]) -> AmefuError | None:
    """All pieces of one video into the store; nothing of it where one is an error, which is returned."""
    with writer:
        for piece, content in results:  # noqa: B007 - the last one is looked at below
            if isinstance(content, AmefuError):
                return content
            for name, block in content.items():
                writer.append(name, block)
        record = piece.job.record
        try:
            writer.commit(
                frames=record.frames, fps=record.fps, source=record.source, made_from=piece.job.made_from,
                partial=record.partial,
            )  # fmt: skip
        except VideoError as error:  # its name is too long for the file system
            return error
    return None


def networks_on(device: torch.device) -> int:
    """How many networks compute at once: one for every core of a CPU, one on any other device."""
    return torch.get_num_threads() if device.type == "cpu" else 1
