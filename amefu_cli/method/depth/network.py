"""What every depth network has in common."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Protocol

import torch
from torch import Tensor, nn

from amefu_cli.errors import UsageError


class DepthNetwork(Protocol):
    """What a row builds: a network that says which size it wants and which way its output points."""

    larger_is_farther: bool

    def size(self, height: int, width: int) -> tuple[int, int]:
        """The size to which images of (height, width) are brought before they are given to the network."""

    def __call__(self, images: Tensor) -> Tensor:
        """RGB float32 0..1 (n, 3, *size) -> disparity or depth float32 (n, any height, any width)."""


def place(
    network: nn.Module,
    tensors: Mapping[str, Tensor],
    *,
    name: str,
    device: torch.device,
    precision: torch.dtype,
) -> nn.Module:
    """The network with these weights, ready to run; UsageError where they are of another network."""
    try:
        missing, _ = network.load_state_dict(tensors, strict=False)
    except RuntimeError as error:
        raise UsageError(f"{name}: weights of another network: {str(error).splitlines()[-1].strip()}") from error
    if missing:
        raise UsageError(f"{name}: weights of another network: {len(missing)} missing, {missing[0]!r} first")
    return ready(network, device=device, precision=precision)


def ready(network: nn.Module, *, device: torch.device, precision: torch.dtype) -> nn.Module:
    """The network as it runs fastest and without gradients."""
    network.eval().requires_grad_(False)
    return network.to(device, precision).to(memory_format=torch.channels_last)


def nearest_multiple(length: float, step: int) -> int:
    """The multiple of `step` nearest to `length`, at least one step."""
    return max(step, round(length / step) * step)


def per_channel(values: Any, device: torch.device) -> Tensor:
    return torch.tensor(values, dtype=torch.float32, device=device).view(1, 3, 1, 1)
