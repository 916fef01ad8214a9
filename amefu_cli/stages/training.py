"""The epochs of a training: steps, validation, the best weights kept, snapshots to go on from."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from amefu_cli.artefacts.stores.features import FeatureTable
from amefu_cli.artefacts.weights.headers import FusionHeader, HeadHeader, Position, StreamHeader
from amefu_cli.artefacts.weights.training_run import State, TrainingRun
from amefu_cli.errors import Interrupted, NotFinite, UsageError
from amefu_cli.interruption import HeldSignals
from amefu_cli.method.episodes import Episodes, draw_episodes
from amefu_cli.method.sampling import Places, start_clip, too_short
from amefu_cli.settings import ClipSettings, MetaTrainSettings
from amefu_cli.stages import Progress

SNAPSHOT_SECONDS = 60.0
VALIDATION = 0x7A1  # stands where the seed of an epoch's episodes has the epoch
AnyRun = TrainingRun[StreamHeader] | TrainingRun[FusionHeader] | TrainingRun[HeadHeader]


@dataclass(frozen=True)
class Training:
    """What differs from one training to another.

    `steps_from(epoch, first)` makes the steps of an epoch from number `first` on and yields the loss of each;
    `validate()` gives the figures of an epoch, of which `metric`, the higher the better, chooses the best one; None
    where there is nothing to validate with, and the last epoch is kept.
    """

    model: nn.Module
    kept: nn.Module  # the part of the model whose weights are the result
    optimizer: torch.optim.Optimizer
    epochs: int
    steps: int
    rates: Sequence[float]  # the learning rate of every parameter group
    decay_after: int  # epochs after which the rates fall by ×0.1; 0: never
    steps_from: Callable[[int, int], Iterator[float]]
    validate: Callable[[], Mapping[str, Any]]
    metric: str
    advice: str  # what helps against a loss that is not finite

    def run(self, files: AnyRun, progress: Progress) -> Position:
        """All epochs that are left, and the result; returns where the best epoch was.

        NotFinite: the loss is NaN or infinite; names epoch and step. Interrupted: a signal arrived; the snapshot is of
        the step that it let finish.
        """
        position = resume(files, self.model, self.optimizer)
        for epoch in range(position.epoch, self.epochs):
            started = time.monotonic()
            position = self._run_epoch(files, position, progress)
            try:
                numbers = {"loss": position.loss_sum / self.steps, **self.validate()}
            except Interrupted:
                files.save(state_of(self.model, self.optimizer), position)
                raise
            accuracy = numbers[self.metric] or 0.0  # of a training without validation every epoch is as good
            best_epoch, best_accuracy = position.best_epoch, position.best_accuracy
            if accuracy >= best_accuracy:  # of equal ones the later: it has learned for longer
                best_epoch, best_accuracy = epoch, accuracy
                files.keep_best(to_numpy(self.kept.state_dict()), {"epoch": epoch, **numbers})
            files.record(epoch, {**numbers, "seconds": time.monotonic() - started})
            position = Position(epoch + 1, best_epoch=best_epoch, best_accuracy=best_accuracy)
            files.save(state_of(self.model, self.optimizer), position)
        files.finish()
        return position

    def _run_epoch(self, files: AnyRun, position: Position, progress: Progress) -> Position:
        """The rest of one epoch, from `position` on."""
        epoch, saved = position.epoch, time.monotonic()
        factor = 0.1 if self.decay_after and epoch >= self.decay_after else 1.0
        for group, rate in zip(self.optimizer.param_groups, self.rates, strict=True):
            group["lr"] = rate * factor
        with HeldSignals() as signals:  # a snapshot is one of whole steps
            for loss in self.steps_from(epoch, position.step):
                if not math.isfinite(loss):
                    raise NotFinite(f"the loss is {loss} at epoch {epoch}, step {position.step}; {self.advice}")
                position = replace(position, step=position.step + 1, loss_sum=position.loss_sum + loss)
                if signals.arrived or time.monotonic() - saved > SNAPSHOT_SECONDS:
                    files.save(state_of(self.model, self.optimizer), position)
                    saved = time.monotonic()
                if signals.arrived:
                    break
                what = f"epoch {epoch + 1} loss {position.loss_sum / position.step:.4f}"
                progress(epoch * self.steps + position.step, self.epochs * self.steps, what)
        return position


def state_of(model: nn.Module, optimizer: torch.optim.Optimizer) -> State:
    """Weights and optimizer momenta. Rates follow from the epoch, randomness from the position."""
    momentum = {
        f"{index}/{name}": value
        for index, named in optimizer.state_dict()["state"].items()
        for name, value in named.items()
        if isinstance(value, torch.Tensor)
    }
    return {"model": to_numpy(model.state_dict()), "optimizer": to_numpy(momentum)}


def resume(run: AnyRun, model: nn.Module, optimizer: torch.optim.Optimizer) -> Position:
    """Put the snapshot of this training, if there is one, into model and optimizer; returns where it stands."""
    if (found := run.resume()) is None:
        return Position()
    state, position = found
    model.load_state_dict(to_torch(state["model"]))
    momentum: dict[int, dict[str, torch.Tensor]] = {}
    for name, tensor in to_torch(state.get("optimizer", {})).items():
        index, _, key = name.partition("/")
        momentum.setdefault(int(index), {})[key] = tensor
    optimizer.load_state_dict({"state": momentum, "param_groups": optimizer.state_dict()["param_groups"]})
    return position


def to_numpy(tensors: Mapping[str, torch.Tensor]) -> dict[str, NDArray[Any]]:
    """Tensors of any device as arrays."""
    return {name: tensor.detach().cpu().numpy() for name, tensor in tensors.items()}


def to_torch(arrays: Mapping[str, NDArray[Any]]) -> dict[str, torch.Tensor]:
    """Arrays as CPU tensors."""
    return {name: torch.from_numpy(array) for name, array in arrays.items()}


def epoch_episodes(table: FeatureTable, settings: MetaTrainSettings, epoch: int) -> Episodes:
    """The episodes of the base classes that one epoch trains on."""
    return draw_episodes(
        table.labels, way=settings.way, shot=settings.shot, queries=settings.queries_each, count=settings.episodes,
        rng=np.random.default_rng([settings.seed, epoch]), class_names=table.class_names, one_query=settings.one_query,
    )  # fmt: skip


def places_of(table: FeatureTable, clip: ClipSettings, *, test_frames: str = "") -> Places:
    """Where the clips of training may lie; where testing is that of the public code, `start`, it says how short videos
    are read. Raises UsageError where a part of a video does not keep one whole run."""
    places = Places.of(table.frame, table.start, table.frames, **vars(clip))
    if len(lacking := np.flatnonzero((places.count == 0).any(1))):
        raise UsageError(
            f"{table.ids[lacking[0]]}: has no features of {clip.frames_per_segment} consecutive frames in each of "
            f"{clip.segments} parts; add them with `amefu features`"
        )
    short = np.flatnonzero(too_short(table.frames, **vars(clip))) if test_frames == "start" else ()
    read = {int(video): start_clip(int(table.frames[video]), **vars(clip)) for video in short}
    return replace(places, always={video: table.rows(video, numbers) for video, numbers in read.items()})


def gather_clips(
    table: FeatureTable, videos: NDArray[np.int64], places: Places, *, clips: Mapping[str, int],
    rng: np.random.Generator,
) -> list[torch.Tensor]:  # fmt: skip
    """The features of one episode's `videos` (videos,): of each stream so many `clips` as (clips, videos, frames, dim)
    float16. Clip 0 of all streams is the matched one, of the same places (the paper's §3.3). All clips of a video are
    of one view, drawn at random from all: the centre crop, by which is tested, and the random ones."""
    rows = places.draw(videos, clips=max(clips.values()), rng=rng)  # (clips, videos, frames)
    views = min(len(table.streams[name]) for name in clips)
    view = rng.integers(0, views, size=len(videos))[:, None]
    return [torch.from_numpy(table.streams[name][view, rows[:count]]) for name, count in clips.items()]


def validation_episodes(table: FeatureTable, settings: MetaTrainSettings) -> Episodes:
    """The episodes of the validation classes, the same ones after every epoch; of fewer ways where classes are few.
    Every class has queries, which tell more of the accuracy than one an episode."""
    return draw_episodes(
        table.labels, way=min(settings.way, len(table.class_names)), shot=settings.shot, queries=settings.queries_each,
        count=settings.validation_episodes, rng=np.random.default_rng([settings.seed, VALIDATION]),
        class_names=table.class_names,
    )  # fmt: skip
