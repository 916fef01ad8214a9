"""What a head is: from the frames of a few labelled videos to a score of every query for every class.

Two verbs. `embed` runs once per video and knows nothing of episodes; `logits` runs once per episode on what `embed`
gave. A subclass of VectorHead, GramHead or PairHead also says how thousands of episodes may share work; that is
an optimisation and never a second meaning, and a test holds it against `logits`.

Every head is built as `Class(dim, option=...)` from the width of the features and options by keyword. A head whose
learned weights depend on the number of frames takes it as the option `frames`.
"""

from __future__ import annotations

from typing import ClassVar, Literal

import torch
from torch import Tensor, nn
from torch.nn import functional

Route = Literal["vector", "gram", "pair", "episode"]


class Head(nn.Module):
    """The base of all heads, and the `episode` route: only `logits`.

    A state is one tensor per video; a head that needs several packs them into one by concatenation.
    """

    route: ClassVar[Route] = "episode"
    averages_shots: ClassVar[bool] = False  # whether logits see the shots only as the mean of their states
    temperature: float = 1.0  # what the loss multiplies logits by; `logits` themselves are never scaled

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.dim = dim

    def embed(self, frames: Tensor) -> Tensor:
        """Frames (videos, frames, dim) to states (videos, *state); the frames themselves unless overridden."""
        return frames

    def use_gallery(self, frames: Tensor) -> None:
        """Frames (videos, frames, dim) of base videos, before `embed`, for heads whose row has a `gallery`."""
        raise NotImplementedError

    def logits(self, support: Tensor, query: Tensor) -> Tensor:
        """States (episodes, way, shot, *state) and (episodes, queries, *state) to (episodes, queries, way).

        Larger is better. Queries do not know of one another.
        """
        raise NotImplementedError

    def scaled(self, logits: Tensor) -> Tensor:
        """Logits as the softmax of the loss wants them. Overridden where the factor is learned."""
        return logits * self.temperature

    def loss(self, support: Tensor, query: Tensor, targets: Tensor, classes: Tensor) -> tuple[Tensor, Tensor]:
        """What training lowers, a scalar, and the logits (episodes, queries, way) that it was made from.

        States as for `logits`; `targets` (episodes, queries) int64 is each query's way, `classes` (episodes, way)
        int64 each way's number among the classes trained on, for heads that also learn to tell those apart.
        """
        logits = self.logits(support, query)
        return functional.cross_entropy(self.scaled(logits).flatten(0, 1), targets.flatten()), logits


def base_class_loss(logits: Tensor, shot: int, targets: Tensor, classes: Tensor) -> Tensor:
    """Cross entropy of base-class logits (episodes, way * shot + queries, frames, base classes), supports first.

    Every frame has the base class of its video. `targets` and `classes` as for `Head.loss`.
    """
    of_videos = torch.cat((classes.repeat_interleave(shot, 1), classes.gather(1, targets)), 1)
    labels = of_videos.unsqueeze(-1).expand(logits.shape[:-1])
    return functional.cross_entropy(logits.flatten(0, 2), labels.flatten())


class SeededHead(Head):
    """A head that draws random numbers within an episode: from the episode's number, so that chunks do not matter."""

    def logits(self, support: Tensor, query: Tensor, numbers: Tensor | None = None) -> Tensor:
        """As `Head.logits`; `numbers` (episodes,) int64 seed the episodes, 0, 1, 2, ... if left out."""
        raise NotImplementedError


class VectorHead(Head):
    """State: one vector per video. A class is the mean of its supports' vectors, scored by dot products and norms."""

    route: ClassVar[Route] = "vector"

    def sides(self, states: Tensor) -> tuple[Tensor, Tensor]:
        """States (..., *state) to the vectors (..., width) of the videos as queries and as supports."""
        return states, states

    def score(self, dot: Tensor, query_square: Tensor, prototype_square: Tensor) -> Tensor:
        """Logits (..., queries, way) of dot products of that shape and of squared norms.

        Those of the queries are (..., queries, 1), those of the prototypes (..., 1, way).
        """
        raise NotImplementedError

    def logits(self, support: Tensor, query: Tensor) -> Tensor:
        prototypes = self.sides(support)[1].mean(-2)  # (episodes, way, width)
        vectors = self.sides(query)[0]
        squares = prototypes.square().sum(-1).unsqueeze(-2)
        return self.score(vectors @ prototypes.mT, vectors.square().sum(-1, keepdim=True), squares)


class GramHead(Head):
    """State: one vector per video, of which an episode needs only the dot products."""

    route: ClassVar[Route] = "gram"

    def solve(self, gram: Tensor, cross: Tensor, query_square: Tensor, way: int) -> Tensor:
        """Logits (episodes, queries, way) from dot products.

        `gram` (episodes, way * shot, way * shot) of the supports, class by class; `cross` (episodes, queries,
        way * shot) of queries and supports; `query_square` (episodes, queries) of every query with itself.
        """
        raise NotImplementedError

    def logits(self, support: Tensor, query: Tensor) -> Tensor:
        flat = support.flatten(1, 2)
        return self.solve(flat @ flat.mT, query @ flat.mT, query.square().sum(-1), support.shape[1])


class PairHead(Head):
    """A query is compared with one support video at a time; the shots' scores are combined afterwards."""

    route: ClassVar[Route] = "pair"
    symmetric: bool = False  # whether score(a, b) = score(b, a), so that half the pairs are enough
    tile_gain: float = 1.0  # how much longer a pair takes alone than as one of all pairs of a block of videos

    def pair_scores(self, query: Tensor, support: Tensor) -> Tensor:
        """Scores (pairs, *parts) of states (pairs, *state) with one another; most heads have no parts: (pairs,)."""
        raise NotImplementedError

    def block_scores(self, query: Tensor, support: Tensor) -> Tensor:
        """Scores (a, b, *parts) of every state of (a, *state) with every one of (b, *state).

        Override it where all pairs of a block cost less than a list of them, as in one matrix product.
        """
        a, b = len(query), len(support)
        scores = self.pair_scores(query.repeat_interleave(b, 0), support.repeat(a, *[1] * (support.ndim - 1)))
        return scores.reshape(a, b, *scores.shape[1:])

    def mutual_scores(self, first: Tensor, second: Tensor) -> tuple[Tensor, Tensor]:
        """`block_scores` of the first as queries, (a, b, *parts), and of the second as queries, (b, a, *parts).

        Override it where both together cost less than twice one.
        """
        scores = self.block_scores(first, second)
        return scores, scores.transpose(0, 1) if self.symmetric else self.block_scores(second, first)

    def combine(self, scores: Tensor) -> Tensor:
        """Scores (episodes, queries, way, shot, *parts) to logits (episodes, queries, way): the mean over the shots."""
        return scores.mean(3)

    def logits(self, support: Tensor, query: Tensor) -> Tensor:
        episodes = zip(query, support.flatten(1, 2), strict=True)
        scores = torch.stack([self.block_scores(queries, supports) for queries, supports in episodes])
        return self.combine(scores.reshape(*query.shape[:2], *support.shape[1:3], *scores.shape[3:]))
