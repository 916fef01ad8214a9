"""Fusions and heads as they were trained, and episodes scored by a head: what evaluation and validation share."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from amefu_cli.artefacts.weights.checkpoint import open_fusion, open_head, read_checkpoint
from amefu_cli.artefacts.weights.public import KEPT
from amefu_cli.method.episodes import Episodes
from amefu_cli.method.heads import build_fusion, build_head
from amefu_cli.method.heads.base import Head
from amefu_cli.method.heads.routes import hits, scored_chunks
from amefu_cli.stages import Progress
from amefu_cli.stages.training import to_torch
from amefu_cli.stages.vectors import VIDEOS_AT_ONCE


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
    """Whether each query falls to its own class, (episodes, way, queries), by the frames (videos, frames, dim).

    Only the videos of the episodes are embedded. `progress` is told the accuracy so far.
    """
    used = np.unique(np.concatenate([episodes.support.ravel(), episodes.query.ravel()]))
    states = _embedded(head, frames[used], device)
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
