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
    asynchronous_clips,
    clip_by_rule,
    consecutive_clip,
    eight_clip,
    joined,
    middle_clip,
    random_clips,
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


@given(frames=counts, seed=st.integers(0, 9), num_aug=st.integers(0, 3))
def test_asynchrony_leaves_the_matched_clip_untouched(frames, seed, num_aug):
    matched = random_clips(frames, **FOUR_BY_FOUR, rng=np.random.default_rng(seed))
    clips = asynchronous_clips(frames, **FOUR_BY_FOUR, num_aug=num_aug, rng=np.random.default_rng(seed))
    assert clips.shape == (1 + num_aug, len(frames), 16)
    assert (clips[0] == matched).all()


def test_asynchronous_clips_differ_from_the_matched_one():
    clips = asynchronous_clips(np.full(50, 300), **FOUR_BY_FOUR, num_aug=2, rng=np.random.default_rng(0))
    assert (clips[0] != clips[1]).any(axis=1).all()
    assert (clips[1] != clips[2]).any(axis=1).all()


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
