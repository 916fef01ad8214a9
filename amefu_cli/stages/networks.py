"""The networks of the two streams, loaded from a checkpoint, from ImageNet, or from a file."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path

import torch

from amefu_cli.artefacts.files.fingerprint import Provenance
from amefu_cli.artefacts.weights.checkpoint import read_checkpoint, read_header
from amefu_cli.artefacts.weights.downloads import cache_from_environment
from amefu_cli.artefacts.weights.public import NETWORK
from amefu_cli.artefacts.weights.sources import imagenet_weights, read_tensors, select_tensors
from amefu_cli.errors import DamagedFile, UsageError
from amefu_cli.method.backbones import build_backbone, imagenet_source
from amefu_cli.method.backbones.network import Backbone
from amefu_cli.stages.training import to_torch


def load_backbone(name: str, weights: str) -> tuple[Backbone, Provenance | None]:
    """The backbone `name` with weights `imagenet`, `none` (random, by torch's seed) or those of a file.

    With ImageNet weights also where they come from, since their name does not tell which they are. UsageError: an
    unknown name, a missing file, weights of another network. AmefuError: ImageNet weights cannot be had (no network,
    wrong hash).
    """
    backbone, provenance = build_backbone(name), None
    shapes = backbone.shapes()
    if weights == "imagenet":
        tensors, provenance = imagenet_weights(imagenet_source(name), expected=shapes, cache=cache_from_environment())
        backbone.load(tensors)
    elif weights != "none":
        backbone.load(_file_tensors(Path(weights), shapes))
    return backbone, provenance


def _file_tensors(path: Path, shapes: Mapping[str, tuple[int, ...]]) -> Mapping[str, torch.Tensor]:
    """The backbone's tensors of a stream's checkpoint, or of somebody else's file."""
    try:
        is_ours = read_header(path) is not None
    except DamagedFile:
        is_ours = False
    if not is_ours:
        return select_tensors(read_tensors(path), shapes, str(path))
    tensors = to_torch(read_checkpoint(path))
    return {name.removeprefix(NETWORK): part for name, part in tensors.items() if name.startswith(NETWORK)}


def choose_device(name: str) -> torch.device:
    """The device `auto` (the fastest), `cpu`, `cuda`, `cuda:N` or `mps`; UsageError lists those that are present."""
    gpus = [f"cuda:{index}" for index in reversed(range(torch.cuda.device_count()))]
    present = ["cpu", *(["mps"] if torch.backends.mps.is_available() else []), *gpus]  # the fastest last
    chosen = {"auto": present[-1], "cuda": "cuda:0"}.get(name, name)
    if chosen not in present:
        raise UsageError(f"--device {name}: not present on this machine; present: {', '.join(present)}")
    torch.use_deterministic_algorithms("AMEFU_DETERMINISTIC" in os.environ, warn_only=True)
    return torch.device(chosen)


def choose_precision(name: str, device: torch.device, *, training: bool = False) -> torch.dtype:
    """`float32`, `bfloat16`, or with `auto` the latter where the hardware multiplies in it."""
    if name == "auto":
        fixed = "AMEFU_DETERMINISTIC" in os.environ
        name = "bfloat16" if not fixed and _gains_by_bfloat16(device, training) else "float32"
    return torch.bfloat16 if name == "bfloat16" else torch.float32


def precision_name(precision: torch.dtype) -> str:
    """`float32` or `bfloat16`, as headers record it."""
    return str(precision).removeprefix("torch.")


def _gains_by_bfloat16(device: torch.device, training: bool) -> bool:
    if device.type == "cuda":
        return torch.cuda.get_device_capability(device) >= (8, 0)
    # Forward and backward of a convolutional network are no faster in it on the CPUs that were measured.
    has_bfloat16 = getattr(torch.cpu, "_is_avx512_bf16_supported", None)
    return device.type == "cpu" and not training and bool(has_bfloat16 and has_bfloat16())
