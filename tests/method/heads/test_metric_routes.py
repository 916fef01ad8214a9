"""Every faster route against `logits` of one episode after another, whatever is done at once."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from test_metric_properties import DIM, HEADS, built, close, draw
from torch import Tensor

from amefu_cli.method.episodes import Episodes, draw_episodes, hits
from amefu_cli.method.heads import pair_table, routes
from amefu_cli.method.heads.base import Head, PairHead, SeededHead
from amefu_cli.method.heads.otam import OTAM
from amefu_cli.method.heads.pair_table import Rows, build_pair_table, pair_keys
from amefu_cli.method.heads.routes import score_episodes, scored_chunks

LABELS = np.repeat(np.arange(6), 5)


def drawn(shot: int, *, count: int = 12, queries: int = 2) -> Episodes:
    rng = np.random.default_rng(shot)
    return draw_episodes(LABELS, way=4, shot=shot, queries=queries, count=count, rng=rng, class_names=["few"] * 6)


@torch.no_grad()
def one_by_one(head: Head, states: Tensor, episodes: Episodes) -> Tensor:
    """The yardstick: `logits` of every episode alone."""
    found = []
    for number, (support, query) in enumerate(zip(episodes.support, episodes.query, strict=True)):
        sides = states[torch.from_numpy(support)][None], states[torch.from_numpy(query.ravel())][None]
        seeded = isinstance(head, SeededHead)
        found.append(head.logits(*sides, torch.tensor([number])) if seeded else head.logits(*sides))
    return torch.cat(found)


@pytest.fixture(params=["large", "small", "single"])
def chunks(request, monkeypatch):
    """All at once; a few episodes, tiles of 7 videos; one by one, and no Gram matrix."""
    if request.param == "large":
        return
    small = request.param == "small"
    monkeypatch.setattr(routes, "STATE_NUMBERS", 5 * 20 * 8 * DIM if small else 1)
    monkeypatch.setattr(routes, "LOOKED_UP", 1000 if small else 1)
    monkeypatch.setattr(pair_table, "TILE_SIDE", 7 if small else 1)
    if not small:
        monkeypatch.setattr(routes, "GRAM_VIDEOS", 0)


@pytest.mark.usefixtures("chunks")
@pytest.mark.parametrize("shot", [1, 3])
@pytest.mark.parametrize("name", HEADS)
def test_the_route_gives_the_logits_of_every_episode(name, shot):
    head, episodes = built(name), drawn(shot)
    with torch.no_grad():
        states = head.embed(draw(30, 8, DIM))
    close(score_episodes(head, states, episodes), one_by_one(head, states, episodes), name)


@pytest.mark.parametrize("name", [name for name in HEADS if isinstance(built(name), PairHead)])
@pytest.mark.parametrize("gain", [0, 1, 1e9], ids=["listed", "listed by cost", "table"])
def test_a_table_of_all_pairs_and_a_list_of_some_agree(monkeypatch, name, gain):
    head, episodes = built(name), drawn(2)
    monkeypatch.setattr(type(head), "tile_gain", gain)
    with torch.no_grad():
        states = head.embed(draw(30, 8, DIM))
    close(score_episodes(head, states, episodes), one_by_one(head, states, episodes))


@pytest.mark.parametrize("name", ["otam", "logistic", "prototype-cosine", "bi-mhm"])
def test_videos_outside_the_episodes_do_not_matter(name):
    """Not even a state that is not finite."""
    head, episodes = built(name), drawn(1, count=1, queries=1)
    states = head.embed(draw(30, 8, DIM))
    expected = score_episodes(head, states, episodes)
    outside = np.setdiff1d(np.arange(30), np.concatenate((episodes.support.ravel(), episodes.query.ravel())))
    states[torch.from_numpy(outside)] = torch.nan
    close(score_episodes(head, states, episodes), expected)


@pytest.mark.parametrize("name", ["otam", "logistic", "prototype-cosine", "bi-mhm"])
def test_progress_rises_to_the_whole(monkeypatch, name):
    monkeypatch.setattr(pair_table, "TILE_SIDE", 7)
    monkeypatch.setattr(routes, "LOOKED_UP", 100)
    monkeypatch.setattr(routes, "STATE_NUMBERS", 4000)
    head, told = built(name), []
    score_episodes(head, head.embed(draw(30, 8, DIM)), drawn(1), progress=lambda done, of: told.append((done, of)))
    assert len(told) > 2
    assert told == sorted(told)
    assert told[-1][0] == told[-1][1]


def test_pieces_come_in_order(monkeypatch):
    monkeypatch.setattr(routes, "LOOKED_UP", 8 * 4 * 5)  # five episodes of 8 queries and 4 supports
    head = built("otam")
    pieces = [piece for piece, _ in scored_chunks(head, head.embed(draw(30, 8, DIM)), drawn(1))]
    assert pieces == [slice(0, 5), slice(5, 10), slice(10, 12)]


def test_float32_decides_as_float64_does():
    head, frames, episodes = OTAM(DIM), draw(30, 8, DIM), drawn(1, count=100)
    wide, narrow = (score_episodes(head, head.embed(frames.to(kind)), episodes) for kind in (torch.double, torch.float))
    assert narrow.dtype == torch.float32
    torch.testing.assert_close(narrow.double(), wide, rtol=1e-4, atol=1e-5)
    assert hits(narrow, 2).tolist() == hits(wide, 2).tolist()


def test_hits_by_hand():
    """Two ways of two queries, class by class; the last one's tie falls to the first way."""
    logits = torch.tensor([[[2.0, 1.0], [0.0, 1.0], [0.0, 3.0], [1.0, 1.0]]])
    assert hits(logits, 2).tolist() == [[[True, False], [True, False]]]


class Numbered(PairHead):
    """A video's state is its number, a score is query * 1000 + support, or with them in order."""

    tile_gain = 1e9

    def __init__(self, *, symmetric: bool) -> None:
        super().__init__(1)
        self.symmetric = symmetric

    def pair_scores(self, query: Tensor, support: Tensor) -> Tensor:
        if self.symmetric:
            query, support = torch.minimum(query, support), torch.maximum(query, support)
        return (query * 1000 + support)[:, 0]


@given(
    pairs=st.lists(st.tuples(st.integers(0, 12), st.integers(0, 12)), min_size=1, max_size=40),
    side=st.integers(1, 14),
    symmetric=st.booleans(),
    whole=st.booleans(),
)
def test_any_pair_is_found_at_its_place(pairs, side, symmetric, whole):
    head, states = Numbered(symmetric=symmetric), torch.arange(13.0).unsqueeze(1)
    head.tile_gain = 1e9 if whole else 0
    query, support = (np.array(x) for x in zip(*pairs, strict=True))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(pair_table, "TILE_SIDE", side)
        table = build_pair_table(head, states, query, support, None)
    assert (table.keys is None) == whole
    ordered = [sorted(pair) if symmetric else pair for pair in pairs]
    assert table.look_up(query, support).tolist() == [a * 1000 + b for a, b in ordered]
    crossed = table.look_up(query[:, None], query[None]) if whole else None
    assert crossed is None or crossed.shape == (len(pairs), len(pairs))


@given(st.integers(1, 50), st.data())
def test_a_key_is_one_pair(videos, data):
    pair = st.tuples(st.integers(0, videos - 1), st.integers(0, videos - 1))
    (a, b), (c, d) = data.draw(pair), data.draw(pair)
    same = [
        pair_keys(*map(np.array, (a, b)), videos, symmetric=symmetric)
        == pair_keys(*map(np.array, (c, d)), videos, symmetric=symmetric)
        for symmetric in (False, True)
    ]
    assert same == [(a, b) == (c, d), sorted((a, b)) == sorted((c, d))]


def test_rows_are_gathered_into_the_same_memory():
    states = draw(9, 3, 2)
    rows = Rows(states)
    first = rows.take(np.array([[1, 2], [3, 1]]))
    close(first, states[torch.tensor([[1, 2], [3, 1]])])
    second = rows.take(np.array([8]))
    assert second.data_ptr() == first.data_ptr()
    close(second, states[8:])
    close(rows.means(np.array([[0, 4], [2, 2]])), torch.stack(((states[0] + states[4]) / 2, states[2])))
