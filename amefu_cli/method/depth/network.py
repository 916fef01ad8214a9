"""What every depth network has in common: how it is run over frames, and how a store keeps what it gives."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import torch
from PIL import Image
from torch import Tensor, nn
from torch.nn import functional

from amefu_cli.errors import AmefuError, UsageError
from amefu_cli.method.depth import ESTIMATORS

LEVELS = 256  # of a stored disparity, of a colour table


class DepthNetwork(Protocol):
    """What a row builds: a network that says which size it wants and which way its output points."""

    larger_is_farther: bool

    def size(self, height: int, width: int) -> tuple[int, int]:
        """The size to which images of (height, width) are brought before they are given to the network."""

    def __call__(self, images: Tensor) -> Tensor:
        """RGB float32 0..1 (n, 3, *size) -> disparity or depth float32 (n, any height, any width)."""


@dataclass(frozen=True)
class Estimator:
    """uint8 (n, height, width, 3) on the device -> disparity float32 (n, height, width), larger = nearer."""

    network: DepthNetwork
    larger_is_farther: bool
    lanczos: bool = False  # whether frames are brought to the network's size as the public code does it

    @torch.inference_mode()
    def __call__(self, frames: Tensor) -> Tensor:
        height, width = frames.shape[1:3]
        size = self.network.size(height, width)
        if self.lanczos:
            frames = resize_lanczos(frames, size)
        images = frames.permute(0, 3, 1, 2)  # channels-last already, by its strides
        if images.device.type != "cpu":  # where bytes are resized, and many times faster than floats
            images = images.float()
        images = resize(images, size).float().div_(255)
        maps = self.network(images).float()
        if self.larger_is_farther:
            maps = depth_to_disparity(maps)
        return resize(maps[:, None], (height, width))[:, 0]


def build_estimator(
    name: str, weights: Any, *, device: torch.device, precision: torch.dtype, threads: int,
    larger_is_farther: bool | None, imagenet_input: bool, lanczos: bool = False,
) -> Estimator:  # fmt: skip
    """The estimator of row `name` from weights already in memory, of the kind `ESTIMATORS[name].weights`.

    `larger_is_farther` None: as the model itself says. `threads` (of the CPU) and `imagenet_input` (images
    normalised by ImageNet's mean and deviation, not 0..1) are for `onnx`, whose files do not say.
    UsageError: a missing extra, weights of another network.
    """
    build = ESTIMATORS[name].load()
    network = build(weights, device=device, precision=precision, threads=threads, imagenet_input=imagenet_input)
    return Estimator(network, network.larger_is_farther if larger_is_farther is None else larger_is_farther, lanczos)


def resize(images: Tensor, size: tuple[int, int]) -> Tensor:
    """(n, channels, h, w) -> (n, channels, *size), bilinear, averaging where it shrinks."""
    if images.shape[2:] == size:
        return images
    shrinks = size[0] < images.shape[2] or size[1] < images.shape[3]
    return functional.interpolate(images, size, mode="bilinear", align_corners=False, antialias=shrinks)


def resize_lanczos(frames: Tensor, size: tuple[int, int]) -> Tensor:
    """uint8 (n, h, w, 3) -> (n, *size, 3) on the same device, by Pillow's LANCZOS."""
    height, width = size
    pictures = (
        Image.fromarray(frame).resize((width, height), Image.Resampling.LANCZOS) for frame in frames.cpu().numpy()
    )
    return torch.from_numpy(np.stack([np.asarray(picture) for picture in pictures])).to(frames.device)


def depth_to_disparity(depth: Tensor) -> Tensor:
    """1/depth of (n, h, w), where nothing is nearer than a thousandth of the frame's farthest point."""
    farthest = depth.amax(dim=(1, 2), keepdim=True)
    if not bool((farthest > 0).all()):
        raise AmefuError("the network gave no value above 0, so they are no depths; drop 'larger is farther'")
    return 1 / torch.maximum(depth, farthest / 1000)


def quantise(disparity: Tensor, percentile: float) -> tuple[Tensor, Tensor, Tensor]:
    """Disparity float32 (frames, height, width) as uint8 values with `low` and `high` float32 (frames,): each frame's
    minimum and its `percentile` (0..100), linearly between the two neighbours in rank order as in numpy.percentile.

    value = floor(256 (disparity - low) / (high - low)), at most 255, which also is the number of its colour among 256;
    what lies above `high` is clipped before it is cut into levels, so that a few near pixels do not take the levels of
    all others. A frame without contrast below the percentile gets value 0.
    """
    flat = disparity.flatten(1)
    position = percentile / 100 * (flat.shape[1] - 1)
    below, above = (flat.kthvalue(min(int(position) + n, flat.shape[1]), 1).values for n in (1, 2))
    low, high = flat.amin(1), below + (position - int(position)) * (above - below)
    span = high - low
    value = (disparity - low[:, None, None]) * (LEVELS / span.clamp_min(torch.finfo(torch.float32).tiny))[:, None, None]
    value.clamp_(0, LEVELS - 1).mul_((span > 0)[:, None, None])
    return value.to(torch.uint8), low, high


def place(
    network: nn.Module, tensors: Mapping[str, Tensor], *, name: str, device: torch.device, precision: torch.dtype
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
