"""Depth estimators: frames in, disparity (larger = nearer) out; a class and a row of `ESTIMATORS` each."""

from __future__ import annotations

import difflib
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from amefu_cli.errors import AmefuError, UsageError
from amefu_cli.method.depth.hub import HubDepth
from amefu_cli.method.depth.monodepth2 import Monodepth2Depth
from amefu_cli.method.depth.network import DepthNetwork
from amefu_cli.method.depth.onnx import OnnxDepth
from amefu_cli.method.depth.tiny import TinyDepthDepth


@dataclass(frozen=True)
class EstimatorRow:
    """How one estimator is built, and what its user must know."""

    build: Callable[..., DepthNetwork]
    weights: str  # which kind of weights it is built from
    source_required: bool  # has no weights of its own: written NAME:SOURCE
    note: str  # one line to be said once; empty where there is nothing to say


@dataclass(frozen=True)
class Estimator:
    """uint8 (n, height, width, 3) on the device -> disparity float32 (n, height, width), larger = nearer."""

    network: DepthNetwork
    larger_is_farther: bool

    @torch.inference_mode()
    def __call__(self, frames: Tensor) -> Tensor:
        height, width = frames.shape[1:3]
        images = frames.permute(0, 3, 1, 2)  # channels-last already, by its strides
        if images.device.type != "cpu":  # where bytes are resized, and many times faster than floats
            images = images.float()
        images = resize(images, self.network.size(height, width)).float().div_(255)
        maps = self.network(images).float()
        if self.larger_is_farther:
            maps = depth_to_disparity(maps)
        return resize(maps[:, None], (height, width))[:, 0]


def parse_estimator(text: str) -> tuple[str, str | None]:
    """NAME or NAME:SOURCE as (name, source or None). UsageError: no such row, or a row that needs a source.

    >>> parse_estimator("onnx:midas.onnx")
    ('onnx', 'midas.onnx')
    """
    name, _, source = text.partition(":")
    if name not in ESTIMATORS:
        near = difflib.get_close_matches(name, ESTIMATORS, n=1)
        hint = f"did you mean '{near[0]}'?" if near else f"there are {', '.join(ESTIMATORS)}"
        raise UsageError(f"depth estimator '{name}' is not known; {hint}")
    if ESTIMATORS[name].source_required and not source:
        raise UsageError(f"depth estimator '{name}' has no weights of its own; write {name}:FILE")
    return name, source or None


def build_estimator(
    name: str,
    weights: Any,
    *,
    device: torch.device,
    precision: torch.dtype,
    threads: int,
    larger_is_farther: bool | None,
    imagenet_input: bool,
) -> Estimator:
    """The estimator of row `name` from weights already in memory, of the kind `ESTIMATORS[name].weights`.

    `larger_is_farther` None: as the model itself says. `threads` (of the CPU) and `imagenet_input` (images
    normalised by ImageNet's mean and deviation, not 0..1) are for `onnx`, whose files do not say.
    UsageError: a missing extra, weights of another network.
    """
    network = ESTIMATORS[name].build(
        weights, device=device, precision=precision, threads=threads, imagenet_input=imagenet_input
    )
    farther = network.larger_is_farther if larger_is_farther is None else larger_is_farther
    return Estimator(network, farther)


def resize(images: Tensor, size: tuple[int, int]) -> Tensor:
    """(n, channels, h, w) -> (n, channels, *size), bilinear, averaging where it shrinks."""
    if images.shape[2:] == size:
        return images
    shrinks = size[0] < images.shape[2] or size[1] < images.shape[3]
    return functional.interpolate(images, size, mode="bilinear", align_corners=False, antialias=shrinks)


def depth_to_disparity(depth: Tensor) -> Tensor:
    """1/depth of (n, h, w), where nothing is nearer than a thousandth of the frame's farthest point."""
    farthest = depth.amax(dim=(1, 2), keepdim=True)
    if not bool((farthest > 0).all()):
        raise AmefuError("the network gave no value above 0, so they are no depths; drop 'larger is farther'")
    return 1 / torch.maximum(depth, farthest / 1000)


ESTIMATORS: dict[str, EstimatorRow] = {
    "monodepth2": EstimatorRow(
        Monodepth2Depth,
        weights="monodepth2",
        source_required=False,
        note="Monodepth2's weights are licensed for non-commercial use only",
    ),
    "onnx": EstimatorRow(OnnxDepth, weights="onnx", source_required=True, note=""),
    "hf": EstimatorRow(HubDepth, weights="hf", source_required=False, note=""),
    "tiny": EstimatorRow(
        TinyDepthDepth,
        weights="tiny",
        source_required=False,
        note="depth by the tiny embedded network, trained on rendered scenes: for demonstrations and tests",
    ),
}
