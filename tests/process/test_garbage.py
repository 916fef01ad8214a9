"""Every reader of a file of ours, fed damaged copies of a sound one: it answers with our error, or is not misled.

Damage is cuts, flips and splices of the bytes, and, where the file is JSON or TOML at heart, whole values replaced by
others. A few hundred examples of each; `hypothesis` remembers and shrinks what fails.
"""

from __future__ import annotations

import copy
import json
import shutil
import struct
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from small_stores import PUT, store_of

from amefu_cli.artefacts.files.episodes import DrawnEpisodes, EpisodeNotes, read_episodes, write_episodes
from amefu_cli.artefacts.files.results import (
    Fingerprints,
    Found,
    PackedOutcomes,
    Recipes,
    Result,
    ResultSettings,
    Switches,
    open_result,
    write_result,
)
from amefu_cli.artefacts.files.split import load_split, read_list, read_split
from amefu_cli.artefacts.files.workspace import read_config
from amefu_cli.artefacts.stores.check import verify_store
from amefu_cli.artefacts.stores.failures import read_failures, record_failure
from amefu_cli.artefacts.stores.features import read_features
from amefu_cli.artefacts.stores.header import KINDS
from amefu_cli.artefacts.stores.pictures import read_disparity, read_frames
from amefu_cli.artefacts.stores.store import VideoStore, open_store
from amefu_cli.artefacts.videos.opening import EmptyFile
from amefu_cli.artefacts.weights.checkpoint import read_checkpoint, read_header, write_checkpoint
from amefu_cli.artefacts.weights.headers import CheckpointNotes, FusionClasses, FusionHeader, FusionTraining, Position
from amefu_cli.artefacts.weights.training_run import TrainingRun
from amefu_cli.errors import AmefuError
from amefu_cli.settings import ClipSettings, MetaTrainSettings

HEADER = FusionHeader(
    role="fusion", fusion="dgadain", dim=2, streams={"rgb": "01", "depth": "23"}, clip=ClipSettings(),
    training=FusionTraining(MetaTrainSettings(), FusionClasses(("run",), ("sit",)), base="45", validation="67"),
    notes=CheckpointNotes(epoch=1),
)  # fmt: skip
VIDEO = "jump/one"
ARCHIVE = f"videos/{VIDEO}.zip"
ODD_VALUES = st.one_of(
    st.none(), st.booleans(), st.integers(), st.floats(), st.text(max_size=5), st.just([]), st.just({}),
    st.just("../../x"), st.just(10**30), st.just(-1), st.lists(st.integers(-1, 3), max_size=3),
)  # fmt: skip


@st.composite
def damaged_bytes(draw: st.DrawFn, good: bytes) -> bytes:
    """A cut, a flip of some bytes, a splice of the file with itself, or nothing of it."""
    place, other = (draw(st.integers(0, len(good))) for _ in range(2))
    kind = draw(st.sampled_from(("cut", "flip", "splice", "insert", "other")))
    if kind == "cut":
        return good[:place]
    if kind == "flip":
        flipped = bytearray(good)
        for position in draw(st.lists(st.integers(0, len(good) - 1), min_size=1, max_size=4)):
            flipped[position] ^= draw(st.integers(1, 255))
        return bytes(flipped)
    if kind == "splice":
        return good[:place] + good[other:]
    return good[:place] + draw(st.binary(max_size=60)) + (good[place:] if kind == "insert" else b"")


def places(value: Any, above: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """The way to every value inside a JSON document."""
    yield above
    if isinstance(value, dict | list):
        for key, below in value.items() if isinstance(value, dict) else enumerate(value):
            yield from places(below, (*above, key))


@st.composite
def damaged_json(draw: st.DrawFn, good: Any) -> bytes:
    """One value anywhere in it is another, or gone."""
    *above, last = draw(st.sampled_from([place for place in places(good) if place]))
    document = copy.deepcopy(good)
    inside = document
    for key in above:
        inside = inside[key]
    if draw(st.booleans()):
        inside[last] = draw(ODD_VALUES)
    else:
        del inside[last]
    return json.dumps(document).encode()


def damaged(good: bytes) -> st.SearchStrategy[bytes]:
    try:
        return damaged_bytes(good) | damaged_json(json.loads(good))
    except ValueError:
        return damaged_bytes(good)


def checkpoint(path: Path) -> None:
    write_checkpoint(path, {"a": np.ones(3, np.float32)}, HEADER)


def episodes(path: Path) -> None:
    one = np.array([[[0], [2]], [[3], [1]]])
    query = np.array([[[1], [3]], [[2], [0]]])
    write_episodes(path, DrawnEpisodes(("a/1", "a/2", "b/1", "b/2"), one, query, EpisodeNotes(0)))


def result(path: Path) -> None:
    asked = ResultSettings(
        model="rgb", head="prototype-cosine", test_frames="middle", way=2, shot=1, queries=1, episodes=2, seed=0,
        episodes_fingerprint="f", queries_fingerprint="q", recipe=Recipes("paper"),
        switches=Switches(0.0, "middle", "square"),
        missing_videos=0, missing_classes=(), fingerprints=Fingerprints("g"),
    )  # fmt: skip
    found = Found(
        accuracy=0.75, half_width_95=0.1, by_class={"a": 1.0, "b": 0.5}, videos=4, right=(1, 2), seconds=0.1,
        outcomes=PackedOutcomes.of(np.array([[1, 0], [1, 1]]), np.array([[0, 1], [1, 0]])),
    )  # fmt: skip
    write_result(Result(path, asked, found))


def failures(path: Path) -> None:
    for attempt in (1, 2):
        record_failure(
            path.parent, video=VIDEO, stage="frames", error=EmptyFile("empty"), fingerprint="f", attempt=attempt
        )


def split(path: Path) -> None:
    path.write_text(json.dumps({"train": ["a"], "val": ["b"], "test": ["c"], "videos": ["a/1"]}))


def snapshot(path: Path) -> None:
    with TrainingRun(path.with_name("x.safetensors"), HEADER) as run:
        run.save({"model": {"w": np.ones(2, np.float32)}, "optimizer": {}}, Position(epoch=1, step=2))


def resumed(path: Path) -> None:
    with TrainingRun(path.with_name("x.safetensors"), HEADER) as run:
        run.resume()


def numbers_of(path: Path) -> None:
    open_result(path).outcomes()


# name: (file name, writes a sound one there, reads it)
FILES: dict[str, tuple[str, Callable[[Path], object], Callable[[Path], object]]] = {
    "the header of a checkpoint": ("c.safetensors", checkpoint, read_header),
    "a checkpoint": ("c.safetensors", checkpoint, read_checkpoint),
    "a snapshot": ("x.snapshot.safetensors", snapshot, resumed),
    "episodes": ("e.safetensors", episodes, read_episodes),
    "a result": ("r.json", result, numbers_of),
    "failures": ("failures.jsonl", failures, lambda path: read_failures(path.parent)),
    "a split": ("s.json", split, read_split),
    "a split in TOML": (
        "s.toml", lambda path: path.write_text('train = ["a"]\nval = ["b"]\ntest = ["c"]\n'), read_split,
    ),
    "a list": ("l.txt", lambda path: path.write_text("a/one.avi 1\nb/two.avi 2\n"), read_list),
    "a split of lists": (
        "l.json", lambda path: path.write_text('{"train": ["a"], "test": ["c"]}'), lambda path: load_split(str(path)),
    ),
    "amefu.toml": ("amefu.toml", lambda path: path.write_text('preset = "tiny"\n[frames]\nsize = 32\n'), read_config),
}  # fmt: skip


@pytest.mark.parametrize("name", FILES)
@settings(max_examples=150)
@given(data=st.data())
def test_a_damaged_file_is_answered_with_our_error(
    name: str, data: st.DataObject, tmp_path_factory: pytest.TempPathFactory
) -> None:
    file_name, write, read = FILES[name]
    folder = tmp_path_factory.mktemp("garbage")
    write(folder / file_name)
    read(folder / file_name)
    good = (folder / file_name).read_bytes()
    (folder / file_name).write_bytes(data.draw(damaged(good)))
    with suppress(AmefuError):
        read(folder / file_name)
    shutil.rmtree(folder)


@settings(max_examples=150)
@given(data=st.data())
def test_the_text_header_of_a_checkpoint_may_hold_any_json(
    data: st.DataObject, tmp_path_factory: pytest.TempPathFactory
) -> None:
    path = tmp_path_factory.mktemp("garbage") / "x.snapshot.safetensors"
    notes = {"position": {"epoch": 0, "step": 1, "loss_sum": 0.0, "best_epoch": 0, "best_accuracy": 0.0}}
    text = data.draw(damaged_json({**HEADER.compared(), "notes": notes})).decode()
    header = json.dumps({"__metadata__": {"amefu": text}}).encode()
    path.write_bytes(struct.pack("<Q", len(header)) + header)
    with suppress(AmefuError):
        resumed(path)


def read_all(path: Path, kind: str) -> list[bytes]:
    """All that the commands read of the video."""
    store: VideoStore[Any] = open_store(path, KINDS[kind], fix="amefu")
    records = store.records()
    if kind == "features":
        table = read_features(store, records, ["jump"], streams=["rgb", "depth"], views=2)
        return [table.frame.tobytes(), *(features.tobytes() for features in table.streams.values())]
    read = read_frames if kind == "frames" else read_disparity
    return [read(store.read(VIDEO), np.array([0, 1])).tobytes()]


@pytest.fixture(scope="module", params=PUT)
def store_of_one(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> VideoStore[Any]:
    """A store of each kind with one video, which a test leaves as it was."""
    with store_of(tmp_path_factory.mktemp("store"), request.param) as store:
        PUT[request.param](store, VIDEO)
    return store


@pytest.mark.parametrize("file", ["zarr.json", ARCHIVE])
@settings(max_examples=100)
@given(data=st.data())
def test_a_damaged_file_of_a_store_is_never_read_as_something_else(
    store_of_one: VideoStore[Any], file: str, data: st.DataObject
) -> None:
    path, kind = store_of_one.path, store_of_one.kind
    sound, good = read_all(path, kind), (path / file).read_bytes()
    (path / file).write_bytes(data.draw(damaged(good)))
    try:
        with suppress(AmefuError):
            assert read_all(path, kind) == sound or file == "zarr.json"
        if file == ARCHIVE and not verify_store(store_of_one, progress=lambda *_: None).damaged:
            assert read_all(path, kind) == sound
    finally:
        (path / ARCHIVE).with_suffix(".bad").unlink(missing_ok=True)
        (path / file).write_bytes(good)
