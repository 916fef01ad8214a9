"""depth.zarr: the disparity of every frame in 8 bits, with the two numbers of each frame that undo the rounding."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from amefu_cli.artefacts.stored_video import StoredVideo
from amefu_cli.artefacts.video_store import VideoStore
from amefu_cli.artefacts.video_writer import VideoWriter

KIND = "depth"


def depth_writer(store: VideoStore, video: str) -> VideoWriter:
    """A writer for one video: `disparity` uint8 (frames, height, width), `low` and `high` float32 (frames,).

    disparity = low + value / 255 * (high - low); larger = nearer.
    """
    axes = {"disparity": 0, "low": 0, "high": 0}
    return VideoWriter(store, video, axes, compressed=frozenset({"disparity"}))


def read_disparity(stored: StoredVideo, numbers: NDArray[np.int64]) -> NDArray[np.uint8]:
    """Disparity in 8 bits (len(numbers), height, width) by ascending frame number (0-based); repeats allowed."""
    first, last = int(numbers[0]), int(numbers[-1])
    block: NDArray[np.uint8] = stored.array("disparity", slice(first, last + 1))
    return block[np.asarray(numbers) - first]
