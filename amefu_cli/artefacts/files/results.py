"""results/*.json: one evaluation each, with every episode's outcome, so that two can be compared in pairs.

One JSON object of the fields of `ResultSettings` and of `Found`; those of the fusion are null where there is none.
"""

from __future__ import annotations

import base64
import json
import zlib
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from amefu_cli.artefacts.files.atomic import write_atomic
from amefu_cli.artefacts.files.fingerprint import fingerprint, parsed
from amefu_cli.errors import DamagedFile, UsageError

PACKED = np.dtype("<u2")
FIX = "evaluate again into another file"


@dataclass(frozen=True)
class Recipes:
    """The sets of defaults by which features and fusion were made."""

    features: str
    fusion: str | None = None


@dataclass(frozen=True)
class Switches:
    """Where the paper, its public code and practice part ways; None: of no fusion, or not known of an imported one."""

    flip: float
    test_frames: str
    geometry: str
    loss: str | None = None
    temperature: float | None = None
    learning_rate: float | None = None


@dataclass(frozen=True)
class Fingerprints:
    """What was evaluated: the features of the novel videos, the fusion, the head that was trained, and the base videos
    that a head saw beside them."""

    features: str
    fusion: str | None = None
    head: str | None = None
    gallery: str | None = None


@dataclass(frozen=True, kw_only=True)
class ResultSettings:
    """What a result is the result of. Another evaluation with equal settings would find the same."""

    model: str
    fusion: str | None = None
    num_aug: int | None = None
    depth_of: str = "own"  # a row of DEPTHS: whose depth was fused; of another video's it is a control
    head: str
    test_frames: str  # which frames of a video were read
    way: int
    shot: int
    queries: int
    one_query: bool = False  # whether an episode has a single query, of one of its classes
    episodes: int
    seed: int | None  # of drawn episodes, not of those of a file
    episodes_fingerprint: str  # equal for two results of the same episodes
    queries_fingerprint: str  # equal for two results of the same queries, with as many shots or not
    recipe: Recipes
    switches: Switches
    missing_videos: int  # of the split's novel part, as the classes
    missing_classes: tuple[str, ...]
    fingerprints: Fingerprints

    @property
    def file_name(self) -> str:
        """Tells the main settings, and differs where any setting or fingerprint does."""
        return f"{self.model}-{self.head}-{self.way}way-{self.shot}shot-{fingerprint(asdict(self))[:8]}.json"


@dataclass(frozen=True)
class PackedOutcomes:
    """How many queries are right of each class (episodes, asked) that has some, and which it is, counting the names of
    `by_class` from 0. Each is unsigned 16-bit little-endian, deflated (zlib), as base64."""

    right: str
    classes: str

    @classmethod
    def of(cls, right: NDArray[np.int64], classes: NDArray[np.int64]) -> Self:
        packed = (zlib.compress(array.astype(PACKED).tobytes(), 9) for array in (right, classes))
        return cls(*(base64.b64encode(content).decode("ascii") for content in packed))


@dataclass(frozen=True, kw_only=True)
class Found:
    """What an evaluation found."""

    accuracy: float  # mean over the episodes, 0..1
    half_width_95: float  # 1.96 standard errors of it
    by_class: Mapping[str, float]  # accuracy of the queries of each class, by its name in sorted order
    videos: int
    right: tuple[int, ...]  # how many of its queries each episode has right
    outcomes: PackedOutcomes
    seconds: float


@dataclass(frozen=True)
class Outcomes:
    """Every episode of one result: shares of right queries (0..1) of each class that has some, and which it is."""

    shares: NDArray[np.float64]  # (episodes, asked)
    classes: NDArray[np.int64]  # (episodes, asked) positions in class_names
    class_names: tuple[str, ...]

    @property
    def accuracies(self) -> NDArray[np.float64]:
        """The accuracy (0..1) of each episode."""
        return np.asarray(self.shares.mean(1))


@dataclass(frozen=True)
class Result:
    """One evaluation: what was asked for, what was found, and the file that holds both."""

    path: Path
    asked: ResultSettings
    found: Found

    def as_document(self) -> dict[str, Any]:
        """Both as one JSON object."""
        return asdict(self.asked) | asdict(self.found)

    def outcomes(self) -> Outcomes:
        """Every episode; raises DamagedFile where the packed ones do not fit the other fields."""
        packed, shape = self.found.outcomes, (self.asked.episodes, 1 if self.asked.one_query else self.asked.way)
        try:
            right, classes = _unpack(packed.right, shape), _unpack(packed.classes, shape)
        except (ValueError, OverflowError, zlib.error) as error:
            raise DamagedFile(f"{self.path}: its outcomes cannot be read ({error}); {FIX}") from error
        names, queries = tuple(self.found.by_class), self.asked.queries
        if right.max(initial=0) > queries or classes.max(initial=0) >= len(names):
            raise DamagedFile(f"{self.path}: an outcome lies outside its queries or classes; {FIX}")
        return Outcomes(right / queries, classes, names)


def write_result(result: Result) -> None:
    """Write one result, on one line."""
    write_atomic(result.path, (json.dumps(result.as_document(), allow_nan=False) + "\n").encode("ascii"))


def read_result(path: Path) -> Result | None:
    """One result, or None where there is no such file; raises DamagedFile where it is something else."""
    try:
        document = json.loads(path.read_bytes())
        names = {field.name for field in fields(Found)}
        found = {name: document.pop(name) for name in names & document.keys()}
        return Result(path, parsed(ResultSettings, document), parsed(Found, found))
    except FileNotFoundError:
        return None
    except (AttributeError, TypeError, ValueError, RecursionError) as error:
        raise DamagedFile(f"{path}: not an amefu result ({error}); {FIX}") from error


def open_result(path: Path) -> Result:
    """A result that must be there."""
    result = read_result(path)
    if result is None:
        raise UsageError(f"{path}: no such result; make it with `amefu evaluate --out {path}`")
    return result


def _unpack(text: str, shape: tuple[int, int]) -> NDArray[np.int64]:
    wanted = PACKED.itemsize * shape[0] * shape[1]
    content = zlib.decompressobj().decompress(base64.b64decode(text, validate=True), wanted + 1)
    if len(content) != wanted:
        raise ValueError(f"{len(content)} bytes of outcomes, {shape[0]} × {shape[1]} need {wanted}")
    return np.frombuffer(content, PACKED).reshape(shape).astype(np.int64)
