"""How long a command takes that has little to do, and what a workspace of very many videos costs."""

from __future__ import annotations

import json
import os
import statistics
from collections.abc import Callable
from pathlib import Path

import numpy as np
from bench_kit import (
    Bench,
    cpu_seconds,
    depth_store,
    features_store,
    forget,
    frames_store,
    multiply,
    pairs,
    seconds,
    video_names,
    write_new,
)

from amefu_cli.artefacts.stores.features import read_features
from amefu_cli.artefacts.stores.header import FramesHeader, Stream, VideoRecord
from amefu_cli.artefacts.stores.store import VideoStore, open_store
from amefu_cli.artefacts.stores.writing import depth_writer, feature_writer, frame_writer
from amefu_cli.demo.clips import write_mp4

STREAMS = {
    "rgb": Stream("frames", "mobilenet_v3_large", "none", 224, 224),
    "depth": Stream("depth", "mobilenet_v3_large", "none", 224, 224, "magma"),
}


def bench_help(bench: Bench) -> None:
    bench.amefu("--help")
    bench.command_row("amefu --help", "≤ 0.35 s", "--help", count=9)


def small_clips(folder: Path, count: int) -> None:
    rng = np.random.default_rng(0)
    for index in range(count):
        clip = rng.integers(0, 255, (4, 32, 32, 3), dtype=np.uint8)  # no clip stands twice
        write_mp4(folder / f"class_{index % 10}" / f"{index:04d}.mp4", clip, 25)


def bench_start(bench: Bench) -> None:
    """The CPU that `depth --estimator tiny` takes for one new video: nearly all of it is starting."""
    for what, words in (("also to decode", ()), ("decoded already", ("--no-upstream",))):
        with bench.room() as room:
            small_clips(room / "videos", 1)
            common = ["--workspace", room / "workspace"]
            bench.amefu("frames", room / "videos", "--size", 32, *common)
            runs = []
            for index in range(1, 6):
                small_clips(room / "videos", index)  # of which one is new
                if words:
                    bench.amefu("frames", room / "videos", "--size", 32, *common)
                runs.append(bench.amefu("depth", "--estimator", "tiny", *words, *common))
        cpu, wall = (statistics.median(getattr(run, name) for run in runs) for name in ("cpu", "wall"))
        bench.row(f"depth of one new video, {what}", f"{cpu:.2f} s", "≤ 2.2 s", f"of CPU with children; {wall:.2f} s")


def bench_again(bench: Bench) -> None:
    """The stages of 1,000 tiny videos, run again when all is done; and how many files a video has."""
    videos, workspace = bench.folder / "many", bench.folder / "many-workspace"
    small_clips(videos, 1000)
    common = ["--workspace", workspace]
    small = ["--backbone", "resnet18", "--weights", "none", "--crop", "32"]
    evaluate = ["evaluate", "--way", 4, "--episodes", 1000]
    stages = {
        "frames": (["frames", videos, "--size", 32], ()),
        "depth": (["depth", "--estimator", "tiny"], ()),
        "features": (["features", *small], ("--split-ratio", "4:2:4")),
        "meta-train": (["meta-train", "--way", 2, "--epochs", 1, "--episodes", 4], ()),
        "evaluate": (evaluate, ()),
        "evaluate --model rgb": ([*evaluate, "--model", "rgb"], ()),
    }
    for name, (words, first) in stages.items():
        bench.amefu(*words, *first, *common)
        if (workspace / f"{name}.zarr").is_dir():
            files = sum(len(names) for _, _, names in os.walk(workspace / f"{name}.zarr" / "videos"))
            bench.row(f"{name}.zarr, files a video", f"{files / 1000:.3f}", "1", "counted of 1,000")
        target = {"meta-train": "", "evaluate": "≤ 1 s", "evaluate --model rgb": "≤ 1 s"}.get(name, "≤ 1.2 s")
        bench.command_row(f"{name} again, 1,000 videos", target, *words, *common, detail=", with what comes before")


def fill_workspace(folder: Path, count: int) -> None:
    """The three stores of `count` small videos, all done, and the clips that they were made from, each empty."""
    names = video_names(count)
    for name in names:
        write_new(path := f"{folder}/videos/{name}.mp4", b"")
        os.utime(path, ns=(1, 1))
    rng, frames = np.random.default_rng(0), 32
    like = VideoRecord(names[0], "", frames, 25.0, {"size": 0, "mtime_ns": 1}, "")
    with frames_store(folder / "frames.zarr") as store, frame_writer(store, like.id) as writer:
        writer.append({"jpeg": rng.integers(0, 255, 6000, np.uint8), "offset": np.arange(frames + 1)})
        multiply(store, writer, like, names)
        frames_print = store.expected_fingerprint(like.made_from)
    like = VideoRecord(names[0], "", frames, 25.0, {"frames": frames_print}, "")
    with depth_store(folder / "depth.zarr") as store, depth_writer(store, like.id) as writer:
        low = np.zeros(frames, np.float32)
        writer.append({"disparity": rng.integers(0, 255, (frames, 16, 16), np.uint8), "low": low, "high": low})
        multiply(store, writer, like, names)
        depth_print = store.expected_fingerprint(like.made_from)
    streams = {name: row.fingerprint for name, row in STREAMS.items()}
    made_from = {"frames": frames_print, "depth": depth_print, "part": "base", "kept": [], "streams": streams}
    like = VideoRecord(names[0], "", frames, 25.0, made_from, "")
    with (
        features_store(folder / "features.zarr", STREAMS) as store,
        feature_writer(store, like.id, list(STREAMS)) as writer,
    ):
        block = rng.random((1, frames, 32), np.float32).astype(np.float16)
        writer.append({"frame": np.arange(frames)} | dict.fromkeys(STREAMS, block))
        multiply(store, writer, like, names)


def bench_status(bench: Bench) -> None:
    """`amefu status` on three stores and the folder of clips; a share of them that is done; records alone."""
    for count, target in ((10_000, "≤ 1 s"), (100_000, "≤ 6 s")):
        with bench.room() as room:
            fill_workspace(room, count)
            common = ["--workspace", room]
            there = bench.amefu("status", *common).output
            assert there.count(f"{count} done, 0 failed, 0") == 3, there
            bench.command_row(f"status, three stores of {count:,} videos", target, "status", *common)
            if count == 10_000:
                header = open_store(room / "frames.zarr", FramesHeader, fix="").header
                whole = [seconds(VideoStore(room / "frames.zarr", header).records) for _ in range(5)]
                bench.row("records of 10,000 videos", f"{statistics.median(whole):.2f} s", "≤ 0.5 s", "listed and read")
                continue
            share = ["depth", "--estimator", "tiny", "--shard", "0/100", *common]
            bench.command_row("depth --shard 0/100, 100,000 videos", "≤ 3 s", *share, detail=", all done, with frames")


def bench_table(bench: Bench) -> None:
    """The features of 10,000 videos in memory against plainly reading the same files."""
    rng, names, shape = np.random.default_rng(0), video_names(10_000), (1, 16, 1280)
    with bench.room() as room:
        path = room / "features.zarr"
        like = VideoRecord(names[0], "", 16, 25.0, {}, "")
        with (
            features_store(path, STREAMS) as store,
            feature_writer(store, like.id, list(STREAMS)) as writer,
        ):
            blocks = {name: rng.random(shape, np.float32).astype(np.float16) for name in STREAMS}
            writer.append({"frame": np.arange(16), **blocks})
            multiply(store, writer, like, names)
        files = [path / "videos" / f"{name}.zip" for name in names]
        classes = sorted({name.split("/")[0] for name in names})

        def plain() -> None:
            for file in files:
                file.read_bytes()

        def table() -> None:
            fresh = VideoStore(path, store.header)
            read_features(fresh, fresh.records(), classes, streams=list(STREAMS), views=1)

        def from_disk(call: Callable[[], object]) -> float:
            forget(files)
            return seconds(call)

        os.sync()  # only what is on the disk can be forgotten
        ours, limit, ratio = pairs(lambda: from_disk(table), lambda: from_disk(plain), count=5)
        bench.row("feature table of 10,000 videos", f"{ours:.2f} s", "≤ 6 s", "from the disk, with its records")
        detail = f"{limit:.2f} s, from the disk; 16 × 1280 float16, two streams"
        bench.row("feature table / plainly reading its files", f"{ratio:.2f}", "≥ 0.3", detail)
        plain(), table()
        ours, limit, ratio = pairs(lambda: cpu_seconds(table), lambda: cpu_seconds(plain), count=5)
        bench.row("the same by CPU, from memory", f"{ratio:.2f}", "", f"{ours:.2f} s against {limit:.2f} s")


def bench_memory(bench: Bench) -> None:
    """`amefu evaluate` as a process on a store of 2,745 videos × 16 frames × 2048: its peak, and again."""
    rng, frames = np.random.default_rng(0), 16
    names = [f"class_{label:02d}" for label in range(21)]
    with bench.room() as room:
        with features_store(room / "features.zarr", STREAMS) as store:
            for index in range(2745):
                video = f"{names[index % 21]}/{index:04d}"
                with feature_writer(store, video, list(STREAMS)) as writer:
                    block = rng.random((1, frames, 2048), np.float32).astype(np.float16)
                    writer.append({"frame": np.arange(frames)} | dict.fromkeys(STREAMS, block))
                    writer.commit(frames=frames, fps=25.0, source=video, made_from={})
        (room / "split.json").write_text(json.dumps({"train": ["other"], "val": [], "test": names}))
        words = ["evaluate", "--model", "rgb", "--shot", 5, "--no-upstream", "--workspace", room]
        first = bench.amefu(*words)
        bench.row(
            "evaluate, peak memory", f"{first.memory:.2f} GB", "≤ 2 GB", f"2,745 videos, {first.wall:.1f} s whole"
        )
        bench.command_row("evaluate again, 2,745 videos", "≤ 1 s", *words)
