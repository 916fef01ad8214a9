"""frames.zarr + depth.zarr -> features.zarr: per-frame features of both frozen streams, in one pass over the frames."""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from amefu_cli.artefacts.files.fingerprint import Provenance
from amefu_cli.artefacts.stores.features import IMAGENET, STREAMS, feature_writer
from amefu_cli.artefacts.stores.pictures import read_disparity, read_frames
from amefu_cli.artefacts.stores.store import VideoStore
from amefu_cli.errors import AmefuError, DamagedFile, NotFinite, UsageError
from amefu_cli.method.backbones.network import Backbone, normalise
from amefu_cli.method.depth.encoding import encode_disparity
from amefu_cli.method.geometry import crop_corner
from amefu_cli.settings import DEPTH_PERCENTILE
from amefu_cli.stages import Outcome, Progress
from amefu_cli.stages.networks import load_backbone, load_stream
from amefu_cli.stages.pending import VideoJob
from amefu_cli.stages.pipeline import Piece, make_videos, networks_on


@dataclass(frozen=True)
class Stream:
    """One frozen network, ready on its device, and what it sees."""

    backbone: Backbone
    crop: int
    depth_encoding: str
    provenance: Provenance | None = None  # of ImageNet weights; all others are known by hash before they are loaded


def load_streams(
    checkpoints: Mapping[str, Path],
    seen: Mapping[str, Any],
    *,
    device: torch.device,
    precision: torch.dtype,
    basenet: Mapping[str, Any] | None = None,
) -> dict[str, Stream]:
    """Both streams, frozen, on the device: from their checkpoints, else as `seen["fallback"]` says.

    `basenet` (backbone and weights) adds `imagenet`, the RGB stream's network as it was before pretraining.

    Raises:
        UsageError: the features of the two streams are not equally wide.
    """

    def stream(backbone: Backbone, provenance: Provenance | None, sees: Mapping[str, Any]) -> Stream:
        moved = backbone.eval().to(device, precision, memory_format=torch.channels_last)  # type: ignore[call-overload]
        return Stream(moved, sees["crop"], sees["depth_encoding"], provenance)

    streams = {}
    for modality in STREAMS:
        if checkpoints[modality].is_file():
            streams[modality] = stream(load_stream(checkpoints[modality], modality), None, seen[modality])
        else:
            loaded = load_backbone(seen["fallback"]["backbone"], seen["fallback"]["weights"])
            streams[modality] = stream(*loaded, seen[modality])
    if basenet is not None:
        streams[IMAGENET] = stream(*load_backbone(basenet["backbone"], basenet["weights"]), seen["rgb"])
    dims = {modality: stream.backbone.dim for modality, stream in streams.items()}
    if dims["rgb"] != dims["depth"]:
        raise UsageError(
            f"the RGB stream gives {dims['rgb']} features a frame and the depth stream {dims['depth']}; "
            "pretrain both with the same --backbone"
        )
    return streams


@dataclass(frozen=True)
class Extraction:
    """All that one extraction needs besides its jobs: three stores, the networks, the device."""

    frames: VideoStore
    depth: VideoStore
    features: VideoStore
    streams: Mapping[str, Stream]
    device: torch.device
    precision: torch.dtype
    batch: int
    seed: int
    flip: float


def extract_features(
    setup: Extraction, jobs: Sequence[VideoJob], *, failed: Callable[[str, AmefuError], None], progress: Progress
) -> Outcome:
    """Compute and store the features of the videos in `jobs`.

    Raises:
        NotFinite: a network gave NaN or infinity; names the video.
    """
    with_imagenet = {job.record.id for job in jobs if job.imagenet}
    return make_videos(
        jobs,
        batch=setup.batch,
        load=functools.partial(_load, setup),
        compute=functools.partial(_compute, setup),
        networks=networks_on(setup.device),
        writer_of=lambda video: feature_writer(setup.features, video, imagenet=video in with_imagenet),
        failed=failed,
        progress=progress,
    )


def _load(setup: Extraction, piece: Piece) -> tuple[torch.Tensor, torch.Tensor]:
    """The frames uint8 (frames, height, width, 3) and the disparity float32 (frames, height, width) of a piece."""
    video = piece.job.record.id
    images = read_frames(setup.frames.read(video), piece.numbers)
    disparity = read_disparity(setup.depth.read(video), piece.numbers)
    if images.shape[:3] != disparity.shape:
        raise DamagedFile(
            f"{setup.depth.path}: {video} is {disparity.shape[1]}×{disparity.shape[2]} pixels but its frames are "
            f"{images.shape[1]}×{images.shape[2]}; rebuild it with `amefu depth --only {video}`"
        )
    return torch.from_numpy(images), torch.from_numpy(disparity)


@torch.inference_mode()
def _compute(setup: Extraction, piece: Piece, content: tuple[torch.Tensor, torch.Tensor]) -> Mapping[str, NDArray[Any]]:
    """The arrays of a piece as features.zarr holds them."""
    images, disparity = (part.to(setup.device, non_blocking=True) for part in content)
    arrays: dict[str, NDArray[Any]] = {"frame": piece.numbers}
    for name in (*STREAMS, IMAGENET) if piece.job.imagenet else STREAMS:
        stream = setup.streams[name]
        seen = images if name != "depth" else encode_disparity(
            disparity, encoding=stream.depth_encoding, percentile=DEPTH_PERCENTILE
        )  # fmt: skip
        views = crop_views(seen, piece.job, stream.crop, setup.seed, setup.flip)
        arrays[name] = _features(stream, views, setup.precision)
        if not np.isfinite(arrays[name]).all():
            raise NotFinite(f"{setup.features.path}: {name} features of {piece.job.record.id} are not finite")
    return arrays


def crop_views(images: torch.Tensor, job: VideoJob, crop: int, seed: int, flip: float) -> torch.Tensor:
    """uint8 (frames, height, width, 3) -> (views, frames, crop, crop, 3): the centre, then random crops.

    A random crop is mirrored with probability `flip`. A view's place and whether it is mirrored depend on the seed,
    the video and the view alone, so both streams and all pieces share them.
    """
    height, width = images.shape[1:3]
    if min(height, width) < crop:
        raise UsageError(f"{job.record.id}: frames of {height}×{width} pixels are smaller than --crop {crop}")
    rng = np.random.default_rng([seed, *job.record.id.encode("utf-8", "surrogateescape")])
    mirrored = rng.random(job.views) < flip
    views = []
    for view in range(job.views):
        top, left = crop_corner(height, width, crop=crop, centre=view == 0, rng=rng)
        seen = images[:, top : top + crop, left : left + crop]
        views.append(seen.flip(2) if view and mirrored[view] else seen)
    return torch.stack(views)


def _features(stream: Stream, views: torch.Tensor, precision: torch.dtype) -> NDArray[np.float16]:
    """uint8 (views, frames, crop, crop, 3) -> float16 (views, frames, dim)."""
    backbone = stream.backbone
    images = normalise(views.flatten(0, 1), mean=backbone.mean, std=backbone.std, dtype=precision)
    output = backbone(images).to(torch.float16).cpu().numpy()
    result: NDArray[np.float16] = output.reshape(*views.shape[:2], -1)
    return result
