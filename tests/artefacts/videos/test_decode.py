from __future__ import annotations

import errno
import io
import os
import pickle
import re
import struct
import subprocess
import sys
import warnings
import zlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from fractions import Fraction
from pathlib import Path
from typing import Any, NamedTuple, cast

import av
import numpy as np
import pytest
from av.stream import Disposition
from conftest import SHARED
from numpy.typing import NDArray
from PIL import Image

from amefu_cli.artefacts.videos import decode as decoding
from amefu_cli.artefacts.videos.decode import VideoReader, open_clip
from amefu_cli.artefacts.videos.find import Clip
from amefu_cli.artefacts.videos.opening import (
    AmbiguousClip,
    CorruptVideo,
    EmptyFile,
    EncryptedVideo,
    MissingDecoder,
    NoFrames,
    NotAVideo,
    NoVideoStream,
    TruncatedVideo,
    UnreadableFile,
    VanishedFile,
)
from amefu_cli.errors import VideoError

HOSTILE = SHARED / "hostile"


# --- making videos


def ramp(count: int, height: int = 48, width: int = 64) -> list[NDArray[np.uint8]]:
    """Gray frames, each 8 levels brighter than the one before: their order shows."""
    return [np.full((height, width, 3), 20 + 8 * i, np.uint8) for i in range(count)]


def encode(
    path: Path,
    frames: Sequence[NDArray[np.uint8]],
    *,
    codec: str = "libx264",
    pixels: str = "yuv420p",
    rate: int = 25,
    times: Iterable[int] | None = None,
    container: dict[str, str] | None = None,
    options: dict[str, str] | None = None,
    tags: dict[str, str] | None = None,
    title: str = "",
) -> Path:
    with av.open(str(path), "w", options=container or {}) as output:
        if title:
            output.metadata["title"] = title
        stream = output.add_stream(codec, rate=rate, options=options or {})
        stream.height, stream.width = frames[0].shape[:2]
        stream.pix_fmt = pixels
        stream.metadata.update(tags or {})
        if times is not None:
            stream.codec_context.time_base = Fraction(1, 1000)
        for pts, image in zip(times or range(len(frames)), frames, strict=False):
            frame = av.VideoFrame.from_ndarray(image)
            frame.pts = pts
            frame.time_base = Fraction(1, 1000) if times is not None else Fraction(1, rate)
            output.mux(stream.encode(frame))
        output.mux(stream.encode())
    return path


def sound(path: Path) -> Path:
    with av.open(str(path), "w") as output:
        stream = output.add_stream("aac", rate=16_000)
        frame = av.AudioFrame.from_ndarray(np.zeros((1, 16_000), np.float32), format="fltp", layout="mono")
        frame.sample_rate = 16_000
        output.mux(stream.encode(frame))
        output.mux(stream.encode())
    return path


def cut(path: Path, part: float) -> Path:
    os.truncate(path, int(path.stat().st_size * part))
    return path


def surgery(path: Path, old: bytes, new: bytes, *, count: int = 1) -> Path:
    """Replace bytes in place; the old ones must be there."""
    content = path.read_bytes()
    assert content.count(old) >= count
    assert len(old) == len(new)
    path.write_bytes(content.replace(old, new, count))
    return path


IDENTITY = (0x10000, 0, 0, 0, 0x10000, 0, 0, 0, 0x40000000)


def with_matrix(path: Path, a: int, b: int, c: int, d: int) -> Path:
    """The display matrix of an MP4's only track (tkhd), which PyAV does not write."""
    content = bytearray(path.read_bytes())
    start = content.index(struct.pack(">9i", *IDENTITY), content.index(b"tkhd"))
    content[start : start + 36] = struct.pack(">9i", a << 16, b << 16, 0, c << 16, d << 16, 0, 0, 0, 0x40000000)
    path.write_bytes(content)
    return path


# --- reading videos


class Read(NamedTuple):
    frames: list[NDArray[np.uint8]]
    asked: list[tuple[int, int]]
    fps: float | None
    partial: bool

    @property
    def levels(self) -> list[int]:
        return [round(float(frame.mean())) for frame in self.frames]


def as_they_are(height: int, width: int) -> tuple[int, int]:
    return height, width


def read(
    path: Path,
    *,
    kind: str = "video",
    allow_partial: bool = False,
    size_of: Callable[[int, int], tuple[int, int]] = as_they_are,
) -> Read:
    asked: list[tuple[int, int]] = []

    def sized(height: int, width: int) -> tuple[int, int]:
        asked.append((height, width))
        return size_of(height, width)

    clip = Clip("class/clip", "class", str(path), kind, 0, 0)  # type: ignore[arg-type]
    with open_clip(clip, allow_partial=allow_partial) as reader:
        frames = list(reader.frames(sized))
        for frame in frames:
            assert frame.dtype == np.uint8
            assert frame.ndim == 3
            assert frame.shape[2] == 3
            assert frame.flags.c_contiguous
        return Read(frames, asked, reader.fps, reader.partial)


def assert_ramp(levels: list[int], count: int, *, tolerance: int = 4) -> None:
    expected = [20 + 8 * i for i in range(count)]
    assert len(levels) == count
    assert np.abs(np.subtract(levels, expected)).max() <= tolerance, levels


# --- what must decode


@pytest.mark.parametrize(
    ("name", "codec", "pixels"),
    [
        ("h264.mp4", "libx264", "yuv420p"),
        ("h265.mov", "libx265", "yuv420p"),
        ("mpeg4.avi", "mpeg4", "yuv420p"),
        ("vp9.webm", "libvpx-vp9", "yuv420p"),
        ("h264.mkv", "libx264", "yuv420p"),
        ("h264.ts", "libx264", "yuv420p"),
        ("mpeg2.mpg", "mpeg2video", "yuv420p"),
        ("flash.flv", "flv", "yuv420p"),
        ("raw.h264", "libx264", "yuv420p"),
        ("film.gif", "gif", "gray"),
        ("jpeg.avi", "mjpeg", "yuvj420p"),
        ("ten_bits.mp4", "libx265", "yuv420p10le"),
        ("ten_bits.mkv", "ffv1", "yuv444p10le"),
        ("gray.mkv", "ffv1", "gray"),
        ("gray16.mkv", "ffv1", "gray16le"),
        ("alpha.mkv", "ffv1", "yuva420p"),
        ("alpha.mov", "png", "rgba"),
        ("full.mp4", "libx264", "yuv444p"),
    ],
)
def test_kinds_of_video(tmp_path: Path, name: str, codec: str, pixels: str) -> None:
    found = read(encode(tmp_path / name, ramp(20), codec=codec, pixels=pixels))
    assert_ramp(found.levels, 20)
    assert found.asked == [(48, 64)]
    assert found.frames[0].shape == (48, 64, 3)
    assert found.fps == pytest.approx(25, rel=0.01)
    assert not found.partial


@pytest.mark.parametrize(("height", "width"), [(33, 21), (1, 1), (2, 130), (17, 64)])
def test_odd_sizes_and_one_frame(tmp_path: Path, height: int, width: int) -> None:
    path = encode(tmp_path / "odd.mkv", ramp(1, height, width), codec="ffv1", pixels="yuv444p")
    found = read(path)
    assert [frame.shape for frame in found.frames] == [(height, width, 3)]
    assert_ramp(found.levels, 1)


def test_frames_come_at_the_size_asked_for(tmp_path: Path) -> None:
    path = encode(tmp_path / "v.mp4", ramp(3, 48, 64))
    found = read(path, size_of=lambda height, width: (height // 2 + 1, width // 3))
    assert [frame.shape for frame in found.frames] == [(25, 21, 3)] * 3


def test_a_container_under_a_wrong_suffix(tmp_path: Path) -> None:
    assert_ramp(read(encode(tmp_path / "v.mp4", ramp(5)).rename(tmp_path / "v.avi")).levels, 5)


def corners() -> NDArray[np.uint8]:
    """(64, 96): red and green above, blue and white below."""
    image = np.zeros((64, 96, 3), np.uint8)
    image[:32, :48, 0] = image[:32, 48:, 1] = image[32:, :48, 2] = 255
    image[32:, 48:] = 255
    return image


@pytest.mark.parametrize(
    ("matrix", "upright"),
    [
        ((1, 0, 0, 1), lambda image: image),
        ((0, 1, -1, 0), lambda image: np.rot90(image, -1)),  # 90° clockwise
        ((-1, 0, 0, -1), lambda image: np.rot90(image, 2)),
        ((0, -1, 1, 0), lambda image: np.rot90(image, 1)),  # 270° clockwise
        ((-1, 0, 0, 1), lambda image: image[:, ::-1]),  # a mirror image, as front cameras write it
        ((0, 1, 1, 0), lambda image: image.swapaxes(0, 1)),
    ],
)
def test_the_display_matrix_is_applied(
    tmp_path: Path, matrix: tuple[int, ...], upright: Callable[[NDArray[np.uint8]], NDArray[np.uint8]]
) -> None:
    path = with_matrix(encode(tmp_path / "turned.mp4", [corners()] * 2, pixels="yuv444p"), *matrix)
    expected = upright(corners())
    found = read(path)
    assert found.asked == [expected.shape[:2]]
    assert np.abs(found.frames[1].astype(int) - expected)[8:-8, 8:-8].mean() < 8
    half = read(path, size_of=lambda height, width: (height // 2, width // 4))
    assert half.frames[0].shape == (expected.shape[0] // 2, expected.shape[1] // 4, 3)


@pytest.mark.parametrize(("tag", "quarters"), [("90", -1), ("180", 2), ("270", 1), ("0", 0), ("nonsense", 0)])
def test_the_rotate_tag_is_applied(tmp_path: Path, tag: str, quarters: int) -> None:
    path = encode(tmp_path / "turned.mkv", [corners()], codec="ffv1", pixels="yuv444p", tags={"rotate": tag})
    expected = np.rot90(corners(), quarters)
    assert np.abs(read(path).frames[0].astype(int) - expected)[8:-8, 8:-8].mean() < 8


@pytest.mark.parametrize("suffix", ["h264", "ts"])
def test_a_change_of_resolution_keeps_the_first_size(tmp_path: Path, suffix: str) -> None:
    path = encode(tmp_path / f"1.{suffix}", ramp(6, 48, 64))
    second = encode(tmp_path / f"2.{suffix}", ramp(12, 96, 32)[6:])
    path.write_bytes(path.read_bytes() + second.read_bytes())
    found = read(path)
    assert found.asked == [(48, 64)]
    assert {frame.shape for frame in found.frames} == {(48, 64, 3)}
    assert_ramp(found.levels, 12)


def test_every_frame_of_a_variable_rate_counts_once(tmp_path: Path) -> None:
    times = [0, 10, 20, 500, 510, 2000]
    found = read(encode(tmp_path / "vfr.mkv", ramp(6), times=times))
    assert_ramp(found.levels, 6)
    assert found.fps == pytest.approx(5 / 2.0)  # measured: 5 steps in 2 seconds


def test_an_absurd_rate_is_replaced_by_the_measured_one(tmp_path: Path) -> None:
    path = encode(tmp_path / "v.mp4", ramp(11), options={"bf": "0"})
    content = bytearray(path.read_bytes())
    table = content.index(b"stts") + 8
    assert struct.unpack_from(">3i", content, table) == (
        1,
        11,
        512,
    )  # 11 frames of 512 ticks, 12,800 a second
    struct.pack_into(">3i", content, table, 1, 11, 10)
    path.write_bytes(content)
    with av.open(str(path)) as container:
        assert container.streams.video[0].average_rate == 1280
    assert read(path).fps == 1280  # so say the timestamps too
    path = encode(tmp_path / "v.flv", ramp(11), codec="flv", rate=1000, times=range(0, 550, 50))
    assert read(path).fps == pytest.approx(20)


def boxes(content: bytes, start: int, end: int) -> list[bytes]:
    found = []
    while start < end:
        size = int.from_bytes(content[start : start + 4], "big")
        found.append(content[start : start + size])
        start += size
    return found


def test_cover_art_before_the_video_is_left_out(tmp_path: Path) -> None:
    path = tmp_path / "cover.mp4"
    with av.open(str(path), "w") as output:
        video = output.add_stream("libx264", rate=25)
        video.width, video.height, video.pix_fmt = 64, 48, "yuv420p"
        cover = output.add_stream("png", rate=1)
        cover.width, cover.height, cover.pix_fmt = 640, 480, "rgb24"
        cover.disposition = Disposition.attached_pic
        output.mux(cover.encode(av.VideoFrame.from_ndarray(np.zeros((480, 640, 3), np.uint8))))
        output.mux(cover.encode())
        for image in ramp(5):
            output.mux(video.encode(av.VideoFrame.from_ndarray(image)))
        output.mux(video.encode())
    content = path.read_bytes()
    start = content.index(b"moov") - 4
    inside = boxes(content, start + 8, len(content))
    inside.sort(key=lambda box: box[4:8] == b"trak")  # the picture, in udta, before the track
    path.write_bytes(content[: start + 8] + b"".join(inside))
    with av.open(str(path)) as container:
        assert container.streams[0].disposition & Disposition.attached_pic
        assert [stream.type for stream in container.streams] == ["video", "video"]
    assert_ramp(read(path).levels, 5)


@pytest.mark.parametrize(
    ("flags", "read_one"),
    [
        ((Disposition.default, Disposition.default), (96, 128)),  # the better one
        ((Disposition.default, Disposition(0)), (16, 32)),  # the one that the file puts forward
    ],
)
def test_of_two_video_streams_the_default_or_better_one_is_read(
    tmp_path: Path, flags: tuple[Disposition, Disposition], read_one: tuple[int, int]
) -> None:
    path, sizes = tmp_path / "two.mp4", [(16, 32), (96, 128)]
    with av.open(str(path), "w") as output:
        streams = [output.add_stream("libx264", rate=25) for _ in range(2)]
        for stream, (height, width), flag in zip(streams, sizes, flags, strict=True):
            stream.width, stream.height, stream.pix_fmt, stream.disposition = width, height, "yuv420p", flag
        for stream, (height, width) in zip(streams, sizes, strict=True):
            noise = np.random.default_rng(0).integers(0, 255, (height, width, 3), dtype=np.uint8)
            for _ in range(8):
                output.mux(stream.encode(av.VideoFrame.from_ndarray(noise)))
            output.mux(stream.encode())
    found = read(path)
    assert found.asked == [read_one]
    assert len(found.frames) == 8


def test_metadata_that_is_not_utf8(tmp_path: Path) -> None:
    path = encode(tmp_path / "v.mp4", ramp(4), title="T" * 8)
    surgery(path, b"T" * 8, b"\xff\xfe\xe9\xa0" * 2)
    with pytest.raises(UnicodeDecodeError), av.open(str(path)):
        pass
    assert_ramp(read(path).levels, 4)


@pytest.mark.parametrize(
    "name", ["two\nlines", 'it\'s "q"', "踊り", "caf\udce9", "%03d", "concat:a|b", "-i", "a:b?c=d#e", " "]
)
def test_names_are_only_names(tmp_path: Path, name: str) -> None:
    made = encode(tmp_path / "v.gif", ramp(3), codec="gif", pixels="gray")
    os.rename(made, tmp_path / f"{name}.gif")
    assert_ramp(read(tmp_path / f"{name}.gif").levels, 3)


@pytest.mark.parametrize("movflags", ["frag_every_frame+empty_moov", "faststart"])
def test_frame_counts_of_headers_that_say_nothing(tmp_path: Path, movflags: str) -> None:
    assert_ramp(read(encode(tmp_path / "v.mp4", ramp(9), container={"movflags": movflags})).levels, 9)


def test_frames_hidden_by_an_edit_list_are_not_missed(tmp_path: Path) -> None:
    path = encode(tmp_path / "v.mp4", ramp(25), options={"bf": "0"})
    content = bytearray(path.read_bytes())
    entry = content.index(b"elst") + 12
    duration, start = struct.unpack_from(">ii", content, entry)
    assert (duration, start) == (1000, 0)  # the film's clock counts milliseconds
    struct.pack_into(">ii", content, entry, 400, 0)
    path.write_bytes(content)
    found = read(path)
    assert_ramp(found.levels, 10)
    assert not found.partial


def test_a_recording_that_starts_between_keyframes(tmp_path: Path) -> None:
    path = encode(tmp_path / "v.ts", ramp(20), options={"g": "10", "bf": "0", "sc_threshold": "0"})
    with av.open(str(path)) as container:
        packets = [p for p in container.demux(video=0) if p.size]
    starts = [packet.pos for packet in packets]
    assert [i for i, packet in enumerate(packets) if packet.is_keyframe] == [0, 10]
    content = path.read_bytes()
    path.write_bytes(content[: starts[0]] + content[starts[3] :])  # tables kept, the keyframe and two more gone
    assert read(path).levels[-10:] == pytest.approx([20 + 8 * i for i in range(10, 20)], abs=4)


def test_a_programme_that_appears_midway_is_passed_over(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As where two recordings of a broadcast are joined. Behind the last packet PyAV looks whether those streams were
    asked for, in memory that is not its own; where it finds that they were, it fails on their number."""
    ids = {"mpegts_service_id": "2", "mpegts_start_pid": "512", "mpegts_pmt_start_pid": "4352"}
    other = encode(tmp_path / "other.ts", ramp(5), container=ids)
    path = encode(tmp_path / "v.ts", ramp(20))
    path.write_bytes(path.read_bytes() * 10 + other.read_bytes())
    assert len(read(path).frames) == 200
    packets = VideoReader._packets

    class Stumbling:
        def __init__(self, container: Any) -> None:
            self.container = container

        def demux(self, stream: Any) -> Iterator[Any]:
            yield from self.container.demux(stream)
            raise IndexError

    def stumble(reader: VideoReader) -> Iterator[Any]:
        whole, reader.container = reader.container, cast(Any, Stumbling(reader.container))
        yield from packets(reader)
        reader.container = whole

    monkeypatch.setattr(VideoReader, "_packets", stumble)
    assert len(read(path).frames) == 200


def test_a_few_frames_fewer_than_the_header_says_are_sound(tmp_path: Path) -> None:
    path = encode(tmp_path / "v.avi", ramp(20), codec="mpeg4")
    surgery(path, struct.pack("<I", 20), struct.pack("<I", 22), count=2)  # avih and strh
    with av.open(str(path)) as container:
        assert container.streams.video[0].frames == 22
    assert_ramp(read(path).levels, 20)


def test_reading_may_stop_early_and_the_readers_own_errors_pass(tmp_path: Path) -> None:
    clip = Clip("c/v", "c", str(encode(tmp_path / "v.mp4", ramp(9))), "video", 0, 0)
    with open_clip(clip, allow_partial=False) as reader:
        next(reader.frames(as_they_are))
    with pytest.raises(OSError, match="No space left"), open_clip(clip, allow_partial=False) as reader:  # noqa: PT012
        for _ in reader.frames(as_they_are):
            raise OSError(errno.ENOSPC, "No space left on device")


# --- what must refuse


def empty(folder: Path) -> Path:
    (folder / "v.mp4").touch()
    return folder / "v.mp4"


def text(folder: Path) -> Path:
    (folder / "v.mp4").write_text("just some notes\n" * 60)
    return folder / "v.mp4"


def no_index(folder: Path) -> Path:
    return surgery(encode(folder / "v.mp4", ramp(9)), b"moov", b"junk")


def cut_before_the_index(folder: Path) -> Path:
    return cut(encode(folder / "v.mp4", ramp(30)), 0.5)


def sound_only(folder: Path) -> Path:
    return sound(folder / "v.mp4")


def encrypted(folder: Path) -> Path:
    secret = {"encryption_scheme": "cenc-aes-ctr", "encryption_key": "0" * 32, "encryption_kid": "1" * 32}
    return encode(folder / "v.mp4", ramp(9), container=secret)


def unknown_codec(folder: Path) -> Path:
    return surgery(encode(folder / "v.mp4", ramp(9)), b"avc1\0\0\0\0\0\0", b"zzzz\0\0\0\0\0\0")


def no_frames(folder: Path) -> Path:
    (folder / "v.y4m").write_bytes(b"YUV4MPEG2 W16 H16 F25:1 Ip A1:1 C420jpeg\n")
    return folder / "v.y4m"


def vanished(folder: Path) -> Path:
    return folder / "v.mp4"


def a_folder(folder: Path) -> Path:
    (folder / "v.mp4").mkdir()
    return folder / "v.mp4"


def a_fifo(folder: Path) -> Path:
    os.mkfifo(folder / "v.mp4")
    return folder / "v.mp4"


def a_playlist(folder: Path) -> Path:
    encode(folder / "other.ts", ramp(9))
    segment = f"#EXTINF:1,\n{folder / 'other.ts'}\n"
    (folder / "v.mp4").write_text(f"#EXTM3U\n#EXT-X-VERSION:3\n#EXT-X-TARGETDURATION:1\n{segment}#EXT-X-ENDLIST\n")
    return folder / "v.mp4"


def noise_inside(folder: Path) -> Path:
    """A good container whose every H.264 packet has a length field of nonsense."""
    path = encode(folder / "v.mp4", ramp(9), options={"bf": "0"})
    return spoil(path, range(9))


def spoil(path: Path, numbers: Iterable[int]) -> Path:
    with av.open(str(path)) as container:
        starts = [packet.pos for packet in container.demux(video=0) if packet.size]
    with path.open("r+b") as file:
        for number in numbers:
            file.seek(starts[number])
            file.write(b"\xff\xff\xff\xf0")
    return path


def a_giant(folder: Path) -> Path:
    """A header of 60,000 × 60,000 pixels."""
    content = encode(folder / "v.gif", ramp(1), codec="gif", pixels="gray").read_bytes()
    (folder / "v.gif").write_bytes(content.replace(struct.pack("<HH", 64, 48), struct.pack("<HH", 60000, 60000)))
    return folder / "v.gif"


@pytest.mark.parametrize(
    ("make", "error", "message"),
    [
        (empty, EmptyFile, "v.mp4: holds 0 bytes; fetch it again or delete it"),
        (text, NotAVideo, "v.mp4: FFmpeg knows no video of this kind; move it out of the videos folder"),
        (a_fifo, NotAVideo, "v.mp4: is not a regular file; move it out of the videos folder"),
        (a_playlist, NotAVideo, "v.mp4: FFmpeg knows no video of this kind; move it out"),
        (no_index, CorruptVideo, "v.mp4: its header or index is damaged or missing; fetch it again"),
        (cut_before_the_index, TruncatedVideo, "before its index; fetch it again"),
        (sound_only, NoVideoStream, "v.mp4: holds only audio, no video; move it out of the videos folder"),
        (encrypted, EncryptedVideo, "v.mp4: its video is encrypted; decrypt it, or move it out"),
        (unknown_codec, MissingDecoder, "v.mp4: FFmpeg has no decoder for its video stream; re-encode it"),
        (no_frames, NoFrames, "v.y4m: its rawvideo stream holds no frame; fetch it again"),
        (noise_inside, CorruptVideo, "v.mp4: no frame of its h264 stream decodes: invalid data throughout"),
        (a_giant, CorruptVideo, "v.gif: "),
        (vanished, VanishedFile, "v.mp4: is gone; run the same command again"),
        (a_folder, UnreadableFile, "v.mp4: cannot be opened: Is a directory"),
    ],
)
@pytest.mark.parametrize("allow_partial", [False, True])
def test_refused(
    tmp_path: Path,
    capfd: pytest.CaptureFixture[str],
    make: Callable[[Path], Path],
    error: type[VideoError],
    message: str,
    allow_partial: bool,
) -> None:
    path = make(tmp_path)
    capfd.readouterr()
    with pytest.raises(VideoError) as caught:
        read(path, allow_partial=allow_partial)
    assert type(caught.value) is error
    assert message in str(caught.value)
    assert capfd.readouterr() == ("", "")


def faststart_cut(folder: Path) -> Path:
    return cut(encode(folder / "v.mp4", textured(40), container={"movflags": "faststart"}), 0.5)


def avi_cut(folder: Path) -> Path:
    return cut(encode(folder / "v.avi", textured(40), codec="mpeg4"), 0.5)


def matroska_cut(folder: Path) -> Path:
    return cut(encode(folder / "v.mkv", textured(40)), 0.5)


def fragments_cut(folder: Path) -> Path:
    return cut(encode(folder / "v.mp4", textured(40), container={"movflags": "frag_every_frame+empty_moov"}), 0.5)


def last_bytes_cut(folder: Path) -> Path:
    path = encode(folder / "v.mp4", textured(40), container={"movflags": "faststart"})
    os.truncate(path, path.stat().st_size - 20)
    return path


def avi_overstated(folder: Path) -> Path:
    path = encode(folder / "v.avi", textured(41), codec="mpeg4")
    return surgery(path, struct.pack("<I", 41), struct.pack("<I", 60), count=2)  # avih and strh


def spoiled_midway(folder: Path) -> Path:
    return spoil(encode(folder / "v.mp4", textured(40), options={"bf": "0"}), [25])


def textured(count: int) -> list[NDArray[np.uint8]]:
    """Noise that moves, so that every frame takes bytes of its own."""
    noise = np.random.default_rng(0).integers(0, 255, (48, 64, 3), dtype=np.uint8)
    return [np.roll(noise, 5 * i, axis=1) for i in range(count)]


@pytest.mark.parametrize(
    ("make", "error", "least", "most", "message"),
    [
        (
            faststart_cut,
            TruncatedVideo,
            10,
            25,
            r"\d+ frames decode of the 40 .*and the file ends at byte [\d,]+ of ",
        ),
        (
            avi_cut,
            TruncatedVideo,
            10,
            25,
            r"\d+ frames decode of the 40 that its header promises, and the file ends",
        ),
        (matroska_cut, TruncatedVideo, 10, 25, r"\d+ frames decode, and the file ends at byte"),
        (fragments_cut, TruncatedVideo, 10, 25, r"\d+ frames decode, and the file ends at byte"),
        (last_bytes_cut, TruncatedVideo, 39, 40, r"frames decode of the 40"),
        (
            avi_overstated,
            TruncatedVideo,
            41,
            41,
            r"41 frames decode of the 60 that its header promises; fetch it",
        ),
        (spoiled_midway, CorruptVideo, 20, 25, r"decoding fails after 2\d frames: Invalid data found"),
    ],
)
def test_damaged_midway_is_an_error_or_kept_and_flagged(
    tmp_path: Path, make: Callable[[Path], Path], error: type[VideoError], least: int, most: int, message: str
) -> None:
    path = make(tmp_path)
    with pytest.raises(VideoError) as caught:
        read(path)
    assert type(caught.value) is error
    assert re.search(message, str(caught.value)), caught.value
    assert "keep what decodes with --allow-partial" in str(caught.value)
    kept = read(path, allow_partial=True)
    assert kept.partial
    assert least <= len(kept.frames) <= most


def test_a_file_that_may_not_be_opened_or_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = encode(tmp_path / "v.mp4", textured(40))

    def refuse(*_: object) -> int:  # as root, no mode bit would
        raise PermissionError(errno.EACCES, "Permission denied")

    with monkeypatch.context() as patch:
        patch.setattr(os, "open", refuse)
        with pytest.raises(UnreadableFile, match=r"v\.mp4: cannot be opened: Permission denied; allow reading it"):
            read(path)


class FailingDisk(io.FileIO):
    """A file on a disk that fails behind `good` bytes."""

    good = 0

    def read(self, size: int | None = -1) -> bytes:
        if self.tell() >= self.good:
            raise OSError(errno.EIO, "Input/output error")
        return super().read(size)


@pytest.mark.parametrize("good", [0, 200_000])
def test_a_disk_that_fails(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, good: int) -> None:
    path = encode(tmp_path / "v.avi", textured(40), codec="ffv1", pixels="yuv444p")
    assert path.stat().st_size > 300_000

    def opened(path: Path) -> FailingDisk:
        file = FailingDisk(path)
        file.good = good
        return file

    monkeypatch.setattr(decoding, "open_file", opened)
    with pytest.raises(UnreadableFile, match=r"v\.avi: reading failed: Input/output error; check the disk"):
        read(path)


@pytest.mark.parametrize("kind", VideoError.__subclasses__())
def test_errors_cross_process_borders(kind: type[VideoError]) -> None:
    error = kind("a/v.mp4: found; fix")
    assert isinstance(error, VideoError)
    again = pickle.loads(pickle.dumps(error))
    assert (type(again), str(again), again.exit_code) == (type(error), str(error), 3)


# --- folders of images


def images(folder: Path, *made: tuple[str, Image.Image]) -> Path:
    folder.mkdir()
    for name, image in made:
        image.save(folder / name)
    return folder


def test_images_come_in_natural_order_at_the_first_ones_size(tmp_path: Path) -> None:
    folder = images(
        tmp_path / "clip",
        *((f"img_{i + 1}.png", Image.new("L", (64 + 2 * i, 48), 20 + 8 * i)) for i in range(11)),
    )
    (folder / "note.txt").write_text("not an image")
    found = read(folder, kind="images")
    assert_ramp(found.levels, 11, tolerance=0)
    assert found.asked == [(48, 64)]
    assert {frame.shape for frame in found.frames} == {(48, 64, 3)}
    assert found.fps is None


@pytest.mark.parametrize(
    ("mode", "colour", "expected"),
    [
        ("1", 1, (255, 255, 255)),
        ("L", 77, (77, 77, 77)),
        ("LA", (77, 0), (77, 77, 77)),
        ("I;16", 0x4DFF, (77, 77, 77)),
        ("RGB", (1, 2, 3), (1, 2, 3)),
        ("RGBA", (1, 2, 3, 4), (1, 2, 3)),
    ],
)
def test_any_mode_becomes_rgb(
    tmp_path: Path, mode: str, colour: int | tuple[int, ...], expected: tuple[int, ...]
) -> None:
    folder = images(tmp_path / "clip", ("1.png", Image.new(mode, (8, 6), colour)))
    assert read(folder, kind="images").frames[0][0, 0].tolist() == list(expected)


@pytest.mark.parametrize(
    ("pixels", "levels"),
    [
        ([np.float32(0), np.float32(0.5), np.float32(1)], [0, 128, 255]),
        ([np.float32(0.2), np.float32(0.01)], [51, 3]),  # all by one range, also a dark frame
        ([np.float32(1), np.float32(128), np.float32(255)], [1, 128, 255]),
        ([np.int32(7), np.int32(255)], [7, 255]),
        ([np.int32(257), np.int32(65535)], [1, 255]),
    ],
)
def test_pictures_of_floats_and_of_32_bits_are_scaled_by_the_range_of_the_clip(
    tmp_path: Path, pixels: list[np.number[Any]], levels: list[int]
) -> None:
    made = [(f"{number}.tif", Image.fromarray(np.full((6, 8), value))) for number, value in enumerate(pixels)]
    found = read(images(tmp_path / "clip", *made), kind="images")
    assert [frame[0, 0].tolist() for frame in found.frames] == [[level] * 3 for level in levels]


@pytest.mark.parametrize(
    ("pixel", "message"),
    [
        (np.float32(-3), "pictures of mode F that run from -3 to -3"),
        (np.float32("nan"), "pictures of mode F that run from nan to nan"),
        (np.float32(1e6), r"pictures of mode F that run from 1e\+06"),
        (np.int32(-9), "pictures of mode I that run from -9"),
    ],
)
def test_pictures_of_which_white_is_not_known_are_refused_with_their_mode(
    tmp_path: Path, pixel: np.number[Any], message: str
) -> None:
    folder = images(tmp_path / "clip", *((f"{n}.tif", Image.fromarray(np.full((6, 8), pixel))) for n in range(2)))
    with pytest.raises(CorruptVideo, match=message):
        read(folder, kind="images")
    with pytest.raises(NoFrames):
        read(folder, kind="images", allow_partial=True)


def test_only_one_series_of_pictures_is_read(tmp_path: Path) -> None:
    made = [(f"{name}_{number}.png", Image.new("L", (8, 6), level)) for number in range(12)
            for name, level in (("flow_x", 1), ("img", 100 + number))]  # fmt: skip
    found = read(images(tmp_path / "clip", *made), kind="images")
    assert found.levels == [100 + number for number in range(12)]


def test_a_clip_that_cannot_be_told_is_refused_when_it_is_opened(tmp_path: Path) -> None:
    clip = Clip("a/v", "a", str(tmp_path / "v"), "images", 0, 0, fault="holds several series of pictures")
    with pytest.raises(AmbiguousClip, match="v: holds several series"), open_clip(clip, allow_partial=True):
        pass


def test_a_palette_with_transparency_and_cmyk(tmp_path: Path) -> None:
    palette = Image.new("P", (8, 6), 1)
    palette.putpalette([0, 0, 0, 9, 8, 7])
    folder = images(tmp_path / "clip", ("2.jpg", Image.new("CMYK", (8, 6), (0, 0, 0, 0))))
    palette.save(folder / "1.png", transparency=b"\xff\x80")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        found = read(folder, kind="images")
    assert [frame[0, 0].tolist() for frame in found.frames] == [[9, 8, 7], [255, 255, 255]]


def test_exif_orientation_is_applied(tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6  # shown after a turn of 90° clockwise
    (tmp_path / "clip").mkdir()
    Image.fromarray(corners()).save(tmp_path / "clip" / "1.jpg", exif=exif, quality=95, subsampling=0)
    found = read(tmp_path / "clip", kind="images")
    assert found.asked == [(96, 64)]
    assert np.abs(found.frames[0].astype(int) - np.rot90(corners(), -1))[8:-8, 8:-8].mean() < 12


def test_a_damaged_image_is_named_or_left_out(tmp_path: Path) -> None:
    good = Image.fromarray(textured(1)[0])
    folder = images(tmp_path / "clip", ("1.jpg", good), ("2.jpg", good), ("3.jpg", good))
    cut(folder / "2.jpg", 0.5)
    with pytest.raises(CorruptVideo, match=r"2\.jpg: damaged image: image file is truncated .*; replace or remove it"):
        read(folder, kind="images")
    kept = read(folder, kind="images", allow_partial=True)
    assert (len(kept.frames), kept.partial) == (2, True)
    (folder / "2.jpg").write_text("no image")
    with pytest.raises(CorruptVideo, match=r"2\.jpg: is not an image that Pillow can read; replace or remove it"):
        read(folder, kind="images")


def test_an_image_bomb_is_refused(tmp_path: Path) -> None:
    folder = images(tmp_path / "clip", ("1.png", Image.new("L", (8, 6))))
    content = bytearray((folder / "1.png").read_bytes())
    struct.pack_into(">II", content, 16, 9000, 9000)
    struct.pack_into(">I", content, 29, zlib.crc32(content[12:29]))
    (folder / "1.png").write_bytes(content)
    with pytest.raises(CorruptVideo, match="9000×9000 pixels are more than 67,108,864; make it smaller"):
        read(folder, kind="images")


def test_a_folder_without_images_or_gone(tmp_path: Path) -> None:
    with pytest.raises(NoFrames, match="clip: no image of it can be read; put images there or remove it"):
        read(images(tmp_path / "clip"), kind="images")
    with pytest.raises(VanishedFile, match="nowhere: is gone; run the same command again"):
        read(tmp_path / "nowhere", kind="images")


# --- memory and more

MEASURE = """
import sys
from amefu_cli.artefacts.videos.find import Clip
from amefu_cli.artefacts.videos.decode import VideoReader, open_clip
with open_clip(Clip("c/v", "c", sys.argv[1], "video", 0, 0), allow_partial=False) as reader:
    print(sum(1 for _ in reader.frames(lambda height, width: (height, width))))
print(next(line.split()[1] for line in open("/proc/self/status") if line.startswith("VmHWM:")))
"""


def long_video(path: Path, seconds: int) -> Path:
    """One encoded second, muxed again and again."""
    with av.open(str(path), "w") as output:
        stream = output.add_stream("mpeg4", rate=25)
        stream.width, stream.height, stream.pix_fmt = 16, 16, "yuv420p"
        packets = [p for image in ramp(25, 16, 16) for p in stream.encode(av.VideoFrame.from_ndarray(image))]
        packets += stream.encode()
        content = [(bytes(packet), packet.is_keyframe) for packet in packets]
        for number in range(25 * seconds):
            data, is_keyframe = content[number % 25]
            packet = av.Packet(data)
            packet.pts = packet.dts = number
            packet.time_base, packet.stream, packet.is_keyframe = Fraction(1, 25), stream, is_keyframe
            output.mux(packet)
    return path


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="the peak of a process is read from /proc")
@pytest.mark.parametrize("suffix", ["mp4", "avi"])
def test_an_hour_takes_no_more_memory_than_a_second(tmp_path: Path, suffix: str) -> None:
    peaks = {}
    for seconds in (1, 3600):
        path = long_video(tmp_path / f"{seconds}.{suffix}", seconds)
        command = [sys.executable, "-c", MEASURE, str(path)]
        output = subprocess.run(command, check=True, capture_output=True, text=True).stdout.split()
        assert int(output[0]) == 25 * seconds
        peaks[seconds] = int(output[1]) / 1024
    assert peaks[3600] - peaks[1] < 48, f"peaks in MiB: {peaks}"  # FFmpeg's index: 24 bytes a frame, and copies


EXPECTED = {
    "datumaro_tiny.avi": 8,
    "decord_corrupted.mp4": CorruptVideo,
    "decord_rot_180.mov": 3,
    "decord_rot_270.mov": 3,
    "decord_rot_90.mov": 3,
    "exo_bear-vp9-odd-dimensions.webm": 30,
    "exo_full_blocks.mkv": NoVideoStream,
    "exo_h265_with_metadata_track.mp4": 3,
    "exo_sample.flv": 30,
    "exo_sample.text.mp4": NoVideoStream,
    "exo_sample_ac3.mp4": NoVideoStream,
    "exo_sample_ac4_protected.mp4": NoVideoStream,
    "exo_sample_android_slow_motion.mp4": 7,
    "exo_sample_av1.mp4": 30,
    "exo_sample_fragmented.mp4": 30,
    "exo_sample_fragmented_clearkey.mp4": EncryptedVideo,
    "exo_sample_fragmented_sideloaded_track.mp4": CorruptVideo,
    "exo_sample_h263.ts": 25,
    "exo_sample_h265.ts": 30,
    "exo_sample_partially_fragmented.mp4": 30,
    "exo_sample_scte35.ts": 3,
    "exo_sample_with_htc_rotation_track_name.mkv": 30,
    "exo_subsample_encrypted_altref.webm": EncryptedVideo,
    "exo_video_desks.3gp": 71,
    "gen_120fps.mp4": 120,
    "gen_animated.gif": 10,
    "gen_audio_first_video_second.mp4": 90,
    "gen_audio_only.mp4": NoVideoStream,
    "gen_base_h264.mp4": 60,
    "gen_dangling_symlink.mp4": NotAVideo,
    "gen_empty.mp4": EmptyFile,
    "gen_hevc.mp4": 30,
    "gen_hevc_10bit.mp4": 30,
    "gen_longgop_bframes.ts": 30,
    "gen_mpeg2.mpg": 30,
    "gen_odd_179x133_yuv444.mp4": 30,
    "gen_one_frame.mp4": 1,
    "gen_raw_annexb_no_duration.h264": 30,
    "gen_sar_8_3.mp4": 30,
    "gen_text_named.mp4": NotAVideo,
    "gen_tiny_16x16.mp4": 30,
    "gen_truncated_real_avi.avi": TruncatedVideo,
    "gen_two_frames.mp4": 2,
    "gen_wide_1920x64.mp4": 30,
    "gen_wrong_extension.avi": 60,
    "mediabunny_0.ts": 298,
    "mediabunny_annex-b.mp4": TruncatedVideo,
    "mediabunny_eac3.mkv": NoVideoStream,
    "mediabunny_edts.mp4": 225,
    "mediabunny_entry24-segment3.ts": 100,
    "mediabunny_frames.webm": 100,
    "mediabunny_mp3.ts": NoVideoStream,
    "mediabunny_no-initial-keyframe.ts": 15,
    "mediabunny_rotate-buck-bunny.mp4": 45,
    "mediabunny_video.mp4": 125,
    "torchcodec_av1_video.mkv": 125,
    "torchcodec_bt709_full_range.mp4": 30,
    "torchcodec_h265_10bits.mp4": 30,
    "torchcodec_h265_video.mp4": 10,
    "torchcodec_nasa_13013.mp4": 390,
}
PORTRAIT = {
    "decord_rot_90.mov",
    "decord_rot_270.mov",
    "exo_h265_with_metadata_track.mp4",
    "mediabunny_rotate-buck-bunny.mp4",
}


@pytest.mark.skipif(not HOSTILE.is_dir(), reason=f"{HOSTILE} is not here")
@pytest.mark.parametrize("name", EXPECTED)
def test_odd_files_of_other_projects(name: str) -> None:
    expected = EXPECTED[name]
    if not (HOSTILE / name).is_file():
        pytest.skip(f"{name} is not here")
    if isinstance(expected, int):
        found = read(HOSTILE / name, size_of=lambda height, width: (64, 64))
        assert len(found.frames) == expected
        (height, width) = found.asked[0]
        assert (height > width) == (name in PORTRAIT)
    else:
        with pytest.raises(VideoError) as caught:
            read(HOSTILE / name, size_of=lambda height, width: (64, 64))
        assert type(caught.value) is expected
