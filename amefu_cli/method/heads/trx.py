"""`trx`: Temporal-Relational CrossTransformers.

T. Perrett, A. Masullo, T. Burghardt, M. Mirmehdi, D. Damen, "Temporal-Relational CrossTransformers for Few-Shot
Action Recognition", CVPR 2021, arXiv:2101.06184, §3. Numbers follow the authors' code where it differs from the
paper: the distance is squared, and the cardinalities are averaged.
"""

from __future__ import annotations

import math
from itertools import combinations, count
from typing import ClassVar

import torch
from torch import Tensor, nn
from torch.nn import functional

from amefu_cli.errors import UsageError
from amefu_cli.method.heads.attention import trx_positions
from amefu_cli.method.heads.base import Head
from amefu_cli.method.heads.training import Training


class TRX(Head):
    """A query's tuples of frames against, for each class, the mix of its supports' tuples that resembles them.

    For each cardinality n: keys k = LN(Wk t + bk) and values v = Wv t + bv of every increasing n-tuple t of frames;
    a = softmax over all tuples of a class's supports of k_p . k_m / sqrt(width); the logit is minus the mean over
    the query's tuples p of ||v_p - sum_m a_m v_m||^2. `logits` is the mean over n.
    """

    training_defaults: ClassVar[Training] = Training("the authors' code; its backbone learns too")

    def __init__(
        self, dim: int, *, width: int = 1152, cardinalities: tuple[int, ...] = (2, 3), dropout: float = 0.1
    ) -> None:
        super().__init__(dim)
        self.width = width
        self.dropout = nn.Dropout(dropout)
        self.tuples = nn.ModuleDict({str(n): TupleLayers(dim, n, width) for n in cardinalities})

    def embed(self, frames: Tensor) -> Tensor:
        """(videos, frames, dim) to keys and values side by side, (videos, tuples, 2 * width).

        Tuples stand cardinality by cardinality, in the order of itertools.combinations: 28 + 56 of 8 frames.
        Raises UsageError where a video has fewer frames than a tuple.
        """
        if frames.shape[-2] < max(map(int, self.tuples)):
            most = max(map(int, self.tuples))
            raise UsageError(f"trx compares tuples of {most} frames, and a video has {frames.shape[-2]}")
        placed = self.dropout(frames + trx_positions(frames))
        return torch.cat([layers(placed) for layers in self.tuples.values()], -2)

    def logits(self, support: Tensor, query: Tensor) -> Tensor:
        counts = self._counts(query.shape[-2])
        parts = zip(support.split(counts, -2), query.split(counts, -2), strict=True)
        return -torch.stack([self._distance(of_support, of_query) for of_support, of_query in parts]).mean(0)

    def _counts(self, tuples: int) -> list[int]:
        """How many of a video's tuples are of each cardinality."""
        for frames in count(1):
            counts = [math.comb(frames, int(n)) for n in self.tuples]
            if sum(counts) >= tuples:
                break
        return counts

    def _distance(self, support: Tensor, query: Tensor) -> Tensor:
        """(episodes, way, shot, tuples, 2 * width), (episodes, queries, ...) to distances (episodes, queries, way).

        ||v_p - sum_m a_m v_m||^2 = v_p.v_p - 2 sum_m a_m v_p.v_m + sum_ml a_m a_l v_m.v_l: three products of
        matrices, where the mixed values would be (tuples, width) numbers for every query and class. As the weights
        a sum to 1, any vector may be taken off all values; their mean is, as it would swamp the differences.
        """
        episodes, way, queries, tuples = *support.shape[:2], *query.shape[1:3]
        of_support, of_query = support.flatten(1, 3), query.flatten(1, 2)  # (episodes, all tuples, 2 * width)
        scores = of_query[..., : self.width] @ of_support[..., : self.width].mT / math.sqrt(self.width)
        weights = scores.unflatten(-1, (way, -1)).softmax(-1)  # (episodes, queries * tuples, way, class tuples)
        centre = of_support[..., self.width :].mean(1, keepdim=True)
        value, wanted = of_support[..., self.width :] - centre, of_query[..., self.width :] - centre
        cross = ((wanted @ value.mT).unflatten(-1, (way, -1)) * weights).sum(-1)
        by_class = value.unflatten(1, (way, -1))
        weights = weights.transpose(1, 2)  # (episodes, way, queries * tuples, class tuples)
        mixed = ((weights @ (by_class @ by_class.mT)) * weights).sum(-1).transpose(1, 2)
        square = wanted.square().sum(-1, keepdim=True) - 2 * cross + mixed
        return square.reshape(episodes, queries, tuples, way).mean(2)


class TupleLayers(nn.Module):
    """Keys and values of all tuples of n frames."""

    def __init__(self, dim: int, n: int, width: int) -> None:
        super().__init__()
        self.n = n
        self.key = nn.Linear(n * dim, width)
        self.value = nn.Linear(n * dim, width)
        self.norm = nn.LayerNorm(width)

    def forward(self, frames: Tensor) -> Tensor:
        """(videos, frames, dim) to (videos, tuples, 2 * width)."""
        places = list(zip(*combinations(range(frames.shape[-2]), self.n), strict=True))
        key, value = (self._of_tuples(layer, frames, places) for layer in (self.key, self.value))
        return torch.cat((self.norm(key), value), -1)

    def _of_tuples(self, layer: nn.Linear, frames: Tensor, places: list[tuple[int, ...]]) -> Tensor:
        """`layer` of the concatenated frames of every tuple, as a sum over the places in a tuple.

        A frame meets a place's block of the weights once, not once for every tuple that it is in.
        """
        blocks = layer.weight.split(frames.shape[-1], 1)
        parts = (functional.linear(frames, block)[:, at] for block, at in zip(blocks, places, strict=True))
        return sum(parts, start=layer.bias)
