"""rgb.safetensors, depth.safetensors and fusion.safetensors -> a checkpoint that the paper's public code reads."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from amefu_cli.artefacts.checkpoint import open_header, read_checkpoint
from amefu_cli.artefacts.tensors import write_tensors
from amefu_cli.errors import UsageError
from amefu_cli.method.backbones import build_backbone
from amefu_cli.method.public_layout import KEPT, file_names
from amefu_cli.stages.training_state import to_torch

Arrays = dict[str, NDArray[Any]]

BACKBONE, FUSION = "resnet50", "dgadain"
MENDS = {
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
    header = open_header(path, role=role, mend=MENDS[role])
    field, needed = ("fusion", FUSION) if role == "fusion" else ("backbone", BACKBONE)
    if header.architecture[field] != needed:
        raise UsageError(
            f"{path}: its {field} is {header.architecture[field]!r}; the public code has {needed!r} alone, so only "
            "that can be exported"
        )
    return read_checkpoint(path)
