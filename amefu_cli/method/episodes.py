"""Few-shot episodes: which videos are the supports and which the queries of each `way` classes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from amefu_cli.errors import UsageError


@dataclass(frozen=True)
class Episodes:
    """Episodes as indices into the labels that they were drawn from, all int64.

    `asked` is `way`, where every class has queries, or 1, where an episode has a single query: of its first class,
    which is a random one, since the classes of an episode stand in random order. Raises ValueError if the three do not
    have the same episodes and ways.
    """

    classes: NDArray[np.int64]  # (episodes, way) label values
    support: NDArray[np.int64]  # (episodes, way, shot)
    query: NDArray[np.int64]  # (episodes, asked, queries)

    def __post_init__(self) -> None:
        episodes, way = self.classes.shape
        if self.support.shape[:2] != (episodes, way) or self.query.shape[:2] not in ((episodes, way), (episodes, 1)):
            raise ValueError(
                f"classes {self.classes.shape}, support {self.support.shape} and query {self.query.shape} "
                "must share their first two axes (episodes, way)"
            )

    @property
    def asked(self) -> NDArray[np.int64]:
        """The classes that have queries, label values (episodes, asked)."""
        return self.classes[:, : self.query.shape[1]]

    @property
    def videos(self) -> NDArray[np.int64]:
        """All videos (episodes, way * shot + asked * queries): the supports, then the queries, each class by class."""
        return np.concatenate([part.reshape(len(part), -1) for part in (self.support, self.query)], axis=1)

    @property
    def targets(self) -> NDArray[np.int64]:
        """The way of each query of an episode, (asked * queries,)."""
        return np.arange(self.query.shape[1]).repeat(self.query.shape[2])


def own_depth(labels: NDArray[np.int64], rng: np.random.Generator) -> NDArray[np.int64]:
    """The video (videos,) int64 whose depth each one is given: itself."""
    return np.arange(len(labels))


def depth_of_any(labels: NDArray[np.int64], rng: np.random.Generator) -> NDArray[np.int64]:
    """The same: another video, of whichever class. Each one's depth is given once, so that none is seen more often."""
    order, given = rng.permutation(len(labels)), np.empty(len(labels), np.int64)
    given[order] = np.roll(order, 1)
    return given


def depth_of_class(labels: NDArray[np.int64], rng: np.random.Generator) -> NDArray[np.int64]:
    """The same: another video of its class; its own where there is no other."""
    given = np.empty(len(labels), np.int64)
    for label in np.unique(labels):
        videos = np.flatnonzero(labels == label)
        given[videos] = videos[depth_of_any(videos, rng)]
    return given


def draw_episodes(
    labels: NDArray[np.int64], *, way: int, shot: int, queries: int, count: int, rng: np.random.Generator,
    class_names: Sequence[str], one_query: bool = False,
) -> Episodes:  # fmt: skip
    """Draw `count` episodes uniformly: distinct classes, and within a class distinct videos. With `one_query` (and
    `queries` 1) each has a single query, of a random one of its classes.

    `labels` (videos,) int64; the label c is called `class_names[c]` in messages. The same rng state gives the same
    episodes, and of another number of shots episodes with the same classes, queries and first supports; with
    `one_query` the same but for the queries of all classes but the first. Raises UsageError, before anything is drawn,
    on too few classes or a class too small.
    """
    present, sizes = np.unique(labels, return_counts=True)
    if len(present) < way:
        raise UsageError(
            f"{way}-way episodes need {way} classes but only {len(present)} hold videos; "
            "lower the way or give more classes"
        )
    small = np.flatnonzero(sizes < shot + queries)
    if len(small):
        held = (f"{class_names[present[c]]} holds {sizes[c]} {'video' if sizes[c] == 1 else 'videos'}" for c in small)
        raise UsageError(
            f"{', '.join(held)} but {shot}-shot with {queries} {'query' if queries == 1 else 'queries'} needs "
            f"{shot + queries}; lower the shot or the queries, or leave the class out of the split"
        )
    drawn = _draw_distinct(np.full((count, 1), len(present)), way, rng)[:, 0]  # (episodes, way)
    places = _draw_distinct(sizes[drawn], queries + shot, rng)  # (episodes, way, queries + shot)
    by_class = np.argsort(labels, kind="stable")
    first = np.cumsum(sizes) - sizes
    videos = by_class[first[drawn][..., None] + places]
    query = videos[..., :queries]
    return Episodes(present[drawn], videos[..., queries:], query[:, :1] if one_query else query)


def hits(logits: NDArray[np.floating], queries: int, *, first: int = 0) -> NDArray[np.bool_]:
    """Whether each query falls to its own class, (episodes, asked, queries), by logits (episodes, all queries, way).

    A query with several largest logits falls to the earliest of their ways. A single query an episode is always of the
    first one, to which every tie would fall: there one of n is right in each n-th episode, counted from number `first`,
    so that ties are right no more often than a guess.
    """
    outcomes: NDArray[np.bool_]
    if logits.shape[1] == 1 < logits.shape[2]:
        largest = logits == logits.max(-1, keepdims=True)
        turns = (first + np.arange(len(logits)))[:, None] % largest.sum(-1) == 0
        outcomes = (largest[..., 0] & turns)[..., None]
        return outcomes
    chosen = logits.argmax(-1).reshape(len(logits), -1, queries)
    outcomes = chosen == np.arange(chosen.shape[1])[:, None]
    return outcomes


def _draw_distinct(sizes: NDArray[np.int64], picks: int, rng: np.random.Generator) -> NDArray[np.int64]:
    """Ordered draws (*sizes.shape, picks) without replacement, each row uniform over range(size).

    The k-th draw is a rank among the size - k values still free. Walking the earlier picks in rising order
    and stepping past each that is not above turns the rank into the value: with 1 and 3 taken, rank 1 is 2.
    """
    drawn = np.empty((picks, *sizes.shape), dtype=np.int64)
    taken = np.empty_like(drawn)  # the picks so far in rising order
    for k in range(picks):
        value = rng.integers(0, sizes - k)
        for earlier in taken[:k]:
            value += value >= earlier
        drawn[k] = taken[k] = value
        taken[: k + 1].sort(axis=0)
    return np.moveaxis(drawn, 0, -1)
