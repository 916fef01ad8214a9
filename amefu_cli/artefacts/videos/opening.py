"""Opening one video file: the file, its container, the stream to read; and what can be wrong with one, by class.

The class name is what `failures.jsonl` records and a user reads. Every message states the path, what was found, and
the fix.
"""

from __future__ import annotations

import os
import stat
from pathlib import Path
from typing import BinaryIO

import av
import av.logging
from av.container import InputContainer
from av.stream import Disposition
from av.video.stream import VideoStream

from amefu_cli.errors import VideoError, shown


class EmptyFile(VideoError):
    """The file holds zero bytes."""


class NotAVideo(VideoError):
    """The file is of no kind that FFmpeg knows: text, an archive, an image renamed."""


class NoVideoStream(VideoError):
    """A media file, but with sound, subtitles or cover art only."""


class NoFrames(VideoError):
    """A video stream that ends without a single frame."""


class TruncatedVideo(VideoError):
    """The file ends before what its header promises, or far fewer frames decode than the header says."""


class CorruptVideo(VideoError):
    """The bytes cannot be decoded: damage in the container, in the stream or in an image."""


class MissingDecoder(VideoError):
    """FFmpeg knows the stream's kind at most by name: this build has no decoder for it."""


class EncryptedVideo(VideoError):
    """The stream is encrypted (Common Encryption, WebM encryption, protected iTunes video)."""


class UnreadableFile(VideoError):
    """The operating system refuses to open or read the file."""


class AmbiguousClip(VideoError):
    """It cannot be told what the clip is: pictures of several series."""


class VanishedFile(VideoError):
    """The file was there when the folder was read and is gone now."""


MAX_PIXELS = 1 << 26  # of one frame: twice 8K; more is a damaged header or a bomb


av.logging.set_level(None)  # FFmpeg's own remarks stay off the terminal


def open_file(path: Path) -> BinaryIO:
    """The file itself, so that FFmpeg never reads a name: not as a URL, a pattern or another's bytes."""
    name = shown(path)
    try:
        file = open(os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC), "rb", buffering=0)  # noqa: SIM115
    except FileNotFoundError as error:
        raise VanishedFile(f"{name}: is gone; run the same command again") from error
    except OSError as error:
        raise UnreadableFile(f"{name}: cannot be opened: {error.strerror}; allow reading it") from error
    status = os.fstat(file.fileno())
    fault: VideoError | None = None
    if not stat.S_ISREG(status.st_mode):
        fault = NotAVideo(f"{name}: is not a regular file; move it out of the videos folder")
    elif status.st_size == 0:
        fault = EmptyFile(f"{name}: holds 0 bytes; fetch it again or delete it")
    if fault is not None:
        file.close()
        raise fault
    return file


def open_container(path: Path, file: BinaryIO) -> InputContainer:
    name = shown(path)
    try:
        return av.open(
            file,
            mode="r",
            metadata_errors="replace",
            # No protocol: a playlist named .mp4 opens nothing else, here or on the network.
            options={"protocol_whitelist": "none", "max_pixels": str(MAX_PIXELS)},
        )
    except av.FFmpegError as error:
        if names_encryption(file):
            raise EncryptedVideo(encrypted_message(path)) from error
        size, promised = os.fstat(file.fileno()).st_size, promised_size(file)
        if promised is not None and promised > size:
            raise TruncatedVideo(
                f"{name}: the file ends at byte {size:,} of {promised:,}, before its index; fetch it again"
            ) from error
        if known_container(file):
            raise CorruptVideo(f"{name}: its header or index is damaged or missing; fetch it again") from error
        raise NotAVideo(f"{name}: FFmpeg knows no video of this kind; move it out of the videos folder") from error
    except OSError as error:
        raise UnreadableFile(f"{name}: reading failed: {error.strerror}; check the disk") from error


def video_stream(path: Path, container: InputContainer) -> VideoStream:
    name = shown(path)
    streams = [s for s in container.streams.video if not s.disposition & Disposition.attached_pic]
    if not streams:
        kinds = sorted({"cover art" if s.type == "video" else s.type for s in container.streams})
        held = f"only {', '.join(kinds)}" if kinds else "no stream at all"
        raise NoVideoStream(f"{name}: holds {held}, no video; move it out of the videos folder")
    best = container.streams.best("video")
    stream = next((s for s in streams if s is best), streams[0])
    if "enc_key_id" in stream.metadata:  # Matroska; MP4 says so on every packet
        raise EncryptedVideo(encrypted_message(path))
    if stream.codec_context is None:
        raise MissingDecoder(f"{name}: FFmpeg has no decoder for its video stream; re-encode it as H.264")
    return stream


def encrypted_message(path: Path) -> str:
    return f"{shown(path)}: its video is encrypted; decrypt it, or move it out of the videos folder"


_MAX_BOXES = 100_000  # an hour of one-second fragments has 7,200
_MAX_SCAN = 1 << 20  # bytes of header searched for an encrypted sample entry


def known_container(file: BinaryIO) -> bool:
    """Whether the first bytes are those of a common video container, whatever else is wrong with the file."""
    head = _at(file, 0, 12)
    return (
        head[4:8] in (b"ftyp", b"moov", b"mdat", b"moof", b"styp", b"wide", b"free", b"skip")
        or (head[:4] == b"RIFF" and head[8:12] == b"AVI ")
        or head.startswith((b"\x1aE\xdf\xa3", b"FLV\x01", b"GIF8", b"OggS", b"\x00\x00\x01\xba", b"0&\xb2u"))
    )


def promised_size(file: BinaryIO) -> int | None:
    """How many bytes the container says that it has; None for kinds that do not say (streams, recordings).

    MP4 and QuickTime: the end of the last box. AVI: the RIFF header. Matroska and WebM: the segment header.
    """
    head = _at(file, 0, 12)
    if head.startswith(b"\x1aE\xdf\xa3"):
        return _matroska_size(file)
    if head[:4] == b"RIFF" and head[8:12] == b"AVI ":
        return int.from_bytes(head[4:8], "little") + 8
    return _boxes_end(file) if known_container(file) and head[4:8].isalpha() else None


def names_encryption(file: BinaryIO) -> bool:
    """Whether an MP4 header describes its video as encrypted (sample entry `encv`, ISO/IEC 23001-7)."""
    return known_container(file) and b"encv" in _at(file, 0, _MAX_SCAN)


def _boxes_end(file: BinaryIO) -> int | None:
    size, position = os.fstat(file.fileno()).st_size, 0
    for _ in range(_MAX_BOXES):
        header = _at(file, position, 16)
        if len(header) < 8 or not header[4:8].isascii() or not header[4:8].isalnum():
            return position  # some writers leave a few bytes of padding behind the last box
        length = int.from_bytes(header[:4], "big")
        if length == 1:
            length = int.from_bytes(header[8:16], "big")
        if length == 0:  # "to the end of the file": no promise
            return None
        if length < 8:
            return position
        position += length
        if position >= size:
            return position
    return None


def _matroska_size(file: BinaryIO) -> int | None:
    header = _at(file, 0, 128)
    length, position = _vint(header, 4)
    if length is None:
        return None
    segment = position + length
    header = _at(file, segment, 12)
    if header[:4] != b"\x18S\x80g":
        return None
    length, position = _vint(header, 4)
    return None if length is None else segment + position + length


def _vint(data: bytes, start: int) -> tuple[int | None, int]:
    """An EBML size at `start` and where it ends (RFC 8794 §4); None where it means "unknown"."""
    if start >= len(data) or data[start] == 0:
        return None, start
    width = 9 - data[start].bit_length()
    value = int.from_bytes(data[start : start + width], "big") & ((1 << 7 * width) - 1)
    unknown = len(data) < start + width or value == (1 << 7 * width) - 1
    return (None if unknown else value), start + width


def _at(file: BinaryIO, position: int, count: int) -> bytes:
    """`count` bytes at `position` (fewer at the end of the file), the file's own position untouched."""
    return os.pread(file.fileno(), count, position)
