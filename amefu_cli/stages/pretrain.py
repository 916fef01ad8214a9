"""frames.zarr or depth.zarr -> rgb.safetensors or depth.safetensors: one stream fine-tuned on the base classes.

The paper's §4.2: the mean of the 16 frame features, a linear classifier over the base classes, cross entropy, SGD.
All randomness is a function of (seed, epoch, video or step), so a killed run goes on to the same weights.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import groupby
from operator import attrgetter
from typing import cast

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn
from torch.nn import functional

from amefu_cli.artefacts.files.fingerprint import Provenance
from amefu_cli.artefacts.stores.header import DepthHeader, FramesHeader, VideoRecord
from amefu_cli.artefacts.stores.pictures import read_disparity, read_frames
from amefu_cli.artefacts.stores.store import VideoStore
from amefu_cli.artefacts.weights.headers import Position, Probe, StreamHeader
from amefu_cli.artefacts.weights.training_run import TrainingRun
from amefu_cli.errors import UsageError
from amefu_cli.method.backbones.network import Backbone, normalise
from amefu_cli.method.depth.encoding import encode_disparity
from amefu_cli.method.geometry import crop_corner
from amefu_cli.method.sampling import middle_clip, random_clips
from amefu_cli.settings import PretrainSettings
from amefu_cli.stages import Progress
from amefu_cli.stages.computing import LOADERS, ahead
from amefu_cli.stages.networks import choose_device, choose_precision, load_backbone
from amefu_cli.stages.training import Training

PROBED_CLASSES, PROBED_VIDEOS = (
    20,
    10,
)  # at most, and of each: forward passes of 200 videos, before and after each epoch
Store = VideoStore[FramesHeader] | VideoStore[DepthHeader]
Videos = Sequence[tuple[VideoRecord, int]]
"""The videos of one part of the data, with the class number of each."""


class StreamClassifier(nn.Module):
    """A backbone and a linear classifier over the mean of a clip's frame features."""

    def __init__(self, backbone: Backbone, classes: int, *, zero: bool) -> None:
        """`zero`: the classifier starts at zero, so that the first steps do not pull the backbone at random."""
        super().__init__()
        self.backbone = backbone
        self.head = nn.Linear(backbone.dim, classes)
        if zero:
            nn.init.zeros_(self.head.weight)
            nn.init.zeros_(self.head.bias)

    def forward(self, features: torch.Tensor) -> torch.Tensor:
        """Features of the backbone (clips, frames, dim) -> logits float32 (clips, classes)."""
        return cast(torch.Tensor, self.head(features.mean(1)).float())


@dataclass(frozen=True)
class Pretraining:
    """All that one pretraining needs: the data, what its header says and the settings there, the device, and the
    backbone that it starts from, with where ImageNet weights of it are from."""

    store: Store
    train: Videos
    held_out: Videos
    probed: (
        Videos  # what the stream's features are looked at by; of classes that it is not trained on, if there are two
    )
    header: StreamHeader
    settings: PretrainSettings
    device: torch.device
    precision: torch.dtype
    backbone: Backbone
    provenance: Provenance | None


def split_held_out(records: Sequence[VideoRecord], *, share: float, seed: int) -> tuple[Videos, Videos]:
    """Base videos for training and, of every class, about `share` of them for validation (never its only one)."""
    train: list[tuple[VideoRecord, int]] = []
    held_out: list[tuple[VideoRecord, int]] = []
    class_of, id_of = attrgetter("class_name"), lambda video: video[0].id
    for label, (_, group) in enumerate(groupby(sorted(records, key=class_of), class_of)):
        videos = [(record, label) for record in group]
        order = np.random.default_rng([seed, label]).permutation(len(videos))
        count = min(len(videos) - 1, math.ceil(share * len(videos)))
        held_out += [videos[index] for index in order[:count]]
        train += [videos[index] for index in order[count:]]
    return sorted(train, key=id_of), sorted(held_out, key=id_of)


def probed_videos(records: Sequence[VideoRecord]) -> Videos:
    """A few videos of each of some classes; none of fewer than two classes."""
    by_class = groupby(sorted(records, key=attrgetter("class_name", "id")), attrgetter("class_name"))
    several = [some for some in (list(group)[:PROBED_VIDEOS] for _, group in by_class) if len(some) > 1]
    few = several[:PROBED_CLASSES] if len(several) > 1 else []
    return [(record, label) for label, some in enumerate(few) for record in some]


def prepare(
    store: Store, records: Sequence[VideoRecord], header: StreamHeader, *, validation: Sequence[VideoRecord],
    weights: str, device: str,
) -> Pretraining:  # fmt: skip
    """What training a stream on `records` as `header` says needs, from `weights` (`imagenet`, `none` or a file) on.
    Raises UsageError for weights of another network, AmefuError where ImageNet weights cannot be had."""
    assert header.training is not None
    settings, place = header.training.settings, choose_device(device)
    train, held_out = split_held_out(records, share=settings.held_out, seed=settings.seed)
    torch.manual_seed(settings.seed)  # of a backbone with random weights
    backbone, provenance = load_backbone(header.backbone, weights)
    precision = choose_precision(settings.precision, place)
    probed = probed_videos(validation) or probed_videos(records)
    return Pretraining(store, train, held_out, probed, header, settings, place, precision, backbone, provenance)


def pretrain(setup: Pretraining, files: TrainingRun[StreamHeader], *, progress: Progress) -> Position:
    """Train, or go on training, one stream; returns where the best epoch was. Raises NotFinite, which names epoch and
    step, where the loss is NaN or infinite."""
    settings = setup.settings
    torch.manual_seed(settings.seed)
    classes = len({label for _, label in setup.train})
    model = StreamClassifier(setup.backbone, classes, zero=settings.zero_classifier).to(setup.device)
    model = model.to(memory_format=torch.channels_last)
    groups = [{"params": [*part.parameters()]} for part in (model.backbone, model.head)]
    rates = (settings.backbone_rate, settings.classifier_rate)
    optimizer = torch.optim.SGD(groups, rates[0], momentum=settings.momentum, weight_decay=settings.weight_decay)
    training = Training(
        model=model, kept=model, optimizer=optimizer, epochs=settings.epochs, rates=rates,
        steps=math.ceil(len(setup.train) / settings.videos_per_batch), decay_after=settings.decay_after,
        steps_from=lambda epoch, first: _steps(setup, model, optimizer, epoch, first),
        validate=lambda: {"held_out_accuracy": _held_out_accuracy(setup, model), "probe": probe(setup, model)},
        metric="held_out_accuracy", advice="lower --backbone-rate, or use --precision float32",
    )  # fmt: skip
    with files:
        notes = replace(files.header.notes, probe_at_start=probe(setup, model))  # before a snapshot is loaded
        files.header = replace(files.header, notes=notes)
        return training.run(files, progress)


def _steps(
    setup: Pretraining, model: StreamClassifier, optimizer: torch.optim.Optimizer, epoch: int, first: int
) -> Iterator[float]:
    """The optimizer steps of an epoch from number `first` on; yields their losses."""
    settings = setup.settings
    model.train()
    if settings.frozen_norm:  # every BatchNorm uses the statistics that it has, and leaves them as they are
        for module in model.modules():
            if isinstance(module, nn.modules.batchnorm._BatchNorm):
                module.eval()
    order = np.random.default_rng([settings.seed, epoch]).permutation(len(setup.train))
    numbers = np.array_split(order, range(settings.videos_per_batch, len(order), settings.videos_per_batch))
    batches = ahead(lambda some: _load(setup, setup.train, some, epoch), numbers[first:], threads=LOADERS, depth=2)
    for step, (images, labels) in enumerate(batches, first):
        torch.manual_seed(hash((settings.seed, epoch, step)) % 2**63)  # dropout inside a backbone, if it has any
        loss = functional.cross_entropy(_logits(setup, model, images), labels.to(setup.device))
        optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        optimizer.step()
        yield float(loss.detach())


def _features(setup: Pretraining, model: StreamClassifier, images: torch.Tensor) -> torch.Tensor:
    """Images uint8 (clips, frames, crop, crop, 3) -> features (clips, frames, dim), in the precision asked for."""
    backbone, flat = model.backbone, images.flatten(0, 1).to(setup.device, non_blocking=True)
    with torch.autocast(setup.device.type, setup.precision, enabled=setup.precision != torch.float32):
        features: torch.Tensor = backbone(normalise(flat, mean=backbone.mean, std=backbone.std, dtype=torch.float32))
    return torch.unflatten(features, 0, images.shape[:2])


def _logits(setup: Pretraining, model: StreamClassifier, images: torch.Tensor) -> torch.Tensor:
    """Images uint8 (clips, frames, crop, crop, 3) -> logits float32 (clips, classes)."""
    features = _features(setup, model, images)
    with torch.autocast(setup.device.type, setup.precision, enabled=setup.precision != torch.float32):
        logits: torch.Tensor = model(features)
    return logits


@torch.inference_mode()
def _held_out_accuracy(setup: Pretraining, model: StreamClassifier) -> float | None:
    """Share of the held-out videos (middle clip, centre crop) that fall to their class; None without any."""
    videos, size = setup.held_out, setup.settings.videos_per_batch
    if not videos:
        return None
    model.eval()
    right = 0
    numbers = np.array_split(np.arange(len(videos)), range(size, len(videos), size))
    for images, labels in ahead(lambda some: _load(setup, videos, some), numbers, threads=LOADERS, depth=2):
        right += int((_logits(setup, model, images).argmax(1).cpu() == labels).sum())
    return right / len(videos)


@torch.inference_mode()
def probe(setup: Pretraining, model: StreamClassifier) -> Probe | None:
    """What the features of the backbone, as it is now, tell of the probed videos (middle clip, centre crop); None
    without any. A video's class is that of the prototype with the largest cosine, its own class's without itself."""
    videos, size = setup.probed, setup.settings.videos_per_batch
    if not videos:
        return None
    model.eval()
    numbers = np.array_split(np.arange(len(videos)), range(size, len(videos), size))
    means, lows, highs = [], [], []
    for images, _ in ahead(lambda some: _load(setup, videos, some), numbers, threads=LOADERS, depth=2):
        features = _features(setup, model, images)  # (clips, frames, dim)
        means.append(features.mean(1))
        lows.append(features.amin((0, 1)))
        highs.append(features.amax((0, 1)))
    constant = (torch.stack(lows).amin(0) == torch.stack(highs).amax(0)).float().mean()
    vectors, labels = torch.cat(means), torch.tensor([label for _, label in videos], device=setup.device)
    of_class = functional.one_hot(labels).float()  # (videos, classes)
    own, counts = of_class.unsqueeze(-1) * vectors.unsqueeze(1), of_class.sum(0) - of_class
    prototypes = (own.sum(0) - own) / counts.unsqueeze(-1)  # (videos, classes, dim)
    chosen = functional.cosine_similarity(vectors.unsqueeze(1), prototypes, dim=-1).argmax(1)
    trained_on = {record.id for record, _ in videos} <= {record.id for record, _ in (*setup.train, *setup.held_out)}
    accuracy = float((chosen == labels).float().mean())
    return Probe(accuracy, float(constant), len(videos), of_class.shape[1], trained_on)


def _load(
    setup: Pretraining, videos: Videos, numbers: NDArray[np.int64], epoch: int | None = None
) -> tuple[torch.Tensor, torch.Tensor]:
    """Clips uint8 (clips, frames, crop, crop, 3) and labels int64 of the videos of these numbers: places, crops and
    flips that are random by the `epoch`, or without one middle clips and centre crops."""
    clips = []
    for number in numbers:
        rng = None if epoch is None else np.random.default_rng([setup.settings.seed, epoch, int(number)])
        clips.append(_read_clip(setup, videos[number][0], rng))
    return torch.stack(clips), torch.tensor([videos[number][1] for number in numbers])


def _read_clip(setup: Pretraining, record: VideoRecord, rng: np.random.Generator | None) -> torch.Tensor:
    """uint8 (frames, crop, crop, 3); the same crop and flip for all frames."""
    stored, crop, size = setup.store.read(record.id), setup.header.crop, vars(setup.header.clip)
    numbers = random_clips(np.array([record.frames]), rng=rng, **size)[0] if rng else middle_clip(record.frames, **size)
    if setup.store.kind == "depth":
        disparity = torch.from_numpy(read_disparity(stored, numbers))
        images = encode_disparity(disparity, encoding=setup.header.depth_encoding)
    else:
        images = torch.from_numpy(read_frames(stored, numbers))
    height, width = images.shape[1:3]
    if min(height, width) < crop:
        raise UsageError(f"{record.id}: stored frames of {height}×{width} pixels are smaller than --crop {crop}")
    top, left = crop_corner(height, width, crop=crop, centre=rng is None, rng=rng or np.random.default_rng(0))
    seen = images[:, top : top + crop, left : left + crop]
    return seen.flip(2) if rng and rng.random() < setup.settings.flip else seen
