"""frames.zarr + depth.zarr -> features.zarr: per-frame features of frozen streams, in one pass over the frames."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from threading import Lock
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch.nn import functional

from amefu_cli.artefacts.files.fingerprint import Provenance
from amefu_cli.artefacts.stores.header import DepthHeader, FeaturesHeader, FramesHeader, Stream
from amefu_cli.artefacts.stores.pictures import read_disparity, read_frames
from amefu_cli.artefacts.stores.store import VideoStore
from amefu_cli.artefacts.stores.writing import VideoWriter, feature_writer
from amefu_cli.errors import AmefuError, DamagedFile, NotFinite, UsageError
from amefu_cli.method.backbones.network import Backbone, normalise
from amefu_cli.method.depth.encoding import encode_disparity
from amefu_cli.method.depth.network import Estimator, quantise
from amefu_cli.method.geometry import crop_corner
from amefu_cli.settings import DEPTH_PERCENTILE
from amefu_cli.stages import Outcome, Progress, VideoJob
from amefu_cli.stages.computing import Piece, make_videos
from amefu_cli.stages.networks import load_backbone

HALF = torch.finfo(torch.float16)


@dataclass(frozen=True)
class LoadedStream:
    """One frozen network, ready on its device, and what it sees."""

    row: Stream
    backbone: Backbone
    provenance: Provenance | None = None  # of ImageNet weights; all others are known by hash before they are loaded


def load_streams(
    streams: Mapping[str, tuple[Stream, str]], *, seed: int, device: torch.device, precision: torch.dtype
) -> dict[str, LoadedStream]:
    """Streams by name, frozen, on the device: each row with its weights `imagenet`, `none` (random, by the seed), or
    those of a file, which may be a checkpoint of ours. UsageError: `rgb` and `depth` are not equally wide."""
    loaded = {}
    for name, (row, weights) in streams.items():
        torch.manual_seed(seed)  # whichever others are loaded
        backbone, provenance = load_backbone(row.backbone, weights)
        moved = backbone.eval().to(device, precision, memory_format=torch.channels_last)  # type: ignore[call-overload]
        loaded[name] = LoadedStream(row, moved, provenance)
    dims = {name: loaded[name].backbone.dim for name in ("rgb", "depth") if name in loaded}
    if len(set(dims.values())) > 1:
        raise UsageError(
            f"the RGB stream gives {dims['rgb']} features a frame and the depth stream {dims['depth']}; "
            "pretrain both with the same --backbone"
        )
    return loaded


class FeatureRange:
    """Between which values each feature of a stream lies, in all frames that are computed in one run, by any thread."""

    def __init__(self) -> None:
        self._lock, self._low, self._high = Lock(), np.float32(np.inf), np.float32(-np.inf)
        self.frames = 0

    def widen(self, features: NDArray[np.float16]) -> None:
        """By some more features (views, frames, dim)."""
        low, high = features.min((0, 1)), features.max((0, 1))
        with self._lock:
            self._low, self._high = np.minimum(self._low, low), np.maximum(self._high, high)
            self.frames += features.shape[1]

    @property
    def constant(self) -> float:
        """The share of features that are the same in every frame, as the zeros of a network that died are."""
        return float(np.mean(self._low == self._high))


@dataclass(frozen=True)
class Extraction:
    """All that one extraction needs besides its jobs: three stores, the networks, the device; and what it tells of the
    features of each stream. Without a store of depth an estimator gives the disparity of just the frames that are
    kept."""

    frames: VideoStore[FramesHeader]
    depth: VideoStore[DepthHeader] | None
    features: VideoStore[FeaturesHeader]
    streams: Mapping[str, LoadedStream]
    device: torch.device
    precision: torch.dtype
    batch: int
    seed: int
    ranges: Mapping[str, FeatureRange] = field(default_factory=lambda: defaultdict(FeatureRange))
    estimator: Estimator | None = None


def extract_features(
    setup: Extraction, jobs: Sequence[VideoJob], *, failed: Callable[[str, AmefuError], None], progress: Progress
) -> Outcome:
    """Compute and store the features of the videos in `jobs`. Raises NotFinite, which names the video, where a network
    gave NaN or infinity."""
    return make_videos(
        jobs, batch=setup.batch, load=partial(_load, setup), compute=partial(_compute, setup),
        writer_of=partial(_writer, setup), device=setup.device, failed=failed, progress=progress,
    )  # fmt: skip


def _writer(setup: Extraction, job: VideoJob) -> VideoWriter:
    features = setup.features
    if not job.copied:
        return feature_writer(features, job.id, job.streams)
    stored = features.read(job.id)
    if not np.array_equal(stored.array("frame"), job.numbers):
        raise DamagedFile(f"{features.path}: {job.id} holds other frames than it did; run the same command again")
    return feature_writer(features, job.id, job.streams, {name: stored.array(name) for name in job.copied})


def _load(setup: Extraction, piece: Piece) -> dict[str, torch.Tensor]:
    """What the streams of a piece read: `frames` uint8 (frames, height, width, 3), `depth` disparity (frames, height,
    width)."""
    video, read = piece.job.record.id, {setup.streams[name].row.reads for name in piece.job.streams}
    content = {}
    if "frames" in read or setup.depth is None:
        content["frames"] = read_frames(setup.frames.read(video), piece.numbers)
    if "depth" in read and setup.depth is not None:
        content["depth"] = read_disparity(setup.depth.read(video), piece.numbers)
    sizes = {name: f"{array.shape[1]}×{array.shape[2]}" for name, array in content.items()}
    if len(set(sizes.values())) > 1 and setup.depth is not None:
        raise DamagedFile(
            f"{setup.depth.path}: {video} is {sizes['depth']} pixels but its frames are {sizes['frames']}; "
            f"rebuild it with `amefu depth --only {video}`"
        )
    return {name: torch.from_numpy(array) for name, array in content.items()}


@torch.inference_mode()
def _compute(setup: Extraction, piece: Piece, content: Mapping[str, torch.Tensor]) -> dict[str, NDArray[Any]]:
    """The arrays of a piece as features.zarr holds them."""
    there = {name: part.to(setup.device, non_blocking=True) for name, part in content.items()}
    if setup.estimator and "depth" in {setup.streams[name].row.reads for name in piece.job.streams}:
        disparity = setup.estimator(there["frames"])
        there["depth"] = quantise(disparity, DEPTH_PERCENTILE)[0]
        if not bool(disparity.isfinite().all()):
            raise NotFinite(f"{setup.features.path}: the estimator gave NaN or infinity for {piece.job.id}")
    arrays: dict[str, NDArray[Any]] = {"frame": piece.numbers}
    for name in piece.job.streams:
        row, backbone = setup.streams[name].row, setup.streams[name].backbone
        images = there[row.reads]
        if row.encoding is not None:
            images = encode_disparity(images, encoding=row.encoding)
        views = crop_views(images, piece.job, row, setup.seed)
        output = backbone(normalise(views.flatten(0, 1), mean=backbone.mean, std=backbone.std, dtype=setup.precision))
        found = storable(output, f"{setup.features.path}: {name} features of {piece.job.id}", row.backbone)
        arrays[name] = features = found.cpu().numpy().reshape(*views.shape[:2], -1)  # (views, frames, dim)
        setup.ranges[name].widen(features)
    return arrays


def storable(features: torch.Tensor, what: str, backbone: str) -> torch.Tensor:
    """Features (n, dim) as float16, which keeps three digits from 6e-5 to 65504. Raises NotFinite where some are NaN or
    infinity, AmefuError where some are larger, or all of an image smaller."""
    largest = features.float().abs().amax(1)  # of each image
    if not bool(largest.isfinite().all()):
        raise NotFinite(f"{what} are not finite")
    if len(beyond := largest[(largest > HALF.max) | (largest > 0) & (largest < HALF.tiny)]):
        raise AmefuError(
            f"{what} reach {float(beyond[0]):.3g}, and float16, in which they are stored, keeps the digits of "
            f"{HALF.tiny:.2g} to {HALF.max:.0f} alone; give other --weights for {backbone}, or scale its last layer"
        )
    return features.to(torch.float16)


def crop_views(images: torch.Tensor, job: VideoJob, row: Stream, seed: int) -> torch.Tensor:
    """uint8 (frames, height, width, 3) -> (views, frames, size, size, 3): the centre, then random crops, mirrored where
    the record of the video says so.

    A view's place depends on the seed, the video and the view alone, so all streams and all pieces share it, and more
    views leave the others as they are. A stream of novel videos alone has the centre only.
    """
    (height, width), crop = images.shape[1:3], row.crop
    if min(height, width) < crop:
        raise UsageError(f"{job.id}: frames of {height}×{width} pixels are smaller than --crop {crop}")
    rng = np.random.default_rng([seed, *job.id.encode("utf-8", "surrogateescape")])
    mirrored = job.made_from["mirrored"]
    views = []
    for view in range(1 if row.novel_only else job.views):
        top, left = crop_corner(height, width, crop=crop, centre=view == 0, rng=rng)
        seen = images[:, top : top + crop, left : left + crop]
        views.append(seen.flip(2) if view in mirrored else seen)
    cropped, size = torch.stack(views), row.size  # (views, frames, crop, crop, 3)
    if crop == size:
        return cropped
    pixels = cropped.flatten(0, 1).permute(0, 3, 1, 2).float()
    resized = functional.interpolate(pixels, (size, size), mode="bilinear", antialias=True, align_corners=False)
    whole = resized.round().clamp(0, 255).to(torch.uint8).permute(0, 2, 3, 1).contiguous()
    return whole.view(*cropped.shape[:2], size, size, 3)
