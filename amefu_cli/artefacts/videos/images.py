"""One clip kept as a folder of images, as upright RGB frames in natural order, in constant memory."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps, UnidentifiedImageError

from amefu_cli.artefacts.videos.find import image_files
from amefu_cli.artefacts.videos.opening import CorruptVideo, NoFrames, UnreadableFile, VanishedFile
from amefu_cli.errors import shown

WHITE = {"F": (1.0, 255.0, 65535.0), "I": (255.0, 65535.0, 2.0**31 - 1)}
"""What white may be in pictures of floats and of 32-bit integers."""


class ImageReader:
    """The images of one folder; a ClipReader. A damaged image is an error; with allow_partial, left out."""

    fps: float | None = None  # a folder does not say

    def __init__(self, folder: Path, *, max_pixels: int, allow_partial: bool) -> None:
        self.partial = False
        self._folder, self._max_pixels, self._allow_partial = folder, max_pixels, allow_partial
        self._white: float | None = None  # of pictures whose mode does not say it

    def frames(self, size_of: Callable[[int, int], tuple[int, int]]) -> Iterator[NDArray[np.uint8]]:
        """Every image once, (height, width, 3) uint8 RGB, at the size chosen for the first one."""
        size: tuple[int, int] | None = None
        for path in self._files():
            try:
                image = _opened(path, self._max_pixels)
                image = self._scaled(path, image) if image.mode in WHITE else _rgb(image)
            except CorruptVideo:
                if not self._allow_partial:
                    raise
                self.partial = True
                continue
            size = size or size_of(image.height, image.width)
            resized = image.resize((size[1], size[0]), Image.Resampling.BILINEAR)
            yield np.array(resized, dtype=np.uint8)
        if size is None:
            raise NoFrames(f"{shown(self._folder)}: no image of it can be read; put images there or remove it")

    def _scaled(self, path: Path, image: Image.Image) -> Image.Image:
        """A picture of a mode that may hold any numbers, as 8 bits: by one range for all pictures of the clip, the
        least of those in use that holds them."""
        if self._white is None:
            low, high = self._range()
            white = next((white for white in WHITE[image.mode] if high <= white + 0.5), None)
            if white is None or not low >= -0.5:
                found = f"pictures of mode {image.mode} that run from {low:g} to {high:g}"
                raise CorruptVideo(f"{shown(path)}: {found}: what is white is not known; convert them to 8 bits")
            self._white = white
        levels = np.asarray(image, np.float64) * (255 / self._white)
        return Image.fromarray(np.clip(np.rint(levels), 0, 255).astype(np.uint8)).convert("RGB")

    def _range(self) -> tuple[float, float]:
        """The lowest and the highest number in all pictures of such a mode."""
        ends = []
        for path in self._files():
            with suppress(CorruptVideo):
                image = _opened(path, self._max_pixels)
                if image.mode in WHITE:
                    pixels = np.asarray(image)
                    ends.append((float(pixels.min()), float(pixels.max())))
        return float(np.min(ends)), float(np.max(ends))  # which, unlike Python's, pass NaN on

    def _files(self) -> list[Path]:
        try:
            return image_files(self._folder)
        except FileNotFoundError as error:
            raise VanishedFile(f"{shown(self._folder)}: is gone; run the same command again") from error
        except OSError as error:
            raise UnreadableFile(f"{shown(self._folder)}: cannot be listed: {error.strerror}") from error


def _opened(path: Path, max_pixels: int) -> Image.Image:
    """One image, upright by its EXIF orientation, whatever its mode."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # Pillow's remarks on odd EXIF and on size, which is held below
            with Image.open(path) as image:
                if image.width * image.height > max_pixels:
                    found = f"{image.width}×{image.height} pixels are more than {max_pixels:,}"
                    raise CorruptVideo(f"{shown(path)}: {found}; make it smaller")
                image.load()
                return ImageOps.exif_transpose(image)
    except FileNotFoundError as error:
        raise VanishedFile(f"{shown(path)}: is gone; run the same command again") from error
    except UnidentifiedImageError as error:
        raise CorruptVideo(f"{shown(path)}: is not an image that Pillow can read; replace or remove it") from error
    except (OSError, ValueError, SyntaxError, EOFError, Image.DecompressionBombError) as error:
        if isinstance(error, OSError) and error.errno is not None:
            raise UnreadableFile(f"{shown(path)}: cannot be read: {error.strerror}; allow reading it") from error
        raise CorruptVideo(f"{shown(path)}: damaged image: {shown(str(error))}; replace or remove it") from error


def _rgb(image: Image.Image) -> Image.Image:
    if image.mode.startswith("I;16"):  # 16-bit gray: Pillow would clip it, not scale it
        return Image.fromarray((np.asarray(image) >> 8).astype(np.uint8)).convert("RGB")
    if image.has_transparency_data:
        image = image.convert("RGBA")  # palettes with alpha need this step
    return image.convert("RGB")
