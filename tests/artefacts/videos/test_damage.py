"""What a damaged file of each container gives: what is detected, and what cannot be."""

from __future__ import annotations

import re
import struct
from collections.abc import Callable
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
from test_decode import encode, ramp, read, textured

from amefu_cli.artefacts.videos.containers import broken_at
from amefu_cli.artefacts.videos.opening import CorruptVideo, TruncatedVideo
from amefu_cli.errors import VideoError

CODECS = {
    "mp4": "libx264", "mov": "mpeg4", "mkv": "libx264", "webm": "libvpx-vp9", "avi": "mpeg4", "ts": "libx264",
    "mpg": "mpeg2video", "flv": "flv", "gif": "gif",
}  # fmt: skip


def hole(content: bytes) -> bytes:
    """Zeros in place of a quarter: a sector that is lost, a download by parts that did not end."""
    begin, length = len(content) // 3, len(content) // 4
    return content[:begin] + bytes(length) + content[begin + length :]


def zero_end(content: bytes) -> bytes:
    """A file of its full size, of which only two thirds were written."""
    begin = len(content) * 2 // 3
    return content[:begin] + bytes(len(content) - begin)


def cut(content: bytes) -> bytes:
    return content[: len(content) * 2 // 3 + 1]


def lost(content: bytes) -> bytes:
    """A block that is left out."""
    middle = len(content) // 2
    return content[:middle] + content[middle + BLOCK :]


def repeated(content: bytes) -> bytes:
    """A block that stands there twice."""
    middle = len(content) // 2
    return content[:middle] + content[middle - BLOCK :]


BLOCK = 8192
UNSEEN = None
"""A program stream consists of packs of 2048 bytes, so that whole packs may be lost or repeated, and a GIF of parts
that say no more than their length, so that some blocks fit: what is there is a sound file of other frames."""
FOUND: dict[str, dict[Callable[[bytes], bytes], type[VideoError] | None]] = {
    "mp4": {hole: CorruptVideo, zero_end: CorruptVideo, cut: TruncatedVideo, lost: TruncatedVideo,
            repeated: CorruptVideo},
    "mov": {hole: CorruptVideo, zero_end: CorruptVideo, cut: TruncatedVideo, lost: TruncatedVideo,
            repeated: CorruptVideo},
    "mkv": {hole: CorruptVideo, zero_end: CorruptVideo, cut: TruncatedVideo, lost: TruncatedVideo,
            repeated: CorruptVideo},
    "webm": {hole: CorruptVideo, zero_end: CorruptVideo, cut: TruncatedVideo, lost: TruncatedVideo,
             repeated: CorruptVideo},
    "avi": {hole: TruncatedVideo, zero_end: TruncatedVideo, cut: TruncatedVideo, lost: TruncatedVideo,
            repeated: CorruptVideo},
    "ts": {hole: CorruptVideo, zero_end: CorruptVideo, cut: TruncatedVideo, lost: CorruptVideo,
           repeated: CorruptVideo},
    "mpg": {hole: CorruptVideo, zero_end: CorruptVideo, cut: TruncatedVideo, lost: UNSEEN, repeated: UNSEEN},
    "flv": {hole: CorruptVideo, zero_end: CorruptVideo, cut: TruncatedVideo, lost: CorruptVideo,
            repeated: CorruptVideo},
    "gif": {hole: CorruptVideo, zero_end: CorruptVideo, cut: TruncatedVideo, lost: CorruptVideo, repeated: UNSEEN},
}  # fmt: skip


def big_frames() -> list[np.ndarray]:
    """Noise that moves: 60 frames, each of about a thousand bytes or more."""
    noise = np.random.default_rng(0).integers(0, 255, (96, 128, 3), dtype=np.uint8)
    return [np.roll(noise, 7 * number, axis=1) for number in range(60)]


@pytest.fixture(scope="module")
def sound(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """One sound video of each container."""
    folder, frames = tmp_path_factory.mktemp("sound"), big_frames()
    return {
        suffix: encode(folder / f"v.{suffix}", frames, codec=codec, pixels="rgb8" if codec == "gif" else "yuv420p",
                       options={} if codec == "gif" else {"g": "12"})
        for suffix, codec in CODECS.items()
    }  # fmt: skip


@pytest.mark.parametrize("suffix", CODECS)
def test_a_sound_file_of_each_container_is_whole(sound: dict[str, Path], suffix: str) -> None:
    assert len(read(sound[suffix]).frames) == 60
    with sound[suffix].open("rb") as file:
        assert broken_at(file) is None


@pytest.mark.parametrize(
    ("suffix", "damage", "error"),
    [(suffix, damage, error) for suffix, row in FOUND.items() for damage, error in row.items()],
)
def test_damage_is_detected_by_its_class_or_cannot_be(
    sound: dict[str, Path], tmp_path: Path, suffix: str, damage: Callable[[bytes], bytes], error: Any
) -> None:
    path = tmp_path / f"v.{suffix}"
    path.write_bytes(damage(sound[suffix].read_bytes()))
    if error is UNSEEN:
        assert read(path).frames
        return
    with pytest.raises(VideoError) as caught:
        read(path)
    assert type(caught.value) is error
    if "--allow-partial" in str(caught.value):
        kept = read(path, allow_partial=True)
        assert kept.partial
        assert len(kept.frames) > 5


def test_a_hole_inside_one_packet_is_concealed_and_not_seen(sound: dict[str, Path], tmp_path: Path) -> None:
    """FFmpeg draws what is missing of one frame from its neighbours, in every container."""
    content = bytearray(sound["mkv"].read_bytes())
    with av.open(str(sound["mkv"])) as container:
        packet = next(packet for packet in container.demux(video=0) if packet.pts and packet.is_keyframe)
        assert packet.pos is not None
        place = packet.pos + packet.size // 2
    content[place : place + 64] = bytes(64)
    (tmp_path / "v.mkv").write_bytes(content)
    assert len(read(tmp_path / "v.mkv").frames) == 60


def without_clusters(content: bytes) -> bytes:
    """A Matroska file of its first clusters alone, and what follows the last; its segment says its new size."""
    first, *_ = clusters = [match.start() for match in re.finditer(bytes.fromhex("1f43b675"), content)]
    cues, size = content.index(bytes.fromhex("1c53bb6b"), first), content.index(bytes.fromhex("18538067")) + 4
    removed = cues - clusters[2]
    total = int.from_bytes(content[size : size + 8], "big") - removed
    return content[:size] + total.to_bytes(8, "big") + content[size + 8 : clusters[2]] + content[cues:]


def without_tags(content: bytes) -> bytes:
    """An FLV of its first twenty tags."""
    position = 13
    for _ in range(20):
        position += 15 + int.from_bytes(content[position + 1 : position + 4], "big")
    return content[:position]


@pytest.mark.parametrize(("suffix", "shorten"), [("mkv", without_clusters), ("webm", without_clusters),
                                                 ("flv", without_tags)])  # fmt: skip
def test_frames_that_end_before_the_duration_are_missed(
    tmp_path: Path, suffix: str, shorten: Callable[[bytes], bytes]
) -> None:
    """The chain holds, as what is gone left no trace, but the header says how long the video lasts."""
    options = {} if suffix == "flv" else {"cluster_time_limit": "400"}
    path = encode(tmp_path / f"v.{suffix}", textured(60), codec=CODECS[suffix], container=options,
                  options={"g": "10"})  # fmt: skip
    assert len(read(path).frames) == 60
    path.write_bytes(shorten(path.read_bytes()))
    with path.open("rb") as file:
        assert broken_at(file) is None
    with pytest.raises(TruncatedVideo, match=r"\d\d frames decode and end at 0\.\d+ s of the 2\.\d+ s that its header"):
        read(path)


def test_one_frame_and_one_that_lasts_are_whole(tmp_path: Path) -> None:
    assert len(read(encode(tmp_path / "one.mkv", ramp(1))).frames) == 1
    assert len(read(encode(tmp_path / "last.mkv", ramp(3), times=[0, 40, 5000])).frames) == 3


def avi_with_empty_chunks(path: Path, codec: str, empty: set[int]) -> Path:
    """As capture programs write it: a chunk without content for each frame that came too late."""
    made = encode(
        path.with_name("made.avi"), ramp(15), codec=codec, pixels="yuvj420p" if codec == "mjpeg" else "yuv420p"
    )
    content = made.read_bytes()
    movi = content.index(b"movi") + 4
    end = content.index(b"idx1")
    chunks, position = [], movi
    while position < end:
        length = struct.unpack_from("<I", content, position + 4)[0]
        if content[position : position + 4] == b"00dc":
            chunks.append(content[position + 8 : position + 8 + length])
        position += 8 + length + length % 2
    body, index = b"", b""
    for number, chunk in enumerate(chunks):
        kept = b"" if number in empty else chunk
        index += b"00dc" + struct.pack("<III", 0 if number else 16, 4 + len(body), len(kept))
        body += b"00dc" + struct.pack("<I", len(kept)) + kept + bytes(len(kept) % 2)
    head = bytearray(content[: movi - 8])
    result = (
        bytes(head)
        + struct.pack("<I", 4 + len(body))
        + b"movi"
        + body
        + b"idx1"
        + struct.pack("<I", len(index))
        + index
    )
    path.write_bytes(result[:4] + struct.pack("<I", len(result) - 8) + result[8:])
    return path


def test_empty_chunks_of_an_avi_are_no_frames_and_not_missed(tmp_path: Path) -> None:
    found = read(avi_with_empty_chunks(tmp_path / "v.avi", "mjpeg", {4, 9, 14}))
    assert found.levels == pytest.approx([20 + 8 * number for number in range(15) if number not in (4, 9, 14)], abs=4)
    assert not found.partial


def open_gop(path: Path, *, first: int) -> Path:
    """An MP4 from its second keyframe on, whose leading frames point to frames before it."""
    how = "open-gop=1:bframes=3:b-adapt=0:b-pyramid=0:scenecut=0:keyint=8:min-keyint=8"
    options = {"x264-params": how}
    whole = encode(path.with_name("whole.mkv"), textured(30), options=options)
    with av.open(str(whole)) as given, av.open(str(path), "w") as output:
        stream = output.add_stream_from_template(given.streams.video[0])
        packets = [packet for packet in given.demux(video=0) if packet.size]
        starts = [number for number, packet in enumerate(packets) if packet.is_keyframe]
        for packet in packets[starts[first] :]:
            packet.stream = stream
            output.mux(packet)
    return path


def test_leading_frames_without_a_reference_are_not_missed(tmp_path: Path) -> None:
    path = open_gop(tmp_path / "v.mp4", first=1)
    with av.open(str(path)) as container:
        stream = container.streams.video[0]
        times = [packet.pts for packet in container.demux(video=0) if packet.size and packet.pts is not None]
        claimed, leading = stream.frames, sum(time < times[0] for time in times)
        assert Fraction(stream.time_base or 0) > 0
    found = read(path)
    assert leading == 3
    assert len(found.frames) == claimed - leading
    assert not found.partial
