"""One vector per video of a feature table: a stream alone, or both fused. What evaluation and validation classify."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn
from torch.nn import functional

from amefu_cli.artefacts.stores.features import FeatureTable
from amefu_cli.method.heads import MODELS
from amefu_cli.method.heads.fusion import video_vector
from amefu_cli.method.sampling import clip_by_rule

VIDEOS_AT_ONCE = 64  # 64 videos × 16 frames × 2048 × 4 bytes: 8 MiB a stream


def test_rows(table: FeatureTable, *, test_frames: str, segments: int, frames_per_segment: int) -> NDArray[np.int64]:
    """The rows (videos, frames) of the frames that testing reads of each video."""
    size = {"segments": segments, "frames_per_segment": frames_per_segment}
    rows = [
        table.nearest_rows(video, clip_by_rule(test_frames, int(count), **size))
        for video, count in enumerate(table.frames)
    ]
    return np.stack(rows) if rows else np.empty((0, segments * frames_per_segment), np.int64)


@torch.inference_mode()
def video_vectors(
    table: FeatureTable,
    rows: NDArray[np.int64],
    *,
    model: str,
    fusion: nn.Module | None,
    device: torch.device,
) -> NDArray[np.float32]:
    """One vector a video, float32 (videos, dim), from view 0: what the row `model` of MODELS classifies.

    A model of two streams is fused by `fusion`; a model of one is the mean of its frames. Vectors are of length 1
    unless the model's row says otherwise.
    """
    of = MODELS[model]
    vectors = []
    for begin in range(0, len(rows), VIDEOS_AT_ONCE):
        some = rows[begin : begin + VIDEOS_AT_ONCE]  # (videos, frames)
        clips = [torch.from_numpy(table.stream(name)[0][some]).to(device).float() for name in of.streams]
        if len(clips) == 2:
            assert fusion is not None
            vector = video_vector(fusion, *clips)
        else:
            vector = clips[0].mean(1)
            if of.unit_length:
                vector = functional.normalize(vector, dim=-1)
        vectors.append(vector.cpu().numpy())
    return np.concatenate(vectors) if vectors else np.empty((0, table.rgb.shape[-1]), np.float32)
