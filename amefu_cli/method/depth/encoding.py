"""Disparity as a picture of three channels that an RGB backbone reads, made as in the paper's code."""

from __future__ import annotations

import numpy as np
import torch
from matplotlib import colormaps
from torch import Tensor

from amefu_cli.method.depth import ENCODINGS
from amefu_cli.method.depth.network import LEVELS

# Colours uint8 (256, 3) from far to near.
MAGMA = torch.from_numpy(colormaps["magma"](np.arange(LEVELS), bytes=True)[:, :3].copy())
GRAY = torch.arange(LEVELS, dtype=torch.uint8)[:, None].repeat(1, 3)


def encode_disparity(disparity: Tensor, *, encoding: str) -> Tensor:
    """Colours uint8 (frames, height, width, 3) of stored disparity uint8 (frames, height, width), whose values are the
    numbers of its colours (`quantise`)."""
    table = ENCODINGS[encoding].load().to(disparity.device)
    colours: Tensor = table[disparity.int()]
    return colours
