"""What weights are, told from names and files without loading a network: what a store's header is compared by."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from amefu_cli.artefacts.fingerprint import file_sha256, fingerprint


def stream_identity(checkpoint: Path, fallback: dict[str, Any]) -> dict[str, Any]:
    """A pretrained stream by the hash of its checkpoint; one that was not, by what it is used with instead."""
    if checkpoint.is_file():
        return {"checkpoint": file_sha256(checkpoint)[:16]}
    return {"backbone": fallback["backbone"], "weights": weights_identity(fallback["weights"])}


def weights_identity(weights: str) -> str:
    """`imagenet` and `none` stand for themselves (the first is pinned by hash); a file by the hash of its bytes."""
    return weights if weights in ("imagenet", "none") else path_identity(Path(weights))


def estimator_identity(estimator: str, weights: Path | None) -> dict[str, Any]:
    """A depth estimator and its weights; a file or folder by the hash of its bytes, else what pins it by hash."""
    name, _, source = estimator.partition(":")
    if weights is not None:
        return {"estimator": name, "weights": path_identity(weights)}
    if source and Path(source).exists():
        return {"estimator": name, "weights": path_identity(Path(source))}
    return {"estimator": estimator, "weights": "its own"}


def located_estimator(estimator: str) -> str:
    """`onnx:FILE` or `hf:FOLDER` with the absolute path, so that a store can be continued from any folder."""
    name, _, source = estimator.partition(":")
    return f"{name}:{Path(source).resolve()}" if source and Path(source).exists() else estimator


def path_identity(path: Path) -> str:
    """The hash of a file's bytes, or of all files of a folder by name."""
    if path.is_dir():
        files = sorted(file for file in path.rglob("*") if file.is_file())
        return fingerprint([[str(file.relative_to(path)), file_sha256(file)] for file in files])
    return file_sha256(path)[:16] if path.is_file() else "absent"
