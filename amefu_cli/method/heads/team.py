"""`team`: Temporal Alignment-Free Video Matching.

S. Lee, W. Moon, H. S. Seong, J.-P. Heo, "Temporal Alignment-Free Video Matching for Few-shot Action Recognition",
CVPR 2025, arXiv:2504.05956, §3. Numbers follow the authors' code.
"""

from __future__ import annotations

import math
from typing import ClassVar

import torch
from torch import Tensor, nn
from torch.nn import functional

from amefu_cli.method.heads.attention import trx_positions
from amefu_cli.method.heads.base import Head
from amefu_cli.method.heads.distances import SMALLEST_PRODUCT
from amefu_cli.method.heads.training import Training

SCALED_FOR = 8  # the scale of the attention is that of 8 heads, though it has one


class TEAM(Head):
    """Learned pattern tokens read a video; what agrees with them (positive) and what does not (negative) is matched.

    o = softmax over frames(LN(tokens) . LN(x + PE) / sqrt(dim / 8)) LN(x + PE), positive = relu(f(tokens + o)),
    negative = relu(f(tokens - o)), f(x) = x + W2 relu(W1 x + b1) + b2. With `adaptation` what a class has in common
    with the other classes of the episode is taken out of its patterns; without it, this is the authors' ablation.
    """

    training_defaults: ClassVar[Training] = Training(
        "the authors' settings; their backbone learns too",
        rate=1e-3,
        momentum=0.9,
        nesterov=True,
        weight_decay=5e-4,
        queries=6,
        accumulation=16,
    )

    def __init__(self, dim: int, *, tokens: int = 60, adaptation: bool = True) -> None:
        """`tokens`: 60 for 1 shot, 80 for 5 shots on K100 and UCF101 in the paper; 60 and 70 on HMDB51."""
        super().__init__(dim)
        self.adaptation = adaptation
        self.tokens = nn.Parameter(torch.randn(tokens, dim))
        self.norm = nn.LayerNorm(dim)
        self.first, self.second = nn.Linear(dim, dim), nn.Linear(dim, dim)  # W1, W2

    def embed(self, frames: Tensor) -> Tensor:
        """(videos, frames, dim) to (videos, frames + 2 * tokens, dim): the frames, positive and negative patterns.

        The frames stay because a class's patterns are read from the mean of its shots' frames.
        """
        read = self.read(frames)
        return torch.cat((frames, self.pattern(self.tokens + read), self.pattern(self.tokens - read)), -2)

    def logits(self, support: Tensor, query: Tensor) -> Tensor:
        positive, negative = self.distances(support, query)
        return -(positive + negative)

    def loss(self, support: Tensor, query: Tensor, targets: Tensor, classes: Tensor) -> tuple[Tensor, Tensor]:
        """Cross entropy of minus the positive distance, and of minus the negative one."""
        positive, negative = self.distances(support, query)
        flat = targets.flatten()
        loss = functional.cross_entropy(-positive.flatten(0, 1), flat)
        return loss + functional.cross_entropy(-negative.flatten(0, 1), flat), -(positive + negative)

    def distances(self, support: Tensor, query: Tensor) -> tuple[Tensor, Tensor]:
        """Positive and negative distance, both (episodes, queries, way).

        Positive: from the class's positive patterns to the query's. Negative: half the sum of the largest distance
        from another class's positive patterns to the query's negative ones, and of its negative to the query's
        positive ones.
        """
        positive, negative = self.class_patterns(support)
        tokens = len(self.tokens)
        of_query = query[:, :, -2 * tokens :]
        positive_query, negative_query = of_query[:, :, :tokens], of_query[:, :, tokens:]
        apart = largest_of_others(token_distance(negative_query, positive))
        apart = apart + largest_of_others(token_distance(positive_query, negative))
        return token_distance(positive_query, positive), apart / 2

    def class_patterns(self, support: Tensor) -> tuple[Tensor, Tensor]:
        """Positive and negative patterns of every class, both (episodes, way, tokens, dim)."""
        tokens = len(self.tokens)
        if support.shape[2] == 1:  # the class is one video, whose patterns `embed` has made
            positive, negative = torch.split(support[:, :, 0, -2 * tokens :], tokens, -2)
            if not self.adaptation:
                return positive, negative
            read = self.read(support[:, :, 0, : -2 * tokens])
        else:
            read = self.read(support[:, :, :, : -2 * tokens].mean(2))
            positive, negative = self.pattern(self.tokens + read), self.pattern(self.tokens - read)
        if not self.adaptation:
            return positive, negative
        return self.adapted(read, positive, 1), self.adapted(read, negative, -1)

    def adapted(self, read: Tensor, pattern: Tensor, sign: int) -> Tensor:
        """The mean over the other classes j of relu(f(tokens + sign * (o_c - w (o_j - o_c)))), w = cos(pattern c, j).

        `read` o and `pattern` are (episodes, way, tokens, dim), w is per token. What enters W1 is
        tokens + sign * ((1 + w) o_c - w o_j), so W1 meets every class once, and only W2 every pair of classes.
        """
        of_tokens, of_read = self.first(self.tokens), functional.linear(read, self.first.weight)
        way, adapted = read.shape[1], []
        for c in range(way):
            others = [j for j in range(way) if j != c]
            own, other = pattern[:, c : c + 1], pattern[:, others]
            norms = (own.norm(dim=-1) * other.norm(dim=-1)).clamp_min(SMALLEST_PRODUCT)
            weight = ((own * other).sum(-1) / norms).unsqueeze(-1)  # (episodes, way - 1, tokens, 1)
            hidden = of_tokens + sign * torch.lerp(of_read[:, c : c + 1], of_read[:, others], -weight)
            entered = self.tokens + sign * torch.lerp(read[:, c : c + 1], read[:, others], -weight)
            adapted.append(functional.relu(entered + self.second(functional.relu(hidden))).mean(1))
        return torch.stack(adapted, 1)

    def read(self, frames: Tensor) -> Tensor:
        """What the tokens take from the frames, o: (..., frames, dim) to (..., tokens, dim)."""
        normal = self.norm(frames + trx_positions(frames))
        scores: Tensor = self.norm(self.tokens) @ normal.mT / math.sqrt(self.dim / SCALED_FOR)
        taken: Tensor = scores.softmax(-1) @ normal
        return taken

    def pattern(self, tokens: Tensor) -> Tensor:
        """relu(f(x)) of (..., tokens, dim)."""
        return functional.relu(tokens + self.second(functional.relu(self.first(tokens))))


def token_distance(query: Tensor, classes: Tensor) -> Tensor:
    """Sum over the tokens of 1 - cosine, (episodes, queries, way).

    Of (episodes, queries, tokens, dim) and (episodes, way, tokens, dim); the product of the norms is at least 1e-8.
    """
    dot = (query.transpose(1, 2) @ classes.permute(0, 2, 3, 1)).permute(0, 2, 3, 1)  # (episodes, queries, way, tokens)
    norms = query.norm(dim=-1).unsqueeze(2) * classes.norm(dim=-1).unsqueeze(1)
    cosines: Tensor = dot / norms.clamp_min(SMALLEST_PRODUCT)
    return (1 - cosines).sum(-1)


def largest_of_others(distance: Tensor) -> Tensor:
    """For each class the largest of the other classes' distances, (episodes, queries, way) to the same shape."""
    own = torch.eye(distance.shape[-1], dtype=torch.bool, device=distance.device)
    return distance.unsqueeze(-2).masked_fill(own, -math.inf).amax(-1)
