"""How accurate, and more so than another? Intervals over episodes, and over the classes that the episodes are of.

Two models that classified the same episodes are compared episode by episode, so that what makes an episode hard for
both cancels out: 10,000 one-query episodes give ±0.86 at 74%, their paired difference often a third of that.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from amefu_cli.errors import UsageError

NORMAL = 1.96  # standard errors to either side that hold 95%
DRAWS_AT_ONCE = 1 << 22  # random weights held at once while resampling


@dataclass(frozen=True)
class Interval:
    """A value with its 95% interval."""

    value: float
    low: float
    high: float

    @property
    def significant(self) -> bool:
        """Whether the interval leaves 0 out: only then is the sign of a difference certain."""
        return self.low > 0 or self.high < 0


def accuracy_with_interval(outcomes: NDArray[np.bool_]) -> tuple[float, float]:
    """Mean accuracy over episodes and half the width of its 95% interval, both in 0..1.

    `outcomes` (episodes, asked, queries) bool, of the classes that have queries. The half-width is 1.96 standard errors
    of the per-episode accuracies. Raises UsageError on fewer than 2 episodes.
    """
    accuracies = outcomes.mean((1, 2))
    return float(accuracies.mean()), half_width_of(accuracies)


def half_width_of(accuracies: NDArray[np.float64]) -> float:
    """Half the width of the 95% interval of the mean of accuracies (episodes,), 0..1."""
    return NORMAL * math.sqrt(_squared_error(accuracies))


def accuracy_by_class(outcomes: NDArray[np.bool_], classes: NDArray[np.int64]) -> dict[int, float]:
    """Share of right queries (0..1) of each label value in `classes` (episodes, asked), in rising order."""
    present, place = np.unique(classes, return_inverse=True)
    totals = np.bincount(place.ravel(), weights=outcomes.mean(2).ravel())
    return dict(zip(present.tolist(), (totals / np.bincount(place.ravel())).tolist(), strict=True))


def paired_difference(first: NDArray[np.float64], second: NDArray[np.float64]) -> Interval:
    """Mean of `second - first`, accuracies (episodes,) of the same episodes, ± 1.96 standard errors."""
    if first.shape != second.shape:
        raise ValueError(f"paired accuracies must be of the same episodes, not {first.shape} and {second.shape}")
    difference = second - first
    return _around(float(difference.mean()), _squared_error(difference))


def unpaired_difference(first: NDArray[np.float64], second: NDArray[np.float64]) -> Interval:
    """Mean of `second` less mean of `first`, accuracies of separate episodes, ± 1.96 standard errors of both."""
    return _around(float(second.mean() - first.mean()), _squared_error(first) + _squared_error(second))


def widened(interval: Interval, reach: float) -> Interval:
    """An interval with what a second cause adds, which stays within ± `reach` in 95%: the two add in squares."""
    low, high = (math.hypot(interval.value - bound, reach) for bound in (interval.low, interval.high))
    return Interval(interval.value, interval.value - low, interval.value + high)


def _squared_error(values: NDArray[np.float64]) -> float:
    if len(values) < 2:
        raise UsageError(f"{len(values)} episode(s) give no interval; draw at least 2")
    return float(values.var(ddof=1) / len(values))


def _around(value: float, squared_error: float) -> Interval:
    half_width = NORMAL * math.sqrt(squared_error)
    return Interval(value, value - half_width, value + half_width)


def draw_class_weights(classes: int, *, resamples: int, rng: np.random.Generator) -> NDArray[np.int64]:
    """How often each class is in each resample of as many classes with replacement: int64 (resamples, classes)."""
    return rng.multinomial(classes, np.full(classes, 1 / classes), size=resamples)


def resampled_means(
    values: NDArray[np.float64], classes: NDArray[np.int64], class_weights: NDArray[np.int64], *,
    rng: np.random.Generator,
) -> NDArray[np.float64]:  # fmt: skip
    """The mean of `values` in each resample of classes and of episodes: (resamples,).

    `values` (episodes, asked) are accuracies, or differences of accuracies, of the queries of one class of an episode;
    `classes` (episodes, asked) int64 are their columns in `class_weights` (resamples, classes). An episode counts as
    often as a Poisson variable of mean 1 says (the bootstrap of episodes, made cheap), and in it each value as often
    as its class was drawn. The rivals of a class in its episodes stay as they were drawn. NaN where a resample of a few
    episodes holds no value at all.
    """
    resamples, count = class_weights.shape
    episodes = len(values)
    place = (np.arange(episodes)[:, None] * count + classes).ravel()
    sums, sizes = (
        np.bincount(place, weights=weights, minlength=episodes * count).reshape(episodes, count)
        for weights in (values.ravel(), np.ones(values.size))
    )
    means = np.full(resamples, np.nan)
    size = max(1, DRAWS_AT_ONCE // episodes)
    for begin in range(0, resamples, size):
        some = slice(begin, begin + size)
        drawn = rng.poisson(1.0, (len(class_weights[some]), episodes)).astype(np.float64)
        total = (drawn @ sums * class_weights[some]).sum(1)
        held = (drawn @ sizes * class_weights[some]).sum(1)
        np.divide(total, held, out=means[some], where=held > 0)
    return means


def interval_over_classes(value: float, resampled: NDArray[np.float64], classes: int, *, student: float) -> Interval:
    """The 95% interval of a value over episodes and so many classes, by its values in resamples of both; `student` is
    how many standard errors to either side hold 95% by Student's t of one degree of freedom less than classes.

    The middle 95% of these (those that are NaN are left out) are too narrow where classes are few: a resample of n
    spreads sqrt((n - 1) / n) too little, and its spread is itself uncertain, which Student's t makes up for. So both
    bounds are moved away from the value, by 1.58 for 5 classes and 1.08 for 24.

    Held against 400 simulated comparisons whose true difference is 0, with class effects of standard deviation 0.1,
    the interval over episodes alone covers it in 21, 24 and 34% for 5, 10 and 24 classes, the middle 95% in 82, 90 and
    92%, and this interval in 96, 95 and 96%.
    """
    factor = student / NORMAL * math.sqrt(classes / (classes - 1))
    low, high = (value + factor * (bound - value) for bound in np.nanpercentile(resampled, [2.5, 97.5]))
    return Interval(value, float(low), float(high))
