"""Frame sampling: hand-worked clips, the public code's rule, and properties of random places."""

from __future__ import annotations

import itertools
import re

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from amefu_cli.errors import UsageError
from amefu_cli.method.heads import TEST_CLIPS
from amefu_cli.method.sampling import (
    Places,
    clip_by_rule,
    consecutive_clip,
    eight_clip,
    joined,
    middle_clip,
    mirrored_views,
    random_clips,
    spread_runs,
    start_clip,
    windows_of,
)

FOUR_BY_FOUR = {"segments": 4, "frames_per_segment": 4}

# frame count -> the frames of the public test rule, 0-based (its reference file counts from 1)
OFFICIAL = {
    4: [0, 1, 2, 3, 1, 2, 3, 2, 3, 3, 3, 3, 3, 3, 3, 3],
    5: [0, 1, 2, 3, 1, 2, 3, 4, 2, 3, 4, 3, 4, 4, 4, 4],
    7: [0, 1, 2, 3, 1, 2, 3, 4, 2, 3, 4, 5, 3, 4, 5, 6],
    10: [0, 1, 2, 3, 2, 3, 4, 5, 4, 5, 6, 7, 6, 7, 8, 9],
    16: [0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15],
    17: [0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15],
    19: [0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15],
    20: [0, 1, 2, 3, 5, 6, 7, 8, 10, 11, 12, 13, 15, 16, 17, 18],
    31: [0, 1, 2, 3, 7, 8, 9, 10, 14, 15, 16, 17, 21, 22, 23, 24],
    64: [0, 1, 2, 3, 16, 17, 18, 19, 32, 33, 34, 35, 48, 49, 50, 51],
    100: [0, 1, 2, 3, 25, 26, 27, 28, 50, 51, 52, 53, 75, 76, 77, 78],
    250: [0, 1, 2, 3, 62, 63, 64, 65, 124, 125, 126, 127, 186, 187, 188, 189],
    300: [0, 1, 2, 3, 75, 76, 77, 78, 150, 151, 152, 153, 225, 226, 227, 228],
}


@pytest.mark.parametrize(
    ("frames", "expected"),
    [
        (1, [0] * 16),
        (2, [0] * 8 + [1] * 8),  # parts begin at 0, 0, 1, 1 and hold one frame each
        (6, [0, 0, 0, 0, 1, 2, 2, 2, 3, 3, 3, 3, 4, 5, 5, 5]),  # parts 0, 1-2, 3, 4-5
        (16, list(range(16))),
        (31, [1, 2, 3, 4, 9, 10, 11, 12, 17, 18, 19, 20, 25, 26, 27, 28]),
        (40, [3, 4, 5, 6, 13, 14, 15, 16, 23, 24, 25, 26, 33, 34, 35, 36]),
    ],
)
def test_middle_clip(frames, expected):
    clip = middle_clip(frames, **FOUR_BY_FOUR)
    assert clip.tolist() == expected
    assert clip.dtype == np.int64


@pytest.mark.parametrize("frames", OFFICIAL)
def test_start_clip_is_the_public_code(frames):
    assert start_clip(frames, **FOUR_BY_FOUR).tolist() == OFFICIAL[frames]


@pytest.mark.parametrize(("frames", "expected"), [(1, [0] * 6), (2, [0, 1, 0, 1, 0, 1]), (3, [0, 1, 1, 2, 2, 2])])
def test_start_clip_of_very_short_videos(frames, expected):
    assert start_clip(frames, segments=3, frames_per_segment=2).tolist() == expected


@pytest.mark.parametrize(
    ("frames", "expected"),
    [(1, [0, 0, 0, 0]), (3, [0, 1, 2, 2]), (4, [0, 1, 2, 3]), (7, [1, 2, 3, 4]), (10, [3, 4, 5, 6])],
)
def test_consecutive_clip(frames, expected):
    assert consecutive_clip(frames, segments=2, frames_per_segment=2).tolist() == expected


def test_every_test_clip_is_called_alike():
    clips = {rule: clip_by_rule(rule, 40, segments=2, frames_per_segment=3).tolist() for rule in TEST_CLIPS}
    assert clips == {
        "middle": [8, 9, 10, 28, 29, 30],
        "start": [0, 1, 2, 20, 21, 22],
        "consecutive": [17, 18, 19, 20, 21, 22],
        "eight": [2, 7, 12, 17, 22, 27, 32, 37],
    }


def test_random_clip_without_room_is_the_whole_video():
    clips = random_clips(np.array([16, 1, 6]), **FOUR_BY_FOUR, rng=np.random.default_rng(0))
    assert clips.tolist() == [middle_clip(frames, **FOUR_BY_FOUR).tolist() for frames in (16, 1, 6)]


def test_random_places_are_uniform_and_reach_both_ends():
    """13 frames in two parts of 6 and 7: a run of 5 has 2 and 3 places, each equally likely."""
    rng = np.random.default_rng(0)
    clips = random_clips(np.full(6000, 13), segments=2, frames_per_segment=5, rng=rng).reshape(6000, 2, 5)
    assert np.bincount(clips[:, 0, 0], minlength=2) == pytest.approx([3000, 3000], rel=0.05)
    assert np.bincount(clips[:, 1, 0])[6:] == pytest.approx([2000, 2000, 2000], rel=0.05)


@pytest.mark.parametrize("clip", [middle_clip, start_clip, consecutive_clip, eight_clip])
def test_a_video_without_frames_is_refused(clip):
    with pytest.raises(UsageError, match="video 0 of 1 holds 0 frames but a clip needs at least 1"):
        clip(0, **FOUR_BY_FOUR)


def test_the_video_without_frames_is_named():
    message = "video 2 of 3 holds -1 frames but a clip needs at least 1; leave it out"
    with pytest.raises(UsageError, match=f"^{re.escape(message)}$"):
        random_clips(np.array([3, 9, -1]), **FOUR_BY_FOUR, rng=np.random.default_rng(0))


counts = st.lists(st.integers(1, 400), min_size=1, max_size=8).map(np.array)
shapes = {"segments": st.integers(1, 6), "frames_per_segment": st.integers(1, 9)}


@given(frames=counts, seed=st.integers(0, 9), **shapes)
def test_random_clips_stay_in_their_parts_in_order(frames, seed, segments, frames_per_segment):
    rng = np.random.default_rng(seed)
    clips = random_clips(frames, segments=segments, frames_per_segment=frames_per_segment, rng=rng)
    runs = clips.reshape(len(frames), segments, frames_per_segment)
    steps = np.diff(runs, axis=2)
    assert ((steps == 0) | (steps == 1)).all()
    assert (steps[..., 1:] <= steps[..., :-1]).all()  # once a frame repeats, it repeats to the end
    for video, count in zip(runs, frames, strict=True):
        for segment, run in enumerate(video):
            first = segment * count // segments
            stop = max((segment + 1) * count // segments, first + 1)
            assert first <= run[0] <= run[-1] < stop <= count
            assert len(set(run.tolist())) == min(frames_per_segment, stop - first)


@given(frames=st.integers(1, 400), name=st.sampled_from(sorted(TEST_CLIPS.keys() - {"eight"})), **shapes)
def test_test_clips_have_their_length_and_range(frames, name, segments, frames_per_segment):
    clip = clip_by_rule(name, frames, segments=segments, frames_per_segment=frames_per_segment)
    assert clip.shape == (segments * frames_per_segment,)
    assert 0 <= clip.min() <= clip.max() < frames
    if name == "middle" or frames >= segments * frames_per_segment:
        assert (np.diff(clip.reshape(segments, -1), axis=1) >= 0).all()


@given(frames=st.integers(1, 400), **shapes)
def test_the_middle_run_leaves_equal_room_on_both_sides(frames, segments, frames_per_segment):
    middle = middle_clip(frames, segments=segments, frames_per_segment=frames_per_segment)
    for segment, run in enumerate(middle.reshape(segments, -1)):
        first, stop = segment * frames // segments, (segment + 1) * frames // segments
        if stop - first >= frames_per_segment:
            assert (stop - 1 - run[-1]) - (run[0] - first) in (0, 1)


def test_runs_lie_evenly_over_the_places_of_each_part():
    """40 frames, parts of 10: runs of 3 have the places 0 to 7 of each."""
    size = {"segments": 4, "frames_per_segment": 3}
    kept = {runs: spread_runs(40, runs=runs, **size)[:10].tolist() for runs in (1, 2, 3, 4)}
    assert kept == {
        1: [3, 4, 5, 13, 14, 15, 23, 24, 25, 33],
        2: [0, 1, 2, 7, 8, 9, 10, 11, 12, 17],
        3: [0, 1, 2, 3, 4, 5, 7, 8, 9, 10],
        4: [0, 1, 2, 3, 4, 5, 6, 7, 8, 9],
    }
    assert spread_runs(40, runs=1, **size).tolist() == middle_clip(40, **size).tolist()
    assert spread_runs(5, runs=1, **size).tolist() == [0, 1, 2, 3, 4]


@given(frames=st.integers(1, 400), runs=st.integers(1, 12), **shapes)
def test_runs_are_of_as_many_places_as_they_should(frames, runs, segments, frames_per_segment):
    kept = set(spread_runs(frames, runs=runs, segments=segments, frames_per_segment=frames_per_segment).tolist())
    for segment in range(segments):
        first = segment * frames // segments
        stop = max((segment + 1) * frames // segments, first + 1)
        places = range(first, max(first, stop - frames_per_segment) + 1)
        whole = [place for place in places if kept >= set(range(place, min(place + frames_per_segment, stop)))]
        assert len(whole) >= min(runs, len(places))
        if runs >= len(places):
            assert kept >= set(range(first, stop))


def table_of(kept, frames):
    """`frame`, `start` and `frames` of videos that keep some of their frames."""
    start = np.cumsum([0, *map(len, kept)])
    return np.concatenate([np.asarray(numbers, np.int64) for numbers in kept]), start, np.asarray(frames)


@given(frames=counts, seed=st.integers(0, 9), clips=st.integers(1, 4), **shapes)
def test_places_of_whole_videos_are_those_of_random_clips_draw_by_draw(
    frames, seed, clips, segments, frames_per_segment
):
    size = {"segments": segments, "frames_per_segment": frames_per_segment}
    frame, start, _ = table_of([range(count) for count in frames], frames)
    videos = np.random.default_rng(seed).integers(0, len(frames), 5)
    rng, other = np.random.default_rng(seed), np.random.default_rng(seed)
    rows = Places.of(frame, start, frames, **size).draw(videos, clips=clips, rng=rng)
    wanted = np.stack([random_clips(frames[videos], **size, rng=other) for _ in range(clips)])
    assert (frame[rows] == wanted).all()
    assert (rows - wanted == start[videos][:, None]).all()  # of the videos that were asked for
    assert rng.bit_generator.state == other.bit_generator.state


def test_places_are_where_the_whole_run_is_kept():
    """Two videos of 12 frames, in two parts of 6, runs of 3. The first keeps 0-3, 5 and 7-9; the second ends with a run
    whose frames belong to both parts, and has 6-8 besides."""
    frame, start, frames = table_of([[0, 1, 2, 3, 5, 7, 8, 9], [3, 4, 5, 6, 7, 8]], [12, 12])
    places = Places.of(frame, start, frames, segments=2, frames_per_segment=3)
    assert places.count.tolist() == [[2, 1], [1, 1]]
    drawn = frame[places.draw(np.array([0, 1, 0]), clips=50, rng=np.random.default_rng(0))]  # (clips, videos, frames)
    assert {tuple(clip) for clip in drawn[:, 0].tolist()} == {(0, 1, 2, 7, 8, 9), (1, 2, 3, 7, 8, 9)}
    assert {tuple(clip) for clip in drawn[:, 1].tolist()} == {(3, 4, 5, 6, 7, 8)}


def test_a_part_without_a_whole_run_has_no_place_and_a_short_part_has_one():
    """7 frames in two parts of 3 and 4, runs of 4: the first part is shorter, and its run repeats frame 2."""
    frame, start, frames = table_of([[0, 1, 2, 3, 4, 5, 6], [0, 1, 3, 4, 5, 6], [0, 1, 2, 4, 5, 6]], [7, 7, 7])
    places = Places.of(frame, start, frames, segments=2, frames_per_segment=4)
    assert places.count.tolist() == [[1, 1], [0, 1], [1, 0]]
    clip = frame[places.draw(np.array([0]), clips=1, rng=np.random.default_rng(0))]
    assert clip.tolist() == [[[0, 1, 2, 2, 3, 4, 5, 6]]]


@given(frames=counts, runs=st.integers(1, 5), seed=st.integers(0, 9), **shapes)
def test_consecutive_frames_are_consecutive_whatever_is_kept(frames, runs, seed, segments, frames_per_segment):
    size = {"segments": segments, "frames_per_segment": frames_per_segment}
    kept = [spread_runs(int(count), runs=runs, **size) for count in frames]
    frame, start, _ = table_of(kept, frames)
    places = Places.of(frame, start, frames, **size)
    assert (places.count >= 1).all()
    rows = places.draw(np.arange(len(frames)), clips=1, rng=np.random.default_rng(seed))[0]
    steps = np.diff(frame[rows].reshape(len(frames), segments, frames_per_segment), axis=2)
    assert ((steps == 0) | (steps == 1)).all()
    assert (steps[..., 1:] <= steps[..., :-1]).all()


def test_asynchrony_leaves_the_matched_clip_untouched():
    frame, start, frames = table_of([range(300)] * 50, [300] * 50)
    places = Places.of(frame, start, frames, **FOUR_BY_FOUR)
    alone, more = (places.draw(np.arange(50), clips=clips, rng=np.random.default_rng(0)) for clips in (1, 3))
    assert (alone[0] == more[0]).all()
    assert (more[0] != more[1]).any(axis=1).all()
    assert (more[1] != more[2]).any(axis=1).all()


def test_whether_a_view_is_mirrored_depends_on_no_other():
    some, more = (mirrored_views("jump/1", views, flip=0.5, seed=0) for views in (20, 200))
    assert some == [view for view in more if view <= 20]
    assert 60 < len(more) < 140
    assert mirrored_views("jump/2", 200, flip=0.5, seed=0) != more
    assert mirrored_views("jump/1", 3, flip=0.0, seed=0) == []
    assert mirrored_views("jump/1", 3, flip=1.0, seed=0) == [1, 2, 3]


# Windows -----------------------------------------------------------------------------------------------------


def test_windows_lie_in_the_video_one_every_so_many_seconds():
    assert windows_of(100, 10, window=4, every=2) == [(0, 40), (20, 40), (40, 40), (60, 40)]
    assert windows_of(99, 10, window=4, every=2) == [(0, 40), (20, 40), (40, 40)]
    assert windows_of(100, 10, window=1, every=4) == [(0, 10), (40, 10), (80, 10)]


def test_a_video_no_longer_than_a_window_is_one():
    assert windows_of(40, 10, window=4, every=2) == [(0, 40)]
    assert windows_of(3, 10, window=4, every=2) == [(0, 3)]


def test_windows_closer_than_frames_are_one_each_frame():
    assert windows_of(4, 10, window=0.2, every=0.01) == [(0, 2), (1, 2), (2, 2)]


def test_neighbours_of_one_label_are_joined_and_reach_to_the_middle_between_two_windows():
    windows = windows_of(100, 10, window=4, every=2)  # middles 20, 40, 60, 80
    assert joined(windows, ["a", "a", "b", None], 100) == [
        (slice(0, 2), 0, 50), (slice(2, 3), 50, 70), (slice(3, 4), 70, 100),
    ]  # fmt: skip
    assert joined(windows, ["a"] * 4, 100) == [(slice(0, 4), 0, 100)]


@given(st.integers(1, 2000), st.floats(1, 60), st.floats(0.05, 20), st.floats(0.05, 20))
def test_joined_windows_cover_the_video_once(frames, fps, window, every):
    windows = windows_of(frames, fps, window=window, every=every)
    assert all(of.begin >= 0 and of.begin + of.frames <= frames for of in windows)
    found = joined(windows, [number % 3 // 2 for number in range(len(windows))], frames)
    assert (found[0][1], found[-1][2]) == (0, frames)
    assert all(one[2] == other[1] for one, other in itertools.pairwise(found))
