"""One vector per video of a feature table, or its frames: of a stream alone, or of both fused. What evaluation and
validation classify."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn
from torch.nn import functional

from amefu_cli.artefacts.stores.features import FeatureTable
from amefu_cli.method.heads import Model
from amefu_cli.method.heads.fusion import fused_frames, video_vector
from amefu_cli.method.sampling import clip_by_rule
from amefu_cli.settings import ClipSettings

VIDEOS_AT_ONCE = 64  # 64 videos × 16 frames × 2048 × 4 bytes: 8 MiB a stream


@dataclass(frozen=True)
class Reading:
    """How a model reads the videos of a feature table."""

    model: Model
    test_frames: str
    clip: ClipSettings
    fusion: nn.Module | None
    device: torch.device

    def clips(self, table: FeatureTable) -> Iterator[list[torch.Tensor]]:
        """Some videos at a time, the clip (videos, frames, dim) of each stream, from view 0 of the frames that testing
        reads."""
        read = [clip_by_rule(self.test_frames, int(count), **vars(self.clip)) for count in table.frames]
        rows = [table.nearest_rows(video, numbers) for video, numbers in enumerate(read)]
        for begin in range(0, len(rows), VIDEOS_AT_ONCE):
            some = np.stack(rows[begin : begin + VIDEOS_AT_ONCE])  # (videos, frames)
            streams = (table.streams[name][0][some] for name in self.model.streams)
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
