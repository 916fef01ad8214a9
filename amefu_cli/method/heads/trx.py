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
        return -torch.stack([self._mean_distance(*states, counts) for states in zip(support, query, strict=True)])

    def _counts(self, tuples: int) -> list[int]:
        """How many of a video's tuples are of each cardinality."""
        for frames in count(1):
            counts = [math.comb(frames, int(n)) for n in self.tuples]
            if sum(counts) >= tuples:
                break
        return counts

    def _mean_distance(self, support: Tensor, query: Tensor, counts: list[int]) -> Tensor:
        """The mean over the cardinalities of one episode's distances (queries, way)."""
        parts = zip(torch.split(support, counts, -2), torch.split(query, counts, -2), strict=True)
        return torch.stack([self._distance(*states) for states in parts]).mean(0)

    def _distance(self, support: Tensor, query: Tensor) -> Tensor:
        """(way, shot, tuples, 2 * width) and (queries, tuples, 2 * width) of one episode to (queries, way).

        Class by class: a mix of values for every query tuple and class is `way` times what the queries are, and one
        class's still lies in the processor's cache when its length is taken.
        """
        (way, shot), (queries, tuples), width = support.shape[:2], query.shape[:2], self.width
        of_class = support.reshape(way, shot * tuples, 2 * width)
        of_query = query.reshape(queries * tuples, 2 * width)
        scores = of_query[:, :width] @ of_class[..., :width].flatten(0, 1).T / math.sqrt(width)
        weights = scores.view(-1, way, shot * tuples).softmax(-1)  # (queries * tuples, way, a class's tuples)
        distances = []
        for c in range(way):
            left = torch.addmm(of_query[:, width:], weights[:, c], of_class[c, :, width:], beta=-1)
            distances.append(torch.linalg.vector_norm(left, dim=-1).square())
        return torch.stack(distances, -1).view(queries, tuples, way).mean(1)


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
        blocks = torch.split(layer.weight, frames.shape[-1], 1)
        parts = (functional.linear(frames, block)[:, at] for block, at in zip(blocks, places, strict=True))
        return sum(parts, start=layer.bias)
