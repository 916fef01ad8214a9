"""`second-order-relation`: relations of second-order statistics of frames, after ARN.

H. Zhang, L. Zhang, X. Qi, H. Li, P. H. S. Torr, P. Koniusz, "Few-shot Action Recognition with Permutation-invariant
Attention", ECCV 2020, arXiv:2001.03905. ARN's own encoder of pixels, its attention in time and space and its
self-supervision need videos; on frames pooled by a frozen backbone none of them exists, so this is an approximation
with its own name. What remains, the second-order matrix and the relation network, follows the authors' code.
"""

from __future__ import annotations

import math
from typing import ClassVar

import torch
from torch import Tensor, nn
from torch.nn import functional

from amefu_cli.errors import UsageError
from amefu_cli.method.heads.base import Head
from amefu_cli.method.heads.training import Training

POOLINGS = 4
PAIRS_AT_ONCE = 2  # whose maps lie in the processor's cache: 1 MiB a pair in the first block


class SecondOrderRelation(Head):
    """A relation network sees the second-order matrices of a class, the mean of its shots', and of a query.

    Frames are projected to relu(W x + b), `channels` wide. The matrix of 8 frames has rank 8 at most, of 64 channels.
    The linear layers start as PyTorch's do: from the public code's start, weights of N(0, 0.01^2) and biases of 1,
    the relation stays constant for hundreds of steps.
    """

    averages_shots = True
    training_defaults: ClassVar[Training] = Training(
        "the authors' settings", optimizer="adam", rate=1e-3, queries=3, accumulation=1,
    )  # fmt: skip

    def __init__(self, dim: int, *, channels: int = 64, width: int = 64, hidden: int = 8, sigma: float = 100.0) -> None:
        super().__init__(dim)
        if channels % 2**POOLINGS:
            raise UsageError(f"the relation network halves its matrices {POOLINGS} times; {channels} channels do not")
        self.sigma = sigma
        self.project = nn.Linear(dim, channels)
        self.blocks = nn.ModuleList(RelationBlock(width, first=i == 0) for i in range(POOLINGS))
        self.hidden = nn.Linear(width * (channels // 2**POOLINGS) ** 2, hidden)
        self.score = nn.Linear(hidden, 1)

    def embed(self, frames: Tensor) -> Tensor:
        """(videos, frames, dim) to second-order matrices (videos, channels, channels)."""
        return self.descriptor(functional.relu(self.project(frames)).mT)

    def descriptor(self, fibres: Tensor) -> Tensor:
        """2 sigmoid(sigma M / trace(M)) - 1 with M = X X^T / n of fibres X (videos, channels, n).

        The paper's equation has the other sign of sigma, and no trace; this is the code. A video whose fibres are all
        0 gives 0.
        """
        moment = fibres @ fibres.mT / fibres.shape[-1]
        trace = moment.diagonal(dim1=-2, dim2=-1).sum(-1).clamp_min(torch.finfo(moment.dtype).tiny)
        return torch.tanh(self.sigma / 2 * moment / trace[..., None, None])  # tanh(x / 2) = 2 sigmoid(x) - 1

    def logits(self, support: Tensor, query: Tensor) -> Tensor:
        """The relation before its sigmoid, which changes no order and would round large ones to the same 1."""
        classes = support.mean(2)  # (episodes, way, channels, channels)
        way, queries = classes.shape[1], query.shape[1]
        pairs = torch.stack(
            (classes[:, None].expand(-1, queries, -1, -1, -1), query[:, :, None].expand(-1, -1, way, -1, -1)), 3
        )
        maps = pairs.flatten(0, 2)  # (pairs, 2, channels, channels), the class first
        # batch norm needs all pairs of a batch in training
        few = (maps,) if self.training else torch.split(maps, PAIRS_AT_ONCE)
        return torch.cat([self.relation(some) for some in few]).view(-1, queries, way)

    def relation(self, maps: Tensor) -> Tensor:
        """Relations before the sigmoid (pairs,) of (pairs, 2, channels, channels)."""
        maps = maps.contiguous(memory_format=torch.channels_last)  # in which the maximum of 2 x 2 is ten times faster
        for block in self.blocks:
            maps = block(maps)
        score: Tensor = self.score(functional.relu(self.hidden(maps.flatten(1))))
        return score.squeeze(-1)

    def loss(self, support: Tensor, query: Tensor, targets: Tensor, classes: Tensor) -> tuple[Tensor, Tensor]:
        """Squared error of the relations against 1 for the query's own class and 0 for the others."""
        logits = self.logits(support, query)
        own = functional.one_hot(targets, logits.shape[-1]).to(logits)
        return functional.mse_loss(logits.sigmoid(), own), logits


class RelationBlock(nn.Module):
    """x + relu(BN(conv 3 x 3 of x)), without the x + in the first; then the maximum of every 2 x 2.

    Running statistics follow PyTorch's momentum of 0.1; the public code's momentum of 1 keeps the last batch only.
    """

    def __init__(self, width: int, *, first: bool) -> None:
        super().__init__()
        self.first = first
        self.conv = nn.Conv2d(2 if first else width, width, 3, padding=1)
        nn.init.normal_(self.conv.weight, 0, math.sqrt(2 / (9 * width)))  # as in the public code
        self.norm = nn.BatchNorm2d(width)

    def forward(self, maps: Tensor) -> Tensor:
        """(pairs, inputs, n, n) to (pairs, width, n / 2, n / 2)."""
        found: Tensor = self.norm(self.conv(maps))
        if self.first:  # the maximum before relu is the same, and relu of a quarter of the numbers
            return functional.relu(functional.max_pool2d(found, 2))
        return functional.max_pool2d(maps + functional.relu(found), 2)
