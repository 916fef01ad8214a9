"""`make bench`: how near each stage comes to its limit, both measured in the same run.

    python examples/bench.py [--only features,depth,…] [--device auto]

Everything is made in a temporary folder: noise clips, random weights, random features. Every ratio is the median of
several pairs, run in turn, since machines are shared.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import shutil
import statistics
import tempfile
from collections.abc import Callable
from pathlib import Path

os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")  # as amefu itself sets it

import av
import numpy as np
import torch
from amefu_cli.stages.pending import pending_depth, pending_features
from bench_cost import bench_guarantees, bench_status, bench_verify
from bench_kit import QUIET, Bench, everything, noise_videos, pairs, seconds

from amefu_cli.artefacts.files.split import Split
from amefu_cli.artefacts.stores.features import FeatureTable, feature_writer
from amefu_cli.artefacts.stores.pictures import encode_jpeg
from amefu_cli.artefacts.stores.store import open_store, prepare_store
from amefu_cli.demo.clips import write_mp4
from amefu_cli.method.backbones import build_backbone
from amefu_cli.method.comparison import accuracy_with_interval
from amefu_cli.method.depth.monodepth2 import Monodepth2
from amefu_cli.method.depth.network import build_estimator
from amefu_cli.method.episodes import draw_episodes
from amefu_cli.method.heads.fusion import DGAdaIN
from amefu_cli.method.heads.prototypes import Temperature, classify_episodes, meta_train_episode
from amefu_cli.settings import ClipSettings, FeaturesSettings
from amefu_cli.stages.computing import ahead
from amefu_cli.stages.depth import predict_depth
from amefu_cli.stages.features import Extraction, Stream, extract_features
from amefu_cli.stages.meta_train import gather_episode
from amefu_cli.stages.networks import precision_name

BATCH = 32
VIDEOS, FRAMES, SIZE = 4, 32, 256  # of the feature and depth benches
CLIPS, CLIP_FRAMES = 100, 250  # of the decoding bench: as long as Kinetics, 240×320


def network_rate(bench: Bench, network: Callable[[torch.Tensor], object], batch: torch.Tensor, batches: int) -> float:
    """Seconds of the bare network over `batches` batches, by the faster of all cores on one and one core on each."""

    @torch.inference_mode()
    def one(_: int) -> None:
        network(batch)
        bench.synchronize()

    together = seconds(lambda: [one(index) for index in range(batches)])
    if bench.device.type != "cpu":
        return together
    cores = torch.get_num_threads()
    threads = ahead(one, range(batches), threads=cores, depth=cores, start=lambda: torch.set_num_threads(1))
    apart = seconds(lambda: list(threads))
    torch.set_num_threads(cores)
    return min(together, apart)


def frame_store(bench: Bench) -> Path:
    """frames.zarr of the noise clips, made by the command itself."""
    path = bench.folder / "frames.zarr"
    if not path.exists():
        noise_videos(bench.folder / "noise", VIDEOS, FRAMES, (SIZE, SIZE))
        bench.amefu("frames", bench.folder / "noise", "--out", path, "--workspace", bench.folder)
    return path


def monodepth2(bench: Bench):
    torch.manual_seed(0)
    weights = Monodepth2().state_dict()
    return build_estimator(
        "monodepth2", weights, device=bench.device, precision=bench.precision, threads=1, larger_is_farther=None,
        imagenet_input=False,
    )  # fmt: skip


def bench_depth(bench: Bench) -> None:
    """depth.zarr by Monodepth2 (random weights) against the network alone on resized frames in memory."""
    frames = open_store(frame_store(bench), "frames", fix="")
    estimator = monodepth2(bench)
    network = Monodepth2().eval().to(bench.device, bench.precision, memory_format=torch.channels_last)
    batch = torch.rand(BATCH, 3, 192, 640, device=bench.device, dtype=bench.precision)
    batch = batch.to(memory_format=torch.channels_last)

    def stage() -> float:
        path = bench.folder / "depth.zarr"
        shutil.rmtree(path, ignore_errors=True)
        with prepare_store(path, "depth", settings={}, made_from={}, notes={}, rebuild=False) as store:
            jobs, _ = pending_depth(frames, store, takes=everything, again=())
            return predict_depth(
                jobs, frames, store, estimator=estimator, device=bench.device, batch=BATCH, **QUIET
            ).seconds

    count = VIDEOS * FRAMES // BATCH
    bare = lambda: network_rate(bench, lambda images: network(images, scales=(0,)), batch, count)  # noqa: E731
    bare(), stage()
    ours, limit, ratio = pairs(stage, bare)
    rates = f"{VIDEOS * FRAMES / ours:.1f} of {VIDEOS * FRAMES / limit:.1f} frames/s"
    detail = f"{rates}, Monodepth2 192×640, {precision_name(bench.precision)}"
    bench.row("depth / bare network", f"{ratio:.2f}", "≥ 0.85", detail)


def bench_features(bench: Bench) -> None:
    """features.zarr of two ResNet-50 streams against the backbones alone on normalised frames in memory."""
    frames = open_store(frame_store(bench), "frames", fix="")
    if not (bench.folder / "depth.zarr").exists():
        with prepare_store(
            bench.folder / "depth.zarr", "depth", settings={}, made_from={}, notes={}, rebuild=False
        ) as store:
            jobs, _ = pending_depth(frames, store, takes=everything, again=())
            predict_depth(jobs, frames, store, estimator=monodepth2(bench), device=bench.device, batch=BATCH, **QUIET)
    depth = open_store(bench.folder / "depth.zarr", "depth", fix="")
    backbone = build_backbone("resnet50").eval().to(bench.device, memory_format=torch.channels_last)
    streams = {name: Stream(backbone, 224, "magma") for name in ("rgb", "depth")}
    split = Split(("class_0", "class_1"), (), ("class_2", "class_3"))
    settings, clip = FeaturesSettings(views=0, frames="dense"), ClipSettings()
    batch = torch.rand(BATCH, 3, 224, 224, device=bench.device)
    batch = batch.to(memory_format=torch.channels_last)

    def stage() -> float:
        path = bench.folder / "features.zarr"
        shutil.rmtree(path, ignore_errors=True)
        with prepare_store(path, "features", settings={}, made_from={}, notes={}, rebuild=False) as store:
            jobs, _ = pending_features(
                frames, depth, store, split=split, settings=settings, clip=clip, takes=everything, again=()
            )
            setup = Extraction(
                frames, depth, store, streams=streams, device=bench.device, precision=torch.float32, batch=BATCH,
                seed=0, flip=0.0,
            )  # fmt: skip
            return extract_features(setup, jobs, **QUIET).seconds

    count = 2 * VIDEOS * FRAMES // BATCH
    bare = lambda: network_rate(bench, backbone, batch, count)  # noqa: E731
    bare(), stage()
    ours, limit, ratio = pairs(stage, bare)
    detail = f"{2 * VIDEOS * FRAMES / ours:.1f} of {2 * VIDEOS * FRAMES / limit:.1f} images/s, ResNet-50 224, float32"
    bench.row("features / bare backbone", f"{ratio:.2f}", "≥ 0.85", detail)


def bench_frames(bench: Bench) -> None:
    """frames.zarr against a bare loop of PyAV decode, resize and JPEG; then two processes against one."""
    videos = bench.folder / "clips"
    noise_videos(videos, CLIPS, CLIP_FRAMES, (240, 320))
    paths = sorted(videos.rglob("*.mp4"))

    def bare() -> float:
        def loop() -> None:
            for path in paths:
                with av.open(str(path)) as container:
                    stream = container.streams.video[0]
                    stream.thread_type = "SLICE"
                    stream.codec_context.thread_count = 1
                    reformatter = av.video.reformatter.VideoReformatter()
                    for frame in container.decode(stream):
                        resized = reformatter.reformat(frame, SIZE, SIZE, "rgb24", interpolation="BILINEAR", threads=1)
                        encode_jpeg(resized.to_ndarray(), quality=95)

        return seconds(loop)

    def stage(jobs: int) -> float:
        """Seconds inside the pool's life, from the command's own report: process start is `amefu --help`'s row."""
        out = bench.folder / f"speed_{jobs}.zarr"
        shutil.rmtree(out, ignore_errors=True)
        words = ["frames", videos, "--out", out, "--jobs", jobs, "--json", "--workspace", bench.folder]
        return float(json.loads(bench.output(*words))["seconds"])

    stage(1), bare()
    ours, limit, ratio = pairs(lambda: stage(1), bare)
    total = CLIPS * CLIP_FRAMES
    rates = f"{total / ours:.0f} of {total / limit:.0f} frames/s"
    bench.row("frames, one process / bare loop", f"{ratio:.2f}", "≥ 0.85", rates)
    two, one, speed_up = pairs(lambda: stage(2), lambda: stage(1))
    rates = f"{total / two:.0f} against {total / one:.0f} frames/s"
    bench.row("frames, --jobs 2 / one", f"{speed_up:.2f}", "≥ 1.7", rates)


def random_table(videos: int, frames: int, dim: int, classes: int) -> FeatureTable:
    rng = np.random.default_rng(0)
    labels = np.arange(videos, dtype=np.int64) % classes
    rows = [rng.random((1, videos * frames, dim), np.float32).astype(np.float16) for _ in range(2)]
    return FeatureTable(
        ids=tuple(f"{label}/{index}" for index, label in enumerate(labels)),
        class_names=tuple(map(str, range(classes))),
        labels=labels,
        frame=np.tile(np.arange(frames), videos),
        frames=np.full(videos, frames),
        start=np.arange(0, videos * frames + 1, frames),
        rgb=rows[0],
        depth=rows[1],
    )


def bench_meta_train(bench: Bench) -> None:
    """An episode of meta-training, gathering included, against the same arithmetic on tensors in memory."""
    dim, way, frames = 2048, 5, 16
    table = random_table(100, 64, dim, 10)
    clip = ClipSettings()
    fusion = DGAdaIN(dim).to(bench.device)
    optimizer = torch.optim.SGD(fusion.parameters(), lr=1e-5, momentum=0.9)
    temperature = Temperature(1.0, learned=False).to(bench.device)
    episodes = draw_episodes(
        table.labels, way=way, shot=1, queries=1, count=12, rng=np.random.default_rng(0), class_names=table.class_names
    )
    videos = np.concatenate([episodes.support, episodes.query], axis=2)

    def stage() -> float:
        def loop() -> None:
            gather = lambda index: gather_episode(  # noqa: E731
                table, videos[index], num_aug=2, clip=clip, rng=np.random.default_rng(index)
            )
            for rgb, depth in ahead(gather, range(len(videos)), threads=1, depth=4):
                meta_train_episode(
                    fusion, optimizer, rgb.to(bench.device).float(), depth.to(bench.device).float(), shot=1,
                    classifier="cosine", temperature=temperature, loss="cross_entropy",
                )  # fmt: skip
            bench.synchronize()

        return seconds(loop)

    rgb = torch.rand(2 * way, frames, dim, device=bench.device)
    depth = torch.rand(3, 2 * way, frames, dim, device=bench.device)
    scale, shift = torch.nn.Linear(dim, dim).to(bench.device), torch.nn.Linear(dim, dim).to(bench.device)
    bare_optimizer = torch.optim.SGD([*scale.parameters(), *shift.parameters()], lr=1e-5, momentum=0.9)
    targets = torch.arange(way, device=bench.device)

    def bare() -> float:
        def loop() -> None:
            for _ in range(len(videos)):
                normal = torch.nn.functional.layer_norm(rgb, (dim,))
                for clips in depth:
                    vector = (scale(clips) * normal).mean(1) + shift(clips.mean(1))
                    vector = torch.nn.functional.normalize(vector, dim=-1)
                    loss = torch.nn.functional.cross_entropy(vector[way:] @ vector[:way].T, targets)
                    bare_optimizer.zero_grad()
                    loss.backward()
                    bare_optimizer.step()
            bench.synchronize()

        return seconds(loop)

    stage(), bare()
    limit, ours, ratio = pairs(bare, stage, count=5)
    detail = f"{1000 * ours / len(videos) / 3:.1f} ms a step, {1000 * limit / len(videos) / 3:.1f} bare; dim {dim}"
    bench.row("meta-train step / bare arithmetic", f"{ratio:.2f}", "≤ 1.25", detail)


def bench_evaluate(bench: Bench) -> None:
    """Drawing and classifying 10,000 episodes of 2,745 videos of 21 classes, 1-shot and 5-shot."""
    rng = np.random.default_rng(0)
    labels = np.arange(2745) % 21
    vectors = rng.standard_normal((2745, 2048), np.float32)
    names = [str(label) for label in range(21)]

    def episodes(shot: int) -> None:
        drawn = draw_episodes(
            labels, way=5, shot=shot, queries=1, count=10_000, rng=np.random.default_rng(shot), class_names=names
        )
        accuracy_with_interval(classify_episodes(vectors, drawn, classifier="cosine"))

    episodes(1)
    both = statistics.median(seconds(lambda: [episodes(shot) for shot in (1, 5)]) for _ in range(3))
    bench.row("evaluate, 10,000 episodes, 1- and 5-shot", f"{both:.2f} s", "≤ 1 s", "drawing and classifying, both")


def bench_evaluate_memory(bench: Bench) -> None:
    """Peak memory of `amefu evaluate` as a process on a store of 2,745 videos × 16 frames × 2048."""
    rng = np.random.default_rng(0)
    path = bench.folder / "wide.zarr"
    names = [f"class_{label:02d}" for label in range(21)]
    settings = {
        "features": FeaturesSettings(precision="float32").as_dict(), "clip": ClipSettings().as_dict(),
        "streams": {"fallback": {}, "rgb": {"crop": 224}, "depth": {"crop": 224}},
    }  # fmt: skip
    notes = {"frames": "none.zarr"}
    with prepare_store(path, "features", settings=settings, made_from={}, notes=notes, rebuild=False) as store:
        for index in range(2745):
            video = f"{names[index % 21]}/{index:04d}"
            with feature_writer(store, video) as writer:
                writer.append("frame", np.arange(16))
                for stream in ("rgb", "depth"):
                    writer.append(stream, rng.random((1, 16, 2048), np.float32).astype(np.float16))
                writer.commit(frames=16, fps=25.0, source=video, made_from={})
    split = bench.folder / "wide.json"
    split.write_text(f'{{"train": ["other"], "val": [], "test": {names}}}'.replace("'", '"'))
    words = ["evaluate", "--model", "rgb", "--features", path, "--split", split, "--no-upstream"]
    first = bench.amefu(*words, "--workspace", bench.folder, "--shot", 5)
    again = bench.amefu(*words, "--workspace", bench.folder, "--shot", 5)
    peak = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 2**20
    bench.row("evaluate, peak memory", f"{peak:.2f} GB", "≤ 2 GB", f"the largest process so far; {first:.1f} s whole")
    bench.row("evaluate again, 2,745 videos", f"{again:.2f} s", "≤ 3 s", "whole process")


def bench_help(bench: Bench) -> None:
    bench.amefu("--help")
    median = statistics.median(bench.amefu("--help") for _ in range(5))
    bench.row("amefu --help", f"{median:.2f} s", "≤ 0.4 s", "whole process, median of 5")


def bench_second_run(bench: Bench) -> None:
    """The stages of 1,000 tiny videos, run again when all is done."""
    rng = np.random.default_rng(0)
    for index in range(1000):
        clip = rng.integers(0, 255, (4, 32, 32, 3), dtype=np.uint8)  # no clip stands twice
        write_mp4(bench.folder / "many" / f"class_{index % 10}" / f"{index:04d}.mp4", clip, 25)
    common = ["--workspace", bench.folder / "many-workspace"]
    small = ["--backbone", "mobilenet_v3_small", "--weights", "none", "--crop", "32"]
    stages = {
        "frames": ["frames", bench.folder / "many", "--size", 32],
        "depth": ["depth", "--estimator", "tiny"],
        "features": ["features", *small, "--split-ratio", "4:2:4"],
    }
    for name, words in stages.items():
        bench.amefu(*words, *common)
        words = words if name != "features" else words[:-2]
        again = statistics.median(bench.amefu(*words, *common) for _ in range(3))
        bench.row(f"{name} again, 1,000 videos", f"{again:.2f} s", "≤ 3 s", "whole process, with what comes before it")


BENCHES = {
    "help": bench_help,
    "evaluate-memory": bench_evaluate_memory,  # early: a child's peak counts this process's size when it was started
    "frames": bench_frames,
    "depth": bench_depth,
    "features": bench_features,
    "meta-train": bench_meta_train,
    "evaluate": bench_evaluate,
    "second-run": bench_second_run,
    "guarantees": bench_guarantees,
    "status": bench_status,
    "verify": bench_verify,
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", default=",".join(BENCHES), help="comma-separated: " + ", ".join(BENCHES))
    parser.add_argument("--device", default="auto")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="amefu-bench-") as folder:
        bench = Bench(Path(folder), options.device)
        print(f"{bench.device}, {torch.get_num_threads()} cores, {precision_name(bench.precision)}, batch {BATCH}")
        for name in options.only.split(","):
            BENCHES[name](bench)


if __name__ == "__main__":
    main()
