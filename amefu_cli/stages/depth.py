"""frames.zarr -> depth.zarr: the disparity of every frame, by one of the estimators of method/depth."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from numpy.typing import NDArray

from amefu_cli.artefacts.files.fingerprint import Provenance
from amefu_cli.artefacts.stores.header import DepthHeader, FramesHeader
from amefu_cli.artefacts.stores.pictures import read_frames
from amefu_cli.artefacts.stores.store import VideoStore
from amefu_cli.artefacts.stores.writing import depth_writer
from amefu_cli.artefacts.weights.downloads import cache_from_environment
from amefu_cli.artefacts.weights.sources import load_depth_weights
from amefu_cli.errors import AmefuError, NotFinite
from amefu_cli.method.depth import ESTIMATORS, parse_estimator
from amefu_cli.method.depth.network import Estimator, build_estimator, quantise
from amefu_cli.settings import DEPTH_PERCENTILE, DepthSettings
from amefu_cli.stages import Outcome, Progress, VideoJob
from amefu_cli.stages.computing import Piece, make_videos
from amefu_cli.stages.networks import choose_precision


def load_estimator(
    settings: DepthSettings, weights: Path | None, device: torch.device
) -> tuple[Estimator, str, Provenance]:
    """The estimator of the settings on its device, what its user must know of it, and where its weights come from.

    UsageError: an unknown estimator, a missing extra, weights of another network. AmefuError: no weights to be had.
    """
    name, source = parse_estimator(settings.estimator)
    row, source = ESTIMATORS[name], str(weights) if weights else source
    content, provenance = load_depth_weights(row.weights, source, cache=cache_from_environment())
    estimator = build_estimator(
        name, content, device=device, precision=choose_precision(settings.precision, device),
        threads=1 if device.type == "cpu" else torch.get_num_threads(),
        larger_is_farther=settings.larger_is_farther or None, imagenet_input=settings.imagenet_input,
        lanczos=settings.resize == "lanczos",
    )  # fmt: skip
    return estimator, row.note, provenance


def predict_depth(
    frames: VideoStore[FramesHeader], depth: VideoStore[DepthHeader], jobs: Sequence[VideoJob], *,
    estimator: Estimator, device: torch.device, batch: int, failed: Callable[[str, AmefuError], None],
    progress: Progress,
) -> Outcome:  # fmt: skip
    """Predict and store the disparity of every frame of the videos in `jobs`, `batch` frames at once at most. Raises
    NotFinite, which names the video, where the network gave NaN or infinity."""

    def load(piece: Piece) -> torch.Tensor:
        return torch.from_numpy(read_frames(frames.read(piece.job.id), piece.numbers))

    @torch.inference_mode()
    def compute(piece: Piece, content: torch.Tensor) -> Mapping[str, NDArray[Any]]:
        disparity = estimator(content.to(device, non_blocking=True))  # (frames, height, width)
        value, low, high = (part.cpu().numpy() for part in quantise(disparity, DEPTH_PERCENTILE))
        if not bool(disparity.isfinite().all()):
            raise NotFinite(f"{depth.path}: the estimator gave NaN or infinity for {piece.job.id}")
        return {"disparity": value, "low": low, "high": high}

    return make_videos(
        jobs, batch=batch, load=load, compute=compute, writer_of=lambda job: depth_writer(depth, job.id),
        device=device, failed=failed, progress=progress,
    )  # fmt: skip
