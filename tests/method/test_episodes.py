"""Episodes: hand-worked draws, exact uniformity, properties, and refusals before any work."""

from __future__ import annotations

import re
from collections import Counter

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from amefu_cli.errors import UsageError
from amefu_cli.method.episodes import Episodes, depth_of_any, depth_of_class, draw_episodes, hits

NAMES = ["archery", "bowling", "fencing", "diving"]


def draw(labels, *, way, shot, queries, count, seed=0, one_query=False):
    rng = np.random.default_rng(seed)
    return draw_episodes(
        np.array(labels), way=way, shot=shot, queries=queries, count=count, rng=rng, class_names=NAMES,
        one_query=one_query,
    )  # fmt: skip


def test_a_class_is_used_up_exactly():
    """Two classes of 3 videos, 2-way, 2-shot, 1 query: every video of every class appears once."""
    episodes = draw([3, 1, 3, 1, 1, 3], way=2, shot=2, queries=1, count=50)
    assert episodes.classes.shape == (50, 2)
    assert episodes.support.shape == (50, 2, 2)
    assert episodes.query.shape == (50, 2, 1)
    members = {1: [1, 3, 4], 3: [0, 2, 5]}
    for classes, support, query in zip(episodes.classes, episodes.support, episodes.query, strict=True):
        assert sorted(classes) == [1, 3]
        for label, supports, queries in zip(classes, support, query, strict=True):
            assert sorted([*supports, *queries]) == members[label]


def test_draws_are_uniform_over_ordered_arrangements():
    """4 videos of one class, 2 supports and 1 query: 24 ordered draws, each 1 in 24."""
    episodes = draw([2, 2, 2, 2], way=1, shot=2, queries=1, count=24_000)
    arrangements = np.concatenate([episodes.support, episodes.query], axis=2)[:, 0]
    counts = Counter(map(tuple, arrangements.tolist()))
    assert len(counts) == 24
    assert max(abs(count - 1000) for count in counts.values()) < 150  # 4.8 standard deviations


def test_classes_are_uniform_whatever_their_size():
    episodes = draw([0] * 2 + [1] * 50 + [2] * 5 + [3] * 2, way=2, shot=1, queries=1, count=12_000)
    counts = Counter(map(tuple, episodes.classes.tolist()))
    assert len(counts) == 12
    assert max(abs(count - 1000) for count in counts.values()) < 150


def test_the_same_seed_the_same_episodes():
    labels = np.repeat(np.arange(4), 9)
    first, again, other = (draw(labels, way=3, shot=2, queries=2, count=20, seed=seed) for seed in (7, 7, 8))
    assert (first.classes == again.classes).all()
    assert (first.support == again.support).all()
    assert (first.query == again.query).all()
    assert (first.support != other.support).any()


def test_one_query_an_episode_is_of_a_random_class():
    """The same episodes as with a query of each class, but for the queries that are left out; each class is asked for
    about as often."""
    labels = np.repeat(np.arange(4), 9)
    every, one = (
        draw(labels, way=3, shot=2, queries=1, count=6000, one_query=one_query) for one_query in (False, True)
    )
    assert (one.query.shape, one.targets.tolist(), one.videos.shape) == ((6000, 1, 1), [0], (6000, 7))
    assert np.array_equal(one.support, every.support)
    assert np.array_equal(one.query, every.query[:, :1])
    assert np.array_equal(labels[one.query[:, :, 0]], one.asked)
    assert np.abs(np.bincount(one.asked.ravel()) / 1500 - 1).max() < 0.1


def test_of_one_seed_more_shots_have_the_same_queries_and_first_supports():
    few, many = (draw(np.repeat(np.arange(4), 9), way=3, shot=shot, queries=2, count=20) for shot in (1, 5))
    assert (few.classes == many.classes).all()
    assert (few.query == many.query).all()
    assert (few.support == many.support[..., :1]).all()


def test_ten_thousand_episodes_are_pinned():
    """A change in these numbers breaks every comparison with results written before."""
    episodes = draw_episodes(
        np.repeat(np.arange(21), 131),
        way=5,
        shot=5,
        queries=1,
        count=10_000,
        rng=np.random.default_rng(0),
        class_names=[],
    )
    assert episodes.classes[0].tolist() == [17, 13, 4, 2, 19]
    assert episodes.support[-1, -1].tolist() == [1722, 1770, 1833, 1777, 1753]
    assert episodes.query[-1, -1].tolist() == [1727]


@given(
    sizes=st.lists(st.integers(0, 12), min_size=4, max_size=4),
    way=st.integers(1, 4),
    shot=st.integers(1, 4),
    queries=st.integers(1, 4),
    seed=st.integers(0, 5),
)
def test_every_episode_is_sound_or_all_are_refused(sizes, way, shot, queries, seed):
    labels = np.random.default_rng(seed).permutation(np.repeat(np.arange(4), sizes))
    present = [size for size in sizes if size]
    if len(present) < way or min(present, default=0) < shot + queries:
        with pytest.raises(UsageError):
            draw(labels, way=way, shot=shot, queries=queries, count=5, seed=seed)
        return
    episodes = draw(labels, way=way, shot=shot, queries=queries, count=5, seed=seed)
    videos = np.concatenate([episodes.support, episodes.query], axis=2)
    assert (labels[videos] == episodes.classes[..., None]).all()
    assert all(len(set(classes.tolist())) == way for classes in episodes.classes)
    assert all(len(set(row.tolist())) == shot + queries for row in videos.reshape(-1, shot + queries))


@pytest.mark.parametrize(
    ("request_", "message"),
    [
        (
            {"way": 3, "shot": 5, "queries": 1},
            "fencing holds 3 videos but 5-shot with 1 query needs 6; "
            "lower the shot or the queries, or leave the class out of the split",
        ),
        (
            {"way": 2, "shot": 5, "queries": 3},
            "bowling holds 7 videos, fencing holds 3 videos but 5-shot with 3 queries needs 8; "
            "lower the shot or the queries, or leave the class out of the split",
        ),
        (
            {"way": 5, "shot": 1, "queries": 1},
            "5-way episodes need 5 classes but only 3 hold videos; lower the way or give more classes",
        ),
    ],
)
def test_what_cannot_be_drawn_is_refused_by_name(request_, message):
    labels = [0] * 9 + [1] * 7 + [2] * 3
    with pytest.raises(UsageError, match=f"^{re.escape(message)}$"):
        draw(labels, count=1, **request_)


def test_a_refusal_draws_nothing():
    rng = np.random.default_rng(0)
    with pytest.raises(UsageError, match="archery holds 1 video but 1-shot with 1 query needs 2"):
        draw_episodes(np.array([0]), way=1, shot=1, queries=1, count=1, rng=rng, class_names=NAMES)
    assert rng.integers(1 << 30) == np.random.default_rng(0).integers(1 << 30)


def test_mismatched_axes_are_refused():
    classes, support, query = (np.zeros(shape, np.int64) for shape in [(4, 2), (4, 2, 1), (4, 3, 1)])
    message = r"classes \(4, 2\), support \(4, 2, 1\) and query \(4, 3, 1\) must share their first two axes"
    with pytest.raises(ValueError, match=message):
        Episodes(classes, support, query)


@given(labels=st.lists(st.integers(0, 3), min_size=1, max_size=30).map(np.array), seed=st.integers(0, 9))
def test_the_depth_of_another_video_is_given_once_and_never_its_own(labels, seed):
    everyone = np.arange(len(labels))
    for draw_given, group in ((depth_of_any, np.zeros_like(labels)), (depth_of_class, labels)):
        given = draw_given(labels, np.random.default_rng(seed))
        assert sorted(given) == [*everyone]
        assert (group[given] == group).all()
        alone = np.bincount(group)[group] == 1
        assert ((given == everyone) == alone).all()


def test_a_tie_is_right_as_often_as_a_guess():
    """Equal logits of 4 ways: with a query of each class one of four is right, with a single one every fourth."""
    assert hits(np.zeros((8, 4, 4)), 1).mean() == 0.25
    assert hits(np.zeros((8, 1, 4)), 1).ravel().tolist() == [True, False, False, False] * 2
    assert hits(np.zeros((3, 1, 4)), 1, first=3).ravel().tolist() == [False, True, False]
    tied = np.array([[[1.0, 1, 0]], [[1, 1, 0]], [[0, 1, 1]], [[2, 1, 1]]])  # the first one's share of the largest
    assert hits(tied, 1).ravel().tolist() == [True, False, False, True]
