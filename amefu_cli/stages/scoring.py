"""Videos as vectors or frames of one model, fusions and heads as they were trained, and episodes scored by a head: what
evaluation and validation share."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn
from torch.nn import functional

from amefu_cli.artefacts.stores.features import FeatureTable
from amefu_cli.artefacts.weights.checkpoint import open_fusion, open_head, read_checkpoint
from amefu_cli.artefacts.weights.public import KEPT
from amefu_cli.method.episodes import Episodes, chosen_ways, hits
from amefu_cli.method.heads import DEPTHS, Model, build_fusion, build_head
from amefu_cli.method.heads.base import Head
from amefu_cli.method.heads.fusion import fused_frames, video_vector
from amefu_cli.method.heads.routes import scored_chunks
from amefu_cli.method.sampling import clip_by_rule
from amefu_cli.settings import ClipSettings
from amefu_cli.stages import Progress
from amefu_cli.stages.training import to_torch

VIDEOS_AT_ONCE = 64  # 64 videos × 16 frames × 2048 × 4 bytes: 8 MiB a stream


@dataclass(frozen=True)
class Reading:
    """How a model reads the videos of a feature table; `depth_of` is that of its fusion's header."""

    model: Model
    test_frames: str
    clip: ClipSettings
    fusion: nn.Module | None
    device: torch.device
    depth_of: tuple[str, int] = ("own", 0)

    def clips(self, table: FeatureTable) -> Iterator[list[torch.Tensor]]:
        """Some videos at a time, the clip (videos, frames, dim) of each stream, from view 0 of the frames that testing
        reads."""
        read = [clip_by_rule(self.test_frames, int(count), **vars(self.clip)) for count in table.frames]
        rows = [table.rows(video, numbers) for video, numbers in enumerate(read)]
        rule, seed = self.depth_of
        given = DEPTHS[rule].load()(table.labels, np.random.default_rng(seed))
        read_by = {name: [rows[video] for video in given] if name == "depth" else rows for name in self.model.streams}
        for begin in range(0, len(rows), VIDEOS_AT_ONCE):
            some = slice(begin, begin + VIDEOS_AT_ONCE)
            streams = (table.streams[name][0][np.stack(of[some])] for name, of in read_by.items())  # (videos, frames)
            yield [torch.from_numpy(stream).to(self.device).float() for stream in streams]


@torch.inference_mode()
def video_vectors(table: FeatureTable, reading: Reading) -> NDArray[np.float32]:
    """One vector a video, float32 (videos, dim): what the model's prototypes are made from.

    A model of two streams is fused; a model of one is the mean of its frames. Vectors are of length 1 unless the
    model's row says otherwise.
    """
    vectors = []
    for clips in reading.clips(table):
        if len(clips) == 2:
            assert reading.fusion is not None
            vector = video_vector(reading.fusion, *clips)
        else:
            vector = clips[0].mean(1)
            if reading.model.unit_length:
                vector = functional.normalize(vector, dim=-1)
        vectors.append(vector.cpu().numpy())
    dim = table.streams[reading.model.streams[0]].shape[-1]
    return np.concatenate(vectors) if vectors else np.empty((0, dim), np.float32)


@torch.inference_mode()
def video_frames(table: FeatureTable, reading: Reading) -> NDArray[np.float32]:
    """The frames of every video, float32 (videos, frames, dim): of the model's stream, or fused. What heads read."""
    frames = [fused_frames(reading.fusion, *clips) if reading.fusion else clips[0] for clips in reading.clips(table)]
    return np.concatenate([some.cpu().numpy() for some in frames])


def load_fusion(path: Path, device: torch.device) -> nn.Module:
    """The fusion of a checkpoint, ready for evaluation; what an import keeps of the public code is passed over."""
    header, tensors = open_fusion(path), read_checkpoint(path)
    fusion = build_fusion(header.fusion, header.dim)
    fusion.load_state_dict(to_torch({name: tensors[name] for name in tensors if not name.startswith(KEPT)}))
    return fusion.eval().to(device)


def load_head(path: Path) -> Head:
    """The head of a checkpoint."""
    header = open_head(path)
    head = build_head(header.head, header.dim, header.options)
    head.load_state_dict(to_torch(read_checkpoint(path)))
    return head


def by_head(
    head: Head, frames: NDArray[np.float32], episodes: Episodes, *, device: torch.device, progress: Progress
) -> NDArray[np.bool_]:
    """Whether each query falls to its own class, (episodes, asked, queries). See `ways_by_head`."""
    return hits(ways_by_head(head, frames, episodes, device=device, progress=progress))


def ways_by_head(
    head: Head, frames: NDArray[np.float32], episodes: Episodes, *, device: torch.device, progress: Progress
) -> NDArray[np.int64]:
    """The way that each query falls to, (episodes, asked, queries), by the frames (videos, frames, dim).

    Only the videos of the episodes are embedded. `progress` is told the accuracy so far.
    """
    used = np.unique(np.concatenate([episodes.support.ravel(), episodes.query.ravel()]))
    states = embedded(head, frames[used], device)
    support, query = np.searchsorted(used, episodes.support), np.searchsorted(used, episodes.query)
    episodes, so_far = Episodes(episodes.classes, support, query), Counter[str]()

    def tell(done: int, total: int) -> None:
        share = f"accuracy so far {so_far['right'] / so_far['queries']:.2%}" if so_far else "comparing videos"
        progress(done, total, share)

    chosen = np.empty(query.shape, np.int64)
    for chunk, logits in scored_chunks(head, states, episodes, progress=tell):
        chosen[chunk] = found = chosen_ways(logits.cpu().numpy(), query.shape[2], first=chunk.start)
        so_far.update(right=int(hits(found).sum()), queries=found.size)
    return chosen


@torch.inference_mode()
def embedded(head: Head, frames: NDArray[np.float32], device: torch.device) -> torch.Tensor:
    """The head's states of frames (videos, frames, dim), in memory once: those of trx are ten times the frames."""
    states = torch.empty(0, device=device)
    for begin in range(0, len(frames), VIDEOS_AT_ONCE):
        some = head.embed(torch.from_numpy(frames[begin : begin + VIDEOS_AT_ONCE]).to(device))
        if not begin:
            states = some.new_empty((len(frames), *some.shape[1:]))
        states[begin : begin + len(some)] = some
    return states
