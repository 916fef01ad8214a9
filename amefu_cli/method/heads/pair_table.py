"""The scores of video pairs, each computed once: in tiles of a whole table, or only those that are asked for."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

from amefu_cli.method.heads.base import PairHead

Progress = Callable[[int, int], None]  # how much is done, of how much

TABLE_NUMBERS = 1 << 27  # a table of at most 512 MiB of float32
TILE_NUMBERS = 1 << 22  # similarities, or numbers of states, held at once
TILE_SIDE = 512


class Rows:
    """Rows of states (videos, *state), gathered into the same memory again and again: fresh pages cost more."""

    def __init__(self, states: Tensor) -> None:
        self.states = states
        self.memory = states.new_empty(0, *states.shape[1:])

    def take(self, videos: NDArray[np.int64]) -> Tensor:
        """States (*shape, *state) of videos (*shape); the next call overwrites them."""
        if self.memory.shape[0] < videos.size:
            self.memory = self.states.new_empty(videos.size, *self.states.shape[1:])
        rows = torch.from_numpy(videos).flatten().to(self.states.device)
        taken = torch.index_select(self.states, 0, rows, out=self.memory[: videos.size])
        return taken.view(*videos.shape, *self.states.shape[1:])

    def means(self, videos: NDArray[np.int64]) -> Tensor:
        """Means (*shape, *state) of the states of videos (*shape, shot), none of which is copied."""
        rows = torch.from_numpy(videos).flatten(0, -2).to(self.states.device)
        return functional.embedding_bag(rows, self.states.flatten(1), mode="mean").view(
            *videos.shape[:-1], *self.states.shape[1:]
        )


@dataclass(frozen=True)
class PairTable:
    """Scores by pair of videos. `scores` (pairs, *parts); `keys` lists the pairs, in rising order, or is None for all.

    The key of query a and support b is a * videos + b, with a <= b where the score is symmetric and pairs are listed.
    """

    scores: Tensor
    videos: int
    keys: NDArray[np.int64] | None
    symmetric: bool

    def look_up(self, query: NDArray[np.int64], support: NDArray[np.int64]) -> Tensor:
        """Scores (*shape, *parts) of query and support videos, indices that broadcast to one shape."""
        if self.keys is None:
            places = query * self.videos + support
        else:
            places = np.searchsorted(self.keys, pair_keys(query, support, self.videos, symmetric=self.symmetric))
        return self.scores[torch.from_numpy(places).to(self.scores.device)]


def pair_keys(
    query: NDArray[np.int64], support: NDArray[np.int64], videos: int, *, symmetric: bool
) -> NDArray[np.int64]:
    """One number for each pair; for both orders the same where the score is symmetric."""
    if symmetric:
        query, support = np.minimum(query, support), np.maximum(query, support)
    return query * videos + support


def build_pair_table(
    head: PairHead, states: Tensor, query: NDArray[np.int64], support: NDArray[np.int64], progress: Progress | None
) -> PairTable:
    """The table of states (videos, *state), all or those of query and support (broadcast), whichever is less work.

    `progress` is told how many pairs are done.
    """
    videos = len(states)
    keys = np.unique(pair_keys(query, support, videos, symmetric=head.symmetric))
    parts = head.block_scores(states[:1], states[:1]).shape[2:]
    in_tiles = head.tile_gain > 1  # or a tile is only a list of its pairs
    work = videos**2 // 2 if in_tiles or head.symmetric else videos**2  # one tile gives both orders of its pairs
    if videos**2 * math.prod(parts) <= TABLE_NUMBERS and work <= len(keys) * head.tile_gain:
        scores = _all_pairs(head, states, parts, side=_tile_side(states, in_tiles=in_tiles), progress=progress)
        return PairTable(scores, videos, None, head.symmetric)
    return PairTable(_listed_pairs(head, states, keys, parts, progress), videos, keys, head.symmetric)


def _tile_side(states: Tensor, *, in_tiles: bool) -> int:
    """How many videos a tile has each way, so that what a pair takes is there at most TILE_NUMBERS times."""
    frames = states.shape[1] if states.ndim > 2 else 1
    numbers = frames**2 if in_tiles else 2 * states[0].numel()
    return max(1, min(TILE_SIDE, math.isqrt(TILE_NUMBERS // numbers)))


def _tiles(videos: int, side: int) -> Iterator[tuple[slice, slice]]:
    """Tiles of one triangle, the diagonal's whole."""
    for top in range(0, videos, side):
        for left in range(top, videos, side):
            yield slice(top, top + side), slice(left, left + side)


def _all_pairs(
    head: PairHead, states: Tensor, parts: tuple[int, ...], *, side: int, progress: Progress | None
) -> Tensor:
    """Scores (videos * videos, *parts), tile by tile."""
    videos = len(states)
    table = states.new_empty(videos, videos, *parts)
    tiles = list(_tiles(videos, side))
    for done, (rows, columns) in enumerate(tiles):
        if rows == columns:
            table[rows, rows] = head.block_scores(states[rows], states[rows])
        else:
            table[rows, columns], table[columns, rows] = head.mutual_scores(states[rows], states[columns])
        if progress is not None:
            progress(videos**2 * (done + 1) // len(tiles), videos**2)
    return table.flatten(0, 1)


def _listed_pairs(
    head: PairHead, states: Tensor, keys: NDArray[np.int64], parts: tuple[int, ...], progress: Progress | None
) -> Tensor:
    """Scores (pairs, *parts) of the pairs of these keys."""
    query, support = np.divmod(keys, len(states))
    scores = states.new_empty(len(keys), *parts)
    size = max(1, TILE_NUMBERS // (2 * states[0].numel()))
    of_query, of_support = Rows(states), Rows(states)
    for first in range(0, len(keys), size):
        chunk = slice(first, first + size)
        scores[chunk] = head.pair_scores(of_query.take(query[chunk]), of_support.take(support[chunk]))
        if progress is not None:
            progress(min(first + size, len(keys)), len(keys))
    return scores
