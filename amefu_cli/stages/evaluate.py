"""features.zarr (+ fusion.safetensors) -> results/*.json: few-shot episodes of the novel classes (the paper's §4.2)."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import nn

from amefu_cli.artefacts.checkpoint import CheckpointHeader
from amefu_cli.artefacts.feature_store import FeatureTable
from amefu_cli.artefacts.fingerprint import fingerprint
from amefu_cli.method.classifier import accuracy_by_class, accuracy_with_interval, classify_episodes
from amefu_cli.method.episodes import draw_episodes
from amefu_cli.method.fusion import FUSIONS
from amefu_cli.method.public_layout import KEPT
from amefu_cli.recipes import ClipRecipe, EvaluateRecipe
from amefu_cli.stages.training_state import to_torch
from amefu_cli.stages.vectors import test_rows, video_vectors


@dataclass(frozen=True)
class Evaluation:
    """What one evaluation found: accuracies in 0..1, and how many queries of each episode came out right."""

    accuracy: float
    half_width: float
    by_class: Mapping[str, float]
    right: tuple[int, ...]
    episodes_fingerprint: str
    videos: int
    seconds: float


def load_fusion(header: CheckpointHeader, tensors: Mapping[str, Any], device: torch.device) -> nn.Module:
    """The fusion of a checkpoint, ready for evaluation."""
    fusion = FUSIONS[header.architecture["fusion"]](header.architecture["dim"])
    fusion.load_state_dict(to_torch({name: tensors[name] for name in tensors if not name.startswith(KEPT)}))
    return fusion.eval().to(device)


def evaluate(
    table: FeatureTable,
    *,
    recipe: EvaluateRecipe,
    clip: ClipRecipe,
    test_frames: str,
    fusion: nn.Module | None,
    device: torch.device,
) -> Evaluation:
    """Draw and classify episodes of the classes of `table`.

    Raises:
        UsageError: too few classes, or a class with too few videos; names it.
    """
    episodes = draw_episodes(
        table.labels, way=recipe.way, shot=recipe.shot, queries=recipe.queries, count=recipe.episodes,
        rng=np.random.default_rng(recipe.seed), class_names=table.class_names,
    )  # fmt: skip
    started = time.monotonic()
    rows = test_rows(
        table, test_frames=test_frames, segments=clip.segments, frames_per_segment=clip.frames_per_segment
    )
    vectors = video_vectors(table, rows, model=recipe.model, fusion=fusion, device=device)
    outcomes = classify_episodes(vectors, episodes, classifier=recipe.classifier)
    accuracy, half_width = accuracy_with_interval(outcomes)
    by_class = accuracy_by_class(outcomes, episodes.classes)
    drawn = fingerprint(table.ids, *(part.tolist() for part in (episodes.support, episodes.query)))
    return Evaluation(
        accuracy=accuracy,
        half_width=half_width,
        by_class={table.class_names[label]: value for label, value in by_class.items()},
        right=tuple(outcomes.sum((1, 2)).tolist()),
        episodes_fingerprint=drawn,
        videos=len(table.ids),
        seconds=time.monotonic() - started,
    )
