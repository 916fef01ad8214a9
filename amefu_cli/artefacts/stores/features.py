"""features.zarr: per-frame features of both frozen streams, which every later experiment reads."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from amefu_cli.artefacts.files.fingerprint import fingerprint
from amefu_cli.artefacts.stores.header import VideoRecord
from amefu_cli.artefacts.stores.reading import StoredVideo
from amefu_cli.artefacts.stores.store import VideoStore
from amefu_cli.artefacts.stores.writing import VideoWriter
from amefu_cli.errors import DamagedFile, NotFinite, UsageError

STREAMS = ("rgb", "depth")
IMAGENET = "imagenet"  # RGB features without pretraining, of novel videos only: what the paper's basenets read


def feature_writer(store: VideoStore, video: str, *, imagenet: bool = False) -> VideoWriter:
    """A writer for one video: `frame` int64 (kept,), `rgb` and `depth` float16 (views, kept, dim).

    View 0 is the centre crop, the others are random crops shared by both streams. With `imagenet` there is a third
    array of that name: the centre crops through the network that the RGB stream started from.
    """
    streams = (*STREAMS, IMAGENET) if imagenet else STREAMS
    return VideoWriter(store, video, {"frame": 0, **dict.fromkeys(streams, 1)})


def fingerprint_of(records: Mapping[str, VideoRecord], classes: Sequence[str]) -> str:
    """What identifies the stored features of all videos of some classes."""
    wanted = set(classes)
    return fingerprint(
        [[video, record.fingerprint] for video, record in records.items() if record.class_name in wanted]
    )


def dim_of(store: VideoStore, records: Mapping[str, VideoRecord]) -> int:
    """How wide the features are."""
    return store.read(next(iter(records))).shape("rgb")[2]


@dataclass(frozen=True)
class FeatureTable:
    """The features of some videos in memory: one row per kept frame, all videos one after the other.

    `rgb` and `depth` float16 (views, rows, dim); `start` int64 (videos + 1,): video i owns the rows
    start[i]:start[i + 1]; `frame` int64 (rows,): the frame number of each row; `frames` int64 (videos,): how
    many frames the whole video has; `labels` int64 (videos,): positions in `class_names`. `imagenet` float16
    (1, rows, dim) is there only where it was asked for.
    """

    ids: tuple[str, ...]
    class_names: tuple[str, ...]
    labels: NDArray[np.int64]
    frame: NDArray[np.int64]
    frames: NDArray[np.int64]
    start: NDArray[np.int64]
    rgb: NDArray[np.float16]
    depth: NDArray[np.float16]
    imagenet: NDArray[np.float16] | None = None

    @property
    def kept(self) -> NDArray[np.int64]:
        """How many frames of each video are kept, int64 (videos,)."""
        return np.diff(self.start)

    def stream(self, name: str) -> NDArray[np.float16]:
        """The features (views, rows, dim) of `rgb`, `depth` or `imagenet`."""
        features: NDArray[np.float16] | None = getattr(self, name)
        if features is None:
            raise ValueError(f"the table was read without {name!r}")
        return features

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
    store: VideoStore,
    records: Mapping[str, VideoRecord],
    classes: Sequence[str],
    *,
    views: int,
    imagenet: bool = False,
) -> FeatureTable:
    """Load the videos of `classes`, the first `views` views of each, in the order of their ids.

    Raises:
        UsageError: `imagenet` is asked for, and a video does not have it.
        DamagedFile: a checksum fails, or the streams of a video do not match; names the video.
        NotFinite: a feature is NaN or infinite; names the video.
    """
    wanted = set(classes)
    ids = [video for video, record in records.items() if record.class_name in wanted]
    present = sorted({records[video].class_name for video in ids})
    position = {name: index for index, name in enumerate(present)}
    videos = [store.read(video) for video in ids]
    streams = (*STREAMS, IMAGENET) if imagenet else STREAMS
    rows = [_rows(video, streams) for video in videos]
    start = np.concatenate([[0], np.cumsum(rows)]).astype(np.int64)
    tables = {stream: _load(videos, stream, start, 1 if stream == IMAGENET else views) for stream in streams}
    return FeatureTable(
        ids=tuple(ids),
        class_names=tuple(present),
        labels=np.array([position[records[video].class_name] for video in ids], np.int64),
        frame=np.concatenate([video.array("frame") for video in videos] or [np.empty(0, np.int64)]),
        frames=np.array([records[video].frames for video in ids], np.int64),
        start=start,
        **tables,
    )


def _rows(video: StoredVideo, streams: Sequence[str]) -> int:
    kept = video.shape("frame")[0]
    for stream in streams:
        if stream == IMAGENET and stream not in video.arrays:
            raise UsageError(
                f"{video.store}: holds no ImageNet features of {video.record.id}, which the basenets read; "
                "add them with `amefu features --basenet`"
            )
        if video.shape(stream)[1] != kept:
            raise DamagedFile(
                f"{video.store}: {stream!r} holds {video.shape(stream)[1]} frames of {video.record.id} "
                f"but 'frame' lists {kept}; rebuild it with `amefu features --only {video.record.id}`"
            )
    return kept


def _load(videos: Sequence[StoredVideo], stream: str, start: NDArray[np.int64], views: int) -> NDArray[np.float16]:
    dim = videos[0].shape(stream)[2] if videos else 0
    table = np.empty((views, int(start[-1]), dim), np.float16)
    for position, video in enumerate(videos):
        block = video.array(stream, slice(0, views))
        if not np.isfinite(block).all():
            raise NotFinite(
                f"{video.store}: {stream!r} of {video.record.id} holds NaN or infinity; "
                f"rebuild it with `amefu features --only {video.record.id}`"
            )
        table[:, start[position] : start[position + 1]] = block
    return table
