"""`amefu compare`: the difference of two accuracies and its 95% interval, paired where they share episodes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from amefu_cli.artefacts.files.results import Outcomes, Result, open_result
from amefu_cli.errors import UsageError
from amefu_cli.flows.session import Session
from amefu_cli.method import comparison
from amefu_cli.method.comparison import Interval, interval_over_classes, resampled_means

RESAMPLES = 1000
SEED = 0  # of the resamples: the same results give the same interval
MARK = "≈"  # stands before a difference whose interval holds 0
Bounds = tuple[float, float]


@dataclass(frozen=True, kw_only=True)
class Comparison:
    """The accuracy of one result less that of a reference, in -1..1; `by_class_95` also resamples the novel classes."""

    result: str
    paired: bool
    difference: float
    over_episodes_95: Bounds
    by_class_95: Bounds | None
    significant: bool

    @property
    def deciding(self) -> Bounds:
        """The interval that decides whether the difference is significant: the wider one, where it was asked for."""
        return self.by_class_95 or self.over_episodes_95

    @property
    def text(self) -> str:
        """The difference in points, with ≈ before it where its interval holds 0."""
        return ("" if self.significant else f"{MARK} ") + _points(self.difference)

    def interval_text(self, between: str) -> str:
        """The bounds of the deciding interval, in points."""
        return between.join(map(_points, self.deciding))


def compare_results(
    session: Session, paths: Sequence[Path], *, by_class: bool
) -> tuple[list[Result], list[Comparison]]:
    """Results, and how each of those after the first compares with it; says where they are not of the same episodes, or
    of other tasks."""
    if len(paths) < 2:
        raise UsageError("a comparison needs two results or more: amefu compare A.json B.json")
    first, *others = results = [open_result(path) for path in paths]
    compared = []
    for other in others:
        _warn_of_tasks(session, first, other)
        compared.append(compare([first], [other], by_class=by_class))
        if not compared[-1].paired:
            session.say.warn(
                f"{other.path} and {first.path} are not of the same episodes: their difference is not paired"
            )
    return results, compared


def compare(
    references: Sequence[Result], results: Sequence[Result], *, by_class: bool, reach: float = 0.0
) -> Comparison:
    """Compare the mean of some trainings with that of others, in pairs if they are of the same queries.

    Either are results of the same episodes; `reach` is by how much their seeds may move the difference (95%), which
    widens the intervals.

    Raises:
        DamagedFile: a result without readable outcomes.
    """
    one, other = averaged(references), averaged(results)
    paired = references[0].asked.queries_fingerprint == results[0].asked.queries_fingerprint
    differ = comparison.paired_difference if paired else comparison.unpaired_difference
    difference, wider = comparison.widened(differ(one.accuracies, other.accuracies), reach), None
    if by_class:
        wider = comparison.widened(_difference_by_class(one, other, difference.value, paired=paired), reach)
    return Comparison(
        result=str(results[0].path), paired=paired, difference=difference.value,
        over_episodes_95=(difference.low, difference.high), by_class_95=(wider.low, wider.high) if wider else None,
        significant=(wider or difference).significant,
    )  # fmt: skip


def averaged(results: Sequence[Result]) -> Outcomes:
    """The outcomes of some trainings on the same episodes, as one whose shares are the mean of theirs."""
    first, *others = (result.outcomes() for result in results)
    return replace(first, shares=np.mean([first.shares, *(other.shares for other in others)], axis=0))


def interval_over(by_class: bool, seeds: int = 1) -> str:
    """What an interval is over, in words; what it is not over, it says nothing of."""
    over = ["episodes", "novel classes"] if by_class else ["episodes of these classes alone"]
    over += ["training seeds"] if seeds > 1 else []
    return " and ".join([", ".join(over[:-1]), over[-1]] if len(over) > 1 else over)


def interval_by_class(result: Result) -> Interval:
    """The accuracy of one result, with the interval over episodes and novel classes."""
    outcomes, rng = result.outcomes(), np.random.default_rng(SEED)
    resampled = resampled_means(outcomes.shares, outcomes.classes, _weights(outcomes, rng), rng=rng)
    found = _over_classes(float(outcomes.accuracies.mean()), resampled, len(outcomes.class_names))
    return Interval(found.value, max(0.0, found.low), min(1.0, found.high))


def _difference_by_class(one: Outcomes, other: Outcomes, value: float, *, paired: bool) -> Interval:
    """Both results lose and gain the same classes in a resample, if they are of the same classes at all."""
    rng, classes = np.random.default_rng(SEED), min(len(one.class_names), len(other.class_names))
    weights = _weights(one, rng)
    if paired:
        resampled = resampled_means(other.shares - one.shares, one.classes, weights, rng=rng)
        return _over_classes(value, resampled, classes)
    before = resampled_means(one.shares, one.classes, weights, rng=rng)
    if other.class_names != one.class_names:
        weights = _weights(other, rng)
    resampled = resampled_means(other.shares, other.classes, weights, rng=rng) - before
    return _over_classes(value, resampled, classes)


def _over_classes(value: float, resampled: NDArray[np.float64], classes: int) -> Interval:
    if classes < 2:
        raise UsageError("one class gives no interval over classes; leave --by-class out")
    return interval_over_classes(value, resampled, classes, student=student(classes - 1))


def student(freedom: int) -> float:
    """How many standard errors to either side hold 95%, by Student's t of so many degrees of freedom."""
    from scipy.special import stdtrit  # which scikit-learn brings

    return float(stdtrit(freedom, 0.975))


def _weights(outcomes: Outcomes, rng: np.random.Generator) -> NDArray[np.int64]:
    return comparison.draw_class_weights(len(outcomes.class_names), resamples=RESAMPLES, rng=rng)


def _warn_of_tasks(session: Session, one: Result, other: Result) -> None:
    shape = ("way", "shot", "queries", "one_query")
    tasks = [(name, getattr(one.asked, name), getattr(other.asked, name)) for name in shape]
    differing = ", ".join(f"{name} {first} and {second}" for name, first, second in tasks if first != second)
    if differing:
        session.say.warn(f"{one.path} and {other.path} are of different tasks ({differing})")


def _points(share: float) -> str:
    """A difference of accuracies (-1..1) in points: `+1.25`, `−0.40`."""
    return f"{100 * share:+.2f}".replace("-", "−")
