"""features.zarr in memory: per-frame features of named frozen streams, which every later experiment reads."""

from __future__ import annotations

import collections
import itertools
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from amefu_cli.artefacts.files.fingerprint import fingerprint
from amefu_cli.artefacts.stores.header import VideoRecord
from amefu_cli.artefacts.stores.kinds import FeaturesHeader
from amefu_cli.artefacts.stores.store import VideoStore
from amefu_cli.errors import DamagedFile, NotFinite, UsageError

IMAGENET = "imagenet"  # RGB features without pretraining, of novel videos only: what the paper's basenets read
EXPONENT = np.uint16(0x7C00)  # of a float16: all of its bits are set in NaN and infinity
READERS = 4  # threads: most of the time is spent where the interpreter is released


def fingerprint_of(records: Mapping[str, VideoRecord], classes: Sequence[str]) -> str:
    """What identifies the stored features of all videos of some classes."""
    wanted = set(classes)
    return fingerprint(
        [[video, record.fingerprint] for video, record in records.items() if record.class_name in wanted]
    )


def dim_of(store: VideoStore[FeaturesHeader], records: Mapping[str, VideoRecord], stream: str = "rgb") -> int:
    """How wide the features of a stream are."""
    return store.read(next(iter(records))).shape(stream)[2]


@dataclass(frozen=True)
class FeatureTable:
    """The features of some videos in memory: one row per kept frame, all videos one after the other.

    `streams` by name, each float16 (views, rows, dim); `start` int64 (videos + 1,): video i owns the rows
    start[i]:start[i + 1]; `frame` int64 (rows,): the frame number of each row; `frames` int64 (videos,): how
    many frames the whole video has; `labels` int64 (videos,): positions in `class_names`.
    """

    ids: tuple[str, ...]
    class_names: tuple[str, ...]
    labels: NDArray[np.int64]
    frame: NDArray[np.int64]
    frames: NDArray[np.int64]
    start: NDArray[np.int64]
    streams: Mapping[str, NDArray[np.float16]]

    @property
    def kept(self) -> NDArray[np.int64]:
        """How many frames of each video are kept, int64 (videos,)."""
        return np.diff(self.start)

    def nearest_rows(self, video: int, numbers: NDArray[np.int64]) -> NDArray[np.int64]:
        """The rows of the kept frames that are nearest to frame `numbers` of a video (the earlier one of two)."""
        first, last = self.start[video], self.start[video + 1]
        kept = self.frame[first:last]
        after = np.clip(np.searchsorted(kept, numbers), 0, len(kept) - 1)
        before = np.maximum(after - 1, 0)
        nearer = np.abs(kept[before] - numbers) <= np.abs(kept[after] - numbers)
        rows: NDArray[np.int64] = first + np.where(nearer, before, after)
        return rows


def read_features(
    store: VideoStore[FeaturesHeader],
    records: Mapping[str, VideoRecord],
    classes: Sequence[str],
    *,
    streams: Sequence[str],
    views: int,
) -> FeatureTable:
    """Load some streams of the videos of `classes`, the first `views` views of each, in the order of their ids.

    Streams that only novel videos have, have one view.

    Raises:
        UsageError: a video does not have a stream.
        DamagedFile: a checksum fails, or the streams of a video do not match; names the video.
        NotFinite: a feature is NaN or infinite; names the video.
    """
    wanted = set(classes)
    ids = [video for video, record in records.items() if record.class_name in wanted]
    present = sorted({records[video].class_name for video in ids})
    position = {name: index for index, name in enumerate(present)}
    views_of = {name: 1 if store.header.streams[name].novel_only else views for name in streams}
    with ThreadPoolExecutor(READERS, thread_name_prefix="features") as threads:
        shapes = list(threads.map(partial(_shapes, store, streams=streams), ids))
        kept = [shape["frame"][0] for shape in shapes]
        start = np.concatenate([[0], np.cumsum(kept)]).astype(np.int64)
        dims = shapes[0] if shapes else dict.fromkeys(streams, (0, 0, 0))
        tables = {
            name: np.empty((views, int(start[-1]), dims[name][2]), np.float16) for name, views in views_of.items()
        }
        frame = np.empty(start[-1], np.int64)
        parts = [
            {"frame": frame[begin:end], **{name: table[:, begin:end] for name, table in tables.items()}}
            for begin, end in itertools.pairwise(start)
        ]
        collections.deque(threads.map(partial(_load, store), ids, parts), maxlen=0)
    return FeatureTable(
        ids=tuple(ids),
        class_names=tuple(present),
        labels=np.array([position[records[video].class_name] for video in ids], np.int64),
        frame=frame,
        frames=np.array([records[video].frames for video in ids], np.int64),
        start=start,
        streams=tables,
    )


def _shapes(store: VideoStore[FeaturesHeader], video: str, *, streams: Sequence[str]) -> dict[str, tuple[int, ...]]:
    """The shapes of the arrays of a video, which must agree."""
    stored = store.read(video)
    shapes = {"frame": stored.shape("frame")}
    (kept,) = shapes["frame"]
    there = stored.names()
    for stream in streams:
        if stream not in there:
            fix = "--basenet" if stream == IMAGENET else f"--stream {stream}=BACKBONE"
            raise UsageError(f"{store.path}: holds no {stream!r} of {video}; add it with `amefu features {fix}`")
        shapes[stream] = stored.shape(stream)
        if shapes[stream][1] != kept:
            raise DamagedFile(
                f"{store.path}: {stream!r} holds {shapes[stream][1]} frames of {video} but 'frame' lists {kept}; "
                f"rebuild it with `amefu features --only {video}`"
            )
    return shapes


def _load(store: VideoStore[FeaturesHeader], video: str, parts: Mapping[str, NDArray[Any]]) -> None:
    """Put the arrays of a video where they belong in the table."""
    stored = store.read(video)
    for name, part in parts.items():
        part[:] = block = stored.array(name, slice(0, len(part)))
        if name != "frame" and ((block.view(np.uint16) & EXPONENT) == EXPONENT).any():
            raise NotFinite(
                f"{store.path}: {name!r} of {video} holds NaN or infinity; "
                f"rebuild it with `amefu features --only {video}`"
            )
