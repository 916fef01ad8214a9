"""Damaged files without end: whatever the bytes, `amefu frames` stores a video or names what is wrong with it.

A few hundred files with the other tests; `make fuzz SECONDS=3600 SEED=7` runs it for as long as one likes.
"""

from __future__ import annotations

import os
import random
import shutil
from collections.abc import Callable
from itertools import count, takewhile
from pathlib import Path
from time import monotonic

import av
import pytest
from conftest import Done, moving_clip, run

from amefu_cli.artefacts.stores.failures import read_failures
from amefu_cli.artefacts.stores.header import FramesHeader
from amefu_cli.artefacts.stores.store import open_store
from amefu_cli.artefacts.videos import opening as video_errors
from amefu_cli.errors import VideoError

SECONDS = float(os.environ.get("FUZZ_SECONDS", "0"))
RUNS = 15  # at least
SEED = int(os.environ.get("FUZZ_SEED", "0"))
FILES = 60  # a run of the command
SEEDS = {
    "h264.mp4": "libx264", "h264.mkv": "libx264", "h264.ts": "libx264", "h265.mov": "libx265", "mpeg4.avi": "mpeg4",
    "vp9.webm": "libvpx-vp9", "mjpeg.avi": "mjpeg", "film.gif": "gif", "flash.flv": "flv", "mpeg2.mpg": "mpeg2video",
}  # fmt: skip
PIXELS = {"gif": "gray", "mjpeg": "yuvj420p"}


def flip_bits(good: list[bytes], rng: random.Random) -> bytes:
    content = bytearray(rng.choice(good))
    reach = rng.choice((64, 1024, len(content)))  # headers as often as pictures
    for _ in range(rng.choice((1, 8, 200))):
        content[rng.randrange(min(reach, len(content)))] ^= 1 << rng.randrange(8)
    return bytes(content)


def cut(good: list[bytes], rng: random.Random) -> bytes:
    content = rng.choice(good)
    begin, end = sorted(rng.randrange(len(content) + 1) for _ in range(2))
    return rng.choice((content[:end], content[begin:], content[:begin] + content[end:]))


def splice(good: list[bytes], rng: random.Random) -> bytes:
    first, second = rng.choice(good), rng.choice(good)
    return first[: rng.randrange(len(first))] + second[rng.randrange(len(second)) :]


def overwrite(good: list[bytes], rng: random.Random) -> bytes:
    """A run of zeros, of ones or of noise: what a bad sector or an unfinished download leaves."""
    content = bytearray(rng.choice(good))
    begin = rng.randrange(len(content))
    length = min(len(content) - begin, rng.choice((4, 512, 8192)))
    content[begin : begin + length] = rng.choice((bytes(length), b"\xff" * length, rng.randbytes(length)))
    return bytes(content)


DAMAGES: tuple[Callable[[list[bytes], random.Random], bytes], ...] = (flip_bits, cut, splice, overwrite)


def good_files(folder: Path) -> dict[str, bytes]:
    """A small video of every kind, by file suffix."""
    for number, (name, codec) in enumerate(SEEDS.items()):
        with av.open(str(folder / name), "w") as output:
            stream = output.add_stream(codec, rate=25)
            stream.height, stream.width, stream.pix_fmt = 64, 64, PIXELS.get(codec, "yuv420p")
            for image in moving_clip(number, frames=12, size=64):
                output.mux(stream.encode(av.VideoFrame.from_ndarray(image)))
            output.mux(stream.encode())
    return {name: (folder / name).read_bytes() for name in SEEDS}


@pytest.mark.slow
@pytest.mark.timeout(SECONDS + 300)
def test_any_bytes_are_a_video_or_one_line_of_failure(tmp_path: Path) -> None:
    rng = random.Random(SEED)
    # A decoder that crashes or hangs costs its one video, by the names of stages/frames.py.
    classes = {name for name, of in vars(video_errors).items() if isinstance(of, type) and issubclass(of, VideoError)}
    known = classes - {"VideoError", "VanishedFile"} | {"WorkerCrash", "WorkerTimeout"}
    good = good_files(tmp_path)
    end = monotonic() + SECONDS
    for _ in takewhile(lambda run: run < RUNS or monotonic() < end, count()):
        videos, workspace = tmp_path / "videos", tmp_path / "workspace"
        (videos / "any").mkdir(parents=True)
        ids = set()
        for number in range(FILES):
            damaged = rng.choice(DAMAGES)(list(good.values()), rng)
            path = videos / "any" / f"{number:02d}{Path(rng.choice(list(good))).suffix}"
            path.write_bytes(damaged)
            ids.add(f"any/{path.stem}")
        options = ("--size", "32", "--jobs", "1", "--timeout", "20")
        ended = run("frames", videos, "--workspace", workspace, *options, code=None)
        try:
            check_run(ended, workspace, ids, known)
        except AssertionError as error:
            kept = shutil.move(videos, Path.cwd() / f"fuzz-failure-{SEED}")
            raise AssertionError(f"{error}\nthe files are kept in {kept}") from error
        shutil.rmtree(videos)
        shutil.rmtree(workspace)


def check_run(ended: Done, workspace: Path, ids: set[str], known: set[str]) -> None:
    """Every file is in the store, whole, or in failures.jsonl, once, by a class that names what is wrong."""
    assert ended.returncode in (0, 3), ended.stderr[-2000:]
    assert "Traceback" not in ended.stderr, ended.stderr[-2000:]
    failures = read_failures(workspace)
    failed = [failure.video for failure in failures]
    stored = open_store(workspace / "frames.zarr", FramesHeader, fix="").records()
    assert sorted([*failed, *stored]) == sorted(ids)
    assert {failure.error for failure in failures} <= known
    run("verify", "--workspace", workspace)
