"""From stored pixels to upright ones: the quarter turns and mirrors that a video asks for."""

from __future__ import annotations

import struct
from typing import Any, NamedTuple

import numpy as np
from av.sidedata.sidedata import Type as SideDataType
from av.video.frame import VideoFrame
from av.video.stream import VideoStream
from numpy.typing import NDArray


class Turn(NamedTuple):
    """How stored pixels become upright: rows and columns exchanged first, then mirrored."""

    exchange: bool = False
    mirror_rows: bool = False
    mirror_columns: bool = False

    def size(self, height: int, width: int) -> tuple[int, int]:
        return (width, height) if self.exchange else (height, width)

    def apply(self, pixels: NDArray[np.uint8]) -> NDArray[np.uint8]:
        if self.exchange:
            pixels = pixels.swapaxes(0, 1)
        rows, columns = -1 if self.mirror_rows else 1, -1 if self.mirror_columns else 1
        return np.ascontiguousarray(pixels[::rows, ::columns])


def turn_of(frame: VideoFrame, stream: VideoStream) -> Turn:
    """From the display matrix (x' = a·x + c·y, y' = b·x + d·y), rounded to quarter turns."""
    side_data: Any = frame.side_data
    matrix = side_data.get(SideDataType.DISPLAYMATRIX)
    if matrix is not None:
        a, b, _, c, d = struct.unpack_from("=5i", bytes(matrix))
    else:
        turns = {"90": (0, 1, -1, 0), "180": (-1, 0, 0, -1), "270": (0, -1, 1, 0)}  # degrees clockwise
        tag = {key.lower(): value for key, value in stream.metadata.items()}.get("rotate", "")
        a, b, c, d = turns.get(tag.strip(), (1, 0, 0, 1))
    exchange = abs(b) > abs(a)
    return Turn(exchange, mirror_rows=(b if exchange else d) < 0, mirror_columns=(c if exchange else a) < 0)
