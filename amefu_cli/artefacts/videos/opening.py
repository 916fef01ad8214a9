"""Opening one video file: the file, its container, the stream to read; and what can be wrong with one, by class.

The class name is what `failures.jsonl` records and a user reads. Every message states the path, what was found, and
the fix.

What the header promises is held against the frames that came:

- A frame count is believed only as a promise of at least so many frames (fragmented files say 0 or 4 for 30), less what
  an edit list hides, the empty chunks of an AVI, and leading frames of an open group of pictures, whose reference lies
  before the file. One tenth of it, and always 2, may be missing: AVI headers are often one or two off.
- Matroska and FLV say how long the video lasts: frames may end a tenth of it, and always 2 frames, earlier.
- Where the file ends before its container says, or the chain of its pieces breaks (containers.py), it is damaged,
  whatever decodes; an AVI, where chains are sloppy, only if its count of frames is off too.
"""

from __future__ import annotations

import os
import re
import stat
from dataclasses import dataclass, field
from pathlib import Path
from typing import BinaryIO

import av
import av.logging
from av.container import InputContainer
from av.packet import Packet
from av.stream import Disposition
from av.video.frame import VideoFrame
from av.video.stream import VideoStream

from amefu_cli.artefacts.videos.containers import (
    broken_at,
    empty_chunks,
    known_container,
    names_encryption,
    promised_size,
)
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


DURATION = re.compile(r"(\d+):(\d+):(\d+\.?\d*)$")  # of one Matroska track: hours, minutes, seconds


@dataclass
class Tally:
    """What came so far. Times are of the earliest and the latest frame, in the stream's time base; `leading` counts
    packets behind that of the first frame whose time is before it; `undecodable` are packets before the first frame."""

    decoded: int = 0
    first: int = 0
    last: int = -1
    leading: int = 0
    undecodable: bool = False
    packet_cut: bool = False
    early: list[int] = field(default_factory=list)

    def packet(self, packet: Packet[VideoStream]) -> None:
        self.packet_cut |= packet.is_corrupt
        if packet.pts is not None and self.last < self.first:
            self.early.append(packet.pts)
        elif packet.pts is not None:
            self.leading += packet.pts < self.first

    def frame(self, frame: VideoFrame) -> None:
        self.decoded += 1
        if frame.pts is None:
            return
        if self.last < self.first:
            self.first = self.last = frame.pts
            behind = self.early[self.early.index(frame.pts) :] if frame.pts in self.early else []
            self.leading = sum(time < frame.pts for time in behind)
        self.first, self.last = min(self.first, frame.pts), max(self.last, frame.pts)


def shortfall(
    path: Path, file: BinaryIO, container: InputContainer, stream: VideoStream, tally: Tally
) -> VideoError | None:
    """What is wrong with a video that ended without an exception."""
    name, codec = shown(path), shown(stream.codec_context.name)
    if tally.decoded == 0 and tally.undecodable:
        return CorruptVideo(f"{name}: no frame of its {codec} stream decodes: invalid data throughout; fetch it again")
    if tally.decoded == 0:
        return NoFrames(f"{name}: its {codec} stream holds no frame; fetch it again")
    claimed = _claimed(file, container, stream, tally) if tally.decoded < stream.frames else stream.frames
    missing = claimed - tally.decoded
    cut = is_cut(file) and (missing != 0 or tally.packet_cut)
    if cut or missing > slack(claimed):
        return truncated(path, file, stream, tally)
    broken = broken_at(file) if missing or container.format.name != "avi" else None
    if broken is not None and broken < os.fstat(file.fileno()).st_size:
        return CorruptVideo(
            f"{name}: {tally.decoded} frames decode, but the file is damaged at byte {broken:,}; fetch it again, or "
            "keep what decodes with --allow-partial"
        )
    early = _ends_early(container, stream, tally)
    return truncated(path, file, stream, tally, early) if broken is not None or early else None


def slack(claimed: int) -> int:
    """By how many frames a sound header may be off."""
    return max(2, claimed // 10)


def is_cut(file: BinaryIO) -> bool:
    promised = promised_size(file)
    return promised is not None and promised > os.fstat(file.fileno()).st_size


def truncated(path: Path, file: BinaryIO, stream: VideoStream, tally: Tally, early: str = "") -> TruncatedVideo:
    size, promised = os.fstat(file.fileno()).st_size, promised_size(file)
    found = f"{tally.decoded} frames decode" + (
        f" of the {stream.frames} that its header promises" if stream.frames else early
    )
    if promised is not None and promised > size:
        found += f", and the file ends at byte {size:,} of {promised:,}"
    return TruncatedVideo(f"{shown(path)}: {found}; fetch it again, or keep what decodes with --allow-partial")


def _claimed(file: BinaryIO, container: InputContainer, stream: VideoStream, tally: Tally) -> int:
    claimed = stream.frames
    if container.format.name == "avi":
        return claimed - empty_chunks(file, stream.index)
    if container.format.name.startswith("mov"):
        shows = sum(not entry.is_discard for entry in stream.index_entries)
        claimed = min(claimed, shows) if shows else claimed
    return claimed - tally.leading


def _ends_early(container: InputContainer, stream: VideoStream, tally: Tally) -> str:
    """Where the frames end, and where its header says, in words; empty for a video that lasts as long as it says."""
    if not container.format.name.startswith(("matroska", "flv")) or tally.decoded < 2 or not stream.time_base:
        return ""
    lasts = 0.0
    if tag := DURATION.match(stream.metadata.get("DURATION", "")):
        lasts = 3600 * int(tag[1]) + 60 * int(tag[2]) + float(tag[3])
    elif len(container.streams) == 1:  # else it may be the sound that lasts so long
        lasts = (container.duration or 0) / av.time_base
    first, last = float(tally.first * stream.time_base), float(tally.last * stream.time_base)
    step = (last - first) / (tally.decoded - 1)
    if last + step + max(2 * step, lasts / 10) >= lasts:
        return ""
    return f" and end at {last + step:.2f} s of the {lasts:.2f} s that its header promises"
