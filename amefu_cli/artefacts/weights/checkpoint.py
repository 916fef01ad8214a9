"""Checkpoints: safetensors whose text header says what they are, with which settings and from which data.

The header is read alone, so that `status` and "is it done?" cost nothing. Beside it stands the SHA-256 of header and
tensors, which is compared whenever the tensors are read.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from io import BytesIO
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError
from safetensors.numpy import load, save

from amefu_cli.artefacts.files.atomic import write_atomic
from amefu_cli.artefacts.files.fingerprint import as_fields, differences, fingerprint, labelled_sha256
from amefu_cli.errors import DamagedFile, NotFinite, SettingsMismatch, UsageError

LARGEST_HEADER = 100 << 20  # bytes; the limit of the safetensors format itself


NO_HEADER = "safetensors, but without the header of a checkpoint of amefu's"


RECORDED_VERSIONS = ("amefu", "torch", "torchvision", "timm", "numpy")


@dataclass(frozen=True)
class CheckpointHeader:
    """What a checkpoint says of itself.

    `role` is `rgb`, `depth` or `fusion`; `architecture` names the network and its dims; `settings` is how it was
    trained; `data` is the fingerprint of what it was trained on; `notes` (versions, accuracy, …) are not compared.
    """

    role: str
    architecture: Mapping[str, Any]
    settings: Mapping[str, Any]
    data: Mapping[str, Any]
    notes: Mapping[str, Any]

    def compared(self) -> dict[str, Any]:
        """The part that has to match for a checkpoint to be what a command would make."""
        compared = {
            "role": self.role,
            "architecture": self.architecture,
            "settings": self.settings,
            "data": self.data,
        }
        plain: dict[str, Any] = json.loads(json.dumps(compared))
        return plain

    @property
    def fingerprint(self) -> str:
        return fingerprint(self.compared())


Tensors = Mapping[str, NDArray[Any]]


def write_checkpoint(path: Path, tensors: Tensors, header: CheckpointHeader) -> None:
    """Write tensors and header as one file, atomically. Raises NotFinite, and writes nothing, for NaN or infinity."""
    for name, tensor in tensors.items():
        if tensor.dtype.kind == "f" and not np.isfinite(tensor).all():
            raise NotFinite(f"{path}: the weights {name!r} hold NaN or infinity; lower the learning rate")
    notes = {**header.notes, "versions": library_versions()}
    document = {**header.compared(), "notes": notes}
    contiguous = {name: np.asarray(tensor, order="C") for name, tensor in tensors.items()}
    text = json.dumps({**document, "sha256": _checksum(document, contiguous)}, allow_nan=False)
    write_atomic(path, save(contiguous, metadata={"amefu": text}))  # of two entries the order would be a random one


def read_header(path: Path) -> CheckpointHeader | None:
    """The header of a checkpoint of ours; None where there is no file.

    Raises:
        DamagedFile: not safetensors, cut short, or without our header.
    """
    try:
        with path.open("rb") as file:
            document, _ = _document(file, path)
    except FileNotFoundError:
        return None
    try:
        header = CheckpointHeader(**document)
    except TypeError as error:
        raise DamagedFile(f"{path}: {NO_HEADER}") from error
    fields = (header.architecture, header.settings, header.data, header.notes)
    if not isinstance(header.role, str) or not all(isinstance(field, dict) for field in fields):
        raise DamagedFile(f"{path}: the header holds a field of another type")
    return header


def open_header(path: Path, *, role: str, fix: str) -> CheckpointHeader:
    """The header of a checkpoint that must be there and have this role; `fix` is the command that makes it."""
    header = read_header(path)
    if header is None:
        raise UsageError(f"{path}: no such checkpoint; make it with `{fix}`")
    if header.role != role:
        raise UsageError(f"{path}: role is {header.role!r}, {role!r} is needed; make it with `{fix}`")
    return header


def read_checkpoint(path: Path) -> dict[str, NDArray[Any]]:
    """The tensors of a checkpoint; raises DamagedFile where the file is cut short, or not what was written."""
    content = path.read_bytes()
    try:
        tensors = load(content)
    except (SafetensorError, ValueError) as error:
        raise DamagedFile(f"{path}: not a whole safetensors file ({error})") from error
    document, checksum = _document(BytesIO(content), path)
    if checksum != _checksum(document, tensors):
        raise DamagedFile(f"{path}: is not what was written: its checksum differs; remove it and make it again")
    return tensors


def _checksum(document: Mapping[str, Any], tensors: Tensors) -> str:
    """One hash of the header as it is written and of all tensors; these are in C order."""
    arrays = (
        (f"{name} {array.dtype} {array.shape}", array.reshape(-1).view(np.uint8))
        for name, array in sorted(tensors.items())
    )
    return labelled_sha256([(json.dumps(document), b""), *arrays])


def is_finished(path: Path, wanted: CheckpointHeader, *, fix: str) -> bool:
    """Whether `path` already holds what training as `wanted` would give.

    Raises:
        SettingsMismatch: it holds the result of other settings or of other data.
    """
    found = read_header(path)
    if found is None:
        return False
    if found.compared() == wanted.compared():
        return True
    lines = "; ".join(differences(found.compared(), wanted.compared()))
    raise SettingsMismatch(
        f"{path}: made with other settings or from other data ({lines}); keep it and make a second one with "
        f"`{fix} --out OTHER.safetensors`, or replace it with `{fix} --rebuild`"
    )


def library_versions() -> dict[str, str]:
    """The versions of the libraries that a checkpoint was made with."""
    versions = {}
    for name in RECORDED_VERSIONS:
        try:
            versions[name] = version(name)
        except PackageNotFoundError:
            continue
    return versions


def _document(file: BinaryIO, path: Path) -> tuple[dict[str, Any], object]:
    """The header of ours in a safetensors file (8 bytes of little-endian length, then that much JSON), and the
    checksum in it."""
    length = int.from_bytes(file.read(8), "little")
    if not 2 <= length <= LARGEST_HEADER:
        raise DamagedFile(f"{path}: not a safetensors file")
    try:
        whole = json.loads(file.read(length))
    except (ValueError, RecursionError) as error:
        raise DamagedFile(f"{path}: not a whole safetensors file ({error})") from error
    try:
        document = as_fields(dict(json.loads(whole["__metadata__"]["amefu"])), path)
    except (KeyError, TypeError, ValueError, RecursionError) as error:
        raise DamagedFile(f"{path}: {NO_HEADER}") from error
    return document, document.pop("sha256", None)


def verify_checkpoint(path: Path) -> str | None:
    """What is wrong with a checkpoint; None where all is well."""
    try:
        read_header(path)
        read_checkpoint(path)
    except DamagedFile as error:
        return str(error)
    return None
