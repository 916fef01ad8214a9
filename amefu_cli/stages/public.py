"""A checkpoint of the paper's public code -> rgb.safetensors, depth.safetensors and fusion.safetensors."""

from __future__ import annotations

import io
from collections import OrderedDict
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors.torch import save

from amefu_cli.artefacts.files.atomic import write_atomic
from amefu_cli.artefacts.files.fingerprint import path_identity
from amefu_cli.artefacts.weights import checkpoint, headers
from amefu_cli.artefacts.weights.headers import CheckpointNotes, FusionHeader, StreamHeader
from amefu_cli.artefacts.weights.public import KEPT, expected_shapes, file_names, roles_by_names
from amefu_cli.artefacts.weights.sources import read_tensors
from amefu_cli.errors import UsageError
from amefu_cli.method.backbones import build_backbone
from amefu_cli.method.backbones.network import Backbone
from amefu_cli.settings import RECIPES, ClipSettings, Protocol
from amefu_cli.stages.training import to_numpy, to_torch

# What holds for every file of the public code; how long one was trained, and from which weights, none tells.
BACKBONE, FUSION, CROP, ENCODING = "resnet50", "dgadain", 224, "magma"
OFFICIAL = RECIPES["official"]
PROTOCOL = Protocol(**OFFICIAL["frames"], **OFFICIAL["depth"], **OFFICIAL["features"])

Arrays = dict[str, NDArray[Any]]

LOOKS_LIKE = {
    "full": "it looks like a full model: --role full",
    "stream": "it looks like one stream: --role rgb or --role depth",
    "other": "it looks like none of the public code's",
}


def read_public(path: Path, role: str) -> dict[str, Arrays]:
    """The tensors of a public file of `role` (`full`, `rgb`, `depth`) under our names, by checkpoint of ours.

    UsageError: absent, a pickle that holds code, other names, shapes or types than the public code writes. DamagedFile,
    NotFinite: cut short, or not all numbers.
    """
    tensors, backbone = read_tensors(path), build_backbone(BACKBONE)
    names = file_names(backbone.shapes(), role)
    check_layout(tensors, backbone, role, str(path))
    arrays = to_numpy(tensors)
    parts = {part: {ours: arrays[public] for ours, public in some.items()} for part, some in names.items()}
    if "fusion" in parts:
        parts["fusion"]["scale.bias"] = parts["fusion"][f"{KEPT}scale.bias"] + np.float32(1)
    return parts


def check_layout(tensors: Mapping[str, torch.Tensor], backbone: Backbone, role: str, name: str) -> None:
    """Hold names, shapes and types against those that the public code writes; UsageError on the first other one."""
    shapes, names = backbone.shapes(), file_names(backbone.shapes(), role)
    heads = {part: tensors.get(some.get("head.weight") or some[f"{KEPT}fc.weight"]) for part, some in names.items()}
    classes = {part: len(head) if head is not None and head.ndim else 0 for part, head in heads.items()}
    expected = expected_shapes(shapes, role, dim=backbone.dim, classes=classes)
    differing = {"lacks": expected.keys() - tensors.keys(), "also holds": tensors.keys() - expected.keys()}
    others = [f"{what} {min(found)!r}" for what, found in differing.items() if found]
    if others:
        raise UsageError(
            f"{name}: a file of --role {role} holds {len(expected)} tensors, this one holds {len(tensors)}: it "
            f"{' and '.join(others)} ({LOOKS_LIKE[roles_by_names(tensors)]})"
        )
    for public, shape in expected.items():
        found = f"{tensors[public].dtype} {tuple(tensors[public].shape)}".removeprefix("torch.")
        wanted = f"{'int64' if public.endswith('num_batches_tracked') else 'float32'} {shape}"
        if found != wanted:
            raise UsageError(f"{name}: {public!r} is {found}, {wanted} is expected of --role {role}")


def import_stream(path: Path, modality: str, arrays: Arrays) -> StreamHeader:
    """What an imported stream says of itself: what the public code has fixed, and the file that it is from."""
    return StreamHeader(
        role=modality, backbone=BACKBONE, crop=CROP, depth_encoding=ENCODING, classes=None, clip=ClipSettings(),
        imported=headers.ImportedStream(path_identity(path), PROTOCOL),
        notes=_notes(path, arrays["head.weight"]),
    )  # fmt: skip


def import_fusion(path: Path, arrays: Arrays, streams: Mapping[str, str]) -> FusionHeader:
    """What an imported fusion says of itself; `streams` are the fingerprints of the two that it goes with."""
    return FusionHeader(
        role="fusion", fusion=FUSION, dim=len(arrays["scale.bias"]), streams=streams, clip=ClipSettings(),
        imported=headers.ImportedFusion(path_identity(path), loss=OFFICIAL["meta-train"]["loss"]),
        notes=_notes(path, arrays[f"{KEPT}fc.weight"]),
    )  # fmt: skip


def _notes(path: Path, head: NDArray[Any]) -> CheckpointNotes:
    return CheckpointNotes(recipe="official", imported_from=path.name, classes=len(head))


def write_public(checkpoints: Mapping[str, Path], role: str, out: Path) -> int:
    """Write `checkpoints` (by role: `rgb`, `depth`, `fusion`) as a public file of `role`; returns its tensors' number.

    UsageError: a checkpoint is absent, or of a network that the public code lacks. OSError: `out` cannot be written.
    """
    names = file_names(build_backbone(BACKBONE).shapes(), role)
    parts = {part: _read(checkpoints[part], part) for part in names}
    if "fusion" in parts:
        parts["fusion"] = public_fusion(parts["fusion"], classes=len(parts["rgb"]["head.weight"]))
    tensors = {public: parts[part][ours] for part, some in names.items() for ours, public in some.items()}
    write_tensors(out, to_torch(tensors))
    return len(tensors)


def public_fusion(arrays: Arrays, *, classes: int) -> Arrays:
    """DGAdaIN with what the public code has besides: 1 less in the scale's bias, and an `fc` that nothing reads.

    A float32 bias to which 1 was added does not always give itself back when 1 is taken away, so an import keeps
    the one it read; it holds as long as the scale was not trained on since.
    """
    bias, one = arrays["scale.bias"], np.float32(1)
    kept = arrays.get(f"{KEPT}scale.bias", bias - one)
    less = kept if np.array_equal(kept + one, bias) else bias - one
    weight, constant = np.zeros((classes, len(bias)), np.float32), np.zeros(classes, np.float32)
    return {f"{KEPT}fc.weight": weight, f"{KEPT}fc.bias": constant} | arrays | {f"{KEPT}scale.bias": less}


def _read(path: Path, role: str) -> Arrays:
    if role == "fusion":
        field, found, needed = "fusion", checkpoint.open_fusion(path).fusion, FUSION
    else:
        field, found, needed = "backbone", checkpoint.open_stream(path, role).backbone, BACKBONE
    if found != needed:
        only = f"the public code has {needed!r} alone, so only that can be exported"
        raise UsageError(f"{path}: its {field} is {found!r}; {only}")
    return checkpoint.read_checkpoint(path)


def write_tensors(path: Path, tensors: Mapping[str, torch.Tensor]) -> None:
    """Write named tensors in their order, as safetensors where the name says so, else as a torch pickle."""
    buffer = io.BytesIO()
    if path.suffix == ".safetensors":
        buffer.write(save(dict(tensors)))
    else:
        torch.save(OrderedDict(tensors), buffer)
    write_atomic(path, buffer.getvalue())
