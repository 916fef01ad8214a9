"""The size that a decoded frame is stored in. Apart from geometry.py, so that decoding loads no torch."""

from __future__ import annotations

from collections.abc import Callable


def square(height: int, width: int, size: int) -> tuple[int, int]:
    """The paper's geometry: size x size whatever the aspect."""
    return size, size


def official(height: int, width: int, size: int) -> tuple[int, int]:
    """The public code's: height 240 keeping the aspect; below 224 wide it becomes 224 wide and 256 high."""
    scaled_width = (2 * 240 * width + height) // (2 * height)  # to the nearest pixel, halves up
    return (240, scaled_width) if scaled_width >= 224 else (256, 224)


GEOMETRIES: dict[str, Callable[[int, int, int], tuple[int, int]]] = {"square": square, "official": official}


def stored_size(height: int, width: int, *, geometry: str, size: int) -> tuple[int, int]:
    """(height, width) in pixels that a frame of the given height and width is resized to."""
    return GEOMETRIES[geometry](height, width, size)
