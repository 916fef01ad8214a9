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

from amefu_cli.artefacts.files.episodes import DrawnEpisodes
from amefu_cli.artefacts.files.results import Found, PackedOutcomes
from amefu_cli.artefacts.stores.features import FeatureTable
from amefu_cli.artefacts.stores.header import FeaturesHeader
from amefu_cli.method.comparison import accuracy_by_class, accuracy_with_interval
from amefu_cli.method.episodes import Episodes
from amefu_cli.method.heads import HEADS, Model, build_head
from amefu_cli.method.heads.base import Head
from amefu_cli.method.heads.prototypes import classify_episodes
from amefu_cli.stages import Progress
from amefu_cli.stages.networks import choose_device
from amefu_cli.stages.scoring import Reading, by_head, load_fusion, load_head, video_frames, video_vectors


@dataclass(frozen=True)
class FromBase:
    """What a model brings along from the base classes: checkpoints of fusion and head, videos that the head sees, and
    whose depth the fusion fuses, as its header says."""

    fusion: Path | None
    head: Path | None
    gallery: FeatureTable | None = None
    depth_of: tuple[str, int] = Reading.depth_of


@dataclass(frozen=True)
class ModelVectors:
    """What one model gives the videos of a feature table, for a head to score: for prototypes a vector each, float32
    (videos, dim), for other heads the frames (videos, frames, dim)."""

    ids: tuple[str, ...]
    class_names: tuple[str, ...]
    labels: NDArray[np.int64]
    vectors: NDArray[np.float32]
    source: str  # the store that they are from
    head: str
    scorer: Head
    device: torch.device
    seconds: float


def model_vectors(
    table: FeatureTable, model: Model, made: FeaturesHeader, *, head: str, test_frames: str, brought: FromBase,
    device: str, source: Path,
) -> ModelVectors:  # fmt: skip
    """What `model` gives the videos of `table`, of a store that was made as `made` says, for a row of HEADS."""
    started, place = time.monotonic(), choose_device(device)
    reading = Reading(
        model, test_frames, made.clip, load_fusion(brought.fusion, place) if brought.fusion else None, place,
        brought.depth_of,
    )  # fmt: skip
    vectors = video_vectors(table, reading) if HEADS[head].classifier else video_frames(table, reading)
    scorer = load_head(brought.head) if brought.head else build_head(head, vectors.shape[-1])
    scorer.eval().to(place)
    if brought.gallery:
        scorer.use_gallery(torch.from_numpy(video_frames(brought.gallery, reading)).to(place))
    return ModelVectors(
        table.ids, table.class_names, table.labels, vectors, str(source), head, scorer, place,
        time.monotonic() - started,
    )  # fmt: skip


def evaluate(of: ModelVectors, drawn: DrawnEpisodes, *, progress: Progress) -> Found:
    """Classify episodes; `progress` is told of heads that take their time, with the accuracy so far.

    Raises:
        UsageError: the store that the vectors are from lacks videos of the episodes.
    """
    started = time.monotonic()
    support, query = drawn.placed_in(of.ids, source=of.source)
    episodes = Episodes(of.labels[support[..., 0]], support, query)
    classifier = HEADS[of.head].classifier
    outcomes = (
        classify_episodes(of.vectors, episodes, classifier=classifier)
        if classifier
        else by_head(of.scorer, of.vectors, episodes, device=of.device, progress=progress)
    )
    accuracy, half_width = accuracy_with_interval(outcomes)
    by_class = accuracy_by_class(outcomes, episodes.asked)
    return Found(
        accuracy=accuracy, half_width_95=half_width, videos=len(of.ids), right=tuple(outcomes.sum((1, 2)).tolist()),
        by_class={of.class_names[label]: value for label, value in by_class.items()},
        outcomes=PackedOutcomes.of(outcomes.sum(2), np.searchsorted([*by_class], episodes.asked)),
        seconds=round(of.seconds + time.monotonic() - started, 3),
    )  # fmt: skip
