"""features.zarr -> MODEL-HEAD.safetensors: a head that learns, from episodes of the base classes.

It reads the frames of one stream, or those that a fusion gives, which stays as it is: one frame of each of 8 parts of a
video, at a random place in training.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Self

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from amefu_cli.artefacts.stores.features import FeatureTable
from amefu_cli.artefacts.weights.headers import HeadHeader, Position
from amefu_cli.artefacts.weights.training_run import TrainingRun
from amefu_cli.method.heads import EIGHT, Model, build_head
from amefu_cli.method.heads.base import Head
from amefu_cli.method.heads.fusion import fused_frames
from amefu_cli.settings import HeadTrainSettings
from amefu_cli.stages import Progress
from amefu_cli.stages.computing import ahead
from amefu_cli.stages.networks import choose_device
from amefu_cli.stages.scoring import Reading, by_head, load_fusion, video_frames
from amefu_cli.stages.training import Training, epoch_episodes, gather_clips, places_of, validation_episodes


@dataclass(frozen=True)
class HeadSetup:
    """All that one head's training needs besides the head. `validation` is None where there are too few classes."""

    base: FeatureTable
    validation: FeatureTable | None
    model: Model
    header: HeadHeader
    fusion: nn.Module | None
    device: torch.device

    @classmethod
    def of(
        cls, base: FeatureTable, validation: FeatureTable | None, model: Model, header: HeadHeader, *,
        fusion: Path | None, device: str,
    ) -> Self:  # fmt: skip
        """With the fusion of a checkpoint, on the device of that name."""
        place = choose_device(device)
        return cls(base, validation, model, header, load_fusion(fusion, place) if fusion else None, place)

    @property
    def settings(self) -> HeadTrainSettings:
        return self.header.training.settings


def train_head(setup: HeadSetup, files: TrainingRun[HeadHeader], *, progress: Progress) -> Position:
    """Train, or go on training, a head; returns where the best epoch was.

    Raises:
        UsageError: too few base classes, or too few videos in one, for the episodes asked for.
        NotFinite: a loss is NaN or infinite; names epoch and step.
    """
    settings, header = setup.settings, setup.header
    torch.manual_seed(settings.seed)
    head = build_head(header.head, header.dim, header.options).to(setup.device)
    optimizer, validated = _optimizer(head, settings), _validated_frames(setup)

    def steps_from(epoch: int, first: int) -> Iterator[float]:
        """The steps of an epoch from number `first` on: `accumulation` episodes each, whose mean loss is lowered."""
        episodes = _episodes(setup, epoch, first * settings.accumulation)
        for begin in range(first * settings.accumulation, settings.episodes, settings.accumulation):
            count = min(settings.accumulation, settings.episodes - begin)
            torch.manual_seed(hash((settings.seed, epoch, begin)) % 2**63)  # of dropout: as a resumed one draws it
            optimizer.zero_grad()
            total = 0.0
            for _ in range(count):
                loss = _loss(setup, head, next(episodes)) / count
                loss.backward()  # type: ignore[no-untyped-call]
                total += float(loss.detach())
            optimizer.step()
            yield total

    training = Training(
        model=head, kept=head, optimizer=optimizer, epochs=settings.epochs,
        steps=-(-settings.episodes // settings.accumulation), rates=(settings.learning_rate,),
        decay_after=settings.decay_after, steps_from=steps_from,
        validate=lambda: {"validation_accuracy": _validation_accuracy(setup, head, validated)},
        metric="validation_accuracy", advice="lower --learning-rate",
    )  # fmt: skip
    with files:
        return training.run(files, progress)


def _optimizer(head: Head, settings: HeadTrainSettings) -> torch.optim.Optimizer:
    if settings.optimizer == "adam":
        return torch.optim.Adam(head.parameters(), lr=settings.learning_rate, weight_decay=settings.weight_decay)
    return torch.optim.SGD(
        head.parameters(), lr=settings.learning_rate, momentum=settings.momentum, nesterov=settings.nesterov,
        weight_decay=settings.weight_decay,
    )  # fmt: skip


@dataclass(frozen=True)
class _EpisodeClips:
    """The clips of one episode by stream, float16 (videos, frames, dim), its videos as `Episodes.videos` orders them;
    the way of each query (queries,), and the base class of each way (way,)."""

    streams: list[Tensor]
    targets: Tensor
    classes: Tensor


def _episodes(setup: HeadSetup, epoch: int, first: int) -> Iterator[_EpisodeClips]:
    """The episodes of one epoch from number `first` on."""
    settings, table = setup.settings, setup.base
    drawn, places = epoch_episodes(table, settings, epoch), places_of(table, setup.header.clip)
    videos, targets = drawn.videos, torch.from_numpy(drawn.targets)

    def gather(episode: int) -> _EpisodeClips:
        rng = np.random.default_rng([settings.seed, epoch, episode])
        clips = gather_clips(table, videos[episode], places, clips=dict.fromkeys(setup.model.streams, 1), rng=rng)
        return _EpisodeClips([clip[0] for clip in clips], targets, torch.from_numpy(drawn.classes[episode]))

    return ahead(gather, range(first, settings.episodes), threads=1, depth=4)


def _loss(setup: HeadSetup, head: Head, episode: _EpisodeClips) -> Tensor:
    """What one episode's loss is, a scalar."""
    clips = [clip.to(setup.device).float() for clip in episode.streams]
    with torch.no_grad():
        frames = fused_frames(setup.fusion, *clips) if setup.fusion else clips[0]
    states, supports = head.embed(frames), len(frames) - len(episode.targets)
    support = torch.unflatten(states[:supports], 0, (len(episode.classes), -1))  # (way, shot, *state)
    targets, classes = (part.to(setup.device).unsqueeze(0) for part in (episode.targets, episode.classes))
    return head.loss(support.unsqueeze(0), states[supports:].unsqueeze(0), targets, classes)[0]


def _validated_frames(setup: HeadSetup) -> NDArray[np.float32] | None:
    """The frames (videos, frames, dim) of the validation classes, which no epoch changes; None without any."""
    if setup.validation is None:
        return None
    return video_frames(setup.validation, Reading(setup.model, EIGHT, setup.header.clip, setup.fusion, setup.device))


def _validation_accuracy(setup: HeadSetup, head: Head, frames: NDArray[np.float32] | None) -> float | None:
    """Accuracy on the episodes of the validation classes; None without any."""
    if setup.validation is None or frames is None:
        return None
    episodes = validation_episodes(setup.validation, setup.settings)
    head.eval()
    outcomes = by_head(head, frames, episodes, device=setup.device, progress=lambda done, total, item: None)
    head.train()
    return float(outcomes.mean())
