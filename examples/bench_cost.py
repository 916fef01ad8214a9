"""What `frames` costs besides decoding, and what the guarantees cost: syncing, checksums, checking a whole store."""

from __future__ import annotations

import json
import os
import shutil
import zipfile
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from unittest.mock import patch

import av
import torch
from bench_kit import (
    QUIET,
    Bench,
    Spent,
    cpu_seconds,
    features_store,
    forget,
    frames_store,
    noise_videos,
    pairs,
    seconds,
)
from bench_networks import job_of

from amefu_cli.artefacts.stores.check import READERS, verify_store
from amefu_cli.artefacts.stores.header import DepthHeader, FramesHeader, Stream
from amefu_cli.artefacts.stores.pictures import encode_jpeg
from amefu_cli.artefacts.stores.reading import LOCAL, Archive
from amefu_cli.artefacts.stores.store import open_store
from amefu_cli.artefacts.videos.find import find_clips
from amefu_cli.flows.frames import source_identity
from amefu_cli.method.backbones import build_backbone
from amefu_cli.stages import ClipJob
from amefu_cli.stages import frames as frames_stage
from amefu_cli.stages.features import Extraction, LoadedStream, extract_features

SIZE = 256
CLIPS, CLIP_FRAMES = 60, 250  # of the decoding bench: as long as Kinetics, 240×320
FEW = 12  # of the guarantees


def bench_frames(bench: Bench) -> None:
    """frames.zarr against a bare loop of PyAV decode, resize and JPEG; then two processes against one."""
    videos = bench.folder / "clips"
    noise_videos(videos, CLIPS, CLIP_FRAMES, (240, 320))
    paths = sorted(videos.rglob("*.mp4"))

    def bare() -> None:
        for path in paths:
            with av.open(str(path)) as container:
                stream = container.streams.video[0]
                stream.thread_type = "SLICE"
                stream.codec_context.thread_count = 1
                reformatter = av.video.reformatter.VideoReformatter()
                for frame in container.decode(stream):
                    resized = reformatter.reformat(frame, SIZE, SIZE, "rgb24", interpolation="BILINEAR", threads=1)
                    encode_jpeg(resized.to_ndarray(), quality=95)

    def command(folder: Path, jobs: int) -> Spent:
        out = bench.folder / f"speed_{jobs}.zarr"
        shutil.rmtree(out, ignore_errors=True)
        return bench.amefu("frames", folder, "--out", out, "--jobs", jobs, "--json", "--workspace", bench.folder)

    def stage(jobs: int) -> float:
        """Seconds inside the pool's life, from the command's own report: process start is `amefu --help`'s row."""
        return float(json.loads(command(videos, jobs).output)["seconds"])

    noise_videos(bench.folder / "short", 1, 1, (240, 320))
    started = min(command(bench.folder / "short", 1).cpu for _ in range(2))
    cpu_ratio = cpu_seconds(bare) / (command(videos, 1).cpu - started)
    ours, limit, ratio = pairs(lambda: stage(1), lambda: seconds(bare))
    total = CLIPS * CLIP_FRAMES
    rates = f"{total / ours:.0f} of {total / limit:.0f} frames/s; by CPU without starting {cpu_ratio:.2f}"
    bench.row("frames, one process / bare loop", f"{ratio:.2f}", "≥ 0.9", rates)
    two, one, speed_up = pairs(lambda: stage(2), lambda: stage(1))
    rates = f"{total / two:.0f} against {total / one:.0f} frames/s"
    bench.row("frames, --jobs 2 / one", f"{speed_up:.2f}", "≥ 1.8", rates)


def nothing(*_: object, **__: object) -> None:
    pass


def no_checksum(*_: object) -> int:
    return 0


def read_unchecked(archive: Archive, name: str) -> memoryview:
    """As the reader's own, for archives of our writer, whose members have no extra fields."""
    member = archive.members[name]
    return archive._bytes(member.place + LOCAL.size + len(name.encode()), member.size)


@contextmanager
def unguarded() -> Iterator[None]:
    """The same code without syncing, without the checksums of writing and reading, and without looking whether a
    source has changed."""
    with (
        patch.object(os, "fsync", nothing),
        patch.object(zipfile, "crc32", no_checksum),
        patch.object(Archive, "read", read_unchecked),
        patch.object(frames_stage, "_check_unchanged", nothing),
    ):
        yield


def bench_guarantees(bench: Bench) -> None:
    """Throughput of frames (as one worker decodes clips) and features against the same code `unguarded`."""
    noise_videos(bench.folder / "cost", FEW, CLIP_FRAMES, (240, 320))
    clips = find_clips(bench.folder / "cost", follow_links=False).clips
    jobs = [ClipJob(clip, source_identity(clip, checksum=False)) for clip in clips]
    path = bench.folder / "cost-frames.zarr"

    def frames() -> float:
        shutil.rmtree(path, ignore_errors=True)
        frames_stage._store.cache_clear()
        with frames_store(path):
            return seconds(lambda: [frames_stage.extract_clip(path, job, allow_partial=False) for job in jobs])

    against_unguarded(bench, "frames", frames)
    shutil.rmtree(path)
    words = ("--out", path, "--workspace", bench.folder)
    bench.amefu("frames", bench.folder / "cost", *words)
    words = ("--frames", path, "--out", bench.folder / "cost-depth.zarr", "--workspace", bench.folder)
    bench.amefu("depth", "--estimator", "tiny", "--no-upstream", *words)
    backbone = build_backbone("resnet18").eval().to(bench.device, memory_format=torch.channels_last)
    rows = {
        "rgb": Stream("frames", "resnet18", "none", 112, 112),
        "depth": Stream("depth", "resnet18", "none", 112, 112, "gray"),
    }
    streams = {name: LoadedStream(row, backbone) for name, row in rows.items()}

    def features() -> float:
        of_frames = open_store(path, FramesHeader, fix="")
        of_depth = open_store(bench.folder / "cost-depth.zarr", DepthHeader, fix="")
        jobs = [job_of(record, *rows) for video, record in of_frames.records().items() if video.endswith("0")]
        shutil.rmtree(bench.folder / "cost-features.zarr", ignore_errors=True)
        with features_store(bench.folder / "cost-features.zarr", rows) as store:
            setup = Extraction(
                of_frames, of_depth, store, streams, bench.device, torch.float32, batch=32, seed=0
            )  # fmt: skip
            return extract_features(setup, jobs, **QUIET).seconds

    against_unguarded(bench, "features", features)


def against_unguarded(bench: Bench, name: str, stage: Callable[[], float]) -> None:
    """One row: the throughput of a stage as a share of what it is `unguarded`."""

    def bare() -> float:
        with unguarded():
            return stage()

    stage()
    ours, limit, ratio = pairs(stage, bare, count=5)
    detail = f"{ours:.2f} s against {limit:.2f} s, clips of {CLIP_FRAMES} frames"
    bench.row(f"{name} / without syncing and checks", f"{ratio:.2f}", "≥ 0.95", detail)


def bench_verify(bench: Bench) -> None:
    """Checking frames.zarr against plain reading of its files, both from the disk and not from memory."""
    videos, path = bench.folder / "verify-clips", bench.folder / "verify.zarr"
    noise_videos(videos, 100, CLIP_FRAMES, (240, 320))
    bench.amefu("frames", videos, "--out", path, "--workspace", bench.folder)
    files = [file for file in sorted(path.rglob("*")) if file.is_file()]
    total = sum(file.stat().st_size for file in files)
    store = open_store(path, FramesHeader, fix="")

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
