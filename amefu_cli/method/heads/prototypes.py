"""Nearest-prototype classification of few-shot episodes (paper §3.4) and the accuracy of many of them.

A class's prototype is the mean of its support vectors. A classifier needs only dot products and squared
norms, and for a prototype both are means of entries of the Gram matrix of the video vectors. So thousands of
episodes are classified by looking numbers up in one matrix product.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import cast

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from amefu_cli.errors import UsageError
from amefu_cli.method.episodes import Episodes
from amefu_cli.method.heads import CLASSIFIERS

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


def classify_episodes(vectors: NDArray[np.float32], episodes: Episodes, *, classifier: str) -> NDArray[np.bool_]:
    """Whether each query falls to its own class: (episodes, way, queries) bool.

    `vectors` (videos, dim) float32, one per label that the episodes were drawn from. Only the videos that the
    episodes use are touched. A query as near to two prototypes falls to the earlier way of its episode.
    """
    used = np.zeros(len(vectors), dtype=np.bool_)
    used[episodes.support] = used[episodes.query] = True
    vectors = vectors[used]
    rank = np.cumsum(used) - 1
    support, query = rank[episodes.support], rank[episodes.query]
    way, shot, queries = *support.shape[1:], query.shape[2]
    tensors = torch.from_numpy(vectors)
    gram = vectors @ vectors.T if len(vectors) <= GRAM_VIDEOS else None
    per_episode = way * (shot + queries) * vectors.shape[1] if gram is None else way * (way * queries + shot * shot)
    outcomes = np.empty(query.shape, dtype=np.bool_)
    for chunk in _chunks(len(query), max(1, CHUNK_ENTRIES // per_episode)):
        supports, queried = support[chunk], query[chunk].reshape(-1, way * queries)
        if gram is None:
            of_support, of_query = (tensors[torch.from_numpy(videos)] for videos in (supports, queried))
            logits = episode_logits(of_support, of_query, classifier)
        else:
            logits = _gram_logits(gram, supports, queried, classifier)
        outcomes[chunk] = logits.argmax(-1).numpy().reshape(-1, way, queries) == np.arange(way)[:, None]
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


def _chunks(count: int, size: int) -> Iterator[slice]:
    return (slice(start, start + size) for start in range(0, count, size))


def accuracy_with_interval(outcomes: NDArray[np.bool_]) -> tuple[float, float]:
    """Mean accuracy over episodes and half the width of its 95% interval, both in 0..1.

    `outcomes` (episodes, way, queries) bool. The half-width is 1.96 sample standard deviations of the
    per-episode accuracies over the root of their number. Raises UsageError on fewer than 2 episodes.
    """
    accuracies = outcomes.mean((1, 2))
    if len(accuracies) < 2:
        raise UsageError(f"{len(accuracies)} episode(s) give no interval; draw at least 2")
    return float(accuracies.mean()), float(1.96 * accuracies.std(ddof=1) / np.sqrt(len(accuracies)))


def accuracy_by_class(outcomes: NDArray[np.bool_], classes: NDArray[np.int64]) -> dict[int, float]:
    """Share of right queries (0..1) of each label value in `classes` (episodes, way), in rising order."""
    present, place = np.unique(classes, return_inverse=True)
    totals = np.bincount(place.ravel(), weights=outcomes.mean(2).ravel())
    return dict(zip(present.tolist(), (totals / np.bincount(place.ravel())).tolist(), strict=True))
