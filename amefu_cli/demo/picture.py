"""A picture of a few clips beside their depth, as PNG."""

from __future__ import annotations

import io
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from amefu_cli.artefacts.files.atomic import write_atomic
from amefu_cli.artefacts.stores.header import DepthHeader, FramesHeader
from amefu_cli.artefacts.stores.pictures import read_disparity, read_frames
from amefu_cli.artefacts.stores.store import open_store
from amefu_cli.demo.actions import WORLD_SPLIT
from amefu_cli.method.depth.encoding import encode_disparity

Row = tuple[str, NDArray[np.uint8], NDArray[np.uint8]]
"""Title, RGB frames uint8 (frames, height, width, 3), stored disparity uint8 (frames, any height, any width)."""

SHOWN = 4  # frames of every clip
MARGIN = 6
TITLE_HEIGHT = 18


def picture_of_stores(frames_path: Path, depth_path: Path, path: Path) -> None:
    """Draw the first clip of each novel class beside its stored disparity, as a PNG."""
    frames = open_store(frames_path, FramesHeader, fix="amefu frames VIDEOS")
    depth = open_store(depth_path, DepthHeader, fix="amefu depth")
    rows: list[Row] = []
    for record in depth.records().values():
        if record.class_name in WORLD_SPLIT["test"] and record.class_name not in {row[0] for row in rows}:
            numbers = np.arange(record.frames)
            images = read_frames(frames.read(record.id), numbers)
            rows.append((record.class_name, images, read_disparity(depth.read(record.id), numbers)))
    write_picture(path, rows)


def picture_of_clips(clips: Sequence[Row], *, tile: int) -> Image.Image:
    """A row for every clip: its title, four of its frames and their depth, each `tile` pixels high."""
    rows = [_row_of(*clip, tile) for clip in clips]
    step, width = rows[0].height + MARGIN, max(row.width for row in rows) + 2 * MARGIN
    picture = Image.new("RGB", (width, len(rows) * step + MARGIN), "white")
    for index, row in enumerate(rows):
        picture.paste(row, (MARGIN, MARGIN + index * step))
    return picture


def write_picture(path: Path, clips: Sequence[Row], *, tile: int = 112) -> None:
    """Write `picture_of_clips` as a PNG, wholly or not at all."""
    content = io.BytesIO()
    picture_of_clips(clips, tile=tile).save(content, format="png", optimize=True)
    write_atomic(path, content.getvalue())


def _row_of(title: str, frames: NDArray[np.uint8], disparity: NDArray[np.uint8], tile: int) -> Image.Image:
    shown = np.linspace(0, len(frames) - 1, SHOWN).round().astype(int)
    depth = torch.from_numpy(disparity[shown])  # as the depth stream sees it: black is far, pale yellow near
    colours = encode_disparity(depth, encoding="magma").numpy()
    wide = round(tile * frames.shape[2] / frames.shape[1])
    row = Image.new("RGB", (2 * SHOWN * (wide + 1) + MARGIN, TITLE_HEIGHT + tile), "white")
    ImageDraw.Draw(row).text((0, 2), title, fill="black", font_size=12)
    for place, index in enumerate(shown):
        for part, pixels in enumerate((frames[index], colours[place])):
            left = place * (wide + 1) + part * (SHOWN * (wide + 1) + MARGIN)
            row.paste(Image.fromarray(pixels).resize((wide, tile)), (left, TITLE_HEIGHT))
    return row
