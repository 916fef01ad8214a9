"""What the stores still lack, known from headers alone: no network is loaded for it."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from amefu_cli.artefacts.files.fingerprint import file_sha256, fingerprint
from amefu_cli.artefacts.files.split import Split
from amefu_cli.artefacts.stores.header import VideoRecord
from amefu_cli.artefacts.stores.store import VideoStore
from amefu_cli.artefacts.videos.find import Clip, image_files
from amefu_cli.method.sampling import clip_by_rule
from amefu_cli.settings import ClipSettings, FeaturesSettings

Takes = Callable[[str], bool]
"""Whether this run takes a video, by its id: `--only` and `--shard`."""


@dataclass(frozen=True)
class VideoJob:
    """One video to be made: what it is made from, which frames of it, and how many views of each."""

    record: VideoRecord
    made_from: Mapping[str, Any]
    numbers: NDArray[np.int64]
    views: int = 1
    imagenet: bool = False  # whether the basenets' features are made too

    @property
    def id(self) -> str:
        return self.record.id


@dataclass(frozen=True)
class ClipJob:
    """One clip to be decoded, and what identifies its source now."""

    clip: Clip
    made_from: Mapping[str, Any]

    @property
    def id(self) -> str:
        return self.clip.id


AnyJob = TypeVar("AnyJob", ClipJob, VideoJob)


def source_identity(clip: Clip, *, checksum: bool) -> dict[str, Any]:
    """What tells that a source is still the same: size and modification time of each file, or the SHA-256 of all."""
    if not checksum:
        identity = {"size": clip.size, "mtime_ns": clip.mtime_ns}
        return identity if clip.images is None else identity | {"images": clip.images}
    try:
        if clip.kind == "video":
            return {"sha256": file_sha256(clip.path)}
        return {"sha256": fingerprint([file_sha256(path) for path in image_files(clip.path)])}
    except OSError:  # the worker that opens it says what is wrong, as that video's failure
        return {"sha256": "unreadable"}


def pending_clips(
    clips: Sequence[Clip],
    store: VideoStore,
    *,
    checksum: bool,
    takes: Callable[[str], bool],
    again: Collection[str],
) -> tuple[list[ClipJob], int]:
    """The clips whose frames are not in the store as they should be; how many are."""
    jobs = (ClipJob(clip, source_identity(clip, checksum=checksum)) for clip in clips if takes(clip.id))
    return _not_done(store, jobs, takes, again)


def pending_depth(
    frames: VideoStore, depth: VideoStore, *, takes: Takes, again: Collection[str]
) -> tuple[list[VideoJob], int]:
    """The videos whose disparity is not in `depth` as it should be, and how many are."""
    jobs = (
        VideoJob(record, {"frames": record.fingerprint}, np.arange(record.frames, dtype=np.int64))
        for record in frames.records().values()
    )
    return _not_done(depth, jobs, takes, again)


def pending_features(
    frames: VideoStore,
    depth: VideoStore,
    features: VideoStore,
    *,
    split: Split,
    settings: FeaturesSettings,
    clip: ClipSettings,
    takes: Takes,
    again: Collection[str],
    basenet: Mapping[str, Any] | None = None,
) -> tuple[list[VideoJob], int]:
    """The videos of the split's classes whose features are not in `features` as they should be."""
    jobs = feature_jobs(frames.records(), depth.records(), split=split, settings=settings, clip=clip, basenet=basenet)
    return _not_done(features, jobs, takes, again)


def feature_jobs(
    frames: Mapping[str, VideoRecord],
    depth: Mapping[str, VideoRecord],
    *,
    split: Split,
    settings: FeaturesSettings,
    clip: ClipSettings,
    basenet: Mapping[str, Any] | None = None,
) -> Iterator[VideoJob]:
    """Base and validation videos: every stride-th frame; novel ones: the frames that evaluation reads.

    Only base videos get random views, since only training looks at them. Videos of classes outside the split, and
    videos without disparity of their present frames, have no job. `basenet` identifies the network of the basenets,
    which read novel videos only; where it is None, theirs are left out.
    """
    for video, record in split.listed(frames).items():
        part = split.part_of(record.class_name)
        disparity = depth.get(video)
        if part is None or disparity is None or disparity.made_from.get("frames") != record.fingerprint:
            continue
        imagenet = basenet is not None and part == "novel"
        numbers = kept_frames(record.frames, novel=part == "novel", settings=settings, clip=clip, basenet=imagenet)
        views = 1 + (settings.views if part == "base" else 0)
        made_from = {
            "frames": record.fingerprint,
            "depth": disparity.fingerprint,
            "part": part,
            **({"basenet": basenet} if imagenet else {}),
        }
        yield VideoJob(record, made_from, numbers, views, imagenet)


def kept_frames(
    frames: int, *, novel: bool, settings: FeaturesSettings, clip: ClipSettings, basenet: bool = False
) -> NDArray[np.int64]:
    """The frame numbers of a video of `frames` frames that the feature store keeps, ascending."""
    if not novel or settings.frames == "dense":
        return np.arange(0, frames, settings.stride, dtype=np.int64)
    rules = (settings.test_frames, "consecutive") if basenet else (settings.test_frames,)
    size = {"segments": clip.segments, "frames_per_segment": clip.frames_per_segment}
    return np.unique(np.concatenate([clip_by_rule(rule, frames, **size) for rule in rules]))


def _not_done(
    store: VideoStore, jobs: Iterable[AnyJob], takes: Takes, again: Collection[str]
) -> tuple[list[AnyJob], int]:
    there = store.records()
    wanted = [job for job in jobs if takes(job.id)]
    pending = [job for job in wanted if job.id in again or not store.is_done(there.get(job.id), job.made_from)]
    return pending, len(wanted) - len(pending)


def class_names(store: VideoStore) -> list[str]:
    """The classes that a store holds videos of, sorted."""
    return sorted({record.class_name for record in store.records().values()})
