"""Monodepth2 (Godard et al., "Digging Into Self-Supervised Monocular Depth Estimation", arXiv:1806.01260).

A ResNet-18 encoder and a decoder with skip connections that gives a sigmoid disparity at four scales. The
state dict holds the public names: `encoder.*` of encoder.pth and `decoder.*` of depth.pth side by side.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Mapping, Sequence
from typing import cast

import torch
from torch import Tensor, nn
from torch.nn import functional
from torchvision.models import resnet18

from amefu_cli.errors import UsageError
from amefu_cli.method.depth.network import place

ENCODER_WIDTHS = (64, 64, 128, 256, 512)
DECODER_WIDTHS = (16, 32, 64, 128, 256)
SIZE, LARGEST = {"height": 192, "width": 640}, 4096
SCALES = (0, 1, 2, 3)  # scale s is 2^s times smaller than the input


def convolution(inputs: int, outputs: int) -> nn.Sequential:
    """3×3 convolution whose border is the image reflected, (n, inputs, h, w) -> (n, outputs, h, w)."""
    return nn.Sequential(OrderedDict(conv=nn.Conv2d(inputs, outputs, 3, padding=1, padding_mode="reflect")))


def convolution_elu(inputs: int, outputs: int) -> nn.Sequential:
    """A `convolution` and an exponential linear unit."""
    return nn.Sequential(OrderedDict(conv=convolution(inputs, outputs), elu=nn.ELU(inplace=True)))


class Monodepth2(nn.Module):
    """RGB float 0..1 (n, 3, h, w), h and w multiples of 32 -> disparity 0..1 of each scale asked for."""

    def __init__(self) -> None:
        super().__init__()
        self.encoder = resnet18(weights=None)
        del self.encoder.fc  # what the encoder was pretrained with; no part of the network
        blocks: list[nn.Module] = []
        below = ENCODER_WIDTHS[4]
        for skipped, width in zip((*ENCODER_WIDTHS[3::-1], 0), DECODER_WIDTHS[::-1], strict=True):
            blocks += [convolution_elu(below, width), convolution_elu(width + skipped, width)]
            below = width
        blocks += [convolution(DECODER_WIDTHS[scale], 1) for scale in SCALES]
        self.decoder = nn.ModuleList(blocks)

    def forward(self, images: Tensor, scales: Sequence[int] = SCALES) -> dict[int, Tensor]:
        """Disparity (n, 1, h / 2^scale, w / 2^scale) by scale; nothing finer than the finest is computed."""
        features = self._encode(images)
        x, disparities = features[4], {}
        for level in reversed(range(min(scales), 5)):
            before, after = self.decoder[2 * (4 - level)], self.decoder[2 * (4 - level) + 1]
            x = functional.interpolate(before(x), scale_factor=2.0, mode="nearest")
            x = after(torch.cat([x, features[level - 1]], dim=1) if level > 0 else x)
            if level in scales:
                disparities[level] = torch.sigmoid(self.decoder[10 + level](x).float())
        return disparities

    def _encode(self, images: Tensor) -> list[Tensor]:
        """Features of strides 2, 4, 8, 16 and 32."""
        encoder = self.encoder
        normalised = ((images - 0.45) / 0.225).to(encoder.conv1.weight.dtype)
        features = [encoder.relu(encoder.bn1(encoder.conv1(normalised)))]
        features.append(encoder.layer1(encoder.maxpool(features[0])))
        for layer in (encoder.layer2, encoder.layer3, encoder.layer4):
            features.append(layer(features[-1]))
        return features


class Monodepth2Depth:
    """The paper's estimator, its finest disparity: of 640×192, or of the `height` and `width` among its weights."""

    larger_is_farther = False

    def __init__(
        self, weights: Mapping[str, Tensor], *, device: torch.device, precision: torch.dtype, **_: object
    ) -> None:
        self.network = place(Monodepth2(), weights, name="monodepth2", device=device, precision=precision)
        own = [int(weights[name]) if name in weights else usual for name, usual in SIZE.items()]
        if any(length % 32 or not 0 < length <= LARGEST for length in own):
            raise UsageError(f"monodepth2: weights for {own[1]}×{own[0]} pixels; multiples of 32 are needed")
        self.own_size = own[0], own[1]

    def size(self, height: int, width: int) -> tuple[int, int]:
        return self.own_size

    def __call__(self, images: Tensor) -> Tensor:
        return cast(Tensor, self.network(images, scales=(0,))[0][:, 0])
