"""One room per stage, named as its command: artefacts in, artefact out. Stages never import one another.

What they are given and give back stands here, and loads neither torch nor numpy. They share `computing.py` (work done
ahead, videos through a network), `networks.py`, `training.py` and `scoring.py`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from amefu_cli.artefacts.stores.header import VideoRecord
    from amefu_cli.artefacts.videos.find import Clip

Progress = Callable[[int, int, str], None]
"""What a flow passes down to be told of progress: done, total, and the item just finished."""


@dataclass
class Outcome:
    """What one run of a stage did to its store: ids of videos, and what each failed one failed with. `planned` where a
    dry run found something to do, here or before, so that what comes after is not known yet."""

    done: list[str] = field(default_factory=list)
    kept: int = 0
    failed: dict[str, str] = field(default_factory=dict)
    skipped: list[tuple[str, str]] = field(default_factory=list)
    seconds: float = 0.0
    planned: bool = False


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
    """One video to be made: what it is made from, which frames of it, and how many views of each. Of features,
    `streams` are computed, and `copied` taken over from what is stored of the video. `part` follows the video's id
    where the features are those of a part of it alone."""

    record: VideoRecord
    made_from: Mapping[str, Any]
    numbers: NDArray[np.int64]
    views: int = 1
    streams: Sequence[str] = ()
    copied: Sequence[str] = ()
    part: str = ""

    @property
    def id(self) -> str:
        return self.record.id + self.part
