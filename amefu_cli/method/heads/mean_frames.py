"""Heads on the mean of a video's frames: nearest prototypes and the mean cosine to the shots.

Snell, Swersky, Zemel, "Prototypical networks for few-shot learning", NeurIPS 2017, arXiv:1703.05175; the mean cosine is
the "TSN" head of tobyperrett/few-shot-action-recognition. All are exact on frozen features.
"""

from __future__ import annotations

from torch import Tensor
from torch.nn import functional

from amefu_cli.method.heads.base import PairHead, VectorHead
from amefu_cli.method.heads.distances import SHORTEST, cosine
from amefu_cli.method.heads.prototypes import cosine as prototype_cosine
from amefu_cli.method.heads.prototypes import euclidean as prototype_euclidean


class PrototypeCosine(VectorHead):
    """Cosine of the query's mean frame and the mean of the shots' mean frames, each first scaled to length 1.

    `unit_length=False` leaves out that first scaling, which matters for more than one shot.
    """

    def __init__(self, dim: int, *, unit_length: bool = True) -> None:
        super().__init__(dim)
        self.unit_length = unit_length

    def embed(self, frames: Tensor) -> Tensor:
        """(videos, frames, dim) to (videos, dim)."""
        means = frames.mean(1)
        return functional.normalize(means, dim=-1, eps=SHORTEST) if self.unit_length else means

    def score(self, dot: Tensor, query_square: Tensor, prototype_square: Tensor) -> Tensor:
        return prototype_cosine(dot, query_square, prototype_square)


class PrototypeEuclidean(PrototypeCosine):
    """Minus the squared distance of the query's mean frame from the mean of the shots' mean frames."""

    def __init__(self, dim: int, *, unit_length: bool = False) -> None:
        super().__init__(dim, unit_length=unit_length)

    def score(self, dot: Tensor, query_square: Tensor, prototype_square: Tensor) -> Tensor:
        return prototype_euclidean(dot, query_square, prototype_square)


class UnitFramesEuclidean(PrototypeEuclidean):
    """The same of frames that are each scaled to length 1 before their mean: Embodied Learning's RGB Basenet."""

    def embed(self, frames: Tensor) -> Tensor:
        return super().embed(functional.normalize(frames, dim=-1, eps=SHORTEST))


class MeanFramesCosine(PairHead):
    """The mean over the shots of the cosine of mean frames: a prototype's, not divided by the prototype's length."""

    symmetric = True
    tile_gain = 100.0

    def __init__(self, dim: int, *, epsilon: float = 0.0) -> None:
        super().__init__(dim)
        self.epsilon = epsilon

    def embed(self, frames: Tensor) -> Tensor:
        """(videos, frames, dim) to (videos, dim)."""
        return frames.mean(1)

    def pair_scores(self, query: Tensor, support: Tensor) -> Tensor:
        return cosine(query.unsqueeze(1), support.unsqueeze(1), epsilon=self.epsilon)[:, 0, 0]

    def block_scores(self, query: Tensor, support: Tensor) -> Tensor:
        return cosine(query, support, epsilon=self.epsilon)
