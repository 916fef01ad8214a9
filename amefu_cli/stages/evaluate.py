"""features.zarr (+ fusion.safetensors) -> what few-shot episodes of the novel classes find (the paper's §4.2).

In two steps, so that a table of rows × shots computes each row's vectors once and each shot's episodes once.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from amefu_cli.artefacts.files.episodes import DrawnEpisodes
from amefu_cli.artefacts.files.results import Found, PackedOutcomes
from amefu_cli.artefacts.stores.features import FeatureTable
from amefu_cli.artefacts.stores.header import FeaturesHeader
from amefu_cli.artefacts.weights.checkpoint import open_fusion, read_checkpoint
from amefu_cli.artefacts.weights.public import KEPT
from amefu_cli.method.comparison import accuracy_by_class, accuracy_with_interval
from amefu_cli.method.episodes import Episodes
from amefu_cli.method.heads import Model, build_fusion
from amefu_cli.method.heads.prototypes import classify_episodes
from amefu_cli.stages.networks import choose_device
from amefu_cli.stages.training import to_torch
from amefu_cli.stages.vectors import video_vectors


@dataclass(frozen=True)
class ModelVectors:
    """One model's vectors, float32 (videos, dim), of the videos of a feature table."""

    ids: tuple[str, ...]
    class_names: tuple[str, ...]
    labels: NDArray[np.int64]
    vectors: NDArray[np.float32]
    seconds: float


def load_fusion(path: Path, device: torch.device) -> nn.Module:
    """The fusion of a checkpoint, ready for evaluation; what an import keeps of the public code is passed over."""
    header, tensors = open_fusion(path), read_checkpoint(path)
    fusion = build_fusion(header.fusion, header.dim)
    fusion.load_state_dict(to_torch({name: tensors[name] for name in tensors if not name.startswith(KEPT)}))
    return fusion.eval().to(device)


def model_vectors(
    table: FeatureTable, model: Model, made: FeaturesHeader, *, fusion: Path | None, device: str
) -> ModelVectors:
    """The vectors that `model` gives the videos of `table`, of a store that was made as `made` says."""
    started, place = time.monotonic(), choose_device(device)
    module, test_frames = load_fusion(fusion, place) if fusion else None, model.test_frames or made.settings.test_frames
    vectors = video_vectors(
        table, test_frames=test_frames, clip=made.clip, model=model, fusion=module, device=place
    )  # fmt: skip
    return ModelVectors(table.ids, table.class_names, table.labels, vectors, time.monotonic() - started)


def evaluate(of: ModelVectors, drawn: DrawnEpisodes, *, classifier: str, source: str) -> Found:
    """Classify episodes. UsageError: `source`, which the vectors are from, lacks videos of theirs."""
    started = time.monotonic()
    support, query = drawn.placed_in(of.ids, source=source)
    episodes = Episodes(of.labels[support[..., 0]], support, query)
    outcomes = classify_episodes(of.vectors, episodes, classifier=classifier)
    accuracy, half_width = accuracy_with_interval(outcomes)
    by_class = accuracy_by_class(outcomes, episodes.classes)
    return Found(
        accuracy=accuracy, half_width_95=half_width, videos=len(of.ids), right=tuple(outcomes.sum((1, 2)).tolist()),
        by_class={of.class_names[label]: value for label, value in by_class.items()},
        outcomes=PackedOutcomes.of(outcomes.sum(2), np.searchsorted([*by_class], episodes.classes)),
        seconds=round(of.seconds + time.monotonic() - started, 3),
    )  # fmt: skip
