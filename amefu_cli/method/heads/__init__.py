"""The tables of fusions, heads, classifiers, losses and models. Adding one is a class or function and a row here."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, TypedDict, cast

from amefu_cli.method import Row

if TYPE_CHECKING:
    from torch import nn

    from amefu_cli.method.heads.base import Head

# name -> a module built from the width of the features
FUSIONS: Mapping[str, Row] = {
    "dgadain": Row("depth guides RGB (DGAdaIN)", "heads.fusion:DGAdaIN"),
    "concat": Row("RGB + depth, concatenated", "heads.fusion:Concatenation"),
    "rgb-guides-depth": Row("RGB guides depth", "heads.fusion:RGBGuidesDepth"),
    "two-way": Row("two-way guidance", "heads.fusion:TwoWay"),
    "rgb-linear": Row("RGB through one linear layer", "heads.fusion:RGBLinear"),
    "depth-linear": Row("depth through one linear layer", "heads.fusion:DepthLinear"),
    "dgadain-linear": Row("DGAdaIN, then one linear layer", "heads.fusion:DGAdaINLinear"),
}

# name -> (labels (videos,) int64, rng) -> the video (videos,) int64 whose depth each one's RGB is fused with
DEPTHS: Mapping[str, Row] = {
    "own": Row("its own", "episodes:own_depth"),
    "class": Row("of another video of its class, which it is told even of queries", "episodes:depth_of_class"),
    "random": Row("of any other video", "episodes:depth_of_any"),
}

# name -> (dot (..., queries, way), squared norms (..., queries, 1) and (..., 1, way)) -> logits (..., queries, way)
CLASSIFIERS: Mapping[str, Row] = {
    "cosine": Row("cosine similarity", "heads.prototypes:cosine"),
    "euclidean": Row("minus the squared distance", "heads.prototypes:euclidean"),
}


@dataclass(frozen=True)
class HeadRow(Row):
    """A head: how queries are scored for the classes of an episode. `where` is built as `Class(dim, **options)`.

    `exactness` is the sentence that a table prints under a figure of this head.
    """

    citation: str = ""
    exactness: str = "Exact."
    options: Mapping[str, object] = field(default_factory=dict)
    learns: bool = False  # whether it must be trained before it says anything; its class has `training_defaults`
    knows_classes: bool = False  # whether training also tells the base classes apart: the option `base_classes`
    frames: str | None = None  # the row of TEST_CLIPS that it reads; None: the model's own clip
    gallery: int = 0  # base videos of each class that it sees beside the supports, by `use_gallery`
    classifier: str | None = None  # of prototypes alone: the row of CLASSIFIERS that does the same on whole vectors


class _Learned(TypedDict):
    learns: bool
    frames: str


EIGHT = "eight"
_TRX_CODE = "the head of tobyperrett/few-shot-action-recognition"
_PROTOTYPES = "Snell et al., NeurIPS 2017, arXiv:1703.05175"
_OTAM = "Cao et al., CVPR 2020, arXiv:1906.11415"
_FSL_VIDEO = "FSL-Video, arXiv:2110.12358"
_HYRSM = "Wang et al., CVPR 2022, arXiv:2204.13423"
_MATCHING = "Bertrand et al., BMVC 2022, arXiv:2303.16084"
_MATCHED = "Exact; the paper works on frozen features too, after a learned projection that is left out."
_CLOSER_LOOK = "Chen et al., ICLR 2019, arXiv:1904.04232"
_FROZEN = "The head is exact; the published backbone learns with it, here it is frozen."
_FROZEN_TOO = "Exact; the paper works on frozen features too."
_LEARNED = _Learned(learns=True, frames=EIGHT)
_SEEDED = "Exact but for the random start, seeded per episode."

# name -> a head (method/heads/base.py) built from the width of the features
HEADS: Mapping[str, HeadRow] = {
    "prototype-cosine": HeadRow(
        "cosine to the class mean", "heads.mean_frames:PrototypeCosine", _PROTOTYPES, classifier="cosine"
    ),
    "prototype-euclidean": HeadRow(
        "distance to the class mean", "heads.mean_frames:PrototypeEuclidean", _PROTOTYPES, classifier="euclidean"
    ),
    "unit-frames-euclidean": HeadRow(
        "distance to the class mean, frames of length 1", "heads.mean_frames:UnitFramesEuclidean",
        "after Fu et al., ACM MM 2019",
        "Embodied Learning's code, exact for videos of 19 frames and more; of shorter ones that starts at the first "
        "and repeats none. AMeFu-Net's text also fits frames as they are: `--head prototype-euclidean`.",
    ),
    "mean-frames-cosine": HeadRow("mean cosine to the shots", "heads.mean_frames:MeanFramesCosine", _TRX_CODE),
    "otam": HeadRow(
        "OTAM alignment", "heads.otam:OTAM", _OTAM, frames=EIGHT,
        exactness="The metric is exact; the published backbone is trained through it, here it is frozen.",
    ),
    "otam-hard": HeadRow(
        "OTAM of FSL-Video", "heads.otam:HardOTAM", _FSL_VIDEO, frames=EIGHT,
        exactness="FSL-Video's variant, exact; not the soft alignment of the paper.",
    ),
    "bi-mhm": HeadRow(
        "bi-directional mean Hausdorff metric", "heads.bi_mhm:BiMHM", _HYRSM, frames=EIGHT,
        exactness="HyRSM's metric alone, exact; shots are averaged frame by frame.",
    ),
    "bi-mhm-per-shot": HeadRow(
        "bi-directional mean Hausdorff metric, shot by shot", "heads.bi_mhm:BiMHMPerShot", _HYRSM, frames=EIGHT,
        exactness="HyRSM's metric alone, exact; its public 1-shot rule.",
    ),
    "match-mean": HeadRow(
        "mean of the frames' cosines", "heads.matching:MatchMean", _MATCHING, _MATCHED, frames=EIGHT
    ),
    "match-max": HeadRow("best cosine of two frames", "heads.matching:MatchMax", _MATCHING, _MATCHED, frames=EIGHT),
    "match-diag": HeadRow(
        "cosines of frames of equal place", "heads.matching:MatchDiag", _MATCHING, _MATCHED, frames=EIGHT
    ),
    "chamfer-query": HeadRow(
        "Chamfer from the query", "heads.matching:ChamferQuery", _MATCHING, _MATCHED, frames=EIGHT
    ),
    "chamfer-support": HeadRow(
        "Chamfer from the support", "heads.matching:ChamferSupport", _MATCHING, _MATCHED, frames=EIGHT
    ),
    "chamfer": HeadRow("Chamfer, both ways", "heads.matching:Chamfer", _MATCHING, _MATCHED, frames=EIGHT),
    "segment-augmentation": HeadRow(
        "segments of base videos", "heads.embodied:SegmentAugmentation", "after Fu et al., ACM MM 2019",
        "Embodied Learning's test-time step, exact, on real base videos; the paper's are rendered, and it fine-tunes.",
        gallery=10,
    ),
    "logistic": HeadRow(
        "logistic regression", "heads.logistic:Logistic", "Tian et al., ECCV 2020, arXiv:2003.11539",
        exactness="Exact: scikit-learn's objective, C = 1.",
    ),
    "svm": HeadRow(
        "support vector machine", "heads.support_vectors:SupportVectors", "Chang, Lin, LIBSVM, ACM TIST 2011",
        exactness="Exact: LIBSVM's objective, C = 10, rbf.",
    ),
    "knn": HeadRow("nearest neighbours", "heads.neighbours:NearestNeighbours", "Cover, Hart, IEEE Trans. IT 1967"),
    "baseline": HeadRow("Baseline", "heads.baselines:Baseline", _CLOSER_LOOK, _SEEDED),
    "baseline++": HeadRow("Baseline++", "heads.baselines:BaselinePlusPlus", _CLOSER_LOOK, _SEEDED),
    "baseline-plus": HeadRow(
        "Baseline Plus", "heads.baselines:BaselinePlus", _FSL_VIDEO,
        "Exact; not Baseline++; queries are scored unscaled, as in its code.",
    ),
    "tsl": HeadRow(
        "TSL", "heads.tsl:TSL", "Xian et al., arXiv:2007.04755",
        "Exact but for the random start; frames stand for its clips.",
    ),
    "match-linear": HeadRow(
        "learned weights of the frames' cosines", "heads.matching:MatchLinear", _MATCHING, _FROZEN_TOO, **_LEARNED
    ),
    "chamfer++": HeadRow("Chamfer++", "heads.matching:ChamferPlusPlus", _MATCHING, _FROZEN_TOO, **_LEARNED),
    "trx": HeadRow("TRX", "heads.trx:TRX", "Perrett et al., CVPR 2021, arXiv:2101.06184", _FROZEN, **_LEARNED),
    "hyrsm": HeadRow("HyRSM", "heads.hyrsm:HyRSM", _HYRSM, _FROZEN, knows_classes=True, **_LEARNED),
    "hyrsm++": HeadRow(
        "HyRSM++", "heads.hyrsm:HyRSMPlusPlus", "Wang et al., arXiv:2301.03330", _FROZEN, knows_classes=True, **_LEARNED
    ),
    "molo-base": HeadRow(
        "MoLo without motion", "heads.molo:MoLoBase", "Wang et al., CVPR 2023, arXiv:2304.00946",
        "Part of it: pooled frames have no motion branch; the backbone is frozen.", knows_classes=True, **_LEARNED,
    ),
    "team": HeadRow("TEAM", "heads.team:TEAM", "Lee et al., CVPR 2025, arXiv:2504.05956", _FROZEN, **_LEARNED),
    "cmn-embedding": HeadRow(
        "CMN's embedding", "heads.cmn:CMNEmbedding", "after Zhu, Yang, ECCV 2018",
        "Part of it, by a re-implementation: the multi-saliency embedding without the memory.", **_LEARNED,
    ),
    "tarn": HeadRow(
        "TARN", "heads.tarn:TARN", "Bishay et al., BMVC 2019, arXiv:1907.09021",
        "After an unofficial implementation.", **_LEARNED,
    ),
    "second-order-relation": HeadRow(
        "second-order relation", "heads.second_order:SecondOrderRelation", "after Zhang et al., ECCV 2020",
        "After ARN, an approximation: the relation network on second-order matrices of pooled frames.", **_LEARNED,
    ),
}  # fmt: skip


def build_head(name: str, dim: int, options: Mapping[str, object] | None = None) -> Head:
    """The head of row `name` for features `dim` wide; one that learns starts from torch's random state.

    `options` are those of one training, beside the row's own.
    """
    row = HEADS[name]
    return cast("Head", row.load()(dim, **row.options, **(options or {})))


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
    EIGHT: Row("one frame of each of 8 parts, whatever the clip is in training", "sampling:eight_clip"),
}


@dataclass(frozen=True)
class Model:
    """A row of the paper's tables: the streams it reads, which frames of them, and by which head."""

    title: str
    streams: tuple[str, ...]
    test_frames: str | None = None  # None: those that the feature store was made for
    head: str = "prototype-cosine"
    unit_length: bool = True  # whether a video's vector is scaled to length 1


MODELS: Mapping[str, Model] = {
    "amefu": Model("AMeFu-Net", ("rgb", "depth")),
    "rgb": Model("RGB", ("rgb",)),
    "depth": Model("Depth", ("depth",)),
    "rgb-basenet": Model("RGB basenet", ("imagenet",), "consecutive", "unit-frames-euclidean", unit_length=False),
    "rgb-basenet++": Model("RGB basenet++", ("imagenet",)),
}


def build_fusion(name: str, dim: int) -> nn.Module:
    """The fusion of row `name` for features `dim` wide, with its first weights, drawn by torch's random state."""
    return cast("nn.Module", FUSIONS[name].load()(dim))
