"""Frames as JPEG bytes, one after the other, and the disparity of each: written as they come, read by their number."""

from __future__ import annotations

import io
import itertools
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from amefu_cli.artefacts.stores.reading import StoredVideo
from amefu_cli.errors import DamagedFile

if TYPE_CHECKING:
    from amefu_cli.artefacts.stores.writing import VideoWriter  # brings Zarr with it, which readers do not need


def append_frames(writer: VideoWriter, frames: Iterable[NDArray[np.uint8]], *, quality: int) -> int:
    """Encode frames uint8 (height, width, 3) as they come and append them; returns how many there were."""
    starts = [0]
    for frame in frames:
        jpeg = encode_jpeg(frame, quality=quality)
        writer.append({"jpeg": np.frombuffer(jpeg, np.uint8)})
        starts.append(starts[-1] + len(jpeg))
    writer.append({"offset": np.array(starts, np.int64)})
    return len(starts) - 1


def encode_jpeg(frame: NDArray[np.uint8], *, quality: int) -> bytes:
    """One frame uint8 (height, width, 3), RGB, as the bytes of a JPEG file."""
    buffer = io.BytesIO()
    Image.fromarray(frame).save(buffer, "JPEG", quality=quality)
    return buffer.getvalue()


def read_frames(stored: StoredVideo, numbers: Sequence[int] | NDArray[np.int64]) -> NDArray[np.uint8]:
    """Frames uint8 (len(numbers), height, width, 3) by ascending frame number (0-based); repeats are allowed. Raises
    DamagedFile where a checksum fails or bytes are not a JPEG, naming the video."""
    offset = stored.array("offset", slice(int(numbers[0]), int(numbers[-1]) + 2))
    if (np.diff(offset) <= 0).any():
        raise DamagedFile(f"{stored.store}: 'offset' of {stored.record.id!r} does not ascend; `amefu verify` marks it")
    decoded: dict[int, NDArray[np.uint8]] = {}
    for first, last in _runs(numbers):
        begins = offset[first - int(numbers[0]) : last - int(numbers[0]) + 1]
        jpeg = stored.array("jpeg", slice(int(begins[0]), int(begins[-1])))
        for number, (begin, end) in enumerate(itertools.pairwise(begins - begins[0]), first):
            decoded[number] = decode_jpeg(jpeg[begin:end], stored, number)
    return np.stack([decoded[int(number)] for number in numbers])


def decode_jpeg(jpeg: NDArray[np.uint8], stored: StoredVideo, number: int) -> NDArray[np.uint8]:
    """One frame uint8 (height, width, 3), RGB."""
    try:
        with Image.open(io.BytesIO(jpeg.data), formats=("JPEG",)) as image:
            return np.asarray(image.convert("RGB"))
    except (OSError, ValueError) as error:
        found = f"{stored.store}: frame {number} of {stored.record.id!r} is not a JPEG ({error})"
        fix = "find all such videos with `amefu verify` and run `amefu frames` again"
        raise DamagedFile(f"{found}; {fix}") from error


def read_disparity(stored: StoredVideo, numbers: Sequence[int] | NDArray[np.int64]) -> NDArray[np.uint8]:
    """Disparity in 8 bits (len(numbers), height, width) by ascending frame number (0-based); repeats are allowed."""
    there = np.concatenate([stored.array("disparity", slice(*run)) for run in _runs(numbers)])
    _, places = np.unique(numbers, return_inverse=True)
    return there[places]


def _runs(numbers: Sequence[int] | NDArray[np.int64]) -> list[tuple[int, int]]:
    """The first and last + 1 of each run of consecutive numbers: what lies between two runs is not read.

    >>> _runs([3, 4, 4, 9])
    [(3, 5), (9, 10)]
    """
    distinct = np.unique(numbers)
    runs = np.split(distinct, np.flatnonzero(np.diff(distinct) > 1) + 1)
    return [(int(run[0]), int(run[-1]) + 1) for run in runs]
