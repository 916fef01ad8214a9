"""features.zarr (+ fusion.safetensors) -> what few-shot episodes of the novel classes find (the paper's §4.2).

In two steps, so that a table of rows × shots computes each row's vectors once and each shot's episodes once.
"""

from __future__ import annotations

import time
from collections import Counter
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
from amefu_cli.method.heads import HEADS, Model, build_fusion, build_head
from amefu_cli.method.heads.base import Head
from amefu_cli.method.heads.prototypes import classify_episodes
from amefu_cli.method.heads.routes import hits, scored_chunks
from amefu_cli.stages import Progress
from amefu_cli.stages.networks import choose_device
from amefu_cli.stages.training import to_torch
from amefu_cli.stages.vectors import VIDEOS_AT_ONCE, Reading, video_frames, video_vectors


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
    device: torch.device
    seconds: float


def load_fusion(path: Path, device: torch.device) -> nn.Module:
    """The fusion of a checkpoint, ready for evaluation; what an import keeps of the public code is passed over."""
    header, tensors = open_fusion(path), read_checkpoint(path)
    fusion = build_fusion(header.fusion, header.dim)
    fusion.load_state_dict(to_torch({name: tensors[name] for name in tensors if not name.startswith(KEPT)}))
    return fusion.eval().to(device)


def model_vectors(
    table: FeatureTable, model: Model, made: FeaturesHeader, *, head: str, test_frames: str, fusion: Path | None,
    device: str, source: Path,
) -> ModelVectors:  # fmt: skip
    """What `model` gives the videos of `table`, of a store that was made as `made` says, for a row of HEADS."""
    started, place = time.monotonic(), choose_device(device)
    reading = Reading(model, test_frames, made.clip, load_fusion(fusion, place) if fusion else None, place)
    vectors = video_vectors(table, reading) if HEADS[head].classifier else video_frames(table, reading)
    seconds = time.monotonic() - started
    return ModelVectors(table.ids, table.class_names, table.labels, vectors, str(source), head, place, seconds)


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
        else _by_head(of, episodes, progress)
    )
    accuracy, half_width = accuracy_with_interval(outcomes)
    by_class = accuracy_by_class(outcomes, episodes.classes)
    return Found(
        accuracy=accuracy, half_width_95=half_width, videos=len(of.ids), right=tuple(outcomes.sum((1, 2)).tolist()),
        by_class={of.class_names[label]: value for label, value in by_class.items()},
        outcomes=PackedOutcomes.of(outcomes.sum(2), np.searchsorted([*by_class], episodes.classes)),
        seconds=round(of.seconds + time.monotonic() - started, 3),
    )  # fmt: skip


def _by_head(of: ModelVectors, episodes: Episodes, progress: Progress) -> NDArray[np.bool_]:
    """Whether each query falls to its own class, (episodes, way, queries), by a head that scores frames."""
    used = np.unique(np.concatenate([episodes.support.ravel(), episodes.query.ravel()]))
    head = build_head(of.head, of.vectors.shape[-1]).eval().to(of.device)
    states = _embedded(head, of.vectors[used], of.device)
    support, query = np.searchsorted(used, episodes.support), np.searchsorted(used, episodes.query)
    episodes, so_far = Episodes(episodes.classes, support, query), Counter[str]()

    def tell(done: int, total: int) -> None:
        share = f"accuracy so far {so_far['right'] / so_far['queries']:.2%}" if so_far else "comparing videos"
        progress(done, total, share)

    outcomes = np.empty(query.shape, dtype=np.bool_)
    for chunk, logits in scored_chunks(head, states, episodes, progress=tell):
        outcomes[chunk] = found = hits(logits, query.shape[2])
        so_far.update(right=int(found.sum()), queries=found.size)
    return outcomes


@torch.inference_mode()
def _embedded(head: Head, frames: NDArray[np.float32], device: torch.device) -> torch.Tensor:
    """The head's states of frames (videos, frames, dim)."""
    parts = (frames[begin : begin + VIDEOS_AT_ONCE] for begin in range(0, len(frames), VIDEOS_AT_ONCE))
    return torch.cat([head.embed(torch.from_numpy(part).to(device)) for part in parts])
