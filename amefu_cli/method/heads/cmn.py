"""`cmn-embedding`: the multi-saliency embedding of Compound Memory Networks, without their memory.

L. Zhu, Y. Yang, "Compound Memory Networks for Few-shot Video Classification", ECCV 2018, §3.2. No code of the authors
exists; numbers follow the re-implementation in MCG-NJU/FSL-Video (arXiv:2110.12358), which has the embedding only. So
this is a part of CMN and is never called CMN.
"""

from __future__ import annotations

import math
from typing import ClassVar

import torch
from torch import Tensor, nn
from torch.nn import functional

from amefu_cli.method.heads.base import PairHead, VectorHead
from amefu_cli.method.heads.training import Training

SPREAD = 0.02  # of the hidden vectors at the start

TRAINING = Training(
    "Adam as in FSL-Video; its rate of 1e-5 is for a backbone that learns too", optimizer="adam", rate=1e-4
)


class MultiSaliency(nn.Module):
    """Frames p_i seen from m hidden vectors h_j: e = W [z_1; ...; z_m] + b.

    z_j = sum_i a_ij (p_i - h_j), scaled to length 1, with a_ij = softmax over j of p_i . h_j / sqrt(dim).

    W starts as m identities side by side, b as 0, as in the public code. There the h_j all start at 1e-8 too; then
    they get the same gradients for ever and the embedding learns one saliency m times. Here they start from
    N(0, 0.02^2), which is a deviation.
    """

    def __init__(self, dim: int, saliencies: int) -> None:
        super().__init__()
        self.hidden = nn.Parameter(SPREAD * torch.randn(saliencies, dim))
        self.linear = nn.Linear(saliencies * dim, dim)
        with torch.no_grad():
            self.linear.weight.copy_(torch.eye(dim).repeat(1, saliencies))
            self.linear.bias.zero_()

    def forward(self, frames: Tensor) -> Tensor:
        """(videos, frames, dim) to (videos, dim)."""
        share = (frames @ self.hidden.mT / math.sqrt(frames.shape[-1])).softmax(-1)  # (videos, frames, saliencies)
        seen = share.mT @ frames - share.sum(-2).unsqueeze(-1) * self.hidden  # (videos, saliencies, dim)
        embedding: Tensor = self.linear(functional.normalize(seen, dim=-1).flatten(-2))
        return embedding


class CMNEmbedding(VectorHead):
    """Minus the squared Euclidean distance to the mean of a class's embeddings."""

    training_defaults: ClassVar[Training] = TRAINING

    def __init__(self, dim: int, *, saliencies: int = 8) -> None:
        super().__init__(dim)
        self.embedding = MultiSaliency(dim, saliencies)

    def embed(self, frames: Tensor) -> Tensor:
        """(videos, frames, dim) to (videos, dim)."""
        embedding: Tensor = self.embedding(frames)
        return embedding

    def score(self, dot: Tensor, query_square: Tensor, prototype_square: Tensor) -> Tensor:
        return 2 * dot - query_square - prototype_square


class CMNNearest(PairHead):
    """The largest cosine of the query's embedding and one of a class's.

    What reading CMN's memory, as it is described, comes to on an episode that holds only its own supports.
    """

    training_defaults: ClassVar[Training] = TRAINING
    symmetric = True
    temperature = 10.0  # cosines alone leave the softmax nearly flat; this project's choice

    def __init__(self, dim: int, *, saliencies: int = 8) -> None:
        super().__init__(dim)
        self.embedding = MultiSaliency(dim, saliencies)

    def embed(self, frames: Tensor) -> Tensor:
        """(videos, frames, dim) to embeddings of length 1 (videos, dim)."""
        return functional.normalize(self.embedding(frames), dim=-1)

    def pair_scores(self, query: Tensor, support: Tensor) -> Tensor:
        return (query * support).sum(-1)

    def block_scores(self, query: Tensor, support: Tensor) -> Tensor:
        return query @ support.mT

    def combine(self, scores: Tensor) -> Tensor:
        """The best of the shots."""
        return scores.amax(3)
