"""features.zarr -> fusion.safetensors: the fusion of both streams, learned from episodes of the base classes.

The paper's §3.3-3.4: an episode is one matched pair of RGB and depth clips, then `num_aug` asynchronous ones with
other places in the depth video, an optimizer step each. The streams are frozen: only their features are read.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from amefu_cli.artefacts.stores.features import FeatureTable
from amefu_cli.artefacts.weights.checkpoint import CheckpointHeader
from amefu_cli.artefacts.weights.training_run import Position, TrainingRun
from amefu_cli.method.episodes import Episodes, draw_episodes
from amefu_cli.method.heads import build_fusion
from amefu_cli.method.heads.learning import Temperature, meta_train_episode
from amefu_cli.method.heads.prototypes import classify_episodes
from amefu_cli.method.sampling import asynchronous_clips
from amefu_cli.settings import ClipSettings, MetaTrainSettings
from amefu_cli.stages import Progress
from amefu_cli.stages.pipeline import ahead
from amefu_cli.stages.training import Training
from amefu_cli.stages.vectors import test_rows, video_vectors


@dataclass(frozen=True)
class MetaTraining:
    """All that one meta-training needs besides its fusion. `validation` is None where there are too few classes."""

    base: FeatureTable
    validation: FeatureTable | None
    settings: MetaTrainSettings
    clip: ClipSettings
    test_frames: str
    device: torch.device


class Learner(nn.Module):
    """The fusion with the temperature of its logits."""

    def __init__(self, fusion: nn.Module, temperature: Temperature) -> None:
        super().__init__()
        self.fusion, self.temperature = fusion, temperature


def meta_train(setup: MetaTraining, out: Path, header: CheckpointHeader, *, progress: Progress) -> Position:
    """Train, or go on training, a fusion; writes `out` and returns where the best epoch was.

    Raises:
        UsageError: too few base classes, or too few videos in one, for the episodes asked for.
        NotFinite: a loss is NaN or infinite; names epoch and episode.
    """
    settings = setup.settings
    torch.manual_seed(settings.seed)
    fusion = build_fusion(settings.fusion, setup.base.rgb.shape[-1])
    learner = Learner(fusion, Temperature(settings.temperature, learned=settings.learn_temperature)).to(setup.device)
    trained = [parameter for parameter in learner.parameters() if parameter.requires_grad]
    optimizer = torch.optim.SGD(
        trained, lr=settings.learning_rate, momentum=settings.momentum, weight_decay=settings.weight_decay
    )
    training = Training(
        model=learner,
        kept=learner.fusion,
        optimizer=optimizer,
        epochs=settings.epochs,
        steps=settings.episodes,
        rates=(settings.learning_rate,),
        decay_after=settings.decay_after,
        steps_from=lambda epoch, first: _steps(setup, learner, optimizer, epoch, first),
        validate=lambda: {
            "validation_accuracy": _validation_accuracy(setup, learner.fusion),
            "temperature": float(learner.temperature.log_scale.detach().exp()),
        },
        metric="validation_accuracy",
        advice="lower --learning-rate",
    )
    with TrainingRun(out, header) as files:
        return training.run(files, progress)


def _steps(
    setup: MetaTraining, learner: Learner, optimizer: torch.optim.Optimizer, epoch: int, first: int
) -> Iterator[float]:
    """The episodes of one epoch from number `first` on; yields the mean loss of the optimizer steps of each."""
    settings = setup.settings
    for rgb, depth in _episodes(setup, epoch, first):
        losses = meta_train_episode(
            learner.fusion, optimizer, rgb.to(setup.device).float(), depth.to(setup.device).float(),
            shot=settings.shot, classifier=settings.classifier, temperature=learner.temperature, loss=settings.loss,
        )  # fmt: skip
        yield float(losses.mean())


def _episodes(setup: MetaTraining, epoch: int, first: int) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
    """The episodes of one epoch from number `first` on, float16: RGB (way, shot + queries, frames, dim) and depth
    clips (1 + num_aug, way, shot + queries, frames, dim)."""
    settings, table = setup.settings, setup.base
    drawn = draw_episodes(
        table.labels, way=settings.way, shot=settings.shot, queries=settings.queries, count=settings.episodes,
        rng=np.random.default_rng([settings.seed, epoch]), class_names=table.class_names,
    )  # fmt: skip
    videos = np.concatenate([drawn.support, drawn.query], axis=2)  # (episodes, way, shot + queries)

    def gather(episode: int) -> tuple[torch.Tensor, torch.Tensor]:
        rng = np.random.default_rng([settings.seed, epoch, episode])
        return gather_episode(table, videos[episode], num_aug=settings.num_aug, clip=setup.clip, rng=rng)

    return ahead(gather, range(first, settings.episodes), threads=1, depth=4)


def gather_episode(
    table: FeatureTable,
    videos: NDArray[np.int64],
    *,
    num_aug: int,
    clip: ClipSettings,
    rng: np.random.Generator,
) -> tuple[torch.Tensor, torch.Tensor]:
    """The features of one episode's `videos` (way, each): RGB, and 1 + num_aug depth clips of the same view."""
    flat = videos.ravel()
    numbers = asynchronous_clips(
        table.kept[flat], segments=clip.segments, frames_per_segment=clip.frames_per_segment, num_aug=num_aug,
        rng=rng,
    )  # fmt: skip
    rows = table.start[flat][:, None] + numbers  # (1 + num_aug, videos, frames)
    views = table.rgb.shape[0]
    view = rng.integers(min(1, views - 1), views, size=len(flat))[:, None]  # a random crop, if there is one
    rgb = torch.from_numpy(table.rgb[view, rows[0]])
    depth = torch.from_numpy(table.depth[view[None], rows])
    return rgb.view(*videos.shape, *rgb.shape[1:]), depth.view(len(numbers), *videos.shape, *depth.shape[2:])


def _validation_accuracy(setup: MetaTraining, fusion: nn.Module) -> float | None:
    """Accuracy on episodes of the validation classes, the same ones after every epoch; None without any."""
    table = setup.validation
    if table is None:
        return None
    rows = test_rows(
        table,
        test_frames=setup.test_frames,
        segments=setup.clip.segments,
        frames_per_segment=setup.clip.frames_per_segment,
    )
    fusion.eval()
    vectors = video_vectors(table, rows, model="amefu", fusion=fusion, device=setup.device)
    fusion.train()
    outcomes = classify_episodes(
        vectors, validation_episodes(table, setup.settings), classifier=setup.settings.classifier
    )
    return float(outcomes.mean())


def validation_episodes(table: FeatureTable, settings: MetaTrainSettings) -> Episodes:
    """Episodes of the validation classes; fewer ways where there are fewer classes.

    Raises:
        UsageError: fewer than two classes, or a class with too few videos.
    """
    return draw_episodes(
        table.labels, way=min(settings.way, len(table.class_names)), shot=settings.shot, queries=settings.queries,
        count=settings.validation_episodes, rng=np.random.default_rng([settings.seed, 0x7A1]),
        class_names=table.class_names,
    )  # fmt: skip
