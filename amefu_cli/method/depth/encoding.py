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


def encode_disparity(disparity: Tensor, *, encoding: str, percentile: float) -> Tensor:
    """Colours uint8 (frames, height, width, 3) of stored disparity uint8 (frames, height, width).

    Each frame is clipped at its `percentile` (0..100), scaled to 0..1 from its minimum and coloured; a frame
    without contrast gets the first colour. A store keeps disparity = low + value / 255 * (high - low) with
    one low and high per frame: both cancel in the scaling, so the values alone give the colours.
    """
    frames, height, width = disparity.shape
    # All pixels of one value get one colour: 256 counts and 256 colours per frame stand for its pixels.
    counts = torch.stack([torch.bincount(frame.ravel(), minlength=LEVELS) for frame in disparity])
    places = (_scaled_levels(counts, percentile) * LEVELS).long().clamp_max(LEVELS - 1)
    tables = ENCODINGS[encoding].load().to(disparity.device)[places]  # (frames, 256, 3)
    colours = disparity.new_empty((frames, height * width, 3))
    for frame, table, out in zip(disparity, tables, colours, strict=True):
        torch.index_select(table, 0, frame.ravel().int(), out=out)
    return colours.view(frames, height, width, 3)


def _scaled_levels(counts: Tensor, percentile: float) -> Tensor:
    """Share (frames, 256) float64 in 0..1 of the way from a frame's minimum to its percentile at each level. The
    percentile lies between the two neighbours in rank order, linearly, as in numpy.percentile."""
    cumulative = counts.cumsum(1)
    last = int(cumulative[0, -1]) - 1
    position = percentile / 100 * last
    ranks = torch.tensor([0, int(position), min(int(position) + 1, last)], device=counts.device)
    low, below, above = torch.searchsorted(cumulative, ranks.repeat(len(counts), 1), right=True).double().unbind(1)
    span = below + (position - int(position)) * (above - below) - low
    rise = torch.arange(LEVELS, device=counts.device) - low[:, None]
    return torch.where(span[:, None] > 0, rise / span[:, None], 0).clamp(0, 1)
