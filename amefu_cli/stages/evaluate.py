"""features.zarr (+ fusion.safetensors) -> results/*.json: few-shot episodes of the novel classes (the paper's §4.2).

In two steps, so that a table of rows × shots computes each row's vectors once and each shot's episodes once.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from amefu_cli.artefacts.files.episodes import DrawnEpisodes
from amefu_cli.artefacts.files.results import pack_outcomes
from amefu_cli.artefacts.stores.features import FeatureTable
from amefu_cli.artefacts.weights.checkpoint import CheckpointHeader
from amefu_cli.artefacts.weights.public import KEPT
from amefu_cli.method.episodes import Episodes
from amefu_cli.method.heads import MODELS, build_fusion
from amefu_cli.method.heads.prototypes import accuracy_by_class, accuracy_with_interval, classify_episodes
from amefu_cli.settings import ClipSettings
from amefu_cli.stages.training import to_torch
from amefu_cli.stages.vectors import test_rows, video_vectors


@dataclass(frozen=True)
class ModelVectors:
    """One model's vectors, float32 (videos, dim), of the videos of a feature table."""

    ids: tuple[str, ...]
    class_names: tuple[str, ...]
    labels: NDArray[np.int64]
    vectors: NDArray[np.float32]
    seconds: float


def load_fusion(header: CheckpointHeader, tensors: Mapping[str, Any], device: torch.device) -> nn.Module:
    """The fusion of a checkpoint, ready for evaluation; what an import keeps of the public code is passed over."""
    fusion = build_fusion(header.architecture["fusion"], header.architecture["dim"])
    fusion.load_state_dict(to_torch({name: tensors[name] for name in tensors if not name.startswith(KEPT)}))
    return fusion.eval().to(device)


def model_vectors(
    table: FeatureTable,
    *,
    model: str,
    clip: ClipSettings,
    test_frames: str,
    fusion: nn.Module | None,
    device: torch.device,
) -> ModelVectors:
    """The vectors that `model` gives the videos of `table`; `test_frames` are those of a model without its own."""
    started = time.monotonic()
    rows = test_rows(
        table,
        test_frames=MODELS[model].test_frames or test_frames,
        segments=clip.segments,
        frames_per_segment=clip.frames_per_segment,
    )
    vectors = video_vectors(table, rows, model=model, fusion=fusion, device=device)
    return ModelVectors(table.ids, table.class_names, table.labels, vectors, time.monotonic() - started)


def evaluate(of: ModelVectors, drawn: DrawnEpisodes, *, classifier: str, source: str) -> dict[str, Any]:
    """Classify episodes; returns the fields of a result that say what was found (see artefacts/results.py).

    Raises:
        UsageError: `source`, which the vectors are from, lacks videos of the episodes.
    """
    started = time.monotonic()
    support, query = drawn.placed_in(of.ids, source=source)
    episodes = Episodes(of.labels[support[..., 0]], support, query)
    outcomes = classify_episodes(of.vectors, episodes, classifier=classifier)
    accuracy, half_width = accuracy_with_interval(outcomes)
    by_class = accuracy_by_class(outcomes, episodes.classes)
    return {
        "accuracy": accuracy,
        "half_width_95": half_width,
        "by_class": {of.class_names[label]: value for label, value in by_class.items()},
        "videos": len(of.ids),
        "episodes_fingerprint": drawn.fingerprint,
        "right": outcomes.sum((1, 2)).tolist(),
        "outcomes": pack_outcomes(outcomes.sum(2), np.searchsorted([*by_class], episodes.classes)),
        "seconds": round(of.seconds + time.monotonic() - started, 3),
    }
