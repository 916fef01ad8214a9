"""Nearest-prototype classification of few-shot episodes: learning by one (paper §3.3-3.4), and judging by many.

A class's prototype is the mean of its support vectors. A classifier needs only dot products and squared
norms, and for a prototype both are means of entries of the Gram matrix of the video vectors. So thousands of
episodes are classified by looking numbers up in one matrix product.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import cast

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional

from amefu_cli.method.episodes import Episodes, hits
from amefu_cli.method.heads import CLASSIFIERS, LOSSES
from amefu_cli.method.heads.fusion import video_vector

GRAM_VIDEOS = 8192  # a Gram matrix of at most 256 MiB; above it episodes are classified from the vectors
CHUNK_ENTRIES = 1 << 21  # numbers held at once while classifying


def cosine(dot: Tensor, query_square: Tensor, prototype_square: Tensor) -> Tensor:
    """Cosine similarity in [-1, 1], the paper's classifier; 0 where a vector is 0."""
    return dot / (query_square * prototype_square).clamp_min(1e-16).sqrt()


def euclidean(dot: Tensor, query_square: Tensor, prototype_square: Tensor) -> Tensor:
    """Minus the squared Euclidean distance, as in Prototypical Networks (arXiv:1703.05175) eq. 2."""
    return 2 * dot - query_square - prototype_square


def episode_logits(support: Tensor, query: Tensor, classifier: str) -> Tensor:
    """Logits (..., queries, way) of support (..., way, shot, dim) and query (..., queries, dim) vectors."""
    prototypes = support.mean(-2)  # (..., way, dim)
    dot, squares = query @ prototypes.transpose(-1, -2), prototypes.square().sum(-1).unsqueeze(-2)
    return cast(Tensor, CLASSIFIERS[classifier].load()(dot, query.square().sum(-1, keepdim=True), squares))


def cross_entropy(logits: Tensor, targets: Tensor) -> Tensor:
    """The loss of the paper: softmax once."""
    return functional.cross_entropy(logits, targets)


def double_softmax(logits: Tensor, targets: Tensor) -> Tensor:
    """Softmax, then a cross entropy that applies softmax again: the loss of the paper's public code."""
    return functional.cross_entropy(logits.softmax(-1), targets)


class Temperature(nn.Module):
    """Multiplies logits by a positive scale, which stays as given or is learned through its logarithm."""

    def __init__(self, scale: float, *, learned: bool) -> None:
        super().__init__()
        self.log_scale = nn.Parameter(torch.tensor(scale).log(), requires_grad=learned)

    def forward(self, logits: Tensor) -> Tensor:
        return logits * self.log_scale.exp()


@dataclass(frozen=True)
class EpisodeClips:
    """The clips of one training episode, its videos as `Episodes.videos` orders them: supports, then queries."""

    rgb: Tensor  # (videos, frames, dim)
    depth: Tensor  # (1 + num_aug, videos, frames, dim): the matched clips, then the asynchronous ones
    way: int
    targets: Tensor  # int64 (queries,): the way of each query

    def to(self, device: torch.device) -> EpisodeClips:
        """On a device, as float32."""
        rgb, depth = (part.to(device).float() for part in (self.rgb, self.depth))
        return EpisodeClips(rgb, depth, self.way, self.targets.to(device))


def meta_train_episode(
    fusion: nn.Module, optimizer: torch.optim.Optimizer, episode: EpisodeClips, *,
    classifier: str, temperature: nn.Module, loss: str,
) -> Tensor:  # fmt: skip
    """Learn from one episode: an optimizer step per depth clip, in order. Returns the losses (1 + num_aug,)."""
    supports = len(episode.rgb) - len(episode.targets)
    loss_of, losses = LOSSES[loss].load(), []
    for depth in episode.depth:
        vectors = video_vector(fusion, episode.rgb, depth)  # (videos, dim)
        support = torch.unflatten(vectors[:supports], 0, (episode.way, -1))  # (way, shot, dim)
        logits = episode_logits(support, vectors[supports:], classifier)
        step_loss = loss_of(temperature(logits), episode.targets)
        optimizer.zero_grad()
        step_loss.backward()
        optimizer.step()
        losses.append(step_loss.detach())
    return torch.stack(losses)


def classify_episodes(vectors: NDArray[np.float32], episodes: Episodes, *, classifier: str) -> NDArray[np.bool_]:
    """Whether each query falls to its own class: (episodes, asked, queries) bool.

    `vectors` (videos, dim) float32, one per label that the episodes were drawn from. Only the videos that the
    episodes use are touched. A query as near to two prototypes falls to the earlier way of its episode.
    """
    used = np.zeros(len(vectors), dtype=np.bool_)
    used[episodes.support] = used[episodes.query] = True
    vectors = vectors[used]
    rank = np.cumsum(used) - 1
    support, query = rank[episodes.support], rank[episodes.query]
    (way, shot), (asked, queries) = support.shape[1:], query.shape[1:]
    tensors = torch.from_numpy(vectors)
    gram = vectors @ vectors.T if len(vectors) <= GRAM_VIDEOS else None
    queried_at_once = asked * queries
    per_episode = (
        (way * shot + queried_at_once) * vectors.shape[1] if gram is None else way * (queried_at_once + shot * shot)
    )
    outcomes = np.empty(query.shape, dtype=np.bool_)
    size = max(1, CHUNK_ENTRIES // per_episode)
    for chunk in (slice(begin, begin + size) for begin in range(0, len(query), size)):
        supports, queried = support[chunk], query[chunk].reshape(-1, queried_at_once)
        if gram is None:
            of_support, of_query = (tensors[torch.from_numpy(videos)] for videos in (supports, queried))
            logits = episode_logits(of_support, of_query, classifier)
        else:
            logits = _gram_logits(gram, supports, queried, classifier)
        outcomes[chunk] = hits(logits.numpy(), queries, first=chunk.start)
    return outcomes


def _gram_logits(
    gram: NDArray[np.float32], support: NDArray[np.int64], query: NDArray[np.int64], classifier: str
) -> Tensor:
    """Logits (episodes, queries, way) of support (episodes, way, shot) and query (episodes, queries) indices."""
    shots = range(support.shape[2])
    rows = query[:, :, None] * len(gram)  # a flat take is twice as fast as gram[rows, columns]
    dot = sum(gram.take(rows + support[:, None, :, k]) for k in shots)
    pairs = gram.take(support[..., :, None] * len(gram) + support[..., None, :])
    logits = CLASSIFIERS[classifier].load()(
        torch.from_numpy(dot / np.float32(len(shots))),
        torch.from_numpy(gram.diagonal().take(query)).unsqueeze(-1),
        torch.from_numpy(pairs.mean((-2, -1))).unsqueeze(-2),
    )
    return cast(Tensor, logits)
