"""One clip kept as a folder of images, as upright RGB frames in natural order, in constant memory."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps, UnidentifiedImageError

from amefu_cli.artefacts.videos.find import image_files
from amefu_cli.artefacts.videos.opening import CorruptVideo, NoFrames, UnreadableFile, VanishedFile
from amefu_cli.errors import shown


class ImageReader:
    """The images of one folder; a ClipReader. A damaged image is an error; with allow_partial, left out."""

    fps: float | None = None  # a folder does not say

    def __init__(self, folder: Path, *, max_pixels: int, allow_partial: bool) -> None:
        self.partial = False
        self._folder, self._max_pixels, self._allow_partial = folder, max_pixels, allow_partial

    def frames(self, size_of: Callable[[int, int], tuple[int, int]]) -> Iterator[NDArray[np.uint8]]:
        """Every image once, (height, width, 3) uint8 RGB, at the size chosen for the first one."""
        size: tuple[int, int] | None = None
        for path in self._files():
            try:
                image = _read_rgb(path, self._max_pixels)
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

    def _files(self) -> list[Path]:
        try:
            return image_files(self._folder)
        except FileNotFoundError as error:
            raise VanishedFile(f"{shown(self._folder)}: is gone; run the same command again") from error
        except OSError as error:
            raise UnreadableFile(f"{shown(self._folder)}: cannot be listed: {error.strerror}") from error


def _read_rgb(path: Path, max_pixels: int) -> Image.Image:
    """One image, upright by its EXIF orientation, whatever its mode."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # Pillow's remarks on odd EXIF and on size, which is held below
            with Image.open(path) as image:
                if image.width * image.height > max_pixels:
                    found = f"{image.width}×{image.height} pixels are more than {max_pixels:,}"
                    raise CorruptVideo(f"{shown(path)}: {found}; make it smaller")
                image.load()
                return _rgb(ImageOps.exif_transpose(image))
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
