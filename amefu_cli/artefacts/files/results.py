"""results/*.json: one evaluation each, with every episode's outcome, so that two can be compared in pairs.

| field | what it holds |
|---|---|
| model, fusion, num_aug, classifier, test_frames | which vectors were classified, and how |
| way, shot, queries, episodes, seed | the episodes; seed is null where they were read from a file |
| accuracy, half_width_95 | mean over episodes, and 1.96 standard errors of it, in 0..1 |
| by_class | accuracy of the queries of each class, by class name in sorted order |
| right | how many of its way × queries queries each episode had right |
| outcomes | the same for every class of every episode, packed: `right` and `class`, (episodes, way) |
| episodes_fingerprint | equal for two results of the same episodes |
| fingerprints | of the features, and of the fusion |
| videos, seconds | size and time of the evaluation |

Each array of `outcomes` is unsigned 16-bit little-endian, deflated (zlib), as base64; `class` counts the names of
`by_class` from 0.
"""

from __future__ import annotations

import base64
import json
import zlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from amefu_cli.artefacts.files.atomic import write_atomic
from amefu_cli.artefacts.files.fingerprint import fingerprint
from amefu_cli.errors import DamagedFile, UsageError

PACKED = "<u2"
COMPARED = (
    "model", "way", "shot", "queries", "episodes", "accuracy", "half_width_95", "by_class", "outcomes",
    "episodes_fingerprint",
)  # fmt: skip


@dataclass(frozen=True)
class Outcomes:
    """Every episode of one result: shares of right queries (0..1) by way, and the class of each way."""

    shares: NDArray[np.float64]  # (episodes, way)
    classes: NDArray[np.int64]  # (episodes, way) positions in class_names
    class_names: tuple[str, ...]

    @property
    def accuracies(self) -> NDArray[np.float64]:
        """The accuracy (0..1) of each episode."""
        means: NDArray[np.float64] = self.shares.mean(1)
        return means


def result_name(asked: Mapping[str, Any]) -> str:
    """A file name that tells the main settings, and differs where any setting or fingerprint does."""
    return f"{asked['model']}-{asked['way']}way-{asked['shot']}shot-{fingerprint(asked)[:8]}.json"


def write_result(path: Path, result: Mapping[str, Any]) -> None:
    """Write one result, on one line."""
    write_atomic(path, (json.dumps(result, allow_nan=False) + "\n").encode("ascii"))


def read_result(path: Path) -> dict[str, Any] | None:
    """One result, or None where there is no such file; raises DamagedFile where it is something else."""
    try:
        document = json.loads(path.read_bytes())
    except FileNotFoundError:
        return None
    except (ValueError, RecursionError) as error:
        raise DamagedFile(f"{path}: not an amefu result ({error}); remove it") from error
    if not isinstance(document, dict) or not isinstance(document.get("fingerprints"), dict):
        raise DamagedFile(f"{path}: not an amefu result; choose another --out")
    return document


def open_result(path: Path) -> dict[str, Any]:
    """A result that must be there, with all that a comparison reads."""
    result = read_result(path)
    if result is None:
        raise UsageError(f"{path}: no such result; make it with `amefu evaluate --out {path}`")
    missing = [name for name in COMPARED if name not in result]
    if missing:
        raise DamagedFile(f"{path}: a result without {', '.join(missing)}; evaluate again into another file")
    return result


def pack_outcomes(right: NDArray[np.int64], classes: NDArray[np.int64]) -> dict[str, str]:
    """The field `outcomes`: right queries and class of every (episode, way)."""
    return {"right": _pack(right), "class": _pack(classes)}


def outcomes_of(result: Mapping[str, Any], path: Path) -> Outcomes:
    """The outcomes of a result; raises DamagedFile where they are absent or do not fit its other fields."""
    try:
        shape = (int(result["episodes"]), int(result["way"]))
        right, classes = (_unpack(result["outcomes"][name], shape) for name in ("right", "class"))
        names, queries = tuple(result["by_class"]), int(result["queries"])
    except (KeyError, TypeError, ValueError, OverflowError, zlib.error) as error:
        raise DamagedFile(f"{path}: its outcomes cannot be read ({error}); evaluate again into another file") from error
    if right.max(initial=0) > queries or classes.max(initial=0) >= len(names):
        raise DamagedFile(f"{path}: an outcome lies outside its queries or classes; evaluate again into another file")
    return Outcomes(right / queries, classes, names)


def _pack(array: NDArray[np.int64]) -> str:
    return base64.b64encode(zlib.compress(array.astype(PACKED).tobytes(), 9)).decode("ascii")


def _unpack(text: str, shape: tuple[int, int]) -> NDArray[np.int64]:
    wanted = np.dtype(PACKED).itemsize * shape[0] * shape[1]
    content = zlib.decompressobj().decompress(base64.b64decode(text, validate=True), wanted + 1)
    if len(content) != wanted:
        raise ValueError(f"{len(content)} bytes of outcomes, {shape[0]} × {shape[1]} need {wanted}")
    return np.frombuffer(content, PACKED).reshape(shape).astype(np.int64)
