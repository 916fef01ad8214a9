"""Checkpoints: safetensors whose text header says what they are, with which settings and from which data.

The header is read alone, so that `status` and "is it done?" cost nothing. Beside it stands the SHA-256 of header and
tensors, which is compared whenever the tensors are read.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import asdict
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save

from amefu_cli.artefacts.files import fingerprint as fingerprints
from amefu_cli.artefacts.files.atomic import write_atomic
from amefu_cli.artefacts.files.fingerprint import differences, recorded
from amefu_cli.artefacts.weights.headers import KINDS, AnyCheckpoint, FusionHeader, HeadHeader, Kind, StreamHeader
from amefu_cli.errors import DamagedFile, NotFinite, UsageError

RECORDED_VERSIONS = ("amefu", "torch", "torchvision", "timm", "numpy")
FIXES = {
    "rgb": "amefu pretrain --modality rgb",
    "depth": "amefu pretrain --modality depth",
    "fusion": "amefu meta-train",
    "head": "amefu meta-train --head HEAD",
}  # by role of a checkpoint, the command that makes one

Tensors = Mapping[str, NDArray[Any]]


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
