"""One vector per video of a feature table: a stream alone, or both fused. What evaluation and validation classify."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn
from torch.nn import functional

from amefu_cli.artefacts.stores.features import FeatureTable
from amefu_cli.method.heads import Model
from amefu_cli.method.heads.fusion import video_vector
from amefu_cli.method.sampling import clip_by_rule
from amefu_cli.settings import ClipSettings

VIDEOS_AT_ONCE = 64  # 64 videos × 16 frames × 2048 × 4 bytes: 8 MiB a stream


@torch.inference_mode()
def video_vectors(
    table: FeatureTable, *, test_frames: str, clip: ClipSettings, model: Model, fusion: nn.Module | None,
    device: torch.device,
) -> NDArray[np.float32]:  # fmt: skip
    """One vector a video, float32 (videos, dim), from view 0 of the frames that testing reads: what `model` classifies.

    A model of two streams is fused by `fusion`; a model of one is the mean of its frames. Vectors are of length 1
    unless the model's row says otherwise.
    """
    read = [clip_by_rule(test_frames, int(count), **vars(clip)) for count in table.frames]
    rows = [table.nearest_rows(video, numbers) for video, numbers in enumerate(read)]
    vectors = []
    for begin in range(0, len(rows), VIDEOS_AT_ONCE):
        some = np.stack(rows[begin : begin + VIDEOS_AT_ONCE])  # (videos, frames)
        clips = [torch.from_numpy(table.streams[name][0][some]).to(device).float() for name in model.streams]
        if len(clips) == 2:
            assert fusion is not None
            vector = video_vector(fusion, *clips)
        else:
            vector = clips[0].mean(1)
            if model.unit_length:
                vector = functional.normalize(vector, dim=-1)
        vectors.append(vector.cpu().numpy())
    return np.concatenate(vectors) if vectors else np.empty((0, table.streams[model.streams[0]].shape[-1]), np.float32)
