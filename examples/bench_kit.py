"""What the benchmarks share: the folder and the table, timing in turns, noise clips, and stores filled without work."""

from __future__ import annotations

import os
import statistics
import struct
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory, TemporaryFile
from typing import NamedTuple

import numpy as np
import torch

from amefu_cli.artefacts.stores.header import (
    DepthHeader,
    DepthNotes,
    EstimatorIdentity,
    FeaturesHeader,
    FeaturesNotes,
    FramesHeader,
    FramesNotes,
    Stream,
    VideoRecord,
    record_json,
)
from amefu_cli.artefacts.stores.store import VideoStore, prepare_store
from amefu_cli.artefacts.stores.writing import VideoWriter
from amefu_cli.demo.clips import write_mp4
from amefu_cli.settings import ClipSettings, DepthSettings, FeaturesSettings, FramesSettings
from amefu_cli.stages.networks import choose_device, choose_precision

QUIET = {"failed": lambda video, error: None, "progress": lambda done, total, what: None}


class Spent(NamedTuple):
    """What one command took as a whole process: CPU seconds with those of its children, memory in GB."""

    wall: float
    cpu: float
    memory: float
    output: str


class Bench:
    """The folder and the device of one run, and the table that it prints."""

    def __init__(self, folder: Path, device: str) -> None:
        self.folder = folder
        self.device = choose_device(device)
        self.precision = choose_precision("auto", self.device)

    def row(self, what: str, value: str, target: str, detail: str) -> None:
        print(f"{what:44} {value:>12}   {target:9} {detail}", flush=True)

    @contextmanager
    def room(self) -> Iterator[Path]:
        """A folder for what is too large to keep until the end."""
        with TemporaryDirectory(dir=self.folder) as room:
            yield Path(room)

    def amefu(self, *words: object) -> Spent:
        """One amefu command as a whole process."""
        command = [sys.executable, "-m", "amefu_cli", *map(str, words)]
        with TemporaryFile("w+") as output, TemporaryFile("w+") as errors:
            started = time.perf_counter()
            process = subprocess.Popen(command, stdout=output, stderr=errors)
            _, status, usage = os.wait4(process.pid, 0)
            wall = time.perf_counter() - started
            process.returncode = os.waitstatus_to_exitcode(status)
            output.seek(0), errors.seek(0)
            if process.returncode != 0:
                raise SystemExit(f"{' '.join(command)}: exit {process.returncode}\n{errors.read()}")
            return Spent(wall, usage.ru_utime + usage.ru_stime, usage.ru_maxrss / 2**20, output.read())

    def command_row(self, what: str, target: str, *words: object, detail: str = "", count: int = 3) -> None:
        """A row of a command that is run a few times: the median as a whole process."""
        runs = [self.amefu(*words) for _ in range(count)]
        wall, cpu = (statistics.median(side) for side in list(zip(*runs, strict=True))[:2])
        self.row(what, f"{wall:.2f} s", target, f"whole process, {cpu:.2f} s of CPU{detail}")

    def synchronize(self) -> None:
        if self.device.type == "cuda":
            torch.cuda.synchronize(self.device)


def seconds(call: Callable[[], object]) -> float:
    started = time.perf_counter()
    call()
    return time.perf_counter() - started


def cpu_seconds(call: Callable[[], object]) -> float:
    """Of all threads of this process: what counts where others keep the machine busy."""
    started = time.process_time()
    call()
    return time.process_time() - started


def pairs(first: Callable[[], float], second: Callable[[], float], count: int = 3) -> tuple[float, float, float]:
    """Medians of first, second, and of the ratio second / first, pair by pair."""
    measured = [(first(), second()) for _ in range(count)]
    ratios = [b / a for a, b in measured]
    a, b = (statistics.median(side) for side in zip(*measured, strict=True))
    return a, b, statistics.median(ratios)


def noise_videos(folder: Path, count: int, frames: int, size: tuple[int, int]) -> None:
    """Smooth moving noise, so that H.264 and JPEG have the work that real clips give them."""
    rng = np.random.default_rng(0)
    canvas = torch.from_numpy(rng.integers(0, 255, (1, 3, 40, 60), dtype=np.uint8)).float()
    height, width = size
    wide = torch.nn.functional.interpolate(canvas, (height + frames, width + frames), mode="bicubic")
    pixels = wide[0].clamp(0, 255).byte().permute(1, 2, 0).numpy()
    clip = np.stack([pixels[t : t + height, t : t + width] for t in range(frames)])
    for index in range(count):
        clip[:, :16, :16] = rng.integers(0, 255, 3, np.uint8)  # of clips that are the same, `frames` takes one
        write_mp4(folder / f"class_{index % 4}" / f"clip_{index:03d}.mp4", clip, 25)


def frames_store(path: Path) -> VideoStore[FramesHeader]:
    header = FramesHeader(settings=FramesSettings(), notes=FramesNotes(videos="videos"))
    return prepare_store(path, header, rebuild=False)


def depth_store(path: Path) -> VideoStore[DepthHeader]:
    header = DepthHeader(
        settings=DepthSettings(estimator="tiny", precision="float32"),
        made_from=EstimatorIdentity("tiny", "its own"), notes=DepthNotes(frames="frames.zarr"),
    )  # fmt: skip
    return prepare_store(path, header, rebuild=False)


def features_store(path: Path, streams: Mapping[str, Stream]) -> VideoStore[FeaturesHeader]:
    header = FeaturesHeader(
        settings=FeaturesSettings(views=0, precision="float32"), clip=ClipSettings(), streams=streams,
        notes=FeaturesNotes(
            frames="frames.zarr", depth="depth.zarr", rgb="rgb.safetensors", depth_stream="depth.safetensors",
            weights=dict.fromkeys(streams, "none"),
        ),
    )  # fmt: skip
    return prepare_store(path, header, rebuild=False)


def video_names(count: int) -> list[str]:
    """The ids of `count` videos of a hundred classes."""
    return [f"class_{index % 100:02d}/clip_{index:06d}" for index in range(count)]


def multiply(store: VideoStore, writer: VideoWriter, like: VideoRecord, videos: Iterable[str]) -> None:
    """Fill a store with copies of the video that `writer` has written, each with a record `like` this one: only the
    comment of the archive differs, which is all that listing reads."""
    writer.commit(frames=like.frames, fps=like.fps, source=like.source, made_from=like.made_from)
    first = store.path / "videos" / f"{like.id}.zip"
    archive, comment = first.read_bytes(), record_json(store.record(like.id))
    assert archive.endswith(comment)
    body, record = archive[: -len(comment) - 2], store.record(like.id)
    first.unlink()
    for video in videos:
        comment = record_json(record._replace(id=video, source=f"{video}.mp4"))
        write_new(f"{store.path}/videos/{video}.zip", body + struct.pack("<H", len(comment)) + comment)


def write_new(path: str, content: bytes) -> None:
    """A file, and its folder where that is new too."""
    if not os.path.isdir(folder := os.path.dirname(path)):
        os.makedirs(folder)
    with open(path, "wb") as file:
        file.write(content)


def forget(files: Iterable[Path]) -> None:
    """Have the system drop what it keeps of these files in memory."""
    for file in files:
        descriptor = os.open(file, os.O_RDONLY)
        os.posix_fadvise(descriptor, 0, 0, os.POSIX_FADV_DONTNEED)
        os.close(descriptor)
