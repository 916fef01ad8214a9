"""The networks of the two streams, loaded from a checkpoint, from ImageNet, or from a file."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from numpy.typing import NDArray

from amefu_cli.artefacts.files.fingerprint import Provenance
from amefu_cli.artefacts.weights.checkpoint import open_header, read_checkpoint, read_header
from amefu_cli.artefacts.weights.downloads import cache_from_environment
from amefu_cli.artefacts.weights.public import NETWORK
from amefu_cli.artefacts.weights.sources import imagenet_weights, select_tensors
from amefu_cli.artefacts.weights.tensors import read_tensors
from amefu_cli.errors import DamagedFile, UsageError
from amefu_cli.method.backbones import build_backbone, family_of, imagenet_source
from amefu_cli.method.backbones.network import Backbone
from amefu_cli.stages.training import to_torch


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
    header = open_header(checkpoint, role=modality, fix=f"amefu pretrain --modality {modality}")
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


def choose_device(name: str) -> torch.device:
    """The device `auto`, `cpu`, `cuda`, `cuda:N` or `mps`; auto is the fastest one present.

    Raises:
        UsageError: a device that is not there; lists those that are.
    """
    present = present_devices()
    if name == "auto":
        return torch.device(present[-1])
    if name == "cuda" and "cuda:0" in present:
        return torch.device("cuda:0")
    if name not in present:
        raise UsageError(f"--device {name}: not present on this machine; present: {', '.join(present)}")
    return torch.device(name)


def present_devices() -> list[str]:
    """The devices of this machine, the fastest last."""
    present = ["cpu"]
    if torch.backends.mps.is_available():
        present.append("mps")
    present += [f"cuda:{index}" for index in reversed(range(torch.cuda.device_count()))]
    return present


def choose_precision(name: str, device: torch.device, *, training: bool = False) -> torch.dtype:
    """`float32`, `bfloat16`, or with `auto` the latter where the hardware multiplies in it."""
    if name == "auto":
        name = "bfloat16" if _gains_by_bfloat16(device, training) else "float32"
    return {"float32": torch.float32, "bfloat16": torch.bfloat16}[name]


def precision_name(precision: torch.dtype) -> str:
    """`float32` or `bfloat16`, as headers record it."""
    return str(precision).removeprefix("torch.")


def _gains_by_bfloat16(device: torch.device, training: bool) -> bool:
    if device.type == "cuda":
        return torch.cuda.get_device_capability(device) >= (8, 0)
    # Forward and backward of a convolutional network are no faster in it on the CPUs that were measured.
    return device.type == "cpu" and not training and _cpu_has_bf16()


def _cpu_has_bf16() -> bool:
    check = getattr(torch.cpu, "_is_avx512_bf16_supported", None)
    return bool(check and check())
