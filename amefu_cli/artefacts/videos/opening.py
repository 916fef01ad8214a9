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

from amefu_cli.artefacts.videos import containers
from amefu_cli.artefacts.videos.containers import cut_at, known_container
from amefu_cli.errors import VideoError, shown

DURATION = re.compile(r"(\d+):(\d+):(\d+\.?\d*)$")  # of one Matroska track: hours, minutes, seconds
MAX_PIXELS = 1 << 26  # of one frame: twice 8K; more is a damaged header or a bomb
av.logging.set_level(None)  # FFmpeg's own remarks stay off the terminal


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
    if stat.S_ISREG(status.st_mode) and status.st_size:
        return file
    file.close()
    if stat.S_ISREG(status.st_mode):
        raise EmptyFile(f"{name}: holds 0 bytes; fetch it again or delete it")
    raise NotAVideo(f"{name}: is not a regular file; move it out of the videos folder")


def open_container(path: Path, file: BinaryIO) -> InputContainer:
    name = shown(path)
    # No protocol: a playlist named .mp4 opens nothing else, here or on the network.
    options = {"protocol_whitelist": "none", "max_pixels": str(MAX_PIXELS)}
    try:
        return av.open(file, mode="r", metadata_errors="replace", options=options)
    except av.FFmpegError as error:
        if containers.names_encryption(file):
            raise EncryptedVideo(encrypted_message(path)) from error
        if cut := cut_at(file):
            raise TruncatedVideo(f"{name}: {cut}, before its index; fetch it again") from error
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


@dataclass(kw_only=True)
class OpenVideo:
    """One open video and what came of it so far. Times are of the earliest and the latest frame, in the stream's time
    base; `leading` counts packets behind that of the first frame whose time is before it; `undecodable` are packets
    before the first frame."""

    path: Path
    file: BinaryIO
    container: InputContainer
    stream: VideoStream
    decoded: int = 0
    first: int = 0
    last: int = -1
    leading: int = 0
    undecodable: bool = False
    packet_cut: bool = False
    early: list[int] = field(default_factory=list)

    def count_packet(self, packet: Packet[VideoStream]) -> None:
        self.packet_cut |= packet.is_corrupt
        if packet.pts is not None and self.last < self.first:
            self.early.append(packet.pts)
        elif packet.pts is not None:
            self.leading += packet.pts < self.first

    def count_frame(self, frame: VideoFrame) -> None:
        self.decoded += 1
        if frame.pts is None:
            return
        if self.last < self.first:
            self.first = self.last = frame.pts
            behind = self.early[self.early.index(frame.pts) :] if frame.pts in self.early else []
            self.leading = sum(time < frame.pts for time in behind)
        self.first, self.last = min(self.first, frame.pts), max(self.last, frame.pts)

    def shortfall(self) -> VideoError | None:
        """What is wrong with a video that ended without an exception."""
        name, codec = shown(self.path), shown(self.stream.codec_context.name)
        if self.decoded == 0 and self.undecodable:
            fault = f"no frame of its {codec} stream decodes: invalid data throughout"
            return CorruptVideo(f"{name}: {fault}; fetch it again")
        if self.decoded == 0:
            return NoFrames(f"{name}: its {codec} stream holds no frame; fetch it again")
        claimed = self._claimed() if self.decoded < self.stream.frames else self.stream.frames
        missing = claimed - self.decoded
        if missing > slack(claimed) or ((missing or self.packet_cut) and cut_at(self.file)):
            return self.truncated()
        broken = containers.broken_at(self.file) if missing or self.container.format.name != "avi" else None
        if broken is not None and broken < containers.size_of(self.file):
            fault = f"{self.decoded} frames decode, but the file is damaged at byte {broken:,}"
            return CorruptVideo(f"{name}: {fault}; fetch it again, or keep what decodes with --allow-partial")
        early = self._ends_early()
        return self.truncated(early) if broken is not None or early else None

    def truncated(self, early: str = "") -> TruncatedVideo:
        promise = f" of the {self.stream.frames} that its header promises" if self.stream.frames else early
        cut = cut_at(self.file)
        found = f"{self.decoded} frames decode{promise}" + (f", and {cut}" if cut else "")
        return TruncatedVideo(f"{shown(self.path)}: {found}; fetch it again, or keep what decodes with --allow-partial")

    def _claimed(self) -> int:
        """How many frames the header promises, as far as it is believed."""
        claimed, kind = self.stream.frames, self.container.format.name
        if kind == "avi":
            return claimed - containers.empty_chunks(self.file, self.stream.index)
        if kind.startswith("mov"):
            shows = sum(not entry.is_discard for entry in self.stream.index_entries)
            claimed = min(claimed, shows) if shows else claimed
        return claimed - self.leading

    def _ends_early(self) -> str:
        """Where the frames end and where the header says, in words; empty for a video that lasts as long as it says."""
        base = self.stream.time_base
        if not self.container.format.name.startswith(("matroska", "flv")) or self.decoded < 2 or not base:
            return ""
        lasts = 0.0
        if tag := DURATION.match(self.stream.metadata.get("DURATION", "")):
            lasts = 3600 * int(tag[1]) + 60 * int(tag[2]) + float(tag[3])
        elif len(self.container.streams) == 1:  # else it may be the sound that lasts so long
            lasts = (self.container.duration or 0) / av.time_base
        first, last = float(self.first * base), float(self.last * base)
        step = (last - first) / (self.decoded - 1)
        if last + step + max(2 * step, lasts / 10) >= lasts:
            return ""
        return f" and end at {last + step:.2f} s of the {lasts:.2f} s that its header promises"


def slack(claimed: int) -> int:
    """By how many frames a sound header may be off."""
    return max(2, claimed // 10)
