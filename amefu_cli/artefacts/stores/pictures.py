"""frames.zarr: the frames of every video as JPEG bytes, one after the other, and where each begins."""

from __future__ import annotations

import io
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from amefu_cli.artefacts.stores.reading import StoredVideo
from amefu_cli.artefacts.stores.store import VideoStore
from amefu_cli.artefacts.stores.writing import VideoWriter
from amefu_cli.errors import DamagedFile


def frame_writer(store: VideoStore, video: str, folder: Path | None = None) -> VideoWriter:
    """A writer for one video: `jpeg` uint8 (bytes of all frames) and `offset` int64 (frames + 1)."""
    return VideoWriter(store, video, {"jpeg": 0, "offset": 0}, folder=folder)


def append_frames(writer: VideoWriter, frames: Iterable[NDArray[np.uint8]], *, quality: int) -> int:
    """Encode frames uint8 (height, width, 3) as they come and append them; returns how many there were."""
    offset = 0
    starts = [0]
    for frame in frames:
        jpeg = encode_jpeg(frame, quality=quality)
        writer.append("jpeg", np.frombuffer(jpeg, np.uint8))
        offset += len(jpeg)
        starts.append(offset)
    writer.append("offset", np.array(starts, np.int64))
    return len(starts) - 1


def encode_jpeg(frame: NDArray[np.uint8], *, quality: int) -> bytes:
    """One frame uint8 (height, width, 3), RGB, as the bytes of a JPEG file."""
    buffer = io.BytesIO()
    Image.fromarray(frame).save(buffer, "JPEG", quality=quality)
    return buffer.getvalue()


def read_frames(stored: StoredVideo, numbers: Sequence[int] | NDArray[np.int64]) -> NDArray[np.uint8]:
    """Frames uint8 (len(numbers), height, width, 3) by ascending frame number (0-based); repeats are allowed.

    Raises DamagedFile where a checksum fails or bytes are not a JPEG, naming the video.
    """
    first, last = int(numbers[0]), int(numbers[-1])
    offset = stored.array("offset", slice(first, last + 2))
    if (np.diff(offset) <= 0).any():
        raise DamagedFile(f"{stored.store}: 'offset' of {stored.record.id!r} does not ascend; `amefu verify` marks it")
    jpeg = stored.array("jpeg", slice(int(offset[0]), int(offset[-1])))
    decoded: dict[int, NDArray[np.uint8]] = {}
    for number in map(int, numbers):
        if number not in decoded:
            begin, end = offset[number - first : number - first + 2] - offset[0]
            decoded[number] = decode_jpeg(jpeg[begin:end], stored, number)
    return np.stack([decoded[int(number)] for number in numbers])


def decode_jpeg(jpeg: NDArray[np.uint8], stored: StoredVideo, number: int) -> NDArray[np.uint8]:
    """One frame uint8 (height, width, 3), RGB."""
    try:
        with Image.open(io.BytesIO(jpeg.data), formats=("JPEG",)) as image:
            return np.asarray(image.convert("RGB"))
    except (OSError, ValueError) as error:
        raise DamagedFile(
            f"{stored.store}: frame {number} of {stored.record.id!r} is not a JPEG ({error}); "
            "find all such videos with `amefu verify` and run `amefu frames` again"
        ) from error


def frame_size(stored: StoredVideo) -> tuple[int, int]:
    """(height, width) of a video's stored frames, pixels, from the header of its first JPEG."""
    begin, end = stored.array("offset", slice(0, 2))
    data: Any = stored.array("jpeg", slice(int(begin), int(end)))
    with Image.open(io.BytesIO(data.data), formats=("JPEG",)) as image:
        return image.height, image.width


def depth_writer(store: VideoStore, video: str) -> VideoWriter:
    """A writer for one video: `disparity` uint8 (frames, height, width), `low` and `high` float32 (frames,).

    disparity = low + value / 255 * (high - low); larger = nearer.
    """
    axes = {"disparity": 0, "low": 0, "high": 0}
    return VideoWriter(store, video, axes, compressed=frozenset({"disparity"}))


def read_disparity(stored: StoredVideo, numbers: NDArray[np.int64]) -> NDArray[np.uint8]:
    """Disparity in 8 bits (len(numbers), height, width) by ascending frame number (0-based); repeats allowed."""
    first, last = int(numbers[0]), int(numbers[-1])
    block: NDArray[np.uint8] = stored.array("disparity", slice(first, last + 1))
    return block[np.asarray(numbers) - first]
