"""How the depth stream guides the RGB stream: DGAdaIN (paper §3.2, eqs. 4-6) and what it is compared with.

Features are (..., frames, dim) float tensors, a row of FUSIONS is a module built from `dim`:
`fuse_frames(rgb, depth)` gives the fused frames, calling it gives their mean over the frames, (..., dim).
"""

from __future__ import annotations

from typing import cast

import torch
from torch import Tensor, nn
from torch.nn import functional

EPSILON = 1e-5


class DGAdaIN(nn.Module):
    """Depth guided adaptive instance normalisation: g_s(d) * (r - mean(r)) / sqrt(var(r) + eps) + g_b(d).

    Mean and biased variance are over dim; g_s (`scale`) and g_b (`shift`) are linear, dim to dim. The bias of
    g_s starts at 1 over PyTorch's default, so that training starts near the normalised RGB vector.
    """

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.scale = nn.Linear(dim, dim)
        self.shift = nn.Linear(dim, dim)
        with torch.no_grad():
            self.scale.bias.add_(1)

    def fuse_frames(self, rgb: Tensor, depth: Tensor) -> Tensor:
        """(..., frames, dim) of both streams to the fused frames (..., frames, dim)."""
        shift: Tensor = self.shift(depth)
        return self._scaled(rgb, depth) + shift

    def forward(self, rgb: Tensor, depth: Tensor) -> Tensor:
        """The mean of the fused frames (..., dim), with g_b of the mean depth vector: it is linear."""
        shift: Tensor = self.shift(depth.mean(-2))
        return self._scaled(rgb, depth).mean(-2) + shift

    def _scaled(self, rgb: Tensor, depth: Tensor) -> Tensor:
        scale: Tensor = self.scale(depth)
        return scale * functional.layer_norm(rgb, rgb.shape[-1:], eps=EPSILON)


class RGBGuidesDepth(DGAdaIN):
    """DGAdaIN the other way about: the depth vector is normalised, the RGB vector scales and shifts it."""

    def fuse_frames(self, rgb: Tensor, depth: Tensor) -> Tensor:
        return super().fuse_frames(depth, rgb)

    def forward(self, rgb: Tensor, depth: Tensor) -> Tensor:
        return super().forward(depth, rgb)


class TwoWay(nn.Module):
    """The mean of both directions, each with its own two layers."""

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.depth_guides = DGAdaIN(dim)
        self.rgb_guides = RGBGuidesDepth(dim)

    def fuse_frames(self, rgb: Tensor, depth: Tensor) -> Tensor:
        return (self.depth_guides.fuse_frames(rgb, depth) + self.rgb_guides.fuse_frames(rgb, depth)) / 2

    def forward(self, rgb: Tensor, depth: Tensor) -> Tensor:
        both: Tensor = self.depth_guides(rgb, depth) + self.rgb_guides(rgb, depth)
        return both / 2


class Concatenation(nn.Module):
    """One linear layer from [rgb; depth] of a frame, 2 * dim wide, to dim."""

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.linear = nn.Linear(2 * dim, dim)

    def fuse_frames(self, rgb: Tensor, depth: Tensor) -> Tensor:
        fused: Tensor = self.linear(torch.cat((rgb, depth), -1))
        return fused

    def forward(self, rgb: Tensor, depth: Tensor) -> Tensor:
        """The mean of the fused frames (..., dim), as the fusion of the mean vectors: the layer is linear."""
        fused: Tensor = self.linear(torch.cat((rgb.mean(-2), depth.mean(-2)), -1))
        return fused


class RGBLinear(nn.Module):
    """One linear layer of the RGB frame alone: what concatenation learns of RGB, without any depth. A control."""

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.linear = nn.Linear(dim, dim)

    def fuse_frames(self, rgb: Tensor, depth: Tensor) -> Tensor:
        fused: Tensor = self.linear(rgb)
        return fused

    def forward(self, rgb: Tensor, depth: Tensor) -> Tensor:
        return self.fuse_frames(rgb.mean(-2), depth)


class DepthLinear(RGBLinear):
    """The same of the depth frame alone."""

    def fuse_frames(self, rgb: Tensor, depth: Tensor) -> Tensor:
        return super().fuse_frames(depth, rgb)

    def forward(self, rgb: Tensor, depth: Tensor) -> Tensor:
        return super().fuse_frames(depth.mean(-2), rgb)


class DGAdaINLinear(nn.Module):
    """DGAdaIN, then one linear layer, dim to dim: what DGAdaIN lacks beside concatenation. A control."""

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.dgadain = DGAdaIN(dim)
        self.linear = nn.Linear(dim, dim)

    def fuse_frames(self, rgb: Tensor, depth: Tensor) -> Tensor:
        fused: Tensor = self.linear(self.dgadain.fuse_frames(rgb, depth))
        return fused

    def forward(self, rgb: Tensor, depth: Tensor) -> Tensor:
        fused: Tensor = self.linear(self.dgadain(rgb, depth))
        return fused


def video_vector(fusion: nn.Module, rgb: Tensor, depth: Tensor) -> Tensor:
    """One vector of length 1 per video (..., dim): the mean of its fused frames, L2-normalised."""
    return functional.normalize(fusion(rgb, depth), dim=-1)


def fused_frames(fusion: nn.Module, rgb: Tensor, depth: Tensor) -> Tensor:
    """The fused frames (..., frames, dim) of a row of FUSIONS, which all have them."""
    return cast(DGAdaIN, fusion).fuse_frames(rgb, depth)
