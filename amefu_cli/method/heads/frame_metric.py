"""Heads that see two videos only through the cosines of their frames, or of tuples of their frames.

The projection of tuples is that of Bertrand, Kalantidis, Tolias, "Test-time matching for few-shot action
recognition", BMVC 2022, arXiv:2303.16084.
"""

from __future__ import annotations

from itertools import combinations

import torch
from torch import Tensor, nn
from torch.nn import functional

from amefu_cli.method.heads.base import PairHead
from amefu_cli.method.heads.distances import SHORTEST

TEMPERATURE = 100.0  # fixed factor of the logits of projected frames, beside the learned one
FIRST_WEIGHT = 0.1  # of the learned factor


class TupleProjection(nn.Module):
    """LN(W t + b) of every ordered subset t of `tuple_n` frames, concatenated.

    (videos, frames, dim) to (videos, subsets, width).
    """

    def __init__(self, dim: int, tuple_n: int, width: int) -> None:
        super().__init__()
        self.tuple_n = tuple_n
        self.projection = nn.Linear(tuple_n * dim, width)
        self.norm = nn.LayerNorm(width)

    def forward(self, frames: Tensor) -> Tensor:
        """Each place of the tuple has its block of W: T frames are projected tuple_n times, not C(T, n) tuples once."""
        places = tuple_places(frames.shape[-2], self.tuple_n, frames.device)
        blocks = self.projection.weight.chunk(self.tuple_n, 1)
        total: Tensor = self.projection.bias
        for block, place in zip(blocks, places.unbind(1), strict=True):
            total = total + (frames @ block.mT)[..., place, :]
        projected: Tensor = self.norm(total)
        return projected


def tuple_places(frames: int, tuple_n: int, device: torch.device) -> Tensor:
    """The frames of every ordered subset (subsets, tuple_n) int64, as `itertools.combinations` orders them.

    Raises ValueError if there are fewer frames than a tuple needs.
    """
    if frames < tuple_n:
        raise ValueError(f"tuples of {tuple_n} frames were asked of {frames} frames")
    return torch.tensor(list(combinations(range(frames), tuple_n)), device=device)


class FrameMetric(PairHead):
    """A score of one pair of videos from the cosines of all their frames.

    `epsilon` as for `distances.cosine`. Of `tuple_n` > 1 frames, tuples stand in the place of frames. A `width` puts a
    learned projection in front. State: (frames, width) frames of length 1 if epsilon is 0, else (frames, width + 1)
    with each frame's own length after it.
    """

    symmetric = True
    tile_gain = 6.0  # measured at 8 frames of 2048 numbers: a lone pair's frames are gathered for it alone

    def __init__(self, dim: int, *, epsilon: float = 0.0, tuple_n: int = 1, width: int = 0) -> None:
        super().__init__(dim)
        self.epsilon, self.tuple_n = epsilon, tuple_n
        self.tuples = TupleProjection(dim, tuple_n, width) if width else None
        self.weight = nn.Parameter(torch.tensor(FIRST_WEIGHT)) if width else None

    def scaled(self, logits: Tensor) -> Tensor:
        return super().scaled(logits) if self.weight is None else logits * (TEMPERATURE * self.weight)

    def embed(self, frames: Tensor) -> Tensor:
        """(videos, frames, dim) to unit frames or tuples, as the class says."""
        if self.tuples is not None:
            frames = self.tuples(frames)
        elif self.tuple_n > 1:
            frames = frames[:, tuple_places(frames.shape[1], self.tuple_n, frames.device)].flatten(2)
        units = functional.normalize(frames, dim=-1, eps=SHORTEST)
        return units if self.epsilon == 0 else torch.cat((units, frames.norm(dim=-1, keepdim=True)), -1)

    def reduce(self, cosines: Tensor) -> Tensor:
        """Scores (*pairs, *parts) of cosines (query frames, support frames, *pairs).

        Pairs are innermost in memory: what walks through frames does one operation on many pairs at a time.
        """
        raise NotImplementedError

    def pair_scores(self, query: Tensor, support: Tensor) -> Tensor:
        return self.reduce(self._cosines(query, support).permute(1, 2, 0).contiguous())

    def block_scores(self, query: Tensor, support: Tensor) -> Tensor:
        return self.reduce(self._block_cosines(query, support))

    def mutual_scores(self, first: Tensor, second: Tensor) -> tuple[Tensor, Tensor]:
        if self.symmetric:
            return super().mutual_scores(first, second)
        cosines = self._block_cosines(first, second)
        return self.reduce(cosines), self.reduce(cosines.transpose(0, 1).transpose(2, 3))

    def _block_cosines(self, query: Tensor, support: Tensor) -> Tensor:
        """(query frames, support frames, a, b) of (a, frames, width) and (b, frames, width), b innermost."""
        a, b = len(query), len(support)
        first, second = (states.transpose(0, 1).flatten(0, 1) for states in (query, support))  # (frames * a, width)
        cosines = self._cosines(first, second).view(-1, a, support.shape[1], b)
        return cosines.transpose(1, 2)

    def _cosines(self, query: Tensor, support: Tensor) -> Tensor:
        if self.epsilon == 0:
            return query @ support.mT
        lengths = query[..., -1:] * support[..., -1:].mT
        return (query[..., :-1] @ support[..., :-1].mT) * (lengths / (lengths + self.epsilon))
