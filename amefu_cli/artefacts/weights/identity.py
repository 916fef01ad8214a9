"""What weights are: known from names and files without loading a network, and by their hash once they are loaded."""

from __future__ import annotations

from pathlib import Path

from amefu_cli.artefacts.files.fingerprint import file_sha256, fingerprint
from amefu_cli.artefacts.files.workspace import located, noted
from amefu_cli.artefacts.stores.header import EstimatorIdentity
from amefu_cli.errors import UsageError

NO_FILES = ("imagenet", "none")  # what --weights may say instead of a file


def weights_identity(weights: str) -> str:
    """`imagenet` (held to its hash by `note_provenance`) and `none` stand for themselves; a file by its bytes' hash."""
    return weights if weights in NO_FILES else path_identity(Path(weights))


def noted_weights(weights: str, beside: Path) -> str:
    """How the header of `beside` notes where weights are, so that it can be continued from any folder."""
    return weights if weights in NO_FILES else noted(Path(weights), beside)


def located_weights(noted_as: str, beside: Path) -> str:
    """What `noted_weights` gave, as --weights takes it."""
    return noted_as if noted_as in NO_FILES else str(located(noted_as, beside))


def estimator_identity(estimator: str, weights: Path | None) -> EstimatorIdentity:
    """A depth estimator and its weights: a file or folder by the hash of its bytes; its own by its name, which
    `note_provenance` holds to their hash."""
    name, _, source = estimator.partition(":")
    if weights is None and source and Path(source).exists():
        weights = Path(source)
    return EstimatorIdentity(name, path_identity(weights)) if weights else EstimatorIdentity(estimator, "its own")


def located_estimator(estimator: str) -> str:
    """`onnx:FILE` or `hf:FOLDER` with the absolute path, so that a store can be continued from any folder."""
    name, _, source = estimator.partition(":")
    return f"{name}:{Path(source).resolve()}" if source and Path(source).exists() else estimator


def path_identity(path: Path) -> str:
    """The hash of a file's bytes, or of all files of a folder by name. Raises UsageError where neither is there."""
    if path.is_dir():
        files = sorted(file for file in path.rglob("*") if file.is_file())
        return fingerprint([[str(file.relative_to(path)), file_sha256(file)] for file in files])
    if not path.is_file():
        raise UsageError(f"{path}: no such file of weights")
    return file_sha256(path)[:16]
