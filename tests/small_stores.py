"""Small stores of every kind, and videos in them that need no network."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from amefu_cli.artefacts.stores.header import (
    DepthHeader,
    DepthNotes,
    EstimatorIdentity,
    FeaturesHeader,
    FeaturesNotes,
    FramesHeader,
    FramesNotes,
    StoreHeader,
    Stream,
)
from amefu_cli.artefacts.stores.pictures import append_frames
from amefu_cli.artefacts.stores.store import VideoStore, prepare_store
from amefu_cli.artefacts.stores.writing import VideoWriter, depth_writer, feature_writer, frame_writer
from amefu_cli.settings import ClipSettings, DepthSettings, FeaturesSettings, FramesSettings

SOURCE = {"size": 5, "mtime_ns": 7}
FRAMES = 5  # of each video
STREAMS = {
    "rgb": Stream("frames", "squeezenet1_1", "none", 16, 16),
    "depth": Stream("depth", "squeezenet1_1", "none", 16, 16, "magma"),
}


def frames_header(*, size: int = 32, quality: int = 95, videos: str = "videos", **notes: Any) -> FramesHeader:
    return FramesHeader(settings=FramesSettings(size=size, quality=quality), notes=FramesNotes(videos=videos, **notes))


def depth_header(*, weights: str = "its own", frames: str = "frames.zarr", **notes: Any) -> DepthHeader:
    return DepthHeader(
        settings=DepthSettings(estimator="tiny"), made_from=EstimatorIdentity("tiny", weights),
        notes=DepthNotes(frames=frames, **notes),
    )  # fmt: skip


def features_header(streams: Mapping[str, Stream] = STREAMS, *, views: int = 1, **notes: Any) -> FeaturesHeader:
    noted = FeaturesNotes(frames="frames.zarr", depth="depth.zarr", rgb="rgb", depth_stream="depth", **notes)
    settings = FeaturesSettings(views=views)
    return FeaturesHeader(settings=settings, clip=ClipSettings(), streams=streams, notes=noted)


HEADERS: Mapping[str, Callable[[], StoreHeader]] = {
    "frames": frames_header,
    "depth": depth_header,
    "features": features_header,
}


def begin(path: Path, header: StoreHeader | None = None, *, rebuild: bool = False) -> VideoStore[Any]:
    """The store at `path`, ready to be written into."""
    return prepare_store(path, header or frames_header(), rebuild=rebuild).begin()


def store_of(folder: Path, kind: str) -> VideoStore[Any]:
    """`KIND.zarr` in this folder."""
    return begin(folder / f"{kind}.zarr", HEADERS[kind]())


def commit(writer: VideoWriter, made_from: Mapping[str, Any] = SOURCE, frames: int = FRAMES) -> None:
    writer.commit(frames=frames, fps=25.0, source="a/b.mp4", made_from=made_from)


def put_frames(store: VideoStore[Any], video: str, seed: int = 0, made_from: Mapping[str, Any] = SOURCE) -> None:
    frames = np.random.default_rng(seed).integers(0, 256, (FRAMES, 16, 16, 3), np.uint8)
    with frame_writer(store, video) as writer:
        count = append_frames(writer, frames, quality=95)
        commit(writer, made_from, count)


def put_depth(
    store: VideoStore[Any], video: str, low: float = 0.0, high: float = 1.0, made_from: Mapping[str, Any] = SOURCE
) -> None:
    disparity = np.random.default_rng(0).integers(0, 256, (FRAMES, 16, 16), np.uint8)
    with depth_writer(store, video) as writer:
        writer.append(
            {
                "disparity": disparity,
                "low": np.full(FRAMES, low, np.float32),
                "high": np.full(FRAMES, high, np.float32),
            }
        )
        commit(writer, made_from)


def put_features(
    store: VideoStore[Any],
    video: str,
    value: float = 1.0,
    frame: Sequence[int] = (0, 2, 4),
    streams: Sequence[str] = ("rgb", "depth"),
) -> None:
    """Two views of every stream, each other than the others, with one `value` near the end of each."""
    blocks = {}
    for stream in streams:
        block = np.random.default_rng([*stream.encode()]).normal(size=(2, len(frame), 8)).astype(np.float16)
        block[1, -1, 3] = value
        blocks[stream] = block
    with feature_writer(store, video, streams) as writer:
        writer.append({"frame": np.array(frame, np.int64), **blocks})
        commit(writer)


PUT: Mapping[str, Callable[..., None]] = {"frames": put_frames, "depth": put_depth, "features": put_features}
