"""What stages are given to do, a video each, and work done ahead by threads. Loads no torch."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Generator, Iterable, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from amefu_cli.artefacts.stores.header import VideoRecord
from amefu_cli.artefacts.videos.find import Clip

LOADERS = 2  # threads that read and decode while the network computes

Item = TypeVar("Item")
Result = TypeVar("Result")


@dataclass(frozen=True)
class ClipJob:
    """One clip to be decoded, and what identifies its source now."""

    clip: Clip
    made_from: Mapping[str, Any]

    @property
    def id(self) -> str:
        return self.clip.id

    @property
    def name(self) -> str:
        return str(self.clip.path)


@dataclass(frozen=True)
class VideoJob:
    """One video to be made: what it is made from, which frames of it, and how many views of each.

    Of features, `streams` are computed, and `copied` taken over from what is stored of the video.
    """

    record: VideoRecord
    made_from: Mapping[str, Any]
    numbers: NDArray[np.int64]
    views: int = 1
    streams: Sequence[str] = ()
    copied: Sequence[str] = ()

    @property
    def id(self) -> str:
        return self.record.id


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
