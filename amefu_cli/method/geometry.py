"""From a stored frame to what a backbone reads: the crop and the normalisation."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from amefu_cli.errors import UsageError


def crop_corner(height: int, width: int, *, crop: int, centre: bool, rng: np.random.Generator) -> tuple[int, int]:
    """(top, left) of a crop x crop window, in the centre or uniformly at random.

    One corner serves all frames and both streams of a clip. Raises UsageError if the window does not fit.
    """
    if crop > min(height, width):
        raise UsageError(f"a crop of {crop} does not fit into frames of {height}x{width}; lower the crop")
    if centre:
        return (height - crop) // 2, (width - crop) // 2
    return int(rng.integers(height - crop + 1)), int(rng.integers(width - crop + 1))


def normalise(frames: Tensor, *, mean: Sequence[float], std: Sequence[float], dtype: torch.dtype) -> Tensor:
    """(frame / 255 - mean) / std of uint8 frames (n, height, width, 3) as (n, 3, height, width) in `dtype`.

    The result is laid out channels-last, in the order of the frames' own bytes; `frames` may be a crop.
    """
    width = frames.shape[2]
    scale = 1 / (255 * torch.tensor(std, device=frames.device))
    shift = -255 * torch.tensor(mean, device=frames.device) * scale
    pixels = frames.to(torch.float32, memory_format=torch.contiguous_format)
    rows = pixels.view(-1, width * 3)  # ten times as fast as broadcasting over an innermost axis of 3
    torch.addcmul(shift.repeat(width), rows, scale.repeat(width), out=rows)
    return pixels.to(dtype).permute(0, 3, 1, 2)
