"""The tables of depth estimators (frames in, disparity out; larger = nearer) and of what makes disparity a picture.

Adding an estimator is a class in a file of this folder and a row here.
"""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from dataclasses import dataclass

from amefu_cli.errors import UsageError
from amefu_cli.method import Row


@dataclass(frozen=True)
class EstimatorRow(Row):
    """A depth estimator, its title as it is written, and what its user must know."""

    weights: str  # which kind of weights it is built from
    source_required: bool  # has no weights of its own: written NAME:SOURCE
    note: str = ""  # one line to be said once; empty where there is nothing to say


ESTIMATORS: Mapping[str, EstimatorRow] = {
    "monodepth2": EstimatorRow(
        "monodepth2",
        "depth.monodepth2:Monodepth2Depth",
        weights="monodepth2",
        source_required=False,
        note="Monodepth2's weights are licensed for non-commercial use only",
    ),
    "onnx": EstimatorRow("onnx:FILE", "depth.onnx:OnnxDepth", weights="onnx", source_required=True),
    "hf": EstimatorRow("hf:NAME_OR_FOLDER", "depth.hub:HubDepth", weights="hf", source_required=False),
    "tiny": EstimatorRow(
        "tiny",
        "depth.tiny:TinyDepthDepth",
        weights="tiny",
        source_required=False,
        note="depth by the tiny embedded network, trained on rendered scenes: for demonstrations and tests",
    ),
}

# name -> colours uint8 (256, 3) from far to near
ENCODINGS: Mapping[str, Row] = {
    "magma": Row("matplotlib's magma", "depth.encoding:MAGMA"),
    "gray": Row("gray", "depth.encoding:GRAY"),
}


def parse_estimator(text: str) -> tuple[str, str | None]:
    """NAME or NAME:SOURCE as (name, source or None). UsageError: no such row, or a row that needs a source.

    >>> parse_estimator("onnx:midas.onnx")
    ('onnx', 'midas.onnx')
    """
    name, _, source = text.partition(":")
    if name not in ESTIMATORS:
        near = difflib.get_close_matches(name, ESTIMATORS, n=1)
        hint = f"did you mean '{near[0]}'?" if near else f"there are {', '.join(ESTIMATORS)}"
        raise UsageError(f"depth estimator '{name}' is not known; {hint}")
    if ESTIMATORS[name].source_required and not source:
        raise UsageError(f"depth estimator '{name}' has no weights of its own; write {name}:FILE")
    return name, source or None
