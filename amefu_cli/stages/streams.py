"""The networks of the two streams, loaded from a checkpoint, from ImageNet, or from a file."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from numpy.typing import NDArray

from amefu_cli.artefacts.checkpoint import open_header, read_checkpoint, read_header
from amefu_cli.artefacts.downloads import cache_from_environment
from amefu_cli.artefacts.tensors import read_tensors
from amefu_cli.artefacts.weights import Provenance, imagenet_weights, select_tensors
from amefu_cli.errors import DamagedFile, UsageError
from amefu_cli.method.backbones import Backbone, build_backbone, family_of, imagenet_source
from amefu_cli.method.public_layout import NETWORK
from amefu_cli.stages.training_state import to_torch


def require_backbone(name: str, weights: str) -> None:
    """Raise UsageError for an unknown name or a missing file: all that is known before anything is loaded."""
    family_of(name)
    if weights not in ("imagenet", "none") and not Path(weights).is_file():
        raise UsageError(f"--weights {weights}: no such file; give a file, imagenet or none")


def load_backbone(name: str, weights: str) -> tuple[Backbone, Provenance | None]:
    """The backbone `name` with weights `imagenet`, `none` (random, by torch's seed) or those of a file.

    With ImageNet weights also where they come from, since their name does not tell which they are.

    Raises:
        UsageError: an unknown name or a missing file; weights of another network.
        AmefuError: ImageNet weights cannot be had (no network, wrong hash).
    """
    require_backbone(name, weights)
    backbone = build_backbone(name)
    if weights == "imagenet":
        source, cache = imagenet_source(name), cache_from_environment()
        tensors, provenance = imagenet_weights(source, expected=backbone.shapes(), cache=cache)
        backbone.load(tensors)
        return backbone, provenance
    if weights != "none":
        _load_file(backbone, Path(weights))
    return backbone, None


def load_stream(checkpoint: Path, modality: str) -> Backbone:
    """The backbone of a pretrained stream."""
    header = open_header(checkpoint, role=modality, mend=f"amefu pretrain --modality {modality}")
    backbone = build_backbone(header.architecture["backbone"])
    tensors = read_checkpoint(checkpoint)
    backbone.load(to_torch(_backbone_of(tensors)))
    return backbone


def _load_file(backbone: Backbone, path: Path) -> None:
    if path.suffix == ".safetensors" and _is_checkpoint(path):
        backbone.load(to_torch(_backbone_of(read_checkpoint(path))))
    else:
        backbone.load(select_tensors(read_tensors(path), backbone.shapes(), str(path)))


def _is_checkpoint(path: Path) -> bool:
    try:
        return read_header(path) is not None
    except DamagedFile:  # safetensors of somebody else's
        return False


def _backbone_of(tensors: Mapping[str, NDArray[Any]]) -> dict[str, NDArray[Any]]:
    """The backbone's tensors of a stream's checkpoint, without the classifier."""
    return {name.removeprefix(NETWORK): tensor for name, tensor in tensors.items() if name.startswith(NETWORK)}
