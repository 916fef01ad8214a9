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

from amefu_cli.artefacts.videos.containers import known_container, names_encryption, promised_size
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
