"""Which frames of a video make a clip (paper §3.3). Frame numbers are 0-based; nothing is decoded here.

A video is cut into `segments` equal parts and `frames_per_segment` consecutive frames are taken from each.
A part shorter than that repeats its last frame; in a video with fewer frames than parts each part holds one.

    31 frames, 4 x 4:   |0 .. 6|7 .. 14|15 .. 22|23 .. 30|     the parts
    middle_clip:          1-4    9-12    17-20    25-28
"""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple, Self, cast

import numpy as np
from numpy.typing import NDArray

from amefu_cli.errors import UsageError
from amefu_cli.method.heads import TEST_CLIPS


def middle_clip(frames: int, *, segments: int, frames_per_segment: int) -> NDArray[np.int64]:
    """Frame numbers (segments * frames_per_segment,) int64 from the middle of each part of the video. Raises UsageError
    if the video holds no frame."""
    first, length = _parts(np.array([frames]), segments)
    return _runs(first, length, np.maximum(length - frames_per_segment, 0) // 2, frames_per_segment).ravel()


def random_clips(
    frames: NDArray[np.int64], *, segments: int, frames_per_segment: int, rng: np.random.Generator
) -> NDArray[np.int64]:
    """Frame numbers (videos, segments * frames_per_segment) int64, a random place in each part, for training. `frames`
    (videos,) int64 are the videos' frame counts. Raises UsageError if one of them is below 1."""
    first, length = _parts(frames, segments)
    places = np.maximum(length - frames_per_segment, 0) + 1
    return _runs(first, length, rng.integers(0, places), frames_per_segment)


def spread_runs(frames: int, *, runs: int, segments: int, frames_per_segment: int) -> NDArray[np.int64]:
    """Frame numbers, int64 ascending: in each part of the video `runs` runs of consecutive frames, spread evenly over
    its places from the first to the last; one alone lies in the middle. All frames of a part with no more places than
    that. Raises UsageError if the video holds no frame.

        40 frames, 4 x 3, 2 runs:   0-2, 7-9 | 10-12, 17-19 | 20-22, 27-29 | 30-32, 37-39
    """
    first, length = _parts(np.array([frames]), segments)
    room = np.maximum(length - frames_per_segment, 0)[..., None]
    places = room * np.arange(runs) // (runs - 1) if runs > 1 else room // 2  # (1, segments, runs)
    found = [_runs(first, length, places[..., run], frames_per_segment) for run in range(runs)]
    return np.unique(np.concatenate(found))


@dataclass(frozen=True)
class Places:
    """Where a run may start in every part of some videos that keep some of their frames: at a kept frame from which on
    all of the run is kept. Rows count the kept frames of all videos, one video after the other.

    `row` int64 (places,) are the rows where one starts. Part p of video v has the `count`[v, p] places of them from
    `begin`[v, p] on; its runs are `length`[v, p] frames long, and repeat the last one up to `frames_per_segment`.
    Videos in `always` are read at those rows whatever is drawn.
    """

    row: NDArray[np.int64]
    begin: NDArray[np.int64]
    count: NDArray[np.int64]
    length: NDArray[np.int64]
    frames_per_segment: int
    always: Mapping[int, NDArray[np.int64]] = field(default_factory=dict)

    @classmethod
    def of(
        cls, frame: NDArray[np.int64], start: NDArray[np.int64], frames: NDArray[np.int64], *, segments: int,
        frames_per_segment: int,
    ) -> Self:  # fmt: skip
        """Those of videos of `frames` (videos,) frames, of which video v keeps `frame`[start[v]:start[v + 1]],
        ascending. Raises UsageError if a video holds no frame."""
        first, length = _parts(frames, segments)
        before = np.cumsum(frames) - frames  # so that each frame of all videos has a number of its own
        kept, first = frame + np.repeat(before, np.diff(start)), first + before[:, None]
        run_length = np.minimum(length, frames_per_segment)
        begin, count, row = np.zeros_like(first), np.zeros_like(first), np.empty(0, np.int64)
        for run in np.unique(run_length):
            whole = np.flatnonzero(kept[run - 1 :] - kept[: max(0, len(kept) - run + 1)] == run - 1)
            parts = run_length == run
            low = np.searchsorted(kept[whole], first[parts])
            end = np.searchsorted(kept[whole], (first + length - run)[parts], side="right")
            begin[parts], count[parts], row = len(row) + low, end - low, np.concatenate([row, whole])
        return cls(row, begin, count, run_length, frames_per_segment)

    def draw(self, videos: NDArray[np.int64], *, clips: int, rng: np.random.Generator) -> NDArray[np.int64]:
        """Rows (clips, videos, segments * frames_per_segment) int64 of some videos (videos,) int64, with random places:
        of videos that keep all frames, the frames that `random_clips` draws, one clip after the other."""
        drawn = np.stack([rng.integers(0, self.count[videos]) for _ in range(clips)])  # (clips, videos, segments)
        within = np.minimum(np.arange(self.frames_per_segment), self.length[videos][..., None] - 1)
        found: NDArray[np.int64] = self.row[self.begin[videos] + drawn][..., None] + within
        rows = found.reshape(clips, len(videos), -1)
        for place, video in enumerate(videos.tolist() if self.always else ()):
            rows[:, place] = self.always.get(video, rows[:, place])
        return rows


def too_short(frames: NDArray[np.int64], *, segments: int, frames_per_segment: int) -> NDArray[np.bool_]:
    """Which videos the public code draws no places in, but reads in training too as `start_clip` does: those of less
    than three frames more than a clip."""
    return np.asarray(frames < segments * frames_per_segment + 3)


def start_clip(frames: int, *, segments: int, frames_per_segment: int) -> NDArray[np.int64]:
    """Frame numbers (segments * frames_per_segment,) int64 by the test rule of the paper's public code.

    Runs start at whole multiples of frames // segments, drop what lies past the video's end, and the last
    number is repeated at the end of the clip: 5 frames give 0123 1234 234 34 444. So in a video shorter than
    segments * frames_per_segment the runs no longer fall on the parts. Raises UsageError if frames < 1.
    """
    _check_frames(np.array([frames]))
    starts = np.arange(segments)[:, None] * (frames // segments)
    numbers = (starts + np.arange(frames_per_segment)).ravel()
    kept = numbers[numbers < frames]
    return np.pad(kept, (0, len(numbers) - len(kept)), mode="edge")


def consecutive_clip(frames: int, *, segments: int, frames_per_segment: int) -> NDArray[np.int64]:
    """Frame numbers (segments * frames_per_segment,) int64: as many consecutive frames from the middle of the video.
    The clip of the paper's RGB basenet; the last frame is repeated. Raises UsageError if the video holds no frame."""
    _check_frames(np.array([frames]))
    count = segments * frames_per_segment
    return np.minimum(max(frames - count, 0) // 2 + np.arange(count), frames - 1)


def eight_clip(frames: int, *, segments: int, frames_per_segment: int) -> NDArray[np.int64]:
    """Frame numbers (8,) int64, the middle of every eighth of the video: what temporal heads read, whatever the clip.
    Raises UsageError if the video holds no frame."""
    return middle_clip(frames, segments=8, frames_per_segment=1)


def mirrored_views(video: str, views: int, *, flip: float, seed: int) -> list[int]:
    """Which of the random crops 1 to `views` of a video are mirrored, each with probability `flip`. Whether one is
    depends on the seed, the video and its number alone."""
    key = [*video.encode("utf-8", "surrogateescape")]
    return [view for view in range(1, views + 1) if flip and np.random.default_rng([seed, view, *key]).random() < flip]


def clip_by_rule(rule: str, frames: int, *, segments: int, frames_per_segment: int) -> NDArray[np.int64]:
    """The clip that testing reads by one of the rules of TEST_CLIPS."""
    clip = TEST_CLIPS[rule].load()(frames, segments=segments, frames_per_segment=frames_per_segment)
    return cast(NDArray[np.int64], clip)


def _parts(frames: NDArray[np.int64], segments: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """First frame and length (videos, segments) of each part; every part holds at least one frame."""
    _check_frames(frames)
    bounds = np.asarray(frames, dtype=np.int64)[:, None] * np.arange(segments + 1) // segments
    return bounds[:, :-1], np.maximum(np.diff(bounds, axis=1), 1)


def _runs(
    first: NDArray[np.int64], length: NDArray[np.int64], place: NDArray[np.int64], frames_per_segment: int
) -> NDArray[np.int64]:
    """Frame numbers (videos, segments * frames_per_segment) of runs `place` frames into their parts."""
    within = np.minimum(place[..., None] + np.arange(frames_per_segment), length[..., None] - 1)
    numbers: NDArray[np.int64] = first[..., None] + within  # (videos, segments, frames_per_segment)
    return numbers.reshape(len(first), -1)


def _check_frames(frames: NDArray[np.int64]) -> None:
    empty = np.flatnonzero(np.asarray(frames) < 1)
    if empty.size:
        raise UsageError(
            f"video {empty[0]} of {len(frames)} holds {frames[empty[0]]} frames but a clip needs at least 1; "
            "leave it out"
        )


class Window(NamedTuple):
    """A stretch of a video: its first frame, and how many it has."""

    begin: int
    frames: int


def windows_of(frames: int, fps: float, *, window: float, every: float) -> list[Window]:
    """Windows of `window` seconds, one `every` so many seconds, that lie in a video; the whole of a shorter one."""
    length = max(1, round(window * fps))
    if length >= frames:
        return [Window(0, frames)]
    count = int((frames - length) / (every * fps)) + 1
    begins = dict.fromkeys(round(number * every * fps) for number in range(count))
    return [Window(begin, length) for begin in begins if begin + length <= frames]


def joined(windows: Sequence[Window], labels: Sequence[object], frames: int) -> list[tuple[slice, float, float]]:
    """Neighbouring windows of one label: which they are, and the frames from and up to which they stand. Each window
    stands for what is nearer to its middle than to that of another; together they stand for the whole video."""
    middles = [window.begin + window.frames / 2 for window in windows]
    bounds = [0.0, *((one + other) / 2 for one, other in itertools.pairwise(middles)), float(frames)]
    starts = [place for place in range(len(labels)) if not place or labels[place] != labels[place - 1]]
    runs = itertools.pairwise([*starts, len(labels)])
    return [(slice(first, last), bounds[first], bounds[last]) for first, last in runs]
