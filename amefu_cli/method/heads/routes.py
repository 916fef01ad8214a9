"""Thousands of episodes over a few thousand videos, by the route that a head declares.

`embed` has run once per video. A vector or Gram head needs dot products of videos alone, looked up in one matrix
product; a pair head's scores are looked up in one table of pairs, so that no pair is scored twice and the frames'
similarities are never kept; any other head sees its episodes in chunks.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from amefu_cli.method.episodes import Episodes
from amefu_cli.method.heads.base import GramHead, Head, PairHead, SeededHead, VectorHead
from amefu_cli.method.heads.pair_table import PairTable, Progress, Rows, build_pair_table

GRAM_VIDEOS = 8192  # a Gram matrix of at most 256 MiB; above it episodes are scored from the vectors
STATE_NUMBERS = 1 << 23  # numbers of states gathered at once for a chunk of episodes
LOOKED_UP = 1 << 20  # numbers looked up at once in a table


def score_episodes(head: Head, states: Tensor, episodes: Episodes, *, progress: Progress | None = None) -> Tensor:
    """Logits (episodes, queries, way) of every episode, its queries class by class.

    `states` (videos, *state) is what `head.embed` gave for the videos that the episodes index. Only those that the
    episodes use are touched. `progress` is told how much of the work is done, and of how much.
    """
    return torch.cat([logits for _, logits in scored_chunks(head, states, episodes, progress=progress)])


@torch.inference_mode()
def scored_chunks(
    head: Head, states: Tensor, episodes: Episodes, *, progress: Progress | None = None
) -> Iterator[tuple[slice, Tensor]]:
    """As `score_episodes`, in pieces: which episodes, and their logits, in order; to show the accuracy so far."""
    states, indices = _only_used(states, episodes)
    whole = states.new_empty(*indices.query.shape, episodes.support.shape[1])
    # one memory for all pieces: kept apart, each would lie where a chunk's states had been, and the heap would grow
    for chunk, logits in _pieces(head, states, indices, progress):
        whole[chunk] = logits
        del logits
        yield chunk, whole[chunk]


def _pieces(head: Head, states: Tensor, indices: _Indices, progress: Progress | None) -> Iterator[tuple[slice, Tensor]]:
    if head.route == "pair" and isinstance(head, PairHead):
        return _from_pairs(head, states, indices, progress)
    if head.route == "gram" and isinstance(head, GramHead) and len(states) <= GRAM_VIDEOS:
        return _from_gram(head, states, indices, progress)
    if head.route == "vector" and isinstance(head, VectorHead) and len(states) <= GRAM_VIDEOS:
        return _from_vectors(head, states, indices, progress)
    return _from_states(head, states, indices, progress)


@dataclass(frozen=True)
class _Indices:
    """Rows of the states: support (episodes, way, shot), query (episodes, queries), of all classes together."""

    support: NDArray[np.int64]
    query: NDArray[np.int64]

    @property
    def shape(self) -> tuple[int, int, int, int]:
        """Episodes, way, shot, queries."""
        return (*self.support.shape, self.query.shape[1])

    def chunks(self, size: int, progress: Progress | None) -> Iterator[tuple[slice, _Indices]]:
        """At most `size` episodes at a time, at least one."""
        count, size = len(self.query), max(1, size)
        for start in range(0, count, size):
            chunk = slice(start, min(start + size, count))
            yield chunk, _Indices(self.support[chunk], self.query[chunk])
            if progress is not None:
                progress(chunk.stop, count)


def _only_used(states: Tensor, episodes: Episodes) -> tuple[Tensor, _Indices]:
    """The states that the episodes use, and the episodes as rows of these."""
    used = np.zeros(len(states), dtype=np.bool_)
    used[episodes.support] = used[episodes.query] = True
    query = episodes.query.reshape(len(episodes.query), -1)
    if used.all():
        return states, _Indices(episodes.support, query)
    rank = np.cumsum(used) - 1
    return states[torch.from_numpy(used).to(states.device)], _Indices(rank[episodes.support], rank[query])


def _from_states(
    head: Head, states: Tensor, indices: _Indices, progress: Progress | None
) -> Iterator[tuple[slice, Tensor]]:
    _, way, shot, queries = indices.shape
    shot = 1 if head.averages_shots else shot
    size = STATE_NUMBERS // ((way * shot + queries) * states[0].numel())
    of_support, of_query = Rows(states), Rows(states)
    for chunk, part in indices.chunks(size, progress):
        query = of_query.take(part.query)
        averaged, videos = head.averages_shots, part.support
        support = of_support.means(videos).unsqueeze(2) if averaged else of_support.take(videos)
        if isinstance(head, SeededHead):
            yield chunk, head.logits(support, query, torch.arange(chunk.start, chunk.stop))
        else:
            yield chunk, head.logits(support, query)


def _from_pairs(
    head: PairHead, states: Tensor, indices: _Indices, progress: Progress | None
) -> Iterator[tuple[slice, Tensor]]:
    """Progress is that of the table; looking up takes no time beside it."""
    _, way, shot, queries = indices.shape
    table = build_pair_table(head, states, *_crossed(indices), progress)
    size = LOOKED_UP // (queries * way * shot * table.scores[0].numel())
    for chunk, part in indices.chunks(size, None):
        yield chunk, head.combine(table.look_up(*_crossed(part)))


def _crossed(indices: _Indices) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Query and support indices that broadcast to (episodes, queries, way, shot)."""
    return indices.query[:, :, None, None], indices.support[:, None]


def _from_gram(
    head: GramHead, states: Tensor, indices: _Indices, progress: Progress | None
) -> Iterator[tuple[slice, Tensor]]:
    _, way, shot, queries = indices.shape
    gram = _table_of(states @ states.mT)
    supports = way * shot
    for chunk, part in indices.chunks(LOOKED_UP // (supports * (supports + queries)), progress):
        support = part.support.reshape(-1, supports)
        of_supports = gram.look_up(support[:, :, None], support[:, None])
        of_queries = gram.look_up(part.query[:, :, None], support[:, None])
        yield chunk, head.solve(of_supports, of_queries, gram.look_up(part.query, part.query), way)


def _from_vectors(
    head: VectorHead, states: Tensor, indices: _Indices, progress: Progress | None
) -> Iterator[tuple[slice, Tensor]]:
    _, way, shot, queries = indices.shape
    of_query, of_support = head.sides(states)
    dots, grams = _table_of(of_query @ of_support.mT), _table_of(of_support @ of_support.mT)
    squares = of_query.square().sum(-1)
    for chunk, part in indices.chunks(LOOKED_UP // (way * shot * (queries + shot)), progress):
        dot = dots.look_up(*_crossed(part)).mean(-1)
        square = grams.look_up(part.support[..., None], part.support[..., None, :]).mean((-2, -1))
        query_square = squares[torch.from_numpy(part.query).to(states.device)]
        yield chunk, head.score(dot, query_square.unsqueeze(-1), square.unsqueeze(-2))


def _table_of(matrix: Tensor) -> PairTable:
    return PairTable(matrix.flatten(), len(matrix), None, symmetric=False)
