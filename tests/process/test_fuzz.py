"""Damaged files and odd layouts without end: whatever the bytes, `amefu frames` stores a video or names what is wrong
with it; whatever the folders, no clip is of two series of pictures, and all that is passed over is named.

A few hundred of each with the other tests; `make fuzz SECONDS=3600 SEED=7` runs both for as long as one likes.
"""

from __future__ import annotations

import os
import random
import shutil
from collections.abc import Callable, Iterator
from contextlib import suppress
from itertools import count, takewhile
from pathlib import Path
from time import monotonic

import av
import pytest
from conftest import Done, moving_clip, run
from PIL import Image

from amefu_cli.artefacts.files.names import archive_path
from amefu_cli.artefacts.stores.failures import read_failures
from amefu_cli.artefacts.stores.header import FramesHeader
from amefu_cli.artefacts.stores.store import open_store
from amefu_cli.artefacts.videos import opening as video_errors
from amefu_cli.artefacts.videos.copies import one_of_each
from amefu_cli.artefacts.videos.decode import open_clip
from amefu_cli.artefacts.videos.find import Clip, find_clips, is_unchanged
from amefu_cli.errors import UsageError, VideoError

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
        ids, written = set(), set[bytes]()
        for number in range(FILES):
            damaged = rng.choice(DAMAGES)(list(good.values()), rng)
            if damaged in written:  # the same clip twice is one
                continue
            written.add(damaged)
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


SERIES = (
    "img_#.png", "image_#.png", "frame#.png", "rgb-#.png", "#.png", "clip_#.png", "left_#.png", "right_#.png",
    "cam1_#.png", "cam2_#.png", "flow_x_#.png", "flow_y_#.png", "#_mask.png", "depth_#.png", "image_#_disp.png",
    "thumb_#.png", "IMG (#).png", "t#s.png", "img_#.webp",
)  # fmt: skip
FOLDERS = (
    "a", "b", "run", "1", "2", "v", "w_frames", "train", "val", "test", "rgb", "flow", "flow_x", "depth", "masks",
    "@eaDir", "#recycle", "$RECYCLE.BIN", ".ipynb_checkpoints", "__MACOSX", "x.mp4", "caf\u00e9", "cafe\u0301",
    "two\nlines",
    "\udce9", " ", "frames.zarr",
)  # fmt: skip
FILES_BESIDE = (
    "v.mp4", "v.avi", "v.f137.mp4", "v.temp.mp4", "v.mp4.part", "w.mp4", "w.mp4.aria2", "w_depth.mp4", "preview.gif",
    "notes.txt", "README", ".DS_Store", "cover.jpg", "1.mp4", "1.jpg", "n_frames", "two\nlines.mkv", "\udce9.mp4",
)  # fmt: skip


def lay_series(folder: Path, pattern: str, number: int, rng: random.Random) -> None:
    """Two to five pictures of `number` in red, and in green which of them each is: told apart by what they show."""
    start, step, digits = rng.choice((0, 1, 9, 98)), rng.choice((1, 2, 5)), rng.choice((1, 3, 5))
    for place in range(rng.randrange(2, 6)):
        path = folder / pattern.replace("#", f"{start + step * place:0{digits}d}")
        picture = Image.new("RGB", (8, 8), (number, 40 * place, 0))
        picture.save(path, **({"lossless": True} if path.suffix == ".webp" else {}))
        if rng.random() < 0.01:
            path.write_bytes(path.read_bytes()[:60])


def lay_tree(folder: Path, rng: random.Random, depth: int, numbers: Iterator[int]) -> None:
    folder.mkdir(exist_ok=True)
    if depth and rng.random() < 0.5:
        words: set[str] = set()
        for pattern in rng.sample(SERIES, rng.choice((1, 1, 2, 3))):
            if pattern.split(".")[0] not in words:  # img_1.png and img_2.webp are one series
                lay_series(folder, pattern, next(numbers) % 256, rng)
            words.add(pattern.split(".")[0])
    for name in rng.sample(FILES_BESIDE, rng.choice((0, 1, 3))):
        (folder / name).write_bytes(rng.randbytes(rng.choice((0, 9, 30))))
    if rng.random() < 0.2:
        target = rng.choice((folder, folder.parent, folder / "nowhere", Path("/"), folder / "self"))
        (folder / rng.choice(("self", "link", "link.mp4", "img_7.png"))).unlink(missing_ok=True)
        with suppress(FileExistsError):
            (folder / rng.choice(("self", "link", "link.mp4"))).symlink_to(target)
    if rng.random() < 0.1:
        os.mkfifo(folder / "pipe.mp4")
    for name in rng.sample(FOLDERS, rng.randrange(1, 5)) if depth < 4 else ():
        lay_tree(folder / name, rng, depth + 1, numbers)


@pytest.mark.slow
@pytest.mark.timeout(SECONDS + 300)
def test_any_layout_gives_clips_of_one_series_each(tmp_path: Path) -> None:
    rng = random.Random(SEED)
    end = monotonic() + SECONDS
    for number in takewhile(lambda run: run < 10 * RUNS or monotonic() < end, count()):
        root = tmp_path / str(number)
        lay_tree(root, rng, 0, count(1))
        try:
            check_layout(root)
        except BaseException as error:
            kept = shutil.copytree(root, Path.cwd() / f"fuzz-layout-{SEED}-{number}", symlinks=True,
                                   ignore=shutil.ignore_patterns("pipe.mp4"))  # fmt: skip
            raise AssertionError(f"{error}\nthe folder is kept in {kept}") from error
        shutil.rmtree(root)


def check_layout(root: Path) -> None:
    try:
        found = one_of_each(find_clips(root, follow_links=False))
    except UsageError:  # kinds of pictures above the classes
        assert {"rgb", "flow", "flow_x", "depth", "masks"}.intersection(path.name for path in root.iterdir())
        return
    assert one_of_each(find_clips(root, follow_links=False)) == found
    for of in ("id", "path", "source"):
        assert len({getattr(clip, of) for clip in found.clips}) == len(found.clips)
    folders = {clip.path for clip in found.clips if clip.kind == "images"}
    for clip in found.clips:
        archive_path(clip.id)
        assert root / clip.source == clip.path
        assert not folders.intersection(clip.path.parents)
        assert not {"@eaDir", "#recycle", ".ipynb_checkpoints"} & {*clip.path.parts}
        if clip.kind == "images":
            check_series(clip)
    named = {path for path, _ in (*found.skipped, *found.beside)} | {clip.path for clip in found.clips}
    for folder, _, files in os.walk(root):
        for path in (Path(folder) / name for name in files):
            assert named.intersection((path, *path.parents)), f"{path} is neither a clip nor named"


def check_series(clip: Clip) -> None:
    """All pictures that are read are of one series, in their order, and those that count as the clip's state."""
    try:
        with open_clip(clip, allow_partial=True) as reader:
            frames = [frame[0, 0].tolist() for frame in reader.frames(lambda height, width: (height, width))]
    except VideoError:
        return
    assert is_unchanged(clip)
    assert len({red for red, _, _ in frames}) == 1, f"{clip.path}: {frames}"
    assert [green for _, green, _ in frames] == sorted(green for _, green, _ in frames)
