"""Differences of accuracies: worked out by hand, held to the spread that is really there, and to their own rules."""

from __future__ import annotations

import re

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from amefu_cli.errors import UsageError
from amefu_cli.flows.compare import student
from amefu_cli.method.comparison import (
    Interval,
    draw_class_weights,
    interval_over_classes,
    paired_difference,
    resampled_means,
    unpaired_difference,
    widened,
)


def test_paired_difference_by_hand():
    """Differences 1, 0, 0, -1, 1: mean 0.2, sample variance (0.64+0.04+0.04+1.44+0.64)/4 = 0.7."""
    first, second = np.array([0, 1, 0, 1, 0.0]), np.array([1, 1, 0, 0, 1.0])
    found = paired_difference(first, second)
    half_width = 1.96 * np.sqrt(0.7 / 5)
    assert found.value == pytest.approx(0.2)
    assert (found.low, found.high) == (pytest.approx(0.2 - half_width), pytest.approx(0.2 + half_width))
    assert not found.significant


def test_unpaired_difference_by_hand():
    """Means 0.5 and 0.75; variances 1/3 over 4 episodes and 0.125 over 2."""
    found = unpaired_difference(np.array([0, 1, 0, 1.0]), np.array([0.5, 1.0]))
    half_width = 1.96 * np.sqrt(1 / 12 + 0.125 / 2)
    assert found.value == pytest.approx(0.25)
    assert found.high - found.value == pytest.approx(half_width)
    assert found.value - found.low == pytest.approx(half_width)


def test_pairing_takes_out_what_both_share():
    rng = np.random.default_rng(0)
    hardness = rng.normal(0.7, 0.2, 2000)
    first, second = hardness + rng.normal(0, 0.02, 2000), hardness + 0.01 + rng.normal(0, 0.02, 2000)
    paired, unpaired = paired_difference(first, second), unpaired_difference(first, second)
    assert paired.value == pytest.approx(unpaired.value)
    assert paired.significant
    assert not unpaired.significant


def test_a_model_against_itself_carries_nothing():
    same = np.array([0.2, 0.8, 1.0])
    assert paired_difference(same, same) == Interval(0.0, 0.0, 0.0)
    assert not Interval(0.0, 0.0, 0.0).significant


@pytest.mark.parametrize(("low", "high", "significant"), [(0.1, 0.3, True), (-0.3, -0.1, True), (-0.1, 0.1, False)])
def test_an_interval_that_holds_0_decides_nothing(low, high, significant):
    assert Interval((low + high) / 2, low, high).significant is significant


def test_refusals():
    with pytest.raises(ValueError, match=re.escape("the same episodes, not (2,) and (3,)")):
        paired_difference(np.zeros(2), np.zeros(3))
    with pytest.raises(UsageError, match=re.escape("1 episode(s) give no interval; draw at least 2")):
        unpaired_difference(np.zeros(4), np.zeros(1))


@given(st.integers(1, 30), st.integers(1, 20))
def test_class_weights_share_out_as_many_draws_as_classes(classes, resamples):
    weights = draw_class_weights(classes, resamples=resamples, rng=np.random.default_rng(0))
    assert weights.shape == (resamples, classes)
    assert (weights.sum(1) == classes).all()
    assert (weights >= 0).all()


def test_a_resample_of_one_class_is_that_class():
    """Class 0 is always right, class 1 right in half of the episodes, class 2 never: means 1, 0.5 and 0."""
    classes = np.tile([0, 1, 2], (4000, 1))
    values = np.stack([np.ones(4000), np.arange(4000) % 2, np.zeros(4000)], 1)
    weights = np.array([[3, 0, 0], [0, 3, 0], [0, 0, 3], [1, 1, 1], [2, 1, 0]])
    means = resampled_means(values, classes, weights, rng=np.random.default_rng(1))
    assert means[0] == 1.0
    assert means[2] == 0.0
    assert means[1] == pytest.approx(0.5, abs=0.04)
    assert means[3] == pytest.approx(0.5, abs=0.02)
    assert means[4] == pytest.approx((2 + 0.5) / 3, abs=0.02)


def test_the_resampled_spread_is_that_of_the_classes_and_of_the_episodes():
    """20 classes whose accuracies spread by 0.1: standard error 0.1/√20; with none of it, that of the episodes."""
    rng = np.random.default_rng(2)
    accuracy = rng.permutation(0.5 + 0.1 * np.sqrt(3) * np.linspace(-1, 1, 20))  # standard deviation 0.1052
    classes = np.stack([rng.permutation(20)[:5] for _ in range(3000)])
    weights = draw_class_weights(20, resamples=2000, rng=rng)
    spread = resampled_means(accuracy[classes], classes, weights, rng=rng).std()
    assert spread == pytest.approx(accuracy.std() / np.sqrt(20), rel=0.1)
    noise = (rng.random((3000, 1)) < 0.5) * np.ones((1, 5))  # all classes alike, each episode right or wrong as a whole
    spread = resampled_means(noise, classes, weights, rng=rng).std()
    assert 0.95 < spread / (0.5 / np.sqrt(3000)) < 1.25  # chance differences between classes count a little twice


def test_few_classes_move_both_bounds_away():
    """Of 5 classes by Student's t of 4 degrees of freedom, 2.776 / 1.96, times the root of 5 / 4."""
    found = interval_over_classes(50.0, np.arange(101.0), 5, student=student(4))
    reach = 47.5 * 2.7764451 / 1.96 * np.sqrt(5 / 4)
    assert (found.value, found.low, found.high) == pytest.approx((50.0, 50 - reach, 50 + reach))


@pytest.mark.parametrize("classes", [5, 10])
def test_over_classes_a_true_zero_is_covered(classes):
    """Of 300 comparisons with class effects but none on average, about 95 in 100 intervals hold 0; over episodes alone
    a fourth."""
    rng, covered, over_episodes = np.random.default_rng(0), [], []
    for _ in range(300):
        of_way = np.argsort(rng.random((400, classes)), axis=1)[:, :5]
        values = rng.normal(0, 0.1, classes)[of_way] + rng.normal(0, 0.2, of_way.shape)
        resampled = resampled_means(values, of_way, draw_class_weights(classes, resamples=200, rng=rng), rng=rng)
        found = interval_over_classes(float(values.mean()), resampled, classes, student=student(classes - 1))
        covered.append(found.low <= 0 <= found.high)
        over_episodes.append(abs(values.mean()) < 1.96 * values.mean(1).std() / np.sqrt(400))
    assert 0.92 < np.mean(covered) < 0.985
    assert np.mean(over_episodes) < 0.5


def test_a_second_cause_widens_an_interval():
    """0.3 to the left and 0.4 to the right, and ± 0.4 besides: 0.5 and 0.4 √2."""
    found = widened(Interval(1.0, 0.7, 1.4), 0.4)
    assert (found.value, found.low, found.high) == pytest.approx((1.0, 0.5, 1.0 + 0.4 * 2**0.5))
