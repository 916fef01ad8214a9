"""Videos through a network: decoding and computing ahead, writing behind."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from itertools import chain, groupby
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from amefu_cli.artefacts.stores.writing import VideoWriter
from amefu_cli.errors import AmefuError, DamagedFile, VideoError, shown
from amefu_cli.stages import Outcome, Progress
from amefu_cli.stages.pipeline import LOADERS, VideoJob, ahead


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
    jobs: Sequence[VideoJob],
    *,
    batch: int,
    load: Callable[[Piece], Any],
    compute: Callable[[Piece, Any], Mapping[str, NDArray[Any]]],
    writer_of: Callable[[VideoJob], VideoWriter],
    networks: int,
    failed: Callable[[str, AmefuError], None],
    progress: Progress,
) -> Outcome:
    """Load, compute and write every video: threads load and compute ahead of this one, which writes.

    `networks` pieces are computed at once, each on one core: on a CPU that is faster than one piece on all cores,
    whose threads wait for each other at every layer, and it makes the result independent of the number of cores.
    What concerns one video alone is reported to `failed` and the run goes on: DamagedFile, VideoError, and what nobody
    foresaw.
    """
    outcome, started, cores = Outcome(), time.monotonic(), torch.get_num_threads()
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


def networks_on(device: torch.device) -> int:
    """How many networks compute at once: one for every core of a CPU, one on any other device."""
    return torch.get_num_threads() if device.type == "cpu" else 1
