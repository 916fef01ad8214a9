"""`molo-base`: MoLo without its motion branch, which needs feature maps and pixels, so it is not called MoLo.

X. Wang, S. Zhang, Z. Qing, C. Gao, Y. Zhang, D. Zhao, N. Sang, "MoLo: Motion-augmented Long-short Contrastive Learning
for Few-shot Action Recognition", CVPR 2023, arXiv:2304.00946, §3.2. Numbers follow the authors' code with the
motion branch weighted 0.
"""

from __future__ import annotations

import math
from dataclasses import replace
from typing import ClassVar

import torch
from torch import Tensor, nn
from torch.nn import functional

from amefu_cli.method.heads.attention import FrameAttention, hyrsm_positions
from amefu_cli.method.heads.base import Head, base_class_loss
from amefu_cli.method.heads.bi_mhm import hausdorff_score
from amefu_cli.method.heads.distances import cosine
from amefu_cli.method.heads.hyrsm import HyRSM
from amefu_cli.method.heads.training import Training

ATTENTION_HEADS = 8
CONTRAST_WEIGHT = 0.05  # of either contrast in the loss
EPSILON = 0.01  # added to the product of the norms in the cosine of the public code


class MoLoBase(Head):
    """A learned token and the frames attend to one another; a class is the mean of its shots; bi-MHM of the frames.

    y = t + Wo MSA(LN(t)) + bo; y + W2 gelu(W1 y + b1) + b2; relu. Tokens t are [token; frames] times
    sqrt(dim / divisor) plus `position` times the position table, the token at place 0.
    """

    averages_shots = True
    training_defaults: ClassVar[Training] = replace(
        HyRSM.training_defaults, why="no values of a head alone are known: those of `hyrsm`, by the same authors"
    )

    def __init__(
        self,
        dim: int,
        *,
        hidden: int = 2048,
        divisor: float = 2048.0,
        position: float = 0.02,
        base_classes: int = 0,
        class_weight: float = 0.6,
        dropout: float = 0.2,
    ) -> None:
        """`base_classes`: how many classes the training has, for the auxiliary classifier of frames; 0 for none.

        `class_weight` is that of its loss, 0.1 to 0.8 in the paper, by data set.
        """
        super().__init__(dim)
        self.class_weight = class_weight
        self.scale, self.position = math.sqrt(dim / divisor), position
        self.token = nn.Parameter(torch.randn(dim))
        self.attention = FrameAttention(dim, heads=ATTENTION_HEADS, dropout=dropout)
        self.mlp = nn.Sequential(nn.Linear(dim, hidden), nn.GELU(), nn.Linear(hidden, dim))
        self.contrast_scale = nn.Parameter(torch.ones(()))
        self.classes = nn.Linear(dim, base_classes) if base_classes else None

    def embed(self, frames: Tensor) -> Tensor:
        """(videos, frames, dim) to (videos, 1 + frames, dim), the token first."""
        tokens = torch.cat((self.token.expand(len(frames), 1, -1), frames), 1)
        tokens = tokens * self.scale + self.position * hyrsm_positions(tokens)
        tokens = tokens + self.attention(tokens)
        return functional.relu(tokens + self.mlp(tokens))

    def logits(self, support: Tensor, query: Tensor) -> Tensor:
        units = support.mean(2)  # (episodes, way, 1 + frames, dim)
        frames = query.shape[-2] - 1
        cosines = cosine(query[:, :, 1:].flatten(1, 2), units[:, :, 1:].flatten(1, 2), epsilon=EPSILON)
        cosines = cosines.view(*query.shape[:2], frames, -1, frames)  # (episodes, queries, frames, way, frames)
        return hausdorff_score(cosines.permute(2, 4, 0, 1, 3))

    def contrasts(self, support: Tensor, query: Tensor) -> tuple[Tensor, Tensor]:
        """Support frames against the query's token, and its frames against the support's: (episodes, queries, way).

        Minus the sum over the frames of 1 - cosine.
        """
        units = support.mean(2)
        to_query = 1 - cosine(query[:, :, 0], units[:, :, 1:].flatten(1, 2), epsilon=EPSILON)
        to_support = 1 - cosine(query[:, :, 1:].flatten(1, 2), units[:, :, 0], epsilon=EPSILON)
        frames = query.shape[-2] - 1
        return -to_query.view(*query.shape[:2], -1, frames).sum(-1), -torch.unflatten(to_support, 1, (-1, frames)).sum(
            2
        )

    def loss(self, support: Tensor, query: Tensor, targets: Tensor, classes: Tensor) -> tuple[Tensor, Tensor]:
        """Cross entropy of the logits, of the two contrasts, and of the base class of every frame and token."""
        logits = self.logits(support, query)
        loss = functional.cross_entropy(logits.flatten(0, 1), targets.flatten())
        for contrast in self.contrasts(support, query):
            scaled = contrast * self.contrast_scale
            loss = loss + CONTRAST_WEIGHT * functional.cross_entropy(scaled.flatten(0, 1), targets.flatten())
        if self.classes is None:
            return loss, logits
        of_frames = self.classes(torch.cat((support.flatten(1, 2), query), 1))
        return loss + self.class_weight * base_class_loss(of_frames, support.shape[2], targets, classes), logits
