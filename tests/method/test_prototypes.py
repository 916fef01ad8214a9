"""Prototypes, cosine and Euclidean logits, and the Gram look-up against the plain computation."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from amefu_cli.errors import UsageError
from amefu_cli.method.episodes import Episodes, draw_episodes
from amefu_cli.method.heads import CLASSIFIERS
from amefu_cli.method.heads import prototypes as classifier_module
from amefu_cli.method.heads.prototypes import (
    accuracy_by_class,
    accuracy_with_interval,
    classify_episodes,
    episode_logits,
)

# two classes of two supports: prototypes (3, 4) and (0, -2); queries (1, 0) and (0, 0)
SUPPORT = torch.tensor([[[2.0, 4.0], [4.0, 4.0]], [[0.0, 0.0], [0.0, -4.0]]])
QUERY = torch.tensor([[1.0, 0.0], [0.0, 0.0]])


@pytest.mark.parametrize(
    ("name", "expected"),
    [("cosine", [[0.6, 0.0], [0.0, 0.0]]), ("euclidean", [[-20.0, -5.0], [-25.0, -4.0]])],
)
def test_logits_by_hand(name, expected):
    assert episode_logits(SUPPORT, QUERY, name).numpy() == pytest.approx(np.array(expected), abs=1e-6)


@pytest.mark.parametrize("name", CLASSIFIERS)
def test_leading_axes_are_a_batch(name):
    rng = torch.Generator().manual_seed(0)
    support, query = torch.randn(3, 4, 2, 8, generator=rng), torch.randn(3, 5, 8, generator=rng)
    one_by_one = torch.stack([episode_logits(s, q, name) for s, q in zip(support, query, strict=True)])
    torch.testing.assert_close(episode_logits(support, query, name), one_by_one)


def test_the_cosine_of_a_zero_vector_has_a_finite_gradient():
    query = torch.zeros(1, 2, requires_grad=True)
    episode_logits(SUPPORT, query, "cosine").sum().backward()
    assert torch.isfinite(query.grad).all()


def hand_worked_episodes() -> tuple[np.ndarray, Episodes]:
    """Videos 0, 1 are of class 7, videos 2, 3 of class 9; video 4 belongs to no episode."""
    vectors = np.array([[1, 0], [1, 0.1], [0, 1], [3, 0.1], [9, 9]], dtype=np.float32)
    classes = np.array([[7, 9], [9, 7]])
    support = np.array([[[0], [2]], [[3], [1]]])
    query = np.array([[[1], [3]], [[2], [0]]])
    return vectors, Episodes(classes, support, query)


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        # episode 0: (1, 0.1) is near (1, 0); (3, 0.1) points along (1, 0), not (0, 1).
        # episode 1: (0, 1) is nearer (1, 0.1) than (3, 0.1) both ways;
        #            (1, 0) lies at 1.9 degrees to (3, 0.1) and 5.7 to (1, 0.1), but at distance 2 and 0.1.
        ("cosine", [[True, False], [False, False]]),
        ("euclidean", [[True, False], [False, True]]),
    ],
)
def test_outcomes_by_hand(name, expected):
    vectors, episodes = hand_worked_episodes()
    outcomes = classify_episodes(vectors, episodes, classifier=name)
    assert outcomes.dtype == np.bool_
    assert outcomes[..., 0].tolist() == expected


@pytest.mark.parametrize("name", CLASSIFIERS)
def test_a_tie_falls_to_the_earlier_way(name):
    vectors = np.ones((6, 3), dtype=np.float32)
    episodes = Episodes(np.array([[0, 1, 2]]), np.array([[[0], [1], [2]]]), np.array([[[3], [4], [5]]]))
    assert classify_episodes(vectors, episodes, classifier=name)[0, :, 0].tolist() == [True, False, False]


def clustered(videos: int, dim: int) -> tuple[np.ndarray, np.ndarray]:
    """Labels (videos,) of 7 classes and vectors (videos, dim) in overlapping clusters off the origin."""
    rng = np.random.default_rng(0)
    labels = np.sort(rng.integers(0, 7, videos))
    centres = rng.standard_normal((7, dim))
    return labels, (0.3 + centres[labels] + 2 * rng.standard_normal((videos, dim))).astype(np.float32)


@pytest.mark.parametrize("name", CLASSIFIERS)
@pytest.mark.parametrize("gram_videos", [8192, 0], ids=["gram", "vectors"])
@pytest.mark.parametrize(("shot", "queries"), [(1, 1), (5, 1), (3, 4)])
def test_both_ways_agree_with_the_plain_computation(monkeypatch, name, gram_videos, shot, queries):
    """Chunks smaller than the whole, and a mean of float64 vectors episode by episode as the yardstick."""
    monkeypatch.setattr(classifier_module, "GRAM_VIDEOS", gram_videos)
    monkeypatch.setattr(classifier_module, "CHUNK_ENTRIES", 3000)
    labels, vectors = clustered(120, 32)
    rng = np.random.default_rng(1)
    episodes = draw_episodes(labels, way=5, shot=shot, queries=queries, count=101, rng=rng, class_names=["few"] * 7)
    outcomes = classify_episodes(vectors, episodes, classifier=name)
    wide = torch.from_numpy(vectors).double()
    for support, query, outcome in zip(episodes.support, episodes.query, outcomes, strict=True):
        prototypes = wide[support].mean(1)
        if name == "cosine":
            near = torch.nn.functional.cosine_similarity(wide[query][:, :, None], prototypes, dim=-1)
        else:
            near = -torch.cdist(wide[query], prototypes)
        assert (near.argmax(-1) == torch.arange(5)[:, None]).tolist() == outcome.tolist()
    assert 0.3 < outcomes.mean() < 0.99  # neither chance nor trivial


def test_videos_outside_the_episodes_do_not_matter():
    """Not even a vector that is not finite: other classes never touch the result."""
    vectors, episodes = hand_worked_episodes()
    clean = classify_episodes(vectors, episodes, classifier="cosine")
    vectors[4] = np.nan
    assert (classify_episodes(vectors, episodes, classifier="cosine") == clean).all()


def test_accuracy_and_interval_by_hand():
    """Episode accuracies 1, 0.5, 0.5, 0: mean 0.5, sample variance 1/6."""
    outcomes = np.array([[[True], [True]], [[True], [False]], [[False], [True]], [[False], [False]]])
    mean, half_width = accuracy_with_interval(outcomes)
    assert mean == 0.5
    assert half_width == pytest.approx(1.96 * (1 / 6) ** 0.5 / 2)


def test_one_episode_has_no_interval():
    with pytest.raises(UsageError, match=r"1 episode\(s\) give no interval; draw at least 2"):
        accuracy_with_interval(np.ones((1, 5, 1), dtype=np.bool_))


def test_accuracy_by_class_by_hand():
    classes = np.array([[4, 2], [2, 9], [9, 2]])
    outcomes = np.array([[[True, True], [True, False]], [[False, False], [True, True]], [[True, False], [True, True]]])
    assert accuracy_by_class(outcomes, classes) == {2: 0.5, 4: 1.0, 9: 0.75}
