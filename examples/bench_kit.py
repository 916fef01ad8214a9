"""What the benchmarks share: the folder and the table, timing in turns, noise clips."""

from __future__ import annotations

import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch

from amefu_cli.demo.clips import write_mp4
from amefu_cli.stages.networks import choose_device, choose_precision

QUIET = {"failed": lambda video, error: None, "progress": lambda done, total, what: None}


def everything(video: str) -> bool:
    return True


class Bench:
    """The folder and the device of one run, and the table that it prints."""

    def __init__(self, folder: Path, device: str) -> None:
        self.folder = folder
        self.device = choose_device(device)
        self.precision = choose_precision("auto", self.device)

    def row(self, what: str, value: str, target: str, detail: str) -> None:
        print(f"{what:42} {value:>12}   {target:12} {detail}", flush=True)

    def amefu(self, *words: object) -> float:
        """Seconds of one amefu command as a whole process."""
        return seconds(lambda: self.output(*words))

    def output(self, *words: object) -> str:
        """What one amefu command prints on stdout."""
        command = [sys.executable, "-m", "amefu_cli", *map(str, words)]
        ended = subprocess.run(command, capture_output=True, text=True)
        if ended.returncode != 0:
            raise SystemExit(f"{' '.join(command)}: exit {ended.returncode}\n{ended.stderr}")
        return ended.stdout

    def synchronize(self) -> None:
        if self.device.type == "cuda":
            torch.cuda.synchronize(self.device)


def seconds(call: Callable[[], object]) -> float:
    started = time.perf_counter()
    call()
    return time.perf_counter() - started


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
        write_mp4(folder / f"class_{index % 4}" / f"clip_{index:03d}.mp4", clip, 25)
