"""Labels by unequal numbers of examples, held-out examples, probabilities and rejection, worked out by hand."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from amefu_cli.method.heads import HEADS, build_head
from amefu_cli.method.prediction import (
    REPEATED,
    HeldOut,
    class_scores,
    fit_factor,
    held_out,
    measure_rejection,
    probabilities,
)

DIM, FRAMES = 16, 8
WITHOUT_TRAINING = [name for name, row in HEADS.items() if not row.learns and not row.gallery]


def vectors(*rows: tuple[float, float]) -> torch.Tensor:
    return torch.tensor(rows, dtype=torch.float32)


def states_of(name: str, *counts: int):
    """A head, and its states of so many examples a class and of three queries."""
    head, generator = build_head(name, DIM).eval(), torch.Generator().manual_seed(0)
    drawn = torch.randn(sum(counts) + 3, FRAMES, DIM, generator=generator)
    with torch.no_grad():
        states = head.embed(drawn)
    *examples, queries = states.split([*counts, 3])
    return head, examples, queries


def found(inside=(), own=(), outside=()) -> HeldOut:
    """Held-out examples by their probabilities, whose softmax at factor 1 gives them back."""
    scores = np.log(np.array(inside, float)).reshape(len(inside), -1)
    return HeldOut(scores, np.array(own, np.int64), np.zeros(len(own), np.int64), [np.log(np.array(outside, float))])


def test_prototypes_of_unequal_classes_are_each_the_mean_of_what_there_is() -> None:
    head = build_head("prototype-euclidean", 2)
    scores = class_scores(head, [vectors((0, 0)), vectors((2, 0), (4, 0), (6, 0))], vectors((1, 0), (3, 1)))
    assert scores.tolist() == [[-1, -9], [-10, -2]]


@pytest.mark.parametrize("name", WITHOUT_TRAINING)
def test_equal_classes_are_scored_as_an_episode(name: str) -> None:
    head, examples, queries = states_of(name, 2, 2, 2)
    with torch.no_grad():
        expected = head.logits(torch.stack(examples)[None], queries[None])[0]
        torch.testing.assert_close(class_scores(head, examples, queries), expected)


@pytest.mark.parametrize("name", ["otam", "chamfer", "mean-frames-cosine", "bi-mhm", "prototype-cosine"])
def test_a_class_of_another_size_leaves_the_others_scores_as_they_are(name: str) -> None:
    head, (first, second, third), queries = states_of(name, 1, 3, 3)
    with torch.no_grad():
        scores = class_scores(head, [first, second, third], queries)
        torch.testing.assert_close(scores[:, 1:], class_scores(head, [second, third], queries))
        torch.testing.assert_close(scores[:, :1], class_scores(head, [first, first], queries)[:, :1])


@pytest.mark.parametrize("name", ["logistic", "svm", "knn"])
def test_what_is_fitted_to_all_classes_sees_each_as_often(name: str) -> None:
    head, examples, queries = states_of(name, 1, 2, 3)
    as_often = torch.stack([of.repeat(6 // len(of), 1) for of in examples])
    with torch.no_grad():
        torch.testing.assert_close(class_scores(head, examples, queries), head.logits(as_often[None], queries[None])[0])


def test_numbers_without_a_small_multiple_are_filled_up_to_the_largest() -> None:
    head, examples, queries = states_of("logistic", 7, 5)
    assert math.lcm(7, 5) > REPEATED
    filled = torch.stack([examples[0], examples[1][[0, 1, 2, 3, 4, 0, 1]]])
    with torch.no_grad():
        torch.testing.assert_close(class_scores(head, examples, queries), head.logits(filled[None], queries[None])[0])


def test_every_example_is_scored_by_classes_that_are_one_smaller_and_by_the_other_classes() -> None:
    head = build_head("prototype-euclidean", 2)
    two, three = vectors((0, 0), (2, 0)), vectors((10, 0), (12, 0), (14, 0))
    scores = held_out(head, [two, three, vectors((0, 5))])
    assert scores.own.tolist() == [0, 1, 0, 1, 1]
    assert scores.place.tolist() == [0, 0, 1, 1, 2]
    # the first of class 0, by (2, 0), by the mean of 12 and 14, and by the only one of class 2
    assert scores.inside[0].tolist() == [-4, -169, -25]
    assert scores.inside[4].tolist() == [-144, -9, -221]  # 14: less the first of class 0, which is the third's turn
    assert [of.shape for of in scores.outside] == [(2, 2), (3, 2), (1, 2)]
    assert scores.outside[2].tolist() == [[-26, -169]]  # by means 1 and 12 of the two others


@pytest.mark.parametrize("counts", [(1, 2), (2, 1, 3), (1, 1)])
@pytest.mark.parametrize("name", [name for name, row in HEADS.items() if not row.gallery])
def test_every_head_scores_what_is_held_out_of_few_examples(name: str, counts: tuple[int, ...]) -> None:
    head, examples, queries = states_of(name, *counts)
    with torch.no_grad():
        held, scores = held_out(head, examples), class_scores(head, examples, queries).double().numpy()
    assert held.inside.shape == (sum(count for count in counts if count > 1), len(counts))
    factor = fit_factor(held)
    assert math.isfinite(factor)
    np.testing.assert_allclose(probabilities(scores, factor).sum(1), 1)


def test_the_factor_takes_two_right_examples_for_three_quarters_sure() -> None:
    held = HeldOut(np.eye(2), np.array([0, 1]), np.zeros(2, np.int64), [np.zeros((1, 1)), np.ones((1, 1))])
    assert fit_factor(held) == pytest.approx(math.log(3), rel=0.03)  # (2 + 1) / (2 + 2), and the steps are 6%


def test_without_a_held_out_example_the_spread_of_the_scores_for_other_classes_is_one() -> None:
    held = HeldOut(np.empty((0, 3)), np.empty(0, np.int64), np.empty(0, np.int64), [np.array([[0.0, 4.0]])] * 3)
    assert fit_factor(held) == 0.5


def test_probabilities_are_the_softmax_of_the_scores_times_the_factor() -> None:
    np.testing.assert_allclose(probabilities(np.array([[0.0, 1.0]]), math.log(3)), [[0.25, 0.75]])


def test_the_threshold_lies_in_the_middle_of_the_widest_gap_that_is_least_wrong() -> None:
    held = found([(0.9, 0.1), (0.2, 0.8)], [0, 1], [(0.5, 0.5), (0.6, 0.4)])
    assert measure_rejection(held, 1, None) == pytest.approx((0.7, 0, 0))


def test_a_threshold_that_is_given_is_measured_on_both_kinds_of_examples() -> None:
    held = found([(0.9, 0.1), (0.2, 0.8), (0.7, 0.3)], [0, 1, 0], [(0.5, 0.5), (0.8, 0.2)])
    assert measure_rejection(held, 1, 0.75) == pytest.approx((0.75, 1 / 3, 1 / 2))


def test_of_two_classes_nothing_tells_a_threshold() -> None:
    held = HeldOut(np.eye(2), np.array([0, 1]), np.zeros(2, np.int64), [np.zeros((1, 1)), np.ones((1, 1))])
    assert measure_rejection(held, 1, 0.6) == (0.6, 0, None)
    with pytest.raises(ValueError, match="nothing"):
        measure_rejection(held, 1, None)
