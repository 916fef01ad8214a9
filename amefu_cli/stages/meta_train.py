"""features.zarr -> fusion.safetensors: the fusion of both streams, learned from episodes of the base classes.

The paper's §3.3-3.4: an episode is one matched pair of RGB and depth clips, then `num_aug` asynchronous ones with
other places in the depth video, an optimizer step each. The streams are frozen: only their features are read.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Self

import numpy as np
import torch
from torch import nn

from amefu_cli.artefacts.stores.features import FeatureTable
from amefu_cli.artefacts.weights.headers import FusionHeader, Position
from amefu_cli.artefacts.weights.training_run import TrainingRun
from amefu_cli.method.heads import DEPTHS, MODELS, build_fusion
from amefu_cli.method.heads.prototypes import EpisodeClips, Temperature, classify_episodes, meta_train_episode
from amefu_cli.settings import ClipSettings, MetaTrainSettings
from amefu_cli.stages import Progress
from amefu_cli.stages.computing import ahead
from amefu_cli.stages.networks import choose_device
from amefu_cli.stages.scoring import Reading, video_vectors
from amefu_cli.stages.training import Training, epoch_episodes, gather_clips, places_of, validation_episodes


@dataclass(frozen=True)
class MetaTraining:
    """All that one meta-training needs besides its fusion. `validation` is None where there are too few classes."""

    base: FeatureTable
    validation: FeatureTable | None
    settings: MetaTrainSettings
    clip: ClipSettings
    test_frames: str
    device: torch.device

    @classmethod
    def of(
        cls, base: FeatureTable, validation: FeatureTable | None, settings: MetaTrainSettings, clip: ClipSettings, *,
        test_frames: str, device: str,
    ) -> Self:  # fmt: skip
        """On the device of that name."""
        return cls(base, validation, settings, clip, test_frames, choose_device(device))


def meta_train(setup: MetaTraining, files: TrainingRun[FusionHeader], *, progress: Progress) -> Position:
    """Train, or go on training, a fusion; returns where the best epoch was.

    UsageError: too few base classes, or too few videos in one, for the episodes asked for. NotFinite: a loss is NaN or
    infinite; names epoch and episode.
    """
    settings = setup.settings
    torch.manual_seed(settings.seed)
    fusion = build_fusion(settings.fusion, setup.base.streams["rgb"].shape[-1])
    temperature = Temperature(settings.temperature, learned=settings.learn_temperature)
    learner = nn.ModuleDict({"fusion": fusion, "temperature": temperature}).to(setup.device)
    optimizer = torch.optim.SGD(
        learner.parameters(), settings.learning_rate, settings.momentum, weight_decay=settings.weight_decay
    )

    def steps_from(epoch: int, first: int) -> Iterator[float]:
        """The episodes of an epoch from number `first` on; yields the mean loss of the optimizer steps of each."""
        for episode in _episodes(setup, epoch, first):
            losses = meta_train_episode(
                fusion, optimizer, episode.to(setup.device),
                classifier=settings.classifier, temperature=temperature, loss=settings.loss,
            )  # fmt: skip
            yield float(losses.mean())

    def validate() -> dict[str, float | None]:
        scale = float(temperature.log_scale.detach().exp())
        return {"validation_accuracy": _validation_accuracy(setup, fusion), "temperature": scale}

    training = Training(
        model=learner, kept=fusion, optimizer=optimizer, epochs=settings.epochs, steps=settings.episodes,
        rates=(settings.learning_rate,), decay_after=settings.decay_after, steps_from=steps_from, validate=validate,
        metric="validation_accuracy", advice="lower --learning-rate",
    )  # fmt: skip
    with files:
        return training.run(files, progress)


def _episodes(setup: MetaTraining, epoch: int, first: int) -> Iterator[EpisodeClips]:
    """The episodes of one epoch from number `first` on, float16."""
    settings, table = setup.settings, setup.base
    drawn = epoch_episodes(table, settings, epoch)
    places = places_of(table, setup.clip, test_frames=setup.test_frames)
    videos, targets = drawn.videos, torch.from_numpy(drawn.targets)
    given = DEPTHS[settings.depth_of].load()(table.labels, np.random.default_rng(settings.seed))

    def gather(episode: int) -> EpisodeClips:
        rng = np.random.default_rng([settings.seed, epoch, episode])
        clips = {"rgb": 1, "depth": 1 + settings.num_aug}
        rgb, depth = gather_clips(table, videos[episode], places, clips=clips, rng=rng)
        if settings.depth_of != "own":
            (depth,) = gather_clips(table, given[videos[episode]], places, clips={"depth": clips["depth"]}, rng=rng)
        depth = depth[:1].expand_as(depth) if settings.matched else depth
        return EpisodeClips(rgb[0], depth, settings.way, targets)

    return ahead(gather, range(first, settings.episodes), threads=1, depth=4)


def _validation_accuracy(setup: MetaTraining, fusion: nn.Module) -> float | None:
    """Accuracy on the episodes of the validation classes; None without any."""
    table, settings = setup.validation, setup.settings
    if table is None:
        return None
    fusion.eval()
    reading = Reading(
        MODELS["amefu"], setup.test_frames, setup.clip, fusion, setup.device, (settings.depth_of, settings.seed)
    )
    vectors = video_vectors(table, reading)
    fusion.train()
    outcomes = classify_episodes(vectors, validation_episodes(table, settings), classifier=settings.classifier)
    return float(outcomes.mean())
