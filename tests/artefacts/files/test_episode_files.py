"""Episodes as files: the same ones wherever they are replayed, small, and held to what they promise."""

from __future__ import annotations

import json
import re

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from safetensors.numpy import save_file
from synthetic_features import NOVEL, amefu, make_store

from amefu_cli.artefacts.files.episodes import DrawnEpisodes, EpisodeNotes, EpisodeShape, read_episodes, write_episodes
from amefu_cli.artefacts.files.results import open_result
from amefu_cli.errors import DamagedFile, UsageError

IDS = ("b/2", "a/1", "c/9", "b/1", "a/2", "c/1")


def by_hand() -> DrawnEpisodes:
    """One episode, 2-way 1-shot 1-query: class b (support b/2, query b/1) and class a (a/2, a/1); c is not used."""
    return DrawnEpisodes.of(IDS, np.array([[[0], [4]]]), np.array([[[3], [1]]]), EpisodeNotes(3))


def test_only_the_videos_in_use_are_listed_in_order():
    drawn = by_hand()
    assert drawn.ids == ("a/1", "a/2", "b/1", "b/2")
    assert drawn.support.tolist() == [[[3], [1]]]
    assert drawn.query.tolist() == [[[2], [0]]]
    assert drawn.class_names == ("a", "b")
    assert drawn.shape == EpisodeShape(way=2, shot=1, queries=1, episodes=1)


def test_a_file_gives_back_what_was_written(tmp_path):
    path = tmp_path / "episodes.safetensors"
    write_episodes(path, by_hand())
    read = read_episodes(path)
    assert (read.ids, read.notes, read.fingerprint) == (by_hand().ids, EpisodeNotes(3), by_hand().fingerprint)
    assert (read.support == by_hand().support).all()
    assert (read.query == by_hand().query).all()
    again = tmp_path / "again.safetensors"
    write_episodes(again, by_hand())
    assert again.read_bytes() == path.read_bytes()


def test_the_fingerprint_is_that_of_the_videos_and_not_of_the_list():
    other = DrawnEpisodes.of(
        ("a/2", "z/1", "b/2", "b/1", "a/1"), np.array([[[2], [0]]]), np.array([[[3], [4]]]), EpisodeNotes(8)
    )
    assert other.fingerprint == by_hand().fingerprint
    swapped = DrawnEpisodes.of(IDS, np.array([[[4], [0]]]), np.array([[[1], [3]]]), EpisodeNotes(0))
    assert swapped.fingerprint != by_hand().fingerprint  # the ways in another order: ties fall otherwise


@given(st.permutations(range(6)), st.data())
def test_placing_undoes_listing(order, data):
    videos = np.array(data.draw(st.permutations(range(6)))).reshape(1, 2, 3)
    drawn = DrawnEpisodes.of(IDS, videos[..., :2], videos[..., 2:], EpisodeNotes(0))
    ids = tuple(IDS[video] for video in order)
    support, query = drawn.placed_in(ids, source="x")
    assert [ids[video] for video in support.ravel()] == [IDS[video] for video in videos[..., :2].ravel()]
    assert [ids[video] for video in query.ravel()] == [IDS[video] for video in videos[..., 2:].ravel()]


def test_a_store_without_the_videos_is_named():
    message = "features.zarr: lacks 2 of the 4 videos that the episodes use, such as 'b/1'; draw others with"
    with pytest.raises(UsageError, match=re.escape(message)):
        by_hand().placed_in(("a/1", "a/2", "c/1"), source="features.zarr")


def write(path, support, query, videos, notes=None, schema=1):
    header = {"schema": schema, "videos": videos, "notes": notes or {"seed": 0}}
    arrays = {"support": np.array(support, np.uint16), "query": np.array(query, np.uint16)}
    save_file(arrays, path, metadata={"amefu-episodes": json.dumps(header)})


@pytest.mark.parametrize(
    ("support", "query", "videos", "message"),
    [
        ([[[0], [2]]], [[[1], [4]]], ["a/1", "a/2", "b/1", "b/2"], "points at video 4, the file lists 4"),
        ([[[0], [2]]], [[[1, 1]]], ["a/1", "a/2", "b/1", "b/2"], "must share their first two axes (episodes, way)"),
        ([[[0], [2]]], [[[3]]], ["a/1", "a/2", "b/1", "b/2"], "mixes classes in one way"),
        ([[[0], [1]]], [[[2], [3]]], ["a/1", "a/2", "b/1", "b/2"], "mixes classes in one way"),
        ([[[0], [1]]], [[[2], [3]]], ["a/1", "a/2", "a/3", "a/4"], "or has one class in two ways"),
        ([[[0], [2]]], [[[1], [3]]], ["a/2", "a/1", "b/1", "b/2"], "a field of another type or schema"),
        ([[[0], [2]]], [[[1], [3]]], {"a/1": 0}, "a field of another type or schema"),
    ],
)
def test_a_file_that_breaks_its_promise_is_refused(tmp_path, support, query, videos, message):
    write(tmp_path / "broken", support, query, videos)
    with pytest.raises(DamagedFile, match=re.escape(message)):
        read_episodes(tmp_path / "broken")


def test_a_single_query_is_of_the_first_class(tmp_path):
    write(tmp_path / "one", [[[0], [2]], [[2], [0]]], [[[1]], [[3]]], ["a/1", "a/2", "b/1", "b/2"])
    drawn = read_episodes(tmp_path / "one")
    assert drawn.shape == EpisodeShape(way=2, shot=1, queries=1, episodes=2, one_query=True)
    assert drawn.query.tolist() == [[[1]], [[3]]]


def test_other_files_are_refused(tmp_path):
    with pytest.raises(UsageError, match=r"no such file of episodes; write one with `amefu episodes --out"):
        read_episodes(tmp_path / "absent")
    (tmp_path / "text").write_text("not safetensors at all")
    save_file({"weight": np.zeros(3)}, tmp_path / "weights")
    for name in ("text", "weights"):
        with pytest.raises(DamagedFile, match="not a file of episodes"):
            read_episodes(tmp_path / name)


def test_ten_thousand_episodes_are_a_small_file(feature_space):
    told = json.loads(amefu(feature_space, "episodes", "--count", "10000", "--json"))
    assert (told["way"], told["shot"], told["queries"], told["episodes"], told["videos"]) == (5, 1, 1, 10_000, 36)
    path = feature_space / "episodes" / "5way-1shot-1query-10000-seed0.safetensors"
    assert told["file"] == str(path)
    assert path.stat().st_size < 10_000 * 5 * 2 * 2 + 2000  # two bytes a video, and the header
    assert set(read_episodes(path).class_names) == set(NOVEL)
    assert read_episodes(path).notes.seed == 0


def test_a_file_is_not_replaced_by_other_episodes(feature_space):
    out = feature_space / "mine"
    amefu(feature_space, "episodes", "--out", out)
    before = out.read_bytes()
    amefu(feature_space, "episodes", "--out", out)
    with pytest.raises(UsageError, match=re.escape(f"{out}: holds other episodes; remove it, or choose another")):
        amefu(feature_space, "episodes", "--out", out, "--seed", "1")
    assert out.read_bytes() == before


def test_a_file_replays_bit_for_bit_on_another_store(feature_space, tmp_path):
    """The second store holds more videos, and so other row numbers; what is drawn from it afresh differs."""
    amefu(feature_space, "episodes", "--shot", "2", "--queries", "2", "--out", tmp_path / "file")
    other = make_store(tmp_path / "other.zarr", dict.fromkeys(("archery", *NOVEL), 7))
    (tmp_path / "split.json").write_text(json.dumps({"train": ["bow"], "test": ["archery", *NOVEL]}))
    drawn = ("--shot", "2", "--queries", "2")
    words = ("evaluate", "--model", "rgb", "--out")
    amefu(feature_space, *words, tmp_path / "first.json", "--episodes", "200", *drawn)
    amefu(feature_space, *words, tmp_path / "replayed.json", "--episodes", tmp_path / "file")
    elsewhere = ("--features", other.path, "--split", tmp_path / "split.json")
    amefu(feature_space, *words, tmp_path / "elsewhere.json", "--episodes", tmp_path / "file", *elsewhere)
    amefu(feature_space, *words, tmp_path / "afresh.json", "--episodes", "200", *drawn, *elsewhere)
    first, replayed, there, afresh = (
        open_result(tmp_path / f"{name}.json") for name in ("first", "replayed", "elsewhere", "afresh")
    )
    for result in (replayed, there):
        assert result.asked.episodes_fingerprint == first.asked.episodes_fingerprint
        assert result.found.right == first.found.right
        assert result.found.by_class == first.found.by_class
        assert (result.asked.shot, result.asked.queries, result.asked.seed) == (2, 2, None)
    assert (first.outcomes().shares == there.outcomes().shares).all()
    assert afresh.asked.episodes_fingerprint != first.asked.episodes_fingerprint


def test_options_that_the_file_contradicts_are_refused(feature_space, tmp_path):
    amefu(feature_space, "episodes", "--shot", "2", "--out", tmp_path / "file")
    message = f"--shot 3: the episodes of {tmp_path / 'file'} have shot 2; leave the option out"
    with pytest.raises(UsageError, match=re.escape(message)):
        amefu(feature_space, "evaluate", "--model", "rgb", "--episodes", tmp_path / "file", "--shot", "3")
    for option, value in (("--shot", 1), ("--seed", 7)):  # the default of a number to draw is no more true of a file
        with pytest.raises(UsageError, match=f"{option} {value}: the episodes of .* leave the option out"):
            amefu(feature_space, "evaluate", "--model", "rgb", "--episodes", tmp_path / "file", option, value)
    split = tmp_path / "split.json"
    split.write_text(json.dumps({"train": ["run", "bow"], "test": [*NOVEL[1:]]}))
    with pytest.raises(UsageError, match="has episodes of run, which the split does not name as novel classes"):
        amefu(feature_space, "evaluate", "--model", "rgb", "--episodes", tmp_path / "file", "--split", split)
