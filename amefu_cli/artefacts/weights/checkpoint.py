"""Checkpoints: safetensors whose text header says what they are, with which settings and from which data.

The header is read alone, so that `status` and "is it done?" cost nothing. Beside it stands the SHA-256 of header and
tensors, which is compared whenever the tensors are read.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import asdict, dataclass, field
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save

from amefu_cli.artefacts.files import fingerprint as fingerprints
from amefu_cli.artefacts.files.atomic import write_atomic
from amefu_cli.artefacts.files.fingerprint import Provenance, differences, fingerprint, recorded
from amefu_cli.errors import DamagedFile, NotFinite, UsageError
from amefu_cli.settings import ClipSettings, HeadTrainSettings, MetaTrainSettings, PretrainSettings, StreamSettings

RECORDED_VERSIONS = ("amefu", "torch", "torchvision", "timm", "numpy")
FIXES = {
    "rgb": "amefu pretrain --modality rgb",
    "depth": "amefu pretrain --modality depth",
    "fusion": "amefu meta-train",
    "head": "amefu meta-train --head HEAD",
}  # by role of a checkpoint, the command that makes one

Tensors = Mapping[str, NDArray[Any]]


@dataclass(frozen=True)
class Position:
    """Where a training stands: `step` steps of `epoch` (0-based) are done, with the sums of that epoch so far."""

    epoch: int = 0
    step: int = 0
    loss_sum: float = 0.0
    best_epoch: int = -1
    best_accuracy: float = -1.0


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
    """A stream of the paper's public code: the hash of its file, and what that code has fixed of its training."""

    file: str
    flip: float


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


def write_checkpoint(path: Path, tensors: Tensors, header: AnyCheckpoint) -> None:
    """Write tensors and header as one file, atomically. Raises NotFinite, and writes nothing, for NaN or infinity."""
    for name, tensor in tensors.items():
        if tensor.dtype.kind == "f" and not np.isfinite(tensor).all():
            raise NotFinite(f"{path}: the weights {name!r} hold NaN or infinity; lower the learning rate")
    notes = {name: value for name, value in asdict(header.notes).items() if value is not None}
    document = {**header.compared(), "notes": {**notes, "versions": library_versions()}}
    contiguous = {name: np.asarray(tensor, order="C") for name, tensor in tensors.items()}
    text = json.dumps({**document, "sha256": _checksum(document, contiguous)}, allow_nan=False)
    write_atomic(path, save(contiguous, metadata={"amefu": text}))  # of two entries the order would be a random one


def read_header(path: Path) -> AnyCheckpoint | None:
    """The header of an amefu checkpoint; None where there is no file. Raises DamagedFile where it is not safetensors,
    cut short, or without our header."""
    try:
        document, _, _ = _read(path)
    except FileNotFoundError:
        return None
    return recorded(KINDS[document["role"]], document, path)


def open_stream(path: Path, modality: str) -> StreamHeader:
    """The header of a stream's checkpoint; raises UsageError where another or none is there."""
    return _open(path, StreamHeader, modality)


def open_fusion(path: Path) -> FusionHeader:
    """As `open_stream`, of a fusion."""
    return _open(path, FusionHeader, "fusion")


def open_head(path: Path) -> HeadHeader:
    """As `open_stream`, of a head."""
    return _open(path, HeadHeader, "head")


def _open(path: Path, kind: type[Kind], role: str) -> Kind:
    header, fix = read_header(path), f"make it with `{FIXES[role]}`"
    if header is None:
        raise UsageError(f"{path}: no such checkpoint; {fix}")
    if header.role != role or not isinstance(header, kind):
        raise UsageError(f"{path}: role is {header.role!r}, {role!r} is needed; {fix}")
    return header


def read_checkpoint(path: Path) -> dict[str, NDArray[Any]]:
    """The tensors of a checkpoint; raises DamagedFile where the file is cut short, or not what was written."""
    document, checksum, tensors = _read(path, whole=True)
    if checksum != _checksum(document, tensors):
        raise DamagedFile(f"{path}: is not what was written: its checksum differs; remove it and make it again")
    return tensors


def _checksum(document: Mapping[str, Any], tensors: Tensors) -> str:
    """One hash of the header as it is written and of all tensors; these are in C order."""
    parts: list[tuple[str, Any]] = [(json.dumps(document), b"")]
    for name, array in sorted(tensors.items()):
        parts.append((f"{name} {array.dtype} {array.shape}", array.reshape(-1).view(np.uint8)))
    return fingerprints.labelled_sha256(parts)


def is_finished(path: Path, wanted: AnyCheckpoint, *, done: str = "made") -> bool:
    """Whether `path` already holds what training as `wanted` would give. Raises SettingsMismatch where what it holds
    was `done` with other settings or from other data."""
    found, fix = read_header(path), FIXES[wanted.role]
    if found is not None and found.compared() != wanted.compared():
        lines = "; ".join(differences(found.compared(), wanted.compared()))
        how = f"{done} with other settings or from other data ({lines})"
        raise fingerprints.otherwise_made(path, how, fix, "OTHER.safetensors")
    return found is not None


def options_of(header: AnyCheckpoint) -> dict[str, Any]:
    """The options of its command as far as a checkpoint says them, by name."""
    options = header.clip.as_dict()
    if isinstance(header, StreamHeader):
        options |= {"backbone": header.backbone, "crop": header.crop, "depth_encoding": header.depth_encoding}
    return options | (header.training.settings.as_dict() if header.training else {})


def library_versions() -> dict[str, str]:
    """The versions of those of the recorded libraries that are installed."""
    versions = {}
    for name in RECORDED_VERSIONS:
        with suppress(PackageNotFoundError):
            versions[name] = version(name)
    return versions


def _read(path: Path, *, whole: bool = False) -> tuple[dict[str, Any], object, dict[str, NDArray[Any]]]:
    """The amefu header of a checkpoint, the checksum in it, and all tensors where the whole of it is asked for."""
    try:
        with safe_open(path, framework="numpy") as file:
            metadata = file.metadata() or {}
            tensors = {name: file.get_tensor(name) for name in (file.keys() if whole else ())}
    except FileNotFoundError:
        raise
    except (SafetensorError, OSError, ValueError) as error:
        raise DamagedFile(f"{path}: not a whole safetensors file ({error})") from error
    try:
        document = dict(json.loads(metadata["amefu"]))
        KINDS[document["role"]]
    except (KeyError, TypeError, ValueError, RecursionError) as error:
        raise DamagedFile(f"{path}: safetensors, but without the header of an amefu checkpoint") from error
    return document, document.pop("sha256", None), tensors


def verify_checkpoint(path: Path) -> str | None:
    """What is wrong with a checkpoint; None where all is well."""
    try:
        read_header(path)
        read_checkpoint(path)
    except DamagedFile as error:
        return str(error)
    return None
