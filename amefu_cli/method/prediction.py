"""Labels for single clips from examples of each class, their number unequal; probabilities; and when none of the
classes is meant. The examples themselves tell how sure to be: each is held out and scored by the others.

The temperature is Platt's idea (1999) on the softmax of the held-out examples' scores, against Laplace's smoothed
targets, so that a few examples that all come out right do not make it endless.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from amefu_cli.method.heads.base import Head

REPEATED = 24  # examples a class at most where numbers are brought to a common multiple
FACTORS = np.geomspace(1e-3, 1e4, 281)  # temperatures tried, of scores whose spread is 1

Scores = NDArray[np.float64]


def class_scores(head: Head, examples: Sequence[Tensor], queries: Tensor) -> Tensor:
    """Scores (queries, way) of states (queries, *state), by the examples (shots, *state) of each class.

    Where classes have unequal numbers: a head that sees the mean of the shots is given that; one that scores each class
    by its own shots alone scores classes of equal numbers together. Any other sees the examples of each class repeated
    in turn until all have as many, so that every class weighs the same.
    """
    if head.averages_shots:
        examples = [of.mean(0, keepdim=True) for of in examples]
    counts = [len(of) for of in examples]
    if len({*counts}) > 1 and not _scores_apart(head):
        common = math.lcm(*counts)
        length = common if common <= REPEATED else max(counts)
        examples = [of[torch.arange(length, device=of.device) % len(of)] for of in examples]
        counts = [length] * len(examples)
    scores = queries.new_empty(len(queries), len(examples))
    for count in {*counts}:
        ways = [way for way, of in enumerate(counts) if of == count]
        support = torch.stack([examples[way] for way in ways])[None]  # (1, ways, shots, *state)
        scores[:, ways] = head.logits(support, queries[None])[0]
    return scores


def _scores_apart(head: Head) -> bool:
    """Whether the score for a class comes from its own examples alone."""
    return head.route in ("vector", "pair")


class HeldOut(NamedTuple):
    """Scores of examples as clips. `inside` (n, way): each by all others, of classes with two or more; `own` (n,) int64
    its class and `place` (n,) int64 its number within that. `outside`: all examples, each class's (shots, way - 1) by
    the other classes alone; none where that leaves one class to a head that is fitted to several."""

    inside: Scores
    own: NDArray[np.int64]
    place: NDArray[np.int64]
    outside: list[Scores]


def held_out(head: Head, examples: Sequence[Tensor]) -> HeldOut:
    """Every example scored as if it were a clip, and as if its class were not known.

    Where an example is taken out of its class, one is taken out of each other class that has two, by turns: the mean of
    more examples is nearer to anything, and without this each example would seem to belong elsewhere.
    """
    inside, places = [], list[tuple[int, int]]()
    for place in range(max(map(len, examples))):
        held = [(way, place) for way, of in enumerate(examples) if len(of) > max(place, 1)]
        if held:
            fewer = [_without(of, place % len(of)) if len(of) > 1 else of for of in examples]
            inside.append(class_scores(head, fewer, torch.stack([examples[way][place] for way, _ in held])))
            places += held
    outside = [
        class_scores(head, [*examples[:way], *examples[way + 1 :]], of).cpu().double().numpy()
        for way, of in enumerate(examples)
        if len(examples) > 2 or _scores_apart(head)
    ]
    scores = torch.cat(inside).cpu().double().numpy() if inside else np.empty((0, len(examples)))
    own, number = np.array(places, np.int64).reshape(-1, 2).T
    return HeldOut(scores, own, number, outside)


def _without(states: Tensor, place: int) -> Tensor:
    return torch.cat((states[:place], states[place + 1 :]))


def probabilities(scores: Scores, factor: float) -> Scores:
    """Softmax over the last axis of `factor` times the scores."""
    shifted = factor * (scores - scores.max(-1, keepdims=True))
    weights = np.exp(shifted)
    return np.asarray(weights / weights.sum(-1, keepdims=True))


def fit_factor(found: HeldOut) -> float:
    """What scores are multiplied by before the softmax: it makes the held-out examples likeliest, each taken for its
    class by (n + 1) / (n + way) and for another by 1 / (n + way). Where no example can be held out, 1 over the spread
    of the scores for classes that the examples are not of."""
    spread = _spread(found)
    if not len(found.inside):
        return 1 / spread
    count, way = found.inside.shape
    target = np.full((count, way), 1 / (count + way))
    target[np.arange(count), found.own] = (count + 1) / (count + way)
    shifted = (found.inside - found.inside.max(1, keepdims=True)) / spread
    losses = [
        (np.log(np.exp(factor * shifted).sum(1)) - factor * (target * shifted).sum(1)).mean() for factor in FACTORS
    ]
    return float(FACTORS[int(np.argmin(losses))] / spread)


def _spread(found: HeldOut) -> float:
    """The standard deviation of the scores for other classes, around each example's own mean where there are two."""
    if not found.outside:
        return 1.0
    rows = np.concatenate(found.outside)
    spread = float((rows - rows.mean(1, keepdims=True)).std() if rows.shape[1] > 1 else rows.std())
    return spread if spread > 0 and math.isfinite(spread) else 1.0


class Rejection(NamedTuple):
    """Below `threshold` a clip is none of the classes. Shares of the examples: `false_rate` of those whose class is
    there that are rejected all the same, `missed_rate` of those whose class is not that are not; None where none could
    be held out in that way."""

    threshold: float
    false_rate: float | None
    missed_rate: float | None


def measure_rejection(found: HeldOut, factor: float, threshold: float | None) -> Rejection:
    """How often a threshold is wrong on the examples; None: the one at which both rates together are least, in the
    middle of the widest gap of them. Raises ValueError for None where the examples do not tell."""
    inside = probabilities(found.inside, factor).max(1) if len(found.inside) else np.empty(0)
    several = [scores for scores in found.outside if scores.shape[1] > 1]  # of one class alone all are sure
    outside = np.concatenate([probabilities(scores, factor).max(1) for scores in several]) if several else np.empty(0)
    if threshold is None:
        if not len(inside) or not len(outside):
            raise ValueError("nothing to tell it by")
        seen = np.unique(np.concatenate(([0.0], inside, outside, [1.0])))
        tried = (seen[1:] + seen[:-1]) / 2
        wrong = [(inside < at).mean() + (outside >= at).mean() for at in tried]
        best = np.flatnonzero(np.isclose(wrong, min(wrong)))
        threshold = float(tried[best[np.argmax(np.diff(seen)[best])]])
    return Rejection(
        threshold,
        float((inside < threshold).mean()) if len(inside) else None,
        float((outside >= threshold).mean()) if len(outside) else None,
    )
