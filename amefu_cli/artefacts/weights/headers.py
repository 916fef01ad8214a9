"""What the checkpoints say of themselves: dataclasses that their text headers hold as JSON."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any, TypeVar

from amefu_cli.artefacts.files.fingerprint import Provenance, fingerprint
from amefu_cli.settings import (
    ClipSettings,
    HeadTrainSettings,
    MetaTrainSettings,
    PretrainSettings,
    Protocol,
    StreamSettings,
)


@dataclass(frozen=True)
class Position:
    """Where a training stands: `step` steps of `epoch` (0-based) are done, with the sums of that epoch so far."""

    epoch: int = 0
    step: int = 0
    loss_sum: float = 0.0
    best_epoch: int = -1
    best_accuracy: float = -1.0


@dataclass(frozen=True)
class Probe:
    """What the features of a stream tell of some videos: the share of them that is nearest to the other videos of its
    class, and the share of features that are the same in every frame, such as the zeros of a network that died."""

    accuracy: float
    constant: float
    videos: int
    classes: int
    trained_on: bool  # whether the stream was trained on these videos, as there are no others

    @property
    def at_chance(self) -> bool:
        """Whether the accuracy is within two standard errors of guessing."""
        chance = 1 / self.classes
        return self.accuracy <= chance + 2 * math.sqrt(chance * (1 - chance) / self.videos)


@dataclass(frozen=True, kw_only=True)
class CheckpointNotes:
    """What is not compared: by which sets of defaults, from where, how far, and with which libraries."""

    preset: str | None = None
    recipe: str | None = None
    weights: str | None = None  # where a stream's first weights lie, from the folder of the checkpoint
    started_from: Provenance | None = None  # which they are, where their name alone does not tell
    epoch: int | None = None  # the best one, from 0, with its figures
    loss: float | None = None
    held_out_accuracy: float | None = None
    probe: Probe | None = None  # of a stream: what the features of this epoch are worth, and those that it started from
    probe_at_start: Probe | None = None
    validation_accuracy: float | None = None
    temperature: float | None = None
    imported_from: str | None = None
    classes: int | None = None  # how many training classes an imported file is of; which ones it does not say
    position: Position | None = None  # of a snapshot
    versions: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class CheckpointHeader:
    """What a checkpoint of any role says of itself: `training` or `imported`, and what both have."""

    role: str
    clip: ClipSettings
    notes: CheckpointNotes = CheckpointNotes()

    def compared(self) -> dict[str, Any]:
        """What has to match for a checkpoint to be the one that a command would make, as plain values."""
        plain: dict[str, Any] = json.loads(json.dumps(asdict(self)))
        del plain["notes"]
        return plain

    @property
    def fingerprint(self) -> str:
        return fingerprint(self.compared())


@dataclass(frozen=True)
class StreamTraining:
    """How a stream was trained: from which weights (their identity), and on how many and which videos (a hash)."""

    settings: PretrainSettings
    weights: str
    videos: int
    data: str


@dataclass(frozen=True)
class ImportedStream:
    """A stream of the paper's public code: the hash of its file, and what that code has fixed of training and test
    (`imported_protocol` reads it too)."""

    file: str
    protocol: Protocol


@dataclass(frozen=True, kw_only=True)
class StreamHeader(CheckpointHeader):
    """rgb.safetensors or depth.safetensors, by role: a backbone, what it sees, and the classes that it was trained on
    (None: not known)."""

    backbone: str
    crop: int
    depth_encoding: str
    classes: tuple[str, ...] | None
    training: StreamTraining | None = None
    imported: ImportedStream | None = None

    @property
    def stream(self) -> StreamSettings:
        """What its network is and sees."""
        return StreamSettings(backbone=self.backbone, crop=self.crop, depth_encoding=self.depth_encoding)


@dataclass(frozen=True)
class FusionClasses:
    """The classes that a fusion was trained on, and those that its best epoch was chosen by."""

    base: tuple[str, ...]
    validation: tuple[str, ...]


@dataclass(frozen=True)
class FusionTraining:
    """How a fusion was trained, on which classes, and on which features of them (hashes)."""

    settings: MetaTrainSettings
    classes: FusionClasses
    base: str
    validation: str


@dataclass(frozen=True)
class ImportedFusion:
    """A fusion of the paper's public code: the hash of its file, and what that code has fixed of its training."""

    file: str
    loss: str


@dataclass(frozen=True, kw_only=True)
class FusionHeader(CheckpointHeader):
    """fusion.safetensors: a row of FUSIONS for features `dim` wide, bound to the fingerprints of two streams."""

    fusion: str
    dim: int
    streams: Mapping[str, str]
    training: FusionTraining | None = None
    imported: ImportedFusion | None = None

    @property
    def trained_on(self) -> tuple[str, ...]:
        """All classes that it has seen, as far as is known."""
        return self.training.classes.base + self.training.classes.validation if self.training else ()

    @property
    def depth_of(self) -> tuple[str, int]:
        """Whose depth it learned to fuse, a row of DEPTHS, and the seed by which that is drawn."""
        return (self.training.settings.depth_of, self.training.settings.seed) if self.training else ("own", 0)


@dataclass(frozen=True)
class HeadTraining(FusionTraining):
    """The same of a head."""

    settings: HeadTrainSettings


@dataclass(frozen=True, kw_only=True)
class HeadHeader(CheckpointHeader):
    """MODEL-HEAD.safetensors: a learned row of HEADS for frames `dim` wide of one model, bound to the fingerprints of
    its streams and, where it fuses them, of its fusion."""

    head: str
    options: Mapping[str, int]
    model: str
    dim: int
    streams: Mapping[str, str]
    fusion: str | None
    training: HeadTraining

    @property
    def trained_on(self) -> tuple[str, ...]:
        """All classes that it has seen."""
        return self.training.classes.base + self.training.classes.validation


AnyCheckpoint = StreamHeader | FusionHeader | HeadHeader
KINDS: Mapping[str, type[AnyCheckpoint]] = {
    "rgb": StreamHeader, "depth": StreamHeader, "fusion": FusionHeader, "head": HeadHeader
}  # fmt: skip
Kind = TypeVar("Kind", StreamHeader, FusionHeader, HeadHeader)
