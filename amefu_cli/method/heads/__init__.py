"""The tables of fusions, classifiers, losses and models. Adding one is a class or function and a row here."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, cast

from amefu_cli.method import Row

if TYPE_CHECKING:
    from torch import nn

# name -> a module built from the width of the features
FUSIONS: Mapping[str, Row] = {
    "dgadain": Row("depth guides RGB (DGAdaIN)", "heads.fusion:DGAdaIN"),
    "concat": Row("RGB + depth, concatenated", "heads.fusion:Concatenation"),
    "rgb-guides-depth": Row("RGB guides depth", "heads.fusion:RGBGuidesDepth"),
    "two-way": Row("two-way guidance", "heads.fusion:TwoWay"),
}

# name -> (dot (..., queries, way), squared norms (..., queries, 1) and (..., 1, way)) -> logits (..., queries, way)
CLASSIFIERS: Mapping[str, Row] = {
    "cosine": Row("cosine similarity", "heads.prototypes:cosine"),
    "euclidean": Row("minus the squared distance", "heads.prototypes:euclidean"),
}

# name -> (logits (items, classes), targets (items,) int64) -> mean loss
LOSSES: Mapping[str, Row] = {
    "cross_entropy": Row("the paper's", "heads.prototypes:cross_entropy"),
    "double_softmax": Row("softmax before it, as the public code has it", "heads.prototypes:double_softmax"),
}

# name -> (frames of a video, segments, frames_per_segment) -> frame numbers (segments * frames_per_segment,) int64
TEST_CLIPS: Mapping[str, Row] = {
    "middle": Row("the middle of every part", "sampling:middle_clip"),
    "start": Row("the start of every part, as the public code has it", "sampling:start_clip"),
    "consecutive": Row("consecutive frames from the middle of the video", "sampling:consecutive_clip"),
}


@dataclass(frozen=True)
class Model:
    """A row of the paper's tables: the streams it reads, which frames of them, and how its vectors are classified."""

    title: str
    streams: tuple[str, ...]
    test_frames: str | None = None  # None: those that the feature store was made for
    classifier: str = "cosine"
    unit_length: bool = True  # whether a video's vector is scaled to length 1


MODELS: Mapping[str, Model] = {
    "amefu": Model("AMeFu-Net", ("rgb", "depth")),
    "rgb": Model("RGB", ("rgb",)),
    "depth": Model("Depth", ("depth",)),
    "rgb-basenet": Model("RGB basenet", ("imagenet",), "consecutive", "euclidean", unit_length=False),
    "rgb-basenet++": Model("RGB basenet++", ("imagenet",)),
}


def build_fusion(name: str, dim: int) -> nn.Module:
    """The fusion of row `name` for features `dim` wide, with its first weights, drawn by torch's random state."""
    return cast("nn.Module", FUSIONS[name].load()(dim))
