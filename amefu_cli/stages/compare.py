"""results/*.json × 2 -> the difference of their accuracies and its 95% interval, paired where they share episodes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from amefu_cli.artefacts.files.results import Outcomes, outcomes_of
from amefu_cli.method.comparison import (
    Interval,
    draw_class_weights,
    paired_difference,
    percentile_interval,
    resampled_means,
    unpaired_difference,
)

RESAMPLES = 1000
SEED = 0  # of the resamples: the same results give the same interval


@dataclass(frozen=True)
class Comparison:
    """The accuracy of a second result less that of a first, in -1..1; `by_class` also resamples the novel classes."""

    paired: bool
    over_episodes: Interval
    by_class: Interval | None

    @property
    def deciding(self) -> Interval:
        """The interval that a claim has to be carried by: the wider one, where it was asked for."""
        return self.by_class or self.over_episodes


def compare(
    first: Mapping[str, Any], second: Mapping[str, Any], *, paths: tuple[Path, Path], by_class: bool
) -> Comparison:
    """Compare two results, in pairs if they are of the same episodes.

    Raises:
        DamagedFile: a result without readable outcomes.
    """
    one, other = (outcomes_of(result, path) for result, path in zip((first, second), paths, strict=True))
    paired = first["episodes_fingerprint"] == second["episodes_fingerprint"]
    difference = (paired_difference if paired else unpaired_difference)(one.accuracies, other.accuracies)
    wider = _difference_by_class(one, other, difference.value, paired=paired) if by_class else None
    return Comparison(paired, difference, wider)


def interval_by_class(result: Mapping[str, Any], path: Path) -> Interval:
    """The accuracy of one result, with the interval over episodes and novel classes."""
    outcomes, rng = outcomes_of(result, path), np.random.default_rng(SEED)
    weights = draw_class_weights(len(outcomes.class_names), resamples=RESAMPLES, rng=rng)
    resampled = resampled_means(outcomes.shares, outcomes.classes, weights, rng=rng)
    return percentile_interval(float(outcomes.accuracies.mean()), resampled)


def _difference_by_class(one: Outcomes, other: Outcomes, value: float, *, paired: bool) -> Interval:
    """Both results lose and gain the same classes in a resample, if they are of the same classes at all."""
    rng = np.random.default_rng(SEED)
    weights = draw_class_weights(len(one.class_names), resamples=RESAMPLES, rng=rng)
    if paired:
        resampled = resampled_means(other.shares - one.shares, one.classes, weights, rng=rng)
        return percentile_interval(value, resampled)
    before = resampled_means(one.shares, one.classes, weights, rng=rng)
    if other.class_names != one.class_names:
        weights = draw_class_weights(len(other.class_names), resamples=RESAMPLES, rng=rng)
    return percentile_interval(value, resampled_means(other.shares, other.classes, weights, rng=rng) - before)
