"""`hyrsm` and `hyrsm++`: hybrid relations within and between the videos of an episode, then bi-MHM.

X. Wang, S. Zhang, Z. Qing, M. Tang, Z. Zuo, C. Gao, R. Jin, N. Sang, "Hybrid Relation Guided Set Matching for Few-shot
Action Recognition", CVPR 2022, arXiv:2204.13423, §3; X. Wang et al., "HyRSM++: Hybrid Relation Guided Temporal Set
Matching for Few-shot Action Recognition", arXiv:2301.03330. Numbers follow the authors' code.
"""

from __future__ import annotations

import math
from typing import ClassVar

import torch
from torch import Tensor, nn
from torch.nn import functional

from amefu_cli.method.heads.attention import FrameAttention, hyrsm_positions
from amefu_cli.method.heads.base import Head, base_class_loss
from amefu_cli.method.heads.bi_mhm import hausdorff_score
from amefu_cli.method.heads.training import Training

ATTENTION_HEADS = 8
TOKENS = 4  # rows of a state beside its frames: the query, key, value and residual of the video's token
TOO_NEAR = 10.0  # factor of HyRSM++ for frames far apart that are too alike


class HyRSM(Head):
    """Frames attend to one another, then the videos of a query and its supports do; frames are matched by bi-MHM.

    A unit is the frame-wise mean of a class's shots: the public head for 2 to 5 shots. Frames are scaled by
    sqrt(dim / divisor), and `position` times the position table is added.
    """

    averages_shots = True
    training_defaults: ClassVar[Training] = Training(
        "the authors' settings but for the rate, which is for a head alone; theirs are 2.2e-5 to 1e-4 with a backbone",
        optimizer="adam",
        rate=1e-4,
        weight_decay=5e-4,
        queries=7,
        accumulation=4,
    )

    def __init__(
        self,
        dim: int,
        *,
        divisor: float = 10.0,
        position: float = 1.0,
        base_classes: int = 0,
        class_weight: float = 0.6,
        dropout: float = 0.1,
    ) -> None:
        """`base_classes`: how many classes the training has, for the auxiliary classifier of frames; 0 for none.

        `class_weight` is that of its loss: 0.6 as on UCF101 and SSv2; 0.4 on K100, 0.15 on HMDB51 in the paper.
        """
        super().__init__(dim)
        self.class_weight = class_weight
        self.scale, self.position = math.sqrt(dim / divisor), position
        self.intra = FrameAttention(dim, heads=ATTENTION_HEADS, dropout=dropout)
        self.inter = VideoAttention(dim, dropout=dropout)
        self.merge = nn.Linear(2 * dim, dim)
        self.classes = nn.Linear(dim, base_classes) if base_classes else None

    def embed(self, frames: Tensor) -> Tensor:
        """(videos, frames, dim) to (videos, 2 * frames + 4, dim): all that does not need the other videos.

        The frames after attention; their part of the merged frames; the projections of the video's token, which
        is their mean, and the token. All but the attention itself is linear, so the mean over shots of states is
        the state of the mean.
        """
        placed = frames * self.scale + self.position * hyrsm_positions(frames)
        related = functional.relu(placed + self.intra(placed))
        merged = functional.linear(related, self.merge.weight[:, : self.dim])
        return torch.cat((related, merged, self.inter.project(related.mean(-2))), -2)

    def logits(self, support: Tensor, query: Tensor) -> Tensor:
        return self._matched(*self.merged(support, query), support.shape[1])

    def loss(self, support: Tensor, query: Tensor, targets: Tensor, classes: Tensor) -> tuple[Tensor, Tensor]:
        """Cross entropy of the logits, and `class_weight` times that of every frame's base class."""
        units, wanted = self.merged(support, query)
        logits = self._matched(units, wanted, support.shape[1])
        loss = functional.cross_entropy(logits.flatten(0, 1), targets.flatten()) + self.temporal_loss(units, wanted)
        if self.classes is None:
            return loss, logits
        of_frames = base_class_loss(self.class_logits(support, query), support.shape[2], targets, classes)
        return loss + self.class_weight * of_frames, logits

    def temporal_loss(self, units: Tensor, query: Tensor) -> Tensor:
        """What HyRSM++ adds to the loss, made from what `merged` gives; nothing here."""
        return units.new_zeros(())

    def class_logits(self, support: Tensor, query: Tensor) -> Tensor:
        """Base-class logits of every frame (episodes, way * shot + queries, frames, base classes), supports first."""
        if self.classes is None:
            raise ValueError("this head was made without base classes")
        states = torch.cat((support.flatten(1, 2), query), 1)
        logits: Tensor = self.classes(states[..., : (states.shape[-2] - TOKENS) // 2, :])
        return logits

    def units(self, support: Tensor) -> Tensor:
        """States (episodes, way, shot, *state) to those of what a query is matched with, (episodes, units, *state)."""
        return support.mean(2)

    def merged(self, support: Tensor, query: Tensor) -> tuple[Tensor, Tensor]:
        """Merged frames of each query's units (episodes, queries, units, frames, dim), and its own (.., frames, dim).

        merge [frame ; its video's token after attention among the videos of a query and all units].
        """
        units = self.units(support)
        frames = (query.shape[-2] - TOKENS) // 2
        tokens = self.inter(units[..., 2 * frames :, :], query[..., 2 * frames :, :])
        of_token = functional.linear(tokens, self.merge.weight[:, self.dim :], self.merge.bias).unsqueeze(-2)
        of_units = units[:, None, :, frames : 2 * frames] + of_token[:, :, :-1]
        return of_units, query[:, :, frames : 2 * frames] + of_token[:, :, -1]

    def _matched(self, units: Tensor, query: Tensor, way: int) -> Tensor:
        """Minus the bi-MHM distance (episodes, queries, way) of merged frames."""
        frames = query.shape[-2]
        every = functional.normalize(units, dim=-1).flatten(2, 3)  # (episodes, queries, units * frames, dim)
        cosines: Tensor = functional.normalize(query, dim=-1) @ every.mT  # (episodes, queries, frames, units * frames)
        scores = hausdorff_score(torch.unflatten(cosines, -1, (-1, frames)).permute(2, 4, 0, 1, 3))
        return torch.unflatten(scores, -1, (way, -1)).mean(-1)


class HyRSMPerShot(HyRSM):
    """Every support video is a unit, and a class's distance is the mean over its shots: the public head for 1 shot.

    With one shot this is `HyRSM`; with more, more tokens attend to one another.
    """

    averages_shots = False

    def units(self, support: Tensor) -> Tensor:
        return support.flatten(1, 2)


class HyRSMPlusPlus(HyRSM):
    """HyRSM whose training also asks the frames of a video to differ by how far apart they are; the same at test.

    With Delta = |a - b| and D = 1 - cos of frames a, b of one video: D / (Delta^2 + 1) where Delta <= window, else
    10 * relu(m - D), m = 1 - exp(-(Delta - window)^2 / balance); the mean over all pairs and videos, of the
    units and of the queries.
    """

    def __init__(
        self,
        dim: int,
        *,
        window: int = 3,
        balance: float = 23.0,
        temporal_weight: float = 0.1,
        divisor: float = 10.0,
        position: float = 1.0,
        base_classes: int = 0,
    ) -> None:
        """In the paper, by data set: `window` 1 to 3, `balance` 23 to 51, `temporal_weight` 0.1 to 0.3."""
        super().__init__(dim, divisor=divisor, position=position, base_classes=base_classes)
        self.window, self.balance, self.temporal_weight = window, balance, temporal_weight

    def temporal_loss(self, units: Tensor, query: Tensor) -> Tensor:
        return self.temporal_weight * (self.smoothness(units) + self.smoothness(query))

    def smoothness(self, frames: Tensor) -> Tensor:
        """The mean over all pairs of frames of videos (..., frames, dim): a scalar."""
        unit = functional.normalize(frames, dim=-1)
        distance = 1 - unit @ unit.mT
        place = torch.arange(frames.shape[-2], device=frames.device)
        gap = (place[:, None] - place).abs().to(frames)
        margin = 1 - (-(gap - self.window).square() / self.balance).exp()
        far = TOO_NEAR * (margin - distance).relu()
        return torch.where(gap <= self.window, distance / (gap.square() + 1), far).mean()


class VideoAttention(nn.Module):
    """relu(LN(Wfc MHA(tokens) + bfc + tokens)) among the tokens of a query and its units."""

    def __init__(self, dim: int, *, dropout: float) -> None:
        super().__init__()
        self.query = nn.Linear(dim, dim, bias=False)
        self.key = nn.Linear(dim, dim, bias=False)
        self.value = nn.Linear(dim, dim, bias=False)
        self.out = nn.Linear(dim, dim)
        self.norm = nn.LayerNorm(dim)
        self.dropout = nn.Dropout(dropout)

    def project(self, token: Tensor) -> Tensor:
        """A video's token (videos, dim) to its query, key and value, and itself: (videos, 4, dim)."""
        return torch.stack((self.query(token), self.key(token), self.value(token), token), -2)

    def forward(self, units: Tensor, query: Tensor) -> Tensor:
        """Projections (episodes, units, 4, dim), (episodes, queries, 4, dim) to tokens (.., queries, units + 1, dim).

        Every query has its own episode: its token attends to the units and to itself, and theirs to it.
        """
        shared = units.unsqueeze(1).expand(-1, query.shape[1], -1, -1, -1)
        every = torch.cat((shared, query.unsqueeze(2)), 2)  # (episodes, queries, units + 1, 4, dim)
        parts = torch.unflatten(every[..., :3, :], -1, (ATTENTION_HEADS, -1)).transpose(2, 4)
        of_query, key, value = parts.unbind(3)  # each (episodes, queries, heads, units + 1, dim / heads)
        mixed = functional.scaled_dot_product_attention(of_query, key, value).transpose(2, 3).flatten(-2)
        tokens: Tensor = functional.relu(self.norm(self.dropout(self.out(mixed)) + every[..., 3, :]))
        return tokens
