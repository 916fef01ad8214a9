"""The test-time step of Embodied Learning: supports augmented by segments of base videos.

Fu, Wang, Fu, Wang, Bai, Xue, Jiang, "Embodied one-shot video recognition: learning from actions of a virtual embodied
agent", ACM MM 2019; code lovelyqian/Embodied-One-Shot-Video-Recognition. The paper's gallery is rendered in a game
engine; here it is real videos of the base classes, and the fine-tuning that follows is left out: features are frozen.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional

from amefu_cli.errors import UsageError
from amefu_cli.method.heads.base import VectorHead
from amefu_cli.method.heads.distances import SHORTEST

SEGMENT = 2  # frames
NEIGHBOUR_WEIGHT = 0.1  # of a distance's neighbours in the smoothing; the distance itself weighs 1


def segments_of(frames: Tensor) -> Tensor:
    """Unit frames (..., frames, dim) to the means of 2 frames at a time, (..., segments, dim).

    Raises UsageError if the number of frames is odd.
    """
    if frames.shape[-2] % SEGMENT:
        raise UsageError(
            f"segment-augmentation replaces {SEGMENT} frames at a time, and a clip has {frames.shape[-2]}; make the "
            "features for clips of an even number, by --segments and --frames-per-segment"
        )
    return frames.reshape(*frames.shape[:-2], -1, SEGMENT, frames.shape[-1]).mean(-2)


def smoothed(distance: Tensor) -> Tensor:
    """distance (..., segments, gallery) plus 0.1 times that of the segment before and of the one after."""
    padded = functional.pad(distance, (0, 0, 1, 1))
    return distance + NEIGHBOUR_WEIGHT * (padded[..., :-2, :] + padded[..., 2:, :])


def unit_frames(frames: Tensor) -> Tensor:
    return functional.normalize(frames, dim=-1, eps=SHORTEST)


class SegmentAugmentation(VectorHead):
    """Each support is joined by copies of itself, in each of which the nearest gallery segment replaces one segment.

    With f the mean frame, n segments and G_s the gallery segment nearest to segment s, the mean of the video and its
    n copies is (n f + mean_s G_s) / (n + 1): a support shrinks towards the gallery. State: [f; that mean], 2 dim wide.
    """

    gallery: Tensor  # (segments, dim)

    def __init__(self, dim: int) -> None:
        super().__init__(dim)
        self.register_buffer("gallery", torch.empty(0, dim), persistent=False)

    def use_gallery(self, frames: Tensor) -> None:
        self.gallery = segments_of(unit_frames(frames)).flatten(0, 1)

    def embed(self, frames: Tensor) -> Tensor:
        """(videos, frames, dim) to (videos, 2 * dim), once there is a gallery."""
        units = unit_frames(frames)
        segments = segments_of(units)
        chosen = smoothed(torch.cdist(segments, self.gallery)).argmin(-1)  # (videos, segments)
        mean, count = units.mean(1), segments.shape[1]
        return torch.cat((mean, (count * mean + self.gallery[chosen].mean(1)) / (count + 1)), -1)

    def sides(self, states: Tensor) -> tuple[Tensor, Tensor]:
        return states[..., : self.dim], states[..., self.dim :]

    def score(self, dot: Tensor, query_square: Tensor, prototype_square: Tensor) -> Tensor:
        """Minus the distance, not squared."""
        return -(query_square - 2 * dot + prototype_square).clamp_min(0).sqrt()
