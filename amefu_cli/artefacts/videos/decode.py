"""One source video, as upright RGB frames in presentation order, in constant memory.

What is decided here:

- Which stream: the one FFmpeg calls best (default flag, then bit rate, then order), cover art left out.
- Every decoded frame counts as one, at whatever rate, in the decoder's order (AVI has no timestamps of its own).
- Turns and mirrors are applied. The sample aspect ratio is not, as frames get a fixed shape. Alpha is dropped.
- All frames get the size of the first one, also after a change of resolution.
- Packets that do not decode are passed over before the first frame and an error after it. What FFmpeg conceals is not.
- What its header promises and does not come is an error (opening.py).
- The frame rate is the header's where its count is believable too, else measured from the timestamps, else
  guessed by FFmpeg, else None; a rate above 240 is never taken from a header.
- Pictures of one folder are one series of names, upright by EXIF; modes without a white of their own are scaled.
"""

from __future__ import annotations

import struct
import warnings
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager, suppress
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple, Protocol, cast

import av
import numpy as np
from av.container import InputContainer
from av.packet import Packet
from av.sidedata.sidedata import Type as SideDataType
from av.video.frame import VideoFrame
from av.video.reformatter import Interpolation, VideoReformatter
from av.video.stream import VideoStream
from numpy.typing import NDArray
from PIL import Image, ImageOps, UnidentifiedImageError

from amefu_cli.artefacts.videos.find import Clip, image_files
from amefu_cli.artefacts.videos.opening import (
    MAX_PIXELS,
    AmbiguousClip,
    CorruptVideo,
    EncryptedVideo,
    MissingDecoder,
    NoFrames,
    Tally,
    UnreadableFile,
    VanishedFile,
    encrypted_message,
    is_cut,
    open_container,
    open_file,
    shortfall,
    slack,
    truncated,
    video_stream,
)
from amefu_cli.errors import VideoError, shown

SizeOf = Callable[[int, int], tuple[int, int]]
"""Upright (height, width) of the first frame -> stored (height, width), pixels."""

MAX_RATE = 240  # frames/s believed from a header; 1000 is what a millisecond clock pretends


class ClipReader(Protocol):
    """What `open_clip` gives, for a file as for a folder of images."""

    partial: bool
    """Set once `frames` has ended early on a damaged clip (only with allow_partial)."""

    @property
    def fps(self) -> float | None:
        """Frames a second, None where unknown; final once `frames` is exhausted."""

    def frames(self, size_of: SizeOf) -> Iterator[NDArray[np.uint8]]:
        """Every frame once, (height, width, 3) uint8 RGB, contiguous. Raises a child of VideoError."""


@contextmanager
def open_clip(clip: Clip, *, allow_partial: bool, threads: int = 1) -> Iterator[ClipReader]:
    """Open one clip for one pass over its frames. Raises a child of VideoError."""
    if clip.fault is not None:
        raise AmbiguousClip(f"{shown(clip.path)}: {clip.fault}")
    if clip.kind == "images":
        yield ImageReader(clip.path, max_pixels=MAX_PIXELS, allow_partial=allow_partial)
        return
    with open_file(clip.path) as file, closing(open_container(clip.path, file)) as container:
        stream = video_stream(clip.path, container)
        stream.codec_context.thread_count = threads
        stream.codec_context.thread_type = "SLICE" if threads == 1 else "AUTO"
        stream.codec_context.options = {"max_pixels": str(MAX_PIXELS)}
        yield VideoReader(clip.path, file, container, stream, allow_partial=allow_partial)


class VideoReader:
    """The frames of one video file; see ClipReader."""

    def __init__(
        self,
        path: Path,
        file: BinaryIO,
        container: InputContainer,
        stream: VideoStream,
        *,
        allow_partial: bool,
    ) -> None:
        self.partial = False
        self._path, self._file, self._container, self._stream = path, file, container, stream
        self._allow_partial = allow_partial
        self._tally = Tally()

    @property
    def fps(self) -> float | None:
        rate, claimed, tally = self._stream.average_rate, self._stream.frames, self._tally
        if rate and 0 < rate <= MAX_RATE and claimed and tally.decoded <= claimed + slack(claimed):
            return float(rate)
        if tally.last > tally.first and self._stream.time_base:
            return float((tally.decoded - 1) / ((tally.last - tally.first) * self._stream.time_base))
        guess = self._stream.guessed_rate
        return float(guess) if guess and guess <= MAX_RATE else None

    def frames(self, size_of: SizeOf) -> Iterator[NDArray[np.uint8]]:
        reformatter = VideoReformatter()  # kept, as its scaler is costly to set up
        turn, size = Turn(), (0, 0)
        for frame in self._frames():
            if self._tally.decoded == 1:
                turn = turn_of(frame, self._stream)
                size = turn.size(*size_of(*turn.size(frame.height, frame.width)))
            yield turn.apply(self._rgb(reformatter, frame, size))

    def _rgb(self, reformatter: VideoReformatter, frame: VideoFrame, size: tuple[int, int]) -> NDArray[np.uint8]:
        try:
            scaled = reformatter.reformat(
                frame,
                width=size[1],
                height=size[0],
                format="rgb24",
                interpolation=Interpolation.BILINEAR,
                threads=1,
            )
        except av.FFmpegError as error:
            kind = f"{frame.format.name}, {frame.width}×{frame.height}"
            raise CorruptVideo(
                f"{shown(self._path)}: frame {self._tally.decoded} ({kind}) does not turn into RGB: "
                f"{error.strerror}; re-encode it"
            ) from error
        return cast(NDArray[np.uint8], scaled.to_ndarray())

    def _frames(self) -> Iterator[VideoFrame]:
        """Decoded frames; at the end, what is missing is an error or, where allowed, sets `partial`."""
        fault: VideoError | None = None
        try:
            for packet in self._container.demux(self._stream):
                for frame in self._decode(packet):
                    self._tally.frame(frame)
                    yield frame
        except (av.FFmpegError, OSError) as error:
            fault = self._fault(error)
        fault = fault or shortfall(self._path, self._file, self._container, self._stream, self._tally)
        if fault is None:
            return
        if not (self._allow_partial and self._tally.decoded):
            raise fault
        self.partial = True
        with suppress(av.FFmpegError):
            for frame in self._stream.decode(None):  # what the decoder held back for reordering
                self._tally.frame(frame)
                yield frame

    def _decode(self, packet: Packet[VideoStream]) -> list[VideoFrame]:
        if packet.has_sidedata("encryption_info"):
            raise EncryptedVideo(encrypted_message(self._path))
        self._tally.packet(packet)
        try:
            return packet.decode()
        except av.error.InvalidDataError:
            if self._tally.decoded:
                raise
            self._tally.undecodable = True
            return []

    def _fault(self, error: OSError | av.FFmpegError) -> VideoError:
        """What an exception while reading or decoding means."""
        name = shown(self._path)
        if not isinstance(error, av.FFmpegError):
            return UnreadableFile(f"{name}: reading failed: {error.strerror}; check the disk")
        if is_cut(self._file):
            return truncated(self._path, self._file, self._stream, self._tally)
        if isinstance(error, av.error.PatchWelcomeError | av.error.DecoderNotFoundError):
            return MissingDecoder(
                f"{name}: FFmpeg cannot decode this {shown(self._stream.codec_context.name)}; re-encode it as H.264"
            )
        return CorruptVideo(
            f"{name}: decoding fails after {self._tally.decoded} frames: {error.strerror}; fetch it again, or keep "
            "what decodes with --allow-partial"
        )


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
