"""features.zarr in memory: per-frame features of named frozen streams, which every later experiment reads."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from amefu_cli.artefacts.files.fingerprint import fingerprint
from amefu_cli.artefacts.stores.header import FeaturesHeader, VideoRecord
from amefu_cli.artefacts.stores.reading import StoredVideo
from amefu_cli.artefacts.stores.store import VideoStore
from amefu_cli.errors import DamagedFile, NotFinite, UsageError

IMAGENET = "imagenet"  # RGB features without pretraining, of novel videos only: what the paper's basenets read
INFINITE, MINUS_INFINITE = 0x7C00, 0xFC00  # float16 as whole numbers, signed and not: NaN lies above its infinity
READERS = 4  # threads: most of the time is spent where the interpreter is released
VIDEOS_AT_ONCE = 64  # of one thread


def fingerprint_of(records: Mapping[str, VideoRecord], classes: Sequence[str]) -> str:
    """What identifies the stored features of all videos of some classes."""
    wanted = set(classes)
    made = [[video, record.fingerprint] for video, record in records.items() if record.class_name in wanted]
    return fingerprint(made)


def dim_of(store: VideoStore[FeaturesHeader], records: Mapping[str, VideoRecord], stream: str = "rgb") -> int:
    """How wide the features of a stream are. Raises UsageError where the videos do not have it."""
    return _dims(store, next(iter(records)), [stream])[stream]


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

    def rows(self, video: int, numbers: NDArray[np.int64]) -> NDArray[np.int64]:
        """The rows of frames `numbers` of a video. Raises UsageError where one is not kept."""
        first, last = self.start[video], self.start[video + 1]
        kept = self.frame[first:last]
        found = np.minimum(np.searchsorted(kept, numbers), len(kept) - 1)
        if len(absent := numbers[kept[found] != numbers]):
            raise UsageError(f"frame {absent[0]} of {self.ids[video]} has no features; add it with `amefu features`")
        return np.asarray(first + found)


def read_features(
    store: VideoStore[FeaturesHeader], records: Mapping[str, VideoRecord], classes: Sequence[str], *,
    streams: Sequence[str], views: int,
) -> FeatureTable:  # fmt: skip
    """Load some streams of the videos of `classes`, the first `views` views of each, in the order of their ids.

    Streams that only novel videos have, have one view. Raises UsageError where a video does not have a stream,
    DamagedFile where a checksum fails or the streams of a video do not match, NotFinite for NaN or infinity; each names
    the video.
    """
    wanted = set(classes)
    chosen = {video: record for video, record in records.items() if record.class_name in wanted}
    present, labels = np.unique([record.class_name for record in chosen.values()], return_inverse=True)
    start = np.concatenate([[0], np.cumsum([record.kept for record in chosen.values()])]).astype(np.int64)
    dims, rows = _dims(store, next(iter(chosen), None), streams), int(start[-1])
    table = FeatureTable(
        ids=tuple(chosen), class_names=tuple(present.tolist()), labels=labels.astype(np.int64), start=start,
        frame=np.empty(rows, np.int64), frames=np.array([record.frames for record in chosen.values()], np.int64),
        streams={
            name: np.empty((1 if store.header.streams[name].novel_only else views, rows, dim), np.float16)
            for name, dim in dims.items()
        },
    )  # fmt: skip
    with ThreadPoolExecutor(READERS, thread_name_prefix="features") as threads:
        for _ in threads.map(partial(_load, store, table), range(0, len(chosen), VIDEOS_AT_ONCE)):
            pass
    return table


def _dims(store: VideoStore[FeaturesHeader], video: str | None, streams: Sequence[str]) -> dict[str, int]:
    """How wide each stream is, by one video."""
    for name in streams:
        if name not in store.header.streams:
            raise UsageError(f"{store.path}: holds no {name!r}; {_how_to_add(name)}")
    if video is None:
        return dict.fromkeys(streams, 0)
    stored = store.read(video)
    for name in streams:
        _require_stream(stored, name)
    return {name: stored.shape(name)[2] for name in streams}


def _require_stream(stored: StoredVideo, name: str) -> None:
    if not stored.holds(name):
        raise UsageError(f"{stored.store}: holds no {name!r} of {stored.record.id}; {_how_to_add(name)}")


def _how_to_add(name: str) -> str:
    option = {"rgb": "", "depth": "", IMAGENET: " --basenet"}.get(name, f" --stream {name}=BACKBONE")
    return f"add it with `amefu features{option}`"


def _load(store: VideoStore[FeaturesHeader], table: FeatureTable, first: int) -> None:
    """Put the features of some videos, from number `first` on, where they belong in the table."""
    ends = table.start[first : first + VIDEOS_AT_ONCE + 1].tolist()
    for video, (begin, end) in zip(table.ids[first:], itertools.pairwise(ends), strict=False):
        stored = store.read(video)
        table.frame[begin:end] = _block(stored, "frame", (end - begin,))
        for name, features in table.streams.items():
            part = features[:, begin:end]
            part[:] = block = _block(stored, name, part.shape)
            if block.view(np.int16).max() >= INFINITE or block.view(np.uint16).max() >= MINUS_INFINITE:
                raise NotFinite(f"{store.path}: {name!r} of {video} holds NaN or infinity; {_how_to_rebuild(video)}")


def _block(stored: StoredVideo, name: str, shape: tuple[int, ...]) -> NDArray[Any]:
    """The first rows of an array, which must be of this shape."""
    _require_stream(stored, name)
    block = stored.array(name, slice(0, shape[0]))
    if block.shape != shape:
        video = stored.record.id
        found = f"{name!r} of {video} is {block.shape}, not {shape}"
        raise DamagedFile(f"{stored.store}: {found}; {_how_to_rebuild(video)}")
    return block


def _how_to_rebuild(video: str) -> str:
    return f"rebuild it with `amefu features --only {video}`"
