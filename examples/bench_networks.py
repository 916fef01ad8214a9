"""How near the stages that compute come to their bare networks and arithmetic, all measured in the same run."""

from __future__ import annotations

import shutil
import statistics
from collections.abc import Callable

import numpy as np
import torch
from bench_kit import QUIET, Bench, depth_store, features_store, noise_videos, pairs, seconds

from amefu_cli.artefacts.stores.features import FeatureTable
from amefu_cli.artefacts.stores.header import DepthHeader, FramesHeader, Stream, VideoRecord
from amefu_cli.artefacts.stores.store import VideoStore, open_store
from amefu_cli.method.backbones import build_backbone
from amefu_cli.method.comparison import accuracy_with_interval
from amefu_cli.method.depth.monodepth2 import Monodepth2
from amefu_cli.method.depth.network import build_estimator
from amefu_cli.method.episodes import draw_episodes
from amefu_cli.method.heads.fusion import DGAdaIN
from amefu_cli.method.heads.prototypes import Temperature, classify_episodes, meta_train_episode
from amefu_cli.settings import ClipSettings
from amefu_cli.stages import VideoJob
from amefu_cli.stages.computing import ahead
from amefu_cli.stages.depth import predict_depth
from amefu_cli.stages.features import Extraction, LoadedStream, extract_features
from amefu_cli.stages.networks import precision_name
from amefu_cli.stages.training import gather_clips, places_of

BATCH = 32
VIDEOS, FRAMES, SIZE = 4, 32, 256  # of the feature and depth benches


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


def frame_store(bench: Bench) -> VideoStore[FramesHeader]:
    """frames.zarr of the noise clips, made by the command itself."""
    path = bench.folder / "frames.zarr"
    if not path.exists():
        noise_videos(bench.folder / "noise", VIDEOS, FRAMES, (SIZE, SIZE))
        bench.amefu("frames", bench.folder / "noise", "--out", path, "--workspace", bench.folder)
    return open_store(path, FramesHeader, fix="")


def job_of(record: VideoRecord, *streams: str) -> VideoJob:
    """All frames of one video."""
    numbers = np.arange(record.frames, dtype=np.int64)
    return VideoJob(record, {"frames": record.fingerprint, "mirrored": []}, numbers, streams=streams)


def depth_of(bench: Bench, frames: VideoStore[FramesHeader]) -> float:
    """Seconds of depth.zarr by Monodepth2 with random weights."""
    torch.manual_seed(0)
    estimator = build_estimator(
        "monodepth2", Monodepth2().state_dict(), device=bench.device, precision=bench.precision, threads=1,
        larger_is_farther=None, imagenet_input=False,
    )  # fmt: skip
    shutil.rmtree(bench.folder / "depth.zarr", ignore_errors=True)
    with depth_store(bench.folder / "depth.zarr") as store:
        jobs = [job_of(record) for record in frames.records().values()]
        return predict_depth(
            frames, store, jobs, estimator=estimator, device=bench.device, batch=BATCH, **QUIET
        ).seconds


def bench_depth(bench: Bench) -> None:
    """depth.zarr by Monodepth2 (random weights) against the network alone on resized frames in memory."""
    frames = frame_store(bench)
    network = Monodepth2().eval().to(bench.device, bench.precision, memory_format=torch.channels_last)
    batch = torch.rand(BATCH, 3, 192, 640, device=bench.device, dtype=bench.precision)
    batch = batch.to(memory_format=torch.channels_last)

    def bare() -> float:
        return network_rate(bench, lambda images: network(images, scales=(0,)), batch, VIDEOS * FRAMES // BATCH)

    bare(), depth_of(bench, frames)
    ours, limit, ratio = pairs(lambda: depth_of(bench, frames), bare)
    rates = f"{VIDEOS * FRAMES / ours:.1f} of {VIDEOS * FRAMES / limit:.1f} frames/s"
    detail = f"{rates}, Monodepth2 192×640, {precision_name(bench.precision)}"
    bench.row("depth / bare network", f"{ratio:.2f}", "≥ 0.85", detail)


def bench_features(bench: Bench) -> None:
    """features.zarr of two ResNet-50 streams against the backbones alone on normalised frames in memory."""
    frames = frame_store(bench)
    if not (bench.folder / "depth.zarr").exists():
        depth_of(bench, frames)
    depth = open_store(bench.folder / "depth.zarr", DepthHeader, fix="")
    backbone = build_backbone("resnet50").eval().to(bench.device, memory_format=torch.channels_last)
    rows = {
        "rgb": Stream("frames", "resnet50", "none", 224, 224),
        "depth": Stream("depth", "resnet50", "none", 224, 224, "magma"),
    }
    jobs = [job_of(record, *rows) for record in frames.records().values()]
    batch = torch.rand(BATCH, 3, 224, 224, device=bench.device).to(memory_format=torch.channels_last)

    def stage() -> float:
        path = bench.folder / "features.zarr"
        shutil.rmtree(path, ignore_errors=True)
        with features_store(path, rows) as store:
            streams = {name: LoadedStream(row, backbone) for name, row in rows.items()}
            setup = Extraction(
                frames, depth, store, streams, bench.device, torch.float32, batch=BATCH, seed=0
            )  # fmt: skip
            return extract_features(setup, jobs, **QUIET).seconds

    def bare() -> float:
        return network_rate(bench, backbone, batch, 2 * VIDEOS * FRAMES // BATCH)

    bare(), stage()
    ours, limit, ratio = pairs(stage, bare)
    detail = f"{2 * VIDEOS * FRAMES / ours:.1f} of {2 * VIDEOS * FRAMES / limit:.1f} images/s, ResNet-50 224, float32"
    bench.row("features / bare backbone", f"{ratio:.2f}", "≥ 0.85", detail)


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
        streams={"rgb": rows[0], "depth": rows[1]},
    )


def bench_meta_train(bench: Bench) -> None:
    """An episode of meta-training, gathering included, against the same arithmetic on tensors in memory."""
    dim, way, frames = 2048, 5, 16
    table = random_table(100, 64, dim, 10)
    places = places_of(table, ClipSettings())
    fusion = DGAdaIN(dim).to(bench.device)
    optimizer = torch.optim.SGD(fusion.parameters(), lr=1e-5, momentum=0.9)
    temperature = Temperature(1.0, learned=False).to(bench.device)
    episodes = draw_episodes(
        table.labels, way=way, shot=1, queries=1, count=12, rng=np.random.default_rng(0), class_names=table.class_names
    )
    videos = np.concatenate([episodes.support, episodes.query], axis=2)

    def stage() -> float:
        def loop() -> None:
            gather = lambda index: gather_clips(  # noqa: E731
                table, videos[index], places, clips={"rgb": 1, "depth": 3}, rng=np.random.default_rng(index)
            )
            for (rgb,), depth in ahead(gather, range(len(videos)), threads=1, depth=4):
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
