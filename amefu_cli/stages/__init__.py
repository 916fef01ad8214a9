"""One room per stage, named as its command: artefacts in, artefact out. Stages never import one another.

What they share: `pipeline.py` (decoding ahead of a network, writing behind it), `networks.py` (devices, loading),
`training.py` (epochs and snapshots), `vectors.py` (one vector a video). Here is what a flow and a stage say to each
other, which loads no torch.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

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
    made_from: Mapping[str, object]

    @property
    def id(self) -> str:
        return self.clip.id


@dataclass(frozen=True)
class VideoJob:
    """One video to be made: what it is made from, which frames of it, and how many views of each; of features, which
    streams are computed and which are copied from the archive that is there."""

    record: VideoRecord
    made_from: Mapping[str, object]
    numbers: NDArray[np.int64]
    views: int = 1
    streams: tuple[str, ...] = ()
    copied: tuple[str, ...] = ()

    @property
    def id(self) -> str:
        return self.record.id
