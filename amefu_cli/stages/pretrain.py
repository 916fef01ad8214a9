"""frames.zarr or depth.zarr -> rgb.safetensors or depth.safetensors: one stream fine-tuned on the base classes.

The paper's §4.1: the mean of the 16 frame features, a linear classifier over the base classes, cross entropy, SGD.
All randomness is a function of (seed, epoch, video or step), so a killed run goes on to the same weights.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn
from torch.nn import functional

from amefu_cli.artefacts.stores.header import VideoRecord
from amefu_cli.artefacts.stores.pictures import read_disparity, read_frames
from amefu_cli.artefacts.stores.store import VideoStore
from amefu_cli.artefacts.weights.checkpoint import CheckpointHeader
from amefu_cli.artefacts.weights.training_run import Position, TrainingRun
from amefu_cli.errors import UsageError
from amefu_cli.method.backbones.network import Backbone, normalise
from amefu_cli.method.depth.encoding import encode_disparity
from amefu_cli.method.geometry import crop_corner
from amefu_cli.method.heads.learning import clip_logits
from amefu_cli.method.sampling import middle_clip, random_clips
from amefu_cli.settings import DEPTH_PERCENTILE, ClipSettings, PretrainSettings, StreamSettings
from amefu_cli.stages import Progress
from amefu_cli.stages.pipeline import LOADERS, ahead
from amefu_cli.stages.training import Training


@dataclass(frozen=True)
class Videos:
    """The videos of one part of the data, with the class number of each."""

    records: Sequence[VideoRecord]
    labels: Sequence[int]


class StreamClassifier(nn.Module):
    """A backbone and a linear classifier over the mean of a clip's frame features."""

    def __init__(self, backbone: Backbone, classes: int) -> None:
        super().__init__()
        self.backbone = backbone
        self.head = nn.Linear(backbone.dim, classes)
        nn.init.zeros_(self.head.weight)  # so that the first steps do not pull the backbone at random
        nn.init.zeros_(self.head.bias)

    def forward(self, images: torch.Tensor, frames: int) -> torch.Tensor:
        """Images (clips * frames, 3, height, width) -> logits float32 (clips, classes)."""
        return clip_logits(self.backbone(images), self.head, frames=frames).float()


@dataclass(frozen=True)
class Pretraining:
    """All that one pretraining needs besides its model: the data, the settings, the device."""

    store: VideoStore
    train: Videos
    held_out: Videos
    settings: PretrainSettings
    stream: StreamSettings
    clip: ClipSettings
    device: torch.device
    precision: torch.dtype

    @property
    def steps(self) -> int:
        """Optimizer steps an epoch."""
        return math.ceil(len(self.train.records) / self.settings.videos_per_batch)


def split_held_out(records: Sequence[VideoRecord], *, share: float, seed: int) -> tuple[Videos, Videos]:
    """Base videos for training and, of every class, about `share` of them for validation (never its only one)."""
    by_class: dict[str, list[VideoRecord]] = {}
    for record in records:
        by_class.setdefault(record.class_name, []).append(record)
    parts: tuple[list[tuple[VideoRecord, int]], list[tuple[VideoRecord, int]]] = ([], [])
    for label, name in enumerate(sorted(by_class)):
        videos = by_class[name]
        order = np.random.default_rng([seed, label]).permutation(len(videos))
        count = min(len(videos) - 1, math.ceil(share * len(videos)))
        for rank, index in enumerate(order):
            parts[rank < count].append((videos[index], label))
    for part in parts:
        part.sort(key=lambda pair: pair[0].id)
    train, held_out = (Videos([record for record, _ in part], [label for _, label in part]) for part in parts)
    return train, held_out


def pretrain(
    setup: Pretraining, backbone: Backbone, out: Path, header: CheckpointHeader, *, progress: Progress
) -> Position:
    """Train, or go on training, one stream; writes `out` and returns where the best epoch was.

    Raises:
        NotFinite: the loss is NaN or infinite; names epoch and step.
    """
    settings = setup.settings
    torch.manual_seed(settings.seed)
    model = StreamClassifier(backbone, len(set(setup.train.labels))).to(setup.device)
    model = model.to(memory_format=torch.channels_last)
    optimizer = _optimizer(model, settings)
    training = Training(
        model=model,
        kept=model,
        optimizer=optimizer,
        epochs=settings.epochs,
        steps=setup.steps,
        rates=(settings.backbone_rate, settings.classifier_rate),
        decay_after=settings.decay_after,
        steps_from=lambda epoch, first: _steps(setup, model, optimizer, epoch, first),
        validate=lambda: {"held_out_accuracy": _held_out_accuracy(setup, model)},
        metric="held_out_accuracy",
        advice="lower --backbone-rate, or use --precision float32",
    )
    with TrainingRun(out, header) as files:
        return training.run(files, progress)


def _steps(
    setup: Pretraining, model: StreamClassifier, optimizer: torch.optim.Optimizer, epoch: int, first: int
) -> Iterator[float]:
    """The optimizer steps of an epoch from number `first` on; yields their losses."""
    settings = setup.settings
    model.train()
    if settings.frozen_norm:
        freeze_norm(model)
    batches = ahead(
        lambda batch: _load_training(setup, epoch, batch), _batches(setup, epoch)[first:], threads=LOADERS, depth=2
    )
    for step, (images, labels) in enumerate(batches, first):
        torch.manual_seed(hash((settings.seed, epoch, step)) % 2**63)  # dropout inside a backbone, if it has any
        loss = functional.cross_entropy(_logits(setup, model, images), labels.to(setup.device))
        optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        optimizer.step()
        yield float(loss.detach())


def _logits(setup: Pretraining, model: StreamClassifier, images: torch.Tensor) -> torch.Tensor:
    """Images uint8 (clips, frames, crop, crop, 3) -> logits (clips, classes), in the precision asked for."""
    with torch.autocast(setup.device.type, setup.precision, enabled=setup.precision != torch.float32):
        logits: torch.Tensor = model(_network_input(setup, model.backbone, images), images.shape[1])
    return logits


def freeze_norm(model: nn.Module) -> None:
    """Let every BatchNorm use the statistics that it has, and leave them as they are."""
    for module in model.modules():
        if isinstance(module, nn.modules.batchnorm._BatchNorm):
            module.eval()


@torch.inference_mode()
def _held_out_accuracy(setup: Pretraining, model: StreamClassifier) -> float | None:
    """Share of the held-out videos (middle clip, centre crop) that fall to their class; None without any."""
    videos, size = setup.held_out, setup.settings.videos_per_batch
    if not videos.records:
        return None
    model.eval()
    right = 0
    batches = [range(begin, min(begin + size, len(videos.records))) for begin in range(0, len(videos.records), size)]
    for images, labels in ahead(lambda batch: _load_held_out(setup, batch), batches, threads=LOADERS, depth=2):
        right += int((_logits(setup, model, images).argmax(1).cpu() == labels).sum())
    return right / len(videos.records)


def _batches(setup: Pretraining, epoch: int) -> list[NDArray[np.int64]]:
    """The indices of each step's training videos, in an order that depends on seed and epoch alone."""
    order = np.random.default_rng([setup.settings.seed, epoch]).permutation(len(setup.train.records))
    return np.array_split(order, range(setup.settings.videos_per_batch, len(order), setup.settings.videos_per_batch))


def _load_training(setup: Pretraining, epoch: int, batch: NDArray[np.int64]) -> tuple[torch.Tensor, torch.Tensor]:
    """Random clips, crops and flips of some videos: uint8 (clips, frames, crop, crop, 3) and labels int64."""
    clips = []
    for index in batch:
        record = setup.train.records[index]
        rng = np.random.default_rng([setup.settings.seed, epoch, int(index)])
        numbers = random_clips(
            np.array([record.frames]), segments=setup.clip.segments,
            frames_per_segment=setup.clip.frames_per_segment, rng=rng,
        )[0]  # fmt: skip
        images = _read_clip(setup, record, numbers, rng)
        clips.append(images.flip(2) if rng.random() < setup.settings.flip else images)
    return torch.stack(clips), torch.tensor([setup.train.labels[index] for index in batch])


def _load_held_out(setup: Pretraining, batch: Sequence[int]) -> tuple[torch.Tensor, torch.Tensor]:
    """Middle clips and centre crops of some held-out videos, as `_load_training` gives them."""
    clips = []
    for index in batch:
        record = setup.held_out.records[index]
        numbers = middle_clip(
            record.frames, segments=setup.clip.segments, frames_per_segment=setup.clip.frames_per_segment
        )
        clips.append(_read_clip(setup, record, numbers, None))
    return torch.stack(clips), torch.tensor([setup.held_out.labels[index] for index in batch])


def _read_clip(
    setup: Pretraining, record: VideoRecord, numbers: NDArray[np.int64], rng: np.random.Generator | None
) -> torch.Tensor:
    """uint8 (frames, crop, crop, 3); the same crop for all frames: random with `rng`, else the centre."""
    stored, crop = setup.store.read(record.id), setup.stream.crop
    if setup.store.kind == "depth":
        disparity = torch.from_numpy(read_disparity(stored, numbers))
        images = encode_disparity(disparity, encoding=setup.stream.depth_encoding, percentile=DEPTH_PERCENTILE)
    else:
        images = torch.from_numpy(read_frames(stored, numbers))
    height, width = images.shape[1:3]
    if min(height, width) < crop:
        raise UsageError(f"{record.id}: stored frames of {height}×{width} pixels are smaller than --crop {crop}")
    top, left = crop_corner(height, width, crop=crop, centre=rng is None, rng=rng or np.random.default_rng(0))
    return images[:, top : top + crop, left : left + crop]


def _network_input(setup: Pretraining, backbone: Backbone, images: torch.Tensor) -> torch.Tensor:
    flat = images.flatten(0, 1).to(setup.device, non_blocking=True)
    return normalise(flat, mean=backbone.mean, std=backbone.std, dtype=torch.float32)


def _optimizer(model: StreamClassifier, settings: PretrainSettings) -> torch.optim.SGD:
    groups = [
        {"params": list(model.backbone.parameters()), "lr": settings.backbone_rate},
        {"params": list(model.head.parameters()), "lr": settings.classifier_rate},
    ]
    return torch.optim.SGD(groups, momentum=settings.momentum, weight_decay=settings.weight_decay)
