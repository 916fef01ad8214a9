"""Matching functions: Bertrand, Kalantidis, Tolias, "Test-time matching for few-shot action recognition", BMVC 2022.

arXiv:2303.16084, code jbertrand89/matching_based_fsar. The paper works on frozen features, so these are exact here.
Each score is of one support video; `joint` heads lay the frames of a class's shots side by side instead.
"""

from __future__ import annotations

from typing import ClassVar, Literal

import torch
from torch import Tensor, nn

from amefu_cli.method.heads.base import Route
from amefu_cli.method.heads.frame_metric import FrameMetric
from amefu_cli.method.heads.training import Training

Shots = Literal["separate", "joint"]

TRAINING = Training("the authors' values for SSv2, 1-shot", queries=1, accumulation=1)


class MatchMean(FrameMetric):
    """Mean over the query's frames of the sum over the support's: T times the mean cosine."""

    tile_gain = 100.0

    def reduce(self, cosines: Tensor) -> Tensor:
        return cosines.sum((0, 1)) / len(cosines)

    def block_scores(self, query: Tensor, support: Tensor) -> Tensor:
        if self.epsilon:
            return super().block_scores(query, support)
        return query.mean(1) @ support.sum(1).mT  # the sum of dot products is the dot product of sums


class MatchMax(FrameMetric):
    """The largest cosine of any two frames."""

    def reduce(self, cosines: Tensor) -> Tensor:
        return cosines.amax((0, 1))


class MatchDiag(FrameMetric):
    """The mean cosine of frames of equal number."""

    tile_gain = 100.0

    def reduce(self, cosines: Tensor) -> Tensor:
        return cosines.diagonal().mean(-1)

    def block_scores(self, query: Tensor, support: Tensor) -> Tensor:
        if self.epsilon:
            return super().block_scores(query, support)
        return query.flatten(1) @ support.flatten(1).mT / query.shape[1]  # a T-th of all cosines


class MatchLinear(FrameMetric):
    """A learned weight for every pair of frame numbers, w . vec(cosines), on projected frames."""

    training_defaults: ClassVar[Training] = TRAINING
    symmetric = False

    def __init__(self, dim: int, *, frames: int = 8, epsilon: float = 0.0, width: int = 1152) -> None:
        super().__init__(dim, epsilon=epsilon, width=width)
        self.linear = nn.Linear(frames * frames, 1, bias=False)

    def reduce(self, cosines: Tensor) -> Tensor:
        weights = self.linear.weight.view(*cosines.shape[:2], *[1] * (cosines.ndim - 2))
        return (weights * cosines).sum((0, 1))


class ChamferSupport(FrameMetric):
    """Mean over the support's frames of the best cosine with a query frame; joint and separate shots are the same."""

    symmetric = False

    def reduce(self, cosines: Tensor) -> Tensor:
        return cosines.amax(0).mean(0)


class ChamferQuery(FrameMetric):
    """Mean over the query's frames of the best cosine with a support frame: of each shot, or (`joint`) of any shot."""

    symmetric = False

    def __init__(
        self, dim: int, *, shots: Shots = "separate", epsilon: float = 0.0, tuple_n: int = 1, width: int = 0
    ) -> None:
        super().__init__(dim, epsilon=epsilon, tuple_n=tuple_n, width=width)
        self.shots = shots

    def reduce(self, cosines: Tensor) -> Tensor:
        """`joint`: (*pairs, query frames), the best cosine of every query frame, to be compared with other shots'."""
        best: Tensor = cosines.amax(1)
        return best.movedim(0, -1) if self.shots == "joint" else best.mean(0)

    def combine(self, scores: Tensor) -> Tensor:
        return scores.amax(3).mean(-1) if self.shots == "joint" else scores.mean(3)


class Chamfer(ChamferQuery):
    """Half the sum of both directions."""

    def __init__(
        self, dim: int, *, shots: Shots = "separate", epsilon: float = 0.0, tuple_n: int = 1, width: int = 0
    ) -> None:
        super().__init__(dim, shots=shots, epsilon=epsilon, tuple_n=tuple_n, width=width)
        self.symmetric = shots == "separate"

    def reduce(self, cosines: Tensor) -> Tensor:
        """`joint`: (*pairs, query frames + 1), the support's direction last, for it is the same for every shot rule."""
        of_support = cosines.amax(0).mean(0)
        if self.shots == "separate":
            return (super().reduce(cosines) + of_support) / 2
        return torch.cat((super().reduce(cosines), of_support.unsqueeze(-1)), -1)

    def combine(self, scores: Tensor) -> Tensor:
        if self.shots == "separate":
            return scores.mean(3)
        return (super().combine(scores[..., :-1]) + scores[..., -1].mean(3)) / 2


class ChamferPlusPlus(Chamfer):
    """Chamfer++: both directions, joint shots, on learned projections of tuples of three frames."""

    training_defaults: ClassVar[Training] = TRAINING
    route: ClassVar[Route] = "episode"  # 56 x 56 cosines of a pair: the episodes' own pairs only

    def __init__(
        self, dim: int, *, shots: Shots = "joint", epsilon: float = 0.0, tuple_n: int = 3, width: int = 1152
    ) -> None:
        super().__init__(dim, shots=shots, epsilon=epsilon, tuple_n=tuple_n, width=width)
