"""What the guarantees cost, and how fast a workspace is looked through: the last rows of `make bench`."""

from __future__ import annotations

import os
import shutil
import statistics
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from unittest.mock import patch

import torch
from amefu_cli.stages.pending import pending_clips, pending_features
from bench_kit import QUIET, Bench, everything, noise_videos, pairs, seconds

from amefu_cli.artefacts.files import atomic
from amefu_cli.artefacts.files.split import Split
from amefu_cli.artefacts.stores import staging as publishing
from amefu_cli.artefacts.stores import writing as video_writer
from amefu_cli.artefacts.stores.check import READERS, verify_store
from amefu_cli.artefacts.stores.header import HEADER, VideoRecord, group_json, record_json
from amefu_cli.artefacts.stores.store import open_store, prepare_store
from amefu_cli.artefacts.videos.find import find_clips
from amefu_cli.method.backbones import build_backbone
from amefu_cli.settings import ClipSettings, FeaturesSettings, FramesSettings
from amefu_cli.stages.features import Extraction, Stream, extract_features
from amefu_cli.stages.frames import extract_frames

CLIPS, CLIP_FRAMES = 20, 250
MANY = 10_000


def nothing(*_: object, **__: object) -> None:
    pass


@contextmanager
def unguarded() -> Iterator[None]:
    """The same code without syncing and without reading back what was written: this process does both, no worker."""
    with (
        patch.object(video_writer, "sync_tree", nothing),
        patch.object(publishing, "sync", nothing),
        patch.object(atomic, "sync", nothing),
        patch.object(video_writer, "_check", nothing),
    ):
        yield


def bench_guarantees(bench: Bench) -> None:
    """Throughput of frames and features as they are against the same code `unguarded`."""
    noise_videos(bench.folder / "cost", CLIPS, CLIP_FRAMES, (240, 320))
    clips = find_clips(bench.folder / "cost", follow_links=False).clips
    backbone = build_backbone("resnet18").eval().to(bench.device, memory_format=torch.channels_last)

    def frames() -> float:
        path = bench.folder / "cost-frames.zarr"
        shutil.rmtree(path, ignore_errors=True)
        with prepare_store(path, "frames", settings={}, made_from={}, notes={}, rebuild=False) as store:
            jobs, _ = pending_clips(clips, store, checksum=False, takes=everything, again=())
            done: list[float] = []  # counted from the first clip on: a worker that starts here loads the benchmark too
            extract_frames(
                jobs, store, settings=FramesSettings(), processes=1, timeout=600, allow_partial=False,
                failed=QUIET["failed"], progress=lambda *_: done.append(time.perf_counter()),
            )  # fmt: skip
            return done[-1] - done[0]

    def features() -> float:
        stores = [open_store(bench.folder / f"cost-{kind}.zarr", kind, fix="") for kind in ("frames", "depth")]
        path = bench.folder / "cost-features.zarr"
        shutil.rmtree(path, ignore_errors=True)
        with prepare_store(path, "features", settings={}, made_from={}, notes={}, rebuild=False) as store:
            split = Split(("class_0", "class_1"), (), ("class_2", "class_3"))
            jobs, _ = pending_features(
                *stores, store, split=split, settings=FeaturesSettings(views=0), clip=ClipSettings(),
                takes=lambda video: video.endswith("0"), again=(),
            )  # fmt: skip
            setup = Extraction(
                *stores, store, streams={name: Stream(backbone, 112, "gray") for name in ("rgb", "depth")},
                device=bench.device, precision=torch.float32, batch=32, seed=0, flip=0.0,
            )  # fmt: skip
            return extract_features(setup, jobs, **QUIET).seconds

    against_unguarded(bench, "frames", frames)
    bench.amefu(
        "depth", "--estimator", "tiny", "--frames", bench.folder / "cost-frames.zarr", "--no-upstream",
        "--out", bench.folder / "cost-depth.zarr", "--workspace", bench.folder,
    )  # fmt: skip
    against_unguarded(bench, "features", features)


def against_unguarded(bench: Bench, name: str, stage: Callable[[], float]) -> None:
    """One row: the throughput of a stage as a share of what it is `unguarded`."""

    def bare() -> float:
        with unguarded():
            return stage()

    stage()
    ours, limit, ratio = pairs(stage, bare, count=9)
    detail = f"{ours:.2f} s against {limit:.2f} s, clips of {CLIP_FRAMES} frames"
    bench.row(f"{name} / without syncing and checks", f"{ratio:.2f}", "≥ 0.95", detail)


def bench_status(bench: Bench) -> None:
    """`amefu status` on three stores of 10,000 videos, of which it reads nothing but the headers."""
    workspace = bench.folder / "status"
    made_from: dict[str, str] = {}
    for kind in ("frames", "depth", "features"):
        with prepare_store(
            workspace / f"{kind}.zarr",
            kind,
            settings={},
            made_from={},
            notes={"videos": "none"} if kind == "frames" else {"frames": "frames.zarr"},
            rebuild=False,
        ) as store:
            fingerprint = store.expected_fingerprint(made_from)
            record = VideoRecord("", 32, 25.0, "clip.mp4", made_from, fingerprint)
            for index in range(MANY):
                video = f"class_{index % 100:02d}/clip_{index:05d}"
                folder = store.path / "videos" / video
                folder.mkdir(parents=True)
                (folder / HEADER).write_bytes(group_json(record_json(replace(record, id=video))))
            made_from = {"frames": fingerprint} if kind == "frames" else {**made_from, "depth": fingerprint}
    median = statistics.median(bench.amefu("status", "--workspace", workspace) for _ in range(3))
    bench.row(f"status, 3 stores of {MANY:,} videos", f"{median:.2f} s", "≤ 2 s", "whole process")


def bench_verify(bench: Bench) -> None:
    """Checking frames.zarr against plain reading of its files, both from the disk and not from memory."""
    videos, path = bench.folder / "verify-clips", bench.folder / "verify.zarr"
    noise_videos(videos, 100, CLIP_FRAMES, (240, 320))
    bench.amefu("frames", videos, "--out", path, "--workspace", bench.folder)
    files = [file for file in sorted(path.rglob("*")) if file.is_file()]
    total = sum(file.stat().st_size for file in files)
    store = open_store(path, "frames", fix="")

    def plain() -> float:
        forget(files)
        with ThreadPoolExecutor(READERS) as threads:
            return seconds(lambda: list(threads.map(Path.read_bytes, files)))

    def verify() -> float:
        forget(files)
        return verify_store(store, progress=QUIET["progress"]).seconds

    ours, limit, ratio = pairs(verify, plain)
    rates = f"{total / ours / 1e6:.0f} of {total / limit / 1e6:.0f} MB/s"
    bench.row("verify / plain reading from the disk", f"{ratio:.2f}", "≥ 0.5", rates)


def forget(files: list[Path]) -> None:
    """Have the system drop what it keeps of these files in memory."""
    for file in files:
        descriptor = os.open(file, os.O_RDONLY)
        os.posix_fadvise(descriptor, 0, 0, os.POSIX_FADV_DONTNEED)
        os.close(descriptor)
