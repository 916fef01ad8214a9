"""What a report is made from: plain values and arrays, no open artefact but the frames."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from datetime import datetime
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from amefu_cli.artefacts.files.names import class_of
from amefu_cli.artefacts.files.results import Result
from amefu_cli.artefacts.files.split import Split
from amefu_cli.artefacts.files.workspace import located
from amefu_cli.artefacts.stores.failures import Failure
from amefu_cli.artefacts.stores.features import fingerprint_of
from amefu_cli.artefacts.stores.header import HEADER, FramesHeader, StoreHeader, VideoRecord
from amefu_cli.artefacts.stores.store import VideoStore
from amefu_cli.artefacts.videos.copies import one_of_each
from amefu_cli.artefacts.videos.find import find_clips
from amefu_cli.artefacts.weights.checkpoint import read_header
from amefu_cli.artefacts.weights.headers import AnyCheckpoint, options_of
from amefu_cli.artefacts.weights.training_run import SUFFIX, snapshot_path
from amefu_cli.method.comparison import Interval
from amefu_cli.method.episodes import Episodes
from amefu_cli.method.heads import MODELS, Model

METRICS = ".metrics.jsonl"


@dataclass(frozen=True)
class Step:
    """One artefact: its state in words, its settings, when it was written, how long it took (s, where that is known),
    and the command that makes it again."""

    name: str
    state: str
    settings: Mapping[str, object]
    fingerprint: str
    written: datetime
    seconds: float | None
    command: str


@dataclass(frozen=True)
class ClassCount:
    """One class: its part of the split, how many videos it has, their frames and seconds, and how many failed."""

    name: str
    part: str
    videos: int
    frames: int
    seconds: float
    failed: int


@dataclass(frozen=True)
class Data:
    """The videos: by class, the length of each (seconds, or frames where a video does not say how fast it is), what
    failed, which are copies of one another, what was passed over, and what the split names in vain."""

    classes: Sequence[ClassCount]
    lengths: NDArray[np.float64]
    in_seconds: bool
    failed: Sequence[Failure]
    absent: Sequence[str]
    looked_at: bool  # whether VIDEOS is there, so that copies in it could be looked for
    copies: Sequence[tuple[str, ...]] = ()
    passed_over: Sequence[tuple[str, str]] = ()


@dataclass(frozen=True)
class Training:
    """One training: its lines of metrics, an epoch each, and the chosen epoch (from 0; None: not finished)."""

    name: str
    epochs: Sequence[Mapping[str, float]]
    chosen: int | None

    @property
    def seconds(self) -> float:
        return sum(row.get("seconds", 0.0) for row in self.epochs)


@dataclass(frozen=True)
class Difference:
    """The accuracy of one result less that of another (-1..1), over episodes, and over episodes and classes."""

    result: Result
    reference: Result
    paired: bool
    over_episodes: Interval
    over_classes: Interval | None


@dataclass(frozen=True)
class Classified:
    """Which way each query fell to in the episodes of a result: `chosen` (episodes, asked, queries). The episodes'
    classes are positions in `class_names`, their videos in `ids`."""

    result: Result
    ids: Sequence[str]
    class_names: Sequence[str]
    episodes: Episodes
    chosen: NDArray[np.int64]

    @property
    def fell_to(self) -> NDArray[np.int64]:
        """The class that each query fell to, (episodes, asked, queries)."""
        ways = self.chosen.reshape(len(self.chosen), -1)
        return np.take_along_axis(self.episodes.classes, ways, 1).reshape(self.chosen.shape)


@dataclass(frozen=True)
class NovelVectors:
    """Vectors (videos, dim) of the novel videos, by the title of the model that gives them."""

    class_names: Sequence[str]
    labels: NDArray[np.int64]
    vectors: Mapping[str, NDArray[np.float32]]


@dataclass
class Contents:
    """All of it, filled part by part. `missing` says of a section (by number) why something is not there, and which
    command makes it."""

    workspace: str
    facts: list[tuple[str, str]] = field(default_factory=list)
    steps: list[Step] = field(default_factory=list)
    lines: list[str] = field(default_factory=list)
    data: Data | None = None
    trainings: list[Training] = field(default_factory=list)
    results: list[Result] = field(default_factory=list)
    differences: list[Difference] = field(default_factory=list)
    classified: list[Classified] = field(default_factory=list)
    novel: NovelVectors | None = None
    frames: VideoStore[FramesHeader] | None = None
    missing: dict[int, list[str]] = field(default_factory=dict)

    def name_of(self, result: Result) -> str:
        """What a result is of: `RGB, otam, 5-way 1-shot`, and its file where that says not enough."""
        name = _plain(result)
        same = [other.path for other in self.results if _plain(other) == name]
        return f"{name} ({result.path.stem})" if len({*same, result.path}) > 1 else name

    def lacks(self, section: int, why: str) -> None:
        """Say what a section lacks, once."""
        lines = self.missing.setdefault(section, [])
        if why not in lines:
            lines.append(why)


def title_of(result: Result) -> str:
    """The model of a result, as the paper's tables call it."""
    name = result.asked.model
    return MODELS[name].title if name in MODELS else name


def _plain(result: Result) -> str:
    asked = result.asked
    usual = MODELS[asked.model].head if asked.model in MODELS else Model.head
    return ", ".join(
        [title_of(result), *([asked.head] if asked.head != usual else []), f"{asked.way}-way {asked.shot}-shot"]
    )


def step_of_store(store: VideoStore[StoreHeader], state: str, command: str) -> Step:
    """A store, with the fingerprint of all its videos."""
    records = store.records()
    mark = fingerprint_of(records, sorted({record.class_name for record in records.values()}))
    written = _written(store.path / HEADER)
    return Step(store.path.name, state, store.header.settings.as_dict(), mark, written, None, command)


def step_of_checkpoint(path: Path, header: AnyCheckpoint, state: str, training: Training | None, command: str) -> Step:
    """A checkpoint, or where it is not finished its snapshot."""
    written = _written(path if path.is_file() else snapshot_path(path))
    seconds = training.seconds if training else None
    return Step(path.name, state, options_of(header), header.fingerprint, written, seconds, command)


def step_of_result(result: Result, command: str) -> Step:
    """A result, with the fingerprint of its episodes."""
    asked, found = result.asked, result.found
    names = ("model", "fusion", "head", "test_frames", "way", "shot", "queries", "episodes", "seed")
    settings = {name: value for name in names if (value := getattr(asked, name)) is not None}
    state, name = f"{found.accuracy:.2%} ± {found.half_width_95:.2%}", f"results/{result.path.name}"
    return Step(name, state, settings, asked.episodes_fingerprint, _written(result.path), found.seconds, command)


def _written(path: Path) -> datetime:
    return datetime.fromtimestamp(path.stat().st_mtime)


def data_of(frames: VideoStore[FramesHeader], split: Split | None, failed: Sequence[Failure]) -> Data:
    """The videos of a frame store by the classes of a split, beside what lies in the folder that they are from."""
    records, failures = frames.records(), Counter(class_of(item.video) for item in failed)
    by_class: dict[str, list[VideoRecord]] = {name: [] for name in split.classes} if split else {}
    for record in records.values():
        by_class.setdefault(record.class_name, []).append(record)
    in_seconds = all(record.fps for record in records.values())
    lengths = [record.frames / (record.fps or 1.0 if in_seconds else 1.0) for record in records.values()]
    parts = ("base", "validation", "novel") if split else ()
    absent = [video for part in parts for video in (split.missing(part, records) if split else ())]
    data = Data(
        [_counted(name, split, some, failures[name]) for name, some in sorted(by_class.items())],
        np.array(lengths, np.float64), in_seconds, failed,
        absent or [name for name, some in by_class.items() if not some], looked_at=False,
    )  # fmt: skip
    videos = located(frames.header.notes.videos, frames.path)
    if not videos.is_dir():
        return data
    found = one_of_each(find_clips(videos, follow_links=frames.header.notes.follow_links))
    passed_over = [(str(path), why) for path, why in found.skipped]
    return replace(data, looked_at=True, copies=found.in_two_classes, passed_over=passed_over)


def _counted(name: str, split: Split | None, records: Sequence[VideoRecord], failed: int) -> ClassCount:
    part = (split.part_of(name) if split else None) or "not in the split"
    seconds = sum(record.frames / record.fps for record in records if record.fps)
    return ClassCount(name, part, len(records), sum(record.frames for record in records), seconds, failed)


def trainings_below(folder: Path) -> Iterator[Training]:
    """Every training that left metrics, by its path below `folder`; lines that are torn are passed over."""
    for path in sorted(folder.rglob(f"*{METRICS}")):
        rows = []
        for line in path.read_bytes().splitlines():
            with suppress(ValueError, RecursionError, AttributeError):
                rows.append({name: value for name, value in json.loads(line).items() if isinstance(value, int | float)})
        header = read_header(path.with_name(path.name.removesuffix(METRICS) + SUFFIX))
        if rows:
            name = str(path.relative_to(folder)).removesuffix(METRICS)
            yield Training(name, rows, header.notes.epoch if header else None)
