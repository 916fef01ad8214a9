"""A backbone as the streams use it: images in, pooled features out; and how frames become its images."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import cast

import torch
from torch import Tensor, nn

from amefu_cli.errors import UsageError
from amefu_cli.method.geometry import Colour


class Backbone(nn.Module):
    """Images float (n, 3, height, width), normalised by `mean` and `std`, -> features (n, dim). `network.state_dict()`
    holds torchvision's or timm's own names; `load` takes such a dictionary."""

    def __init__(self, network: nn.Module, *, dim: int, mean: Colour, std: Colour) -> None:
        super().__init__()
        self.network = network
        self.dim, self.mean, self.std = dim, mean, std

    def forward(self, images: Tensor) -> Tensor:
        return cast(Tensor, self.network(images))

    def shapes(self) -> dict[str, tuple[int, ...]]:
        """Name and shape of every tensor of the network, in its order."""
        return {name: tuple(tensor.shape) for name, tensor in self.network.state_dict().items()}

    def load(self, tensors: Mapping[str, Tensor]) -> None:
        """Take over all tensors of the network; UsageError names what differs."""
        state = self.network.state_dict()  # with the version numbers that MNASNet asks for in loading
        if state.keys() != tensors.keys():
            differing = sorted(state.keys() ^ tensors.keys())
            raise UsageError(f"weights of another backbone: {len(differing)} names differ, {differing[0]!r} first")
        state.update(tensors)
        try:
            self.network.load_state_dict(state)
        except RuntimeError as error:
            raise UsageError(f"weights of another backbone: {str(error).splitlines()[-1].strip()}") from error


def normalise(frames: Tensor, *, mean: Sequence[float], std: Sequence[float], dtype: torch.dtype) -> Tensor:
    """(frame / 255 - mean) / std of uint8 frames (n, height, width, 3) as (n, 3, height, width) in `dtype`. The result
    is laid out channels-last, in the order of the frames' own bytes; `frames` may be a crop."""
    width = frames.shape[2]
    scale = 1 / (255 * torch.tensor(std, device=frames.device))
    shift = -255 * torch.tensor(mean, device=frames.device) * scale
    pixels = frames.to(torch.float32, memory_format=torch.contiguous_format)
    rows = pixels.view(-1, width * 3)  # ten times as fast as broadcasting over an innermost axis of 3
    torch.addcmul(shift.repeat(width), rows, scale.repeat(width), out=rows)
    return pixels.to(dtype).permute(0, 3, 1, 2)
