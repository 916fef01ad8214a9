"""What the stages that run a network over videos share: decoding ahead of the network and writing behind it."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from amefu_cli.artefacts.video_writer import VideoWriter
from amefu_cli.errors import AmefuError, DamagedFile, VideoError
from amefu_cli.stages import Outcome, Progress
from amefu_cli.stages.pending import VideoJob

LOADERS = 2  # threads that read and decode while the network computes

Item = TypeVar("Item")
Result = TypeVar("Result")


def ahead(
    work: Callable[[Item], Result], items: Iterable[Item], *, threads: int, depth: int
) -> Iterator[Result]:
    """`map(work, items)` in order, computed by threads up to `depth` items before it is asked for.

    An exception of `work` is raised at its item's turn.
    """
    with ThreadPoolExecutor(threads, thread_name_prefix="ahead") as pool:
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


class Behind:
    """Runs calls one after the other on one thread, at most `depth` of them waiting; errors surface at the next."""

    def __init__(self, *, depth: int) -> None:
        self._pool = ThreadPoolExecutor(1, thread_name_prefix="behind")
        self._waiting: deque[Future[None]] = deque()
        self._depth = depth

    def submit(self, call: Callable[[], None]) -> None:
        """Queue one call; blocks while too many wait."""
        self._waiting.append(self._pool.submit(call))
        while len(self._waiting) > self._depth:
            self._waiting.popleft().result()

    def finish(self) -> None:
        """Wait for all calls."""
        while self._waiting:
            self._waiting.popleft().result()

    def __enter__(self) -> Behind:
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        if kind is None:
            self.finish()
        for future in self._waiting:
            future.cancel()
        self._pool.shutdown(wait=True)


@dataclass(frozen=True)
class Piece:
    """Some frames of one video that go through the network together."""

    job: VideoJob
    numbers: NDArray[np.int64]
    first: bool
    last: bool


def pieces(jobs: Iterable[VideoJob], *, batch: int) -> Iterator[Piece]:
    """Cut every video into pieces of at most `batch` frames, counting each view.

    No piece spans two videos: what a network computes depends in its last bits on what else is in the batch, and
    a video must come out the same whichever others are still to be made.
    """
    for job in jobs:
        size = max(1, batch // job.views)
        for begin in range(0, len(job.numbers), size):
            numbers = job.numbers[begin : begin + size]
            yield Piece(job, numbers, begin == 0, begin + size >= len(job.numbers))


def make_videos(
    jobs: Sequence[VideoJob],
    *,
    batch: int,
    load: Callable[[Piece], Any],
    compute: Callable[[Piece, Any], Mapping[str, NDArray[Any]]],
    writer_of: Callable[[str], VideoWriter],
    failed: Callable[[str, AmefuError], None],
    progress: Progress,
) -> Outcome:
    """Load, compute and write every video: threads load ahead of the network, one writes behind it.

    `load` may raise DamagedFile or VideoError: that video is reported to `failed` and the run goes on.
    """
    outcome, started = Outcome(), time.monotonic()
    writer: VideoWriter | None = None

    def load_or_error(piece: Piece) -> tuple[Piece, Any]:
        try:
            return piece, load(piece)
        except (DamagedFile, VideoError) as error:
            return piece, error

    loaded = ahead(load_or_error, pieces(jobs, batch=batch), threads=LOADERS, depth=2 * LOADERS)
    with Behind(depth=4) as behind:
        for piece, content in loaded:
            video = piece.job.record.id
            if piece.first:
                writer = writer_of(video)
            if isinstance(content, AmefuError):
                if video not in outcome.failed:
                    failed(video, content)
                outcome.failed[video] = str(content)
                if writer is not None:
                    behind.submit(writer.close)
                writer = None
            elif writer is not None:
                behind.submit(partial(_write, writer, piece, compute(piece, content)))
                if piece.last:
                    outcome.done.append(video)
            if piece.last:
                progress(len(outcome.done) + len(outcome.failed), len(jobs), video)
    outcome.seconds = time.monotonic() - started
    return outcome


def _write(writer: VideoWriter, piece: Piece, arrays: Mapping[str, NDArray[Any]]) -> None:
    for name, block in arrays.items():
        writer.append(name, block)
    if piece.last:
        record = piece.job.record
        with writer:
            writer.commit(
                frames=record.frames,
                fps=record.fps,
                source=record.source,
                made_from=piece.job.made_from,
                partial=record.partial,
            )
