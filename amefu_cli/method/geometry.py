"""From a decoded frame to what a network reads: the stored size, the crop, ImageNet's colours. Loads no torch."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, cast

from amefu_cli.errors import UsageError
from amefu_cli.method import Row

if TYPE_CHECKING:
    import numpy as np

Colour = tuple[float, float, float]

IMAGENET_MEAN: Colour = (0.485, 0.456, 0.406)
IMAGENET_STD: Colour = (0.229, 0.224, 0.225)


def square(height: int, width: int, size: int) -> tuple[int, int]:
    """The paper's geometry: size x size whatever the aspect."""
    return size, size


def official(height: int, width: int, size: int) -> tuple[int, int]:
    """The public code's: height 240 keeping the aspect; below 224 wide it becomes 224 wide and 256 high."""
    scaled_width = (2 * 240 * width + height) // (2 * height)  # to the nearest pixel, halves up
    return (240, scaled_width) if scaled_width >= 224 else (256, 224)


# name -> (height, width, size asked for) -> (height, width)
GEOMETRIES: Mapping[str, Row] = {
    "square": Row("SIZE×SIZE pixels", "geometry:square"),
    "official": Row("height 240, aspect kept", "geometry:official"),
}


def stored_size(height: int, width: int, *, geometry: str, size: int) -> tuple[int, int]:
    """(height, width) in pixels that a frame of the given height and width is resized to."""
    return cast(tuple[int, int], GEOMETRIES[geometry].load()(height, width, size))


def crop_corner(height: int, width: int, *, crop: int, centre: bool, rng: np.random.Generator) -> tuple[int, int]:
    """(top, left) of a crop x crop window, in the centre or uniformly at random. One corner serves all frames and both
    streams of a clip. Raises UsageError if the window does not fit."""
    if crop > min(height, width):
        raise UsageError(f"a crop of {crop} does not fit into frames of {height}x{width}; lower the crop")
    if centre:
        return (height - crop) // 2, (width - crop) // 2
    return int(rng.integers(height - crop + 1)), int(rng.integers(width - crop + 1))
