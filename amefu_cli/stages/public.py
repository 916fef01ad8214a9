"""A checkpoint of the paper's public code -> rgb.safetensors, depth.safetensors and fusion.safetensors."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from amefu_cli.artefacts.weights.checkpoint import CheckpointHeader, open_header, read_checkpoint
from amefu_cli.artefacts.weights.identity import path_identity
from amefu_cli.artefacts.weights.public import KEPT, expected_shapes, file_names, roles_by_names
from amefu_cli.artefacts.weights.tensors import read_tensors, write_tensors
from amefu_cli.errors import UsageError
from amefu_cli.method.backbones import build_backbone
from amefu_cli.method.backbones.network import Backbone
from amefu_cli.settings import RECIPES
from amefu_cli.stages.training import to_numpy, to_torch

# What holds for every file of the public code; how long one was trained, and from which weights, none tells.
BACKBONE, FUSION = "resnet50", "dgadain"


STREAM = {"backbone": BACKBONE, "crop": 224, "depth_encoding": "magma"}


CLIP = {"segments": 4, "frames_per_segment": 4}


OFFICIAL = RECIPES["official"]


LOOKS_LIKE = {
    "full": "it looks like a full model: --role full",
    "stream": "it looks like one stream: --role rgb or --role depth",
    "other": "it looks like none of the public code's",
}


def read_public(path: Path, role: str) -> dict[str, Arrays]:
    """The tensors of a public file of `role` (`full`, `rgb`, `depth`) under our names, by checkpoint of ours.

    Raises:
        UsageError: absent, a pickle that holds code, other names, shapes or types than the public code writes.
        DamagedFile, NotFinite: cut short, or not all numbers.
    """
    tensors = read_tensors(path)
    backbone = build_backbone(BACKBONE)
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
    heads = {part: some.get("head.weight") or some[f"{KEPT}fc.weight"] for part, some in names.items()}
    classes = {part: _rows(tensors.get(head)) for part, head in heads.items()}
    expected = expected_shapes(shapes, role, dim=backbone.dim, classes=classes)
    others = [
        f"{what} {min(found)!r}"
        for what, found in (
            ("lacks", expected.keys() - tensors.keys()),
            ("also holds", tensors.keys() - expected.keys()),
        )
        if found
    ]
    if others:
        raise UsageError(
            f"{name}: a file of --role {role} holds {len(expected)} tensors, this one holds {len(tensors)}: it "
            f"{' and '.join(others)} ({LOOKS_LIKE[roles_by_names(tensors)]})"
        )
    for public, shape in expected.items():
        dtype = torch.int64 if public.endswith("num_batches_tracked") else torch.float32
        if (tuple(tensors[public].shape), tensors[public].dtype) != (shape, dtype):
            raise UsageError(
                f"{name}: {public!r} is {_described(tensors[public].dtype, tuple(tensors[public].shape))}, "
                f"{_described(dtype, shape)} is expected of --role {role}"
            )


def _rows(tensor: torch.Tensor | None) -> int:
    return len(tensor) if tensor is not None and tensor.ndim else 0


def _described(dtype: torch.dtype, shape: tuple[int, ...]) -> str:
    return f"{str(dtype).removeprefix('torch.')} {shape}"


def stream_header(path: Path, modality: str, arrays: Arrays) -> CheckpointHeader:
    """What an imported stream says of itself: what the public code has fixed, and the file that it is from."""
    return CheckpointHeader(
        role=modality,
        architecture={"backbone": BACKBONE, "classes": None},
        settings={"pretrain": OFFICIAL["pretrain"], "stream": STREAM, "clip": CLIP},
        data={"imported": path_identity(path)},
        notes=_notes(path, arrays["head.weight"]),
    )


def fusion_header(path: Path, arrays: Arrays, streams: Mapping[str, Any]) -> CheckpointHeader:
    """What an imported fusion says of itself; `streams` identifies the two checkpoints that it goes with."""
    return CheckpointHeader(
        role="fusion",
        architecture={"fusion": FUSION, "dim": len(arrays["scale.bias"])},
        settings={"meta-train": {"fusion": FUSION, **OFFICIAL["meta-train"]}, "clip": CLIP},
        data={"streams": dict(streams), "imported": path_identity(path)},
        notes=_notes(path, arrays[f"{KEPT}fc.weight"]),
    )


def _notes(path: Path, head: NDArray[Any]) -> dict[str, Any]:
    return {"imported_from": path.name, "classes": len(head), "recipe": "official"}


Arrays = dict[str, NDArray[Any]]


FIXES = {
    "rgb": "amefu pretrain --modality rgb",
    "depth": "amefu pretrain --modality depth",
    "fusion": "amefu meta-train",
}


def export_public(checkpoints: Mapping[str, Path], role: str, out: Path) -> int:
    """Write `checkpoints` (by role: `rgb`, `depth`, `fusion`) as a public file of `role`; returns its tensors' number.

    Raises:
        UsageError: a checkpoint is absent, or of a network that the public code does not have.
        OSError: `out` cannot be written.
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
    dim = len(bias)
    unread = {f"{KEPT}fc.weight": np.zeros((classes, dim), np.float32), f"{KEPT}fc.bias": np.zeros(classes, np.float32)}
    return unread | arrays | {f"{KEPT}scale.bias": less}


def _read(path: Path, role: str) -> Arrays:
    header = open_header(path, role=role, fix=FIXES[role])
    field, needed = ("fusion", FUSION) if role == "fusion" else ("backbone", BACKBONE)
    if header.architecture[field] != needed:
        raise UsageError(
            f"{path}: its {field} is {header.architecture[field]!r}; the public code has {needed!r} alone, so only "
            "that can be exported"
        )
    return read_checkpoint(path)
