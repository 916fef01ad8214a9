"""Nearest neighbours among an episode's supports, as in AMeFu-Net's public code (arXiv:2010.09982)."""

from __future__ import annotations

from torch import Tensor
from torch.nn import functional

from amefu_cli.method.heads.base import GramHead
from amefu_cli.method.heads.distances import SHORTEST


class NearestNeighbours(GramHead):
    """How many of the query's nearest supports are of each class; as many vote as a class has shots.

    Distances are Euclidean between mean frames at length 1. The smallest class wins a tied vote, which is the rule at
    two shots.
    """

    def embed(self, frames: Tensor) -> Tensor:
        """(videos, frames, dim) to (videos, dim)."""
        return functional.normalize(frames.mean(1), dim=-1, eps=SHORTEST)

    def solve(self, gram: Tensor, cross: Tensor, query_square: Tensor, way: int) -> Tensor:
        shot = gram.shape[-1] // way
        squares = gram.diagonal(dim1=-2, dim2=-1).unsqueeze(1) - 2 * cross  # the query's own square changes no order
        nearest = squares.topk(shot, largest=False).indices // shot  # classes (episodes, queries, shot)
        return functional.one_hot(nearest, way).sum(-2).to(cross.dtype)
