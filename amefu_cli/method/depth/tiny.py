"""`tiny`: a depth network of under 2 MB, trained on rendered scenes, for demonstrations and offline tests."""

from __future__ import annotations

from collections.abc import Mapping
from typing import cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from amefu_cli.method.depth.network import place

WIDTHS = (16, 32, 64, 96, 128)  # channels at 1/2, 1/4, 1/8, 1/16 and 1/32 of the input's size
TINY_SIZE = 128  # height and width in pixels of the pictures on which it was trained, and at which it sees best


def convolution(inputs: int, outputs: int, *, stride: int = 1) -> nn.Sequential:
    """3×3 convolution, batch normalisation, ReLU."""
    kernel = nn.Conv2d(inputs, outputs, 3, stride, padding=1, bias=False)
    return nn.Sequential(kernel, nn.BatchNorm2d(outputs), nn.ReLU(inplace=True))


class TinyDepth(nn.Module):
    """An encoder of five halvings, its mean added at the end, and a decoder with skip connections."""

    def __init__(self) -> None:
        super().__init__()
        inputs = (3, *WIDTHS[:-1])
        self.encoder = nn.ModuleList(
            nn.Sequential(convolution(a, b, stride=2), convolution(b, b)) for a, b in zip(inputs, WIDTHS, strict=True)
        )
        self.overall = nn.Conv2d(WIDTHS[-1], WIDTHS[-1], 1)
        pairs = list(zip(WIDTHS[:0:-1], WIDTHS[-2::-1], strict=True))
        self.narrow = nn.ModuleList(convolution(deep, skip) for deep, skip in pairs)
        self.merge = nn.ModuleList(convolution(skip, skip) for _, skip in pairs)
        self.head = nn.Conv2d(WIDTHS[0], 1, 3, padding=1)

    def forward(self, pictures: Tensor) -> Tensor:
        """RGB 0..1 (n, 3, h, w) -> disparity (n, h, w) above 0, larger = nearer, of no fixed scale."""
        deep, skips = (pictures - 0.5) * 4, []
        for halve in self.encoder:
            deep = halve(deep)
            skips.append(deep)
        deep = deep + self.overall(deep.mean(dim=(2, 3), keepdim=True))
        for narrow, merge, skip in zip(self.narrow, self.merge, skips[-2::-1], strict=True):
            deep = merge(enlarged(narrow(deep), skip) + skip)
        return F.softplus(enlarged(self.head(deep), pictures)[:, 0])


def enlarged(features: Tensor, like: Tensor) -> Tensor:
    """Features (n, c, h, w) at the height and width of another tensor, bilinear."""
    return F.interpolate(features, size=like.shape[-2:], mode="bilinear", align_corners=False)


class TinyDepthDepth:
    """The network that is part of the package, at the size that it was trained on."""

    larger_is_farther = False

    def __init__(
        self, weights: Mapping[str, Tensor], *, device: torch.device, precision: torch.dtype, **_: object
    ) -> None:
        self.precision = precision
        self.network = place(TinyDepth(), weights, name="tiny", device=device, precision=precision)

    def size(self, height: int, width: int) -> tuple[int, int]:
        return TINY_SIZE, TINY_SIZE

    def __call__(self, images: Tensor) -> Tensor:
        return cast(Tensor, self.network(images.to(self.precision)))
