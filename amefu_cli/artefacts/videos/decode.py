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
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple, cast

import av
import numpy as np
from av.packet import Packet
from av.sidedata.sidedata import Type as SideDataType
from av.video.frame import VideoFrame
from av.video.reformatter import Interpolation, VideoReformatter
from av.video.stream import VideoStream
from numpy.typing import NDArray
from PIL import Image, ImageOps, UnidentifiedImageError

from amefu_cli.artefacts.videos import opening
from amefu_cli.artefacts.videos.containers import cut_at
from amefu_cli.artefacts.videos.find import Clip, image_files
from amefu_cli.artefacts.videos.opening import MAX_PIXELS, CorruptVideo, UnreadableFile, VanishedFile, open_file
from amefu_cli.errors import VideoError, shown

SizeOf = Callable[[int, int], tuple[int, int]]  # upright (height, width) of the first frame -> the stored one, pixels

MAX_RATE = 240  # frames/s believed from a header; 1000 is what a millisecond clock pretends
WHITE = {"F": (1.0, 255.0, 65535.0), "I": (255.0, 65535.0, 2.0**31 - 1)}
"""What white may be in pictures of floats and of 32-bit integers."""


@contextmanager
def open_clip(clip: Clip, *, allow_partial: bool) -> Iterator[VideoReader | ImageReader]:
    """Open one clip for one pass over its frames. Raises a child of VideoError."""
    if clip.fault is not None:
        raise opening.AmbiguousClip(f"{shown(clip.path)}: {clip.fault}")
    if clip.kind == "images":
        yield ImageReader(clip.path, allow_partial=allow_partial)
        return
    with open_file(clip.path) as file, closing(opening.open_container(clip.path, file)) as container:
        stream = opening.video_stream(clip.path, container)
        stream.codec_context.thread_count, stream.codec_context.thread_type = 1, "SLICE"
        stream.codec_context.options = {"max_pixels": str(MAX_PIXELS)}
        yield VideoReader(path=clip.path, file=file, container=container, stream=stream, allow_partial=allow_partial)


@dataclass(kw_only=True)
class VideoReader(opening.OpenVideo):
    """The frames of one video file; `partial` once they have ended early on a damaged one (only with allow_partial)."""

    allow_partial: bool
    partial: bool = False

    @property
    def fps(self) -> float | None:
        """Frames a second, None where unknown; final once `frames` is exhausted."""
        rate, claimed, base = self.stream.average_rate, self.stream.frames, self.stream.time_base
        if rate and 0 < rate <= MAX_RATE and claimed and self.decoded <= claimed + opening.slack(claimed):
            return float(rate)
        if self.last > self.first and base:
            return float((self.decoded - 1) / ((self.last - self.first) * base))
        guess = self.stream.guessed_rate
        return float(guess) if guess and guess <= MAX_RATE else None

    def frames(self, size_of: SizeOf) -> Iterator[NDArray[np.uint8]]:
        """Every frame once, (height, width, 3) uint8 RGB, contiguous. Raises a child of VideoError."""
        reformatter = VideoReformatter()  # kept, as its scaler is costly to set up
        turn, size = Turn(), (0, 0)
        for frame in self._frames():
            if self.decoded == 1:
                turn = turn_of(frame, self.stream)
                size = turn.size(*size_of(*turn.size(frame.height, frame.width)))
            yield turn.apply(self._rgb(reformatter, frame, size))

    def _rgb(self, reformatter: VideoReformatter, frame: VideoFrame, size: tuple[int, int]) -> NDArray[np.uint8]:
        height, width = size
        try:
            rgb = reformatter.reformat(frame, width, height, "rgb24", interpolation=Interpolation.BILINEAR, threads=1)
        except av.FFmpegError as error:
            found = f"frame {self.decoded} ({frame.format.name}, {frame.width}×{frame.height}) does not turn into RGB"
            raise CorruptVideo(f"{shown(self.path)}: {found}: {error.strerror}; re-encode it") from error
        return cast(NDArray[np.uint8], rgb.to_ndarray())

    def _frames(self) -> Iterator[VideoFrame]:
        """Decoded frames; at the end, what is missing is an error or, where allowed, sets `partial`."""
        fault: VideoError | None = None
        try:
            for packet in self._packets():
                for frame in self._decode(packet):
                    self.count_frame(frame)
                    yield frame
        except (av.FFmpegError, OSError) as error:
            fault = self._fault(error)
        fault = fault or self.shortfall()
        if fault is None:
            return
        if not (self.allow_partial and self.decoded):
            raise fault
        self.partial = True
        with suppress(av.FFmpegError):
            for frame in self.stream.decode(None):  # what the decoder held back for reordering
                self.count_frame(frame)
                yield frame

    def _packets(self) -> Iterator[Packet[VideoStream]]:
        """Packets of the stream, the empty one at its end last."""
        with suppress(
            IndexError
        ):  # of PyAV, behind it, where streams appeared midway (MPEG-TS): it looks for theirs too
            yield from self.container.demux(self.stream)

    def _decode(self, packet: Packet[VideoStream]) -> list[VideoFrame]:
        if packet.has_sidedata("encryption_info"):
            raise opening.EncryptedVideo(opening.encrypted_message(self.path))
        self.count_packet(packet)
        try:
            return packet.decode()
        except av.error.InvalidDataError:
            if self.decoded:
                raise
            self.undecodable = True
            return []

    def _fault(self, error: OSError | av.FFmpegError) -> VideoError:
        """What an exception while reading or decoding means."""
        name, codec = shown(self.path), shown(self.stream.codec_context.name)
        if not isinstance(error, av.FFmpegError):
            return UnreadableFile(f"{name}: reading failed: {error.strerror}; check the disk")
        if cut_at(self.file):
            return self.truncated()
        if isinstance(error, av.error.PatchWelcomeError | av.error.DecoderNotFoundError):
            return opening.MissingDecoder(f"{name}: FFmpeg cannot decode this {codec}; re-encode it as H.264")
        found = f"decoding fails after {self.decoded} frames: {error.strerror}"
        return CorruptVideo(f"{name}: {found}; fetch it again, or keep what decodes with --allow-partial")


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


class ImageReader:
    """The images of one folder, as a VideoReader. A damaged image is an error; with allow_partial, left out."""

    fps: float | None = None  # a folder does not say

    def __init__(self, folder: Path, *, allow_partial: bool) -> None:
        self.partial = False
        self._folder, self._allow_partial = folder, allow_partial
        self._white: float | None = None  # of pictures whose mode does not say it

    def frames(self, size_of: SizeOf) -> Iterator[NDArray[np.uint8]]:
        """Every image once, (height, width, 3) uint8 RGB, at the size chosen for the first one."""
        size: tuple[int, int] | None = None
        for path in self._files():
            try:
                image = _opened(path)
                image = self._scaled(path, image) if image.mode in WHITE else _rgb(image)
            except CorruptVideo:
                if not self._allow_partial:
                    raise
                self.partial = True
                continue
            size = size or size_of(image.height, image.width)
            yield np.array(image.resize(size[::-1], Image.Resampling.BILINEAR), dtype=np.uint8)
        if size is None:
            raise opening.NoFrames(f"{shown(self._folder)}: no image of it can be read; put images there or remove it")

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
                image = _opened(path)
                if image.mode in WHITE:
                    pixels = np.asarray(image)
                    ends.append((pixels.min(), pixels.max()))
        return float(np.min(ends)), float(np.max(ends))  # which, unlike Python's, pass NaN on

    def _files(self) -> list[Path]:
        try:
            return image_files(self._folder)
        except FileNotFoundError as error:
            raise VanishedFile(f"{shown(self._folder)}: is gone; run the same command again") from error
        except OSError as error:
            raise UnreadableFile(f"{shown(self._folder)}: cannot be listed: {error.strerror}") from error


def _opened(path: Path) -> Image.Image:
    """One image, upright by its EXIF orientation, whatever its mode."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # Pillow's remarks on odd EXIF and on size, which is held below
            with Image.open(path) as image:
                if image.width * image.height > MAX_PIXELS:
                    found = f"{image.width}×{image.height} pixels are more than {MAX_PIXELS:,}"
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
