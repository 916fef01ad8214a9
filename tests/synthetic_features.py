"""A workspace with features but no video behind them, for tests of what only reads features."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
from typer.testing import CliRunner

from amefu_cli.artefacts.stores.header import FeaturesHeader, FeaturesNotes, Stream
from amefu_cli.artefacts.stores.store import VideoStore, prepare_store
from amefu_cli.artefacts.stores.writing import feature_writer
from amefu_cli.settings import ClipSettings, FeaturesSettings

BASE, VALIDATION, NOVEL = ("bow", "clap", "dive"), ("jump", "kick"), ("run", "sit", "spin", "turn", "wave", "yawn")
STREAMS = {
    "rgb": Stream("frames", "squeezenet1_1", "none", 224, 224),
    "depth": Stream("depth", "squeezenet1_1", "0123456789abcdef", 224, 224, "magma"),
    "imagenet": Stream("frames", "squeezenet1_1", "none", 224, 224, novel_only=True),
}
NOISE = {"rgb": 1.0, "depth": 1.5, "imagenet": 2.0}
FRAMES, DIM = 20, 16
CONFIG = """
[meta-train]
way = 2
epochs = 1
episodes = 4
validation-episodes = 8
learning-rate = 0.1
queries = 1
[evaluate]
episodes = 200
[episodes]
count = 200
[ablate]
episodes = 100
"""


def clip_features(name: str, number: int) -> dict[str, np.ndarray]:
    """float16 (1, frames, dim) of every stream: around the class's own direction, RGB nearer than depth."""
    directions = np.random.default_rng([*name.encode()]).normal(0, 1, (len(NOISE), DIM))
    rng = np.random.default_rng([number, *name.encode()])
    features = {}
    for (stream, width), direction in zip(NOISE.items(), directions, strict=True):
        noise = rng.normal(0, 1, DIM) + 0.3 * rng.normal(0, 1, (1, FRAMES, DIM))
        features[stream] = (direction + width * noise).astype(np.float16)
    return features


def make_store(
    path: Path, videos: dict[str, int], *, imagenet: bool = True, poisoned: tuple[str, ...] = ()
) -> VideoStore[FeaturesHeader]:
    """A store with so many videos of each class, all their frames kept; the features of `poisoned` classes are NaN."""
    streams = {name: row for name, row in STREAMS.items() if name != "imagenet" or imagenet}
    header = FeaturesHeader(
        settings=FeaturesSettings(views=0, precision="float32"), clip=ClipSettings(), streams=streams,
        notes=FeaturesNotes(
            frames="absent.zarr", depth="absent.zarr", rgb="rgb.safetensors", depth_stream="depth.safetensors",
            weights={"rgb": "none", "imagenet": "none"},
        ),
    )  # fmt: skip
    with prepare_store(path, header, rebuild=False) as store:
        for name, count in videos.items():
            for number in range(count):
                features = {stream: clip_features(name, number)[stream] for stream in streams}
                if name in poisoned:
                    features = {stream: block * np.float16("nan") for stream, block in features.items()}
                with feature_writer(store, f"{name}/v_{number:02d}", list(streams)) as writer:
                    writer.append({"frame": np.arange(FRAMES, dtype=np.int64), **features})
                    writer.commit(frames=FRAMES, fps=12.0, source=f"{name}.mp4", made_from={"number": number})
    return store


def make_workspace(folder: Path, *, poisoned: tuple[str, ...] = ()) -> Path:
    """A workspace of a feature store, its split, and small settings: 6 novel classes of 6 videos each."""
    folder.mkdir(parents=True)
    videos = dict.fromkeys((*BASE, *VALIDATION), 3) | dict.fromkeys(NOVEL, 6)
    make_store(folder / "features.zarr", videos, poisoned=poisoned)
    (folder / "split.json").write_text(json.dumps({"train": BASE, "val": VALIDATION, "test": NOVEL}))
    (folder / "amefu.toml").write_text(CONFIG)
    return folder


def amefu(workspace: Path, *words: object) -> str:
    """What one command prints to stdout, run in this process without its upstream; its errors are raised."""
    from amefu_cli.commands.app import app  # here, since every test loads this file

    typed = [*map(str, words), "--workspace", str(workspace), "--no-upstream"]
    done = CliRunner().invoke(app, typed, catch_exceptions=False)
    assert done.exit_code == 0, done.output
    return str(done.stdout)
