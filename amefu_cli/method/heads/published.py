"""The paper's Tables 1 to 3 (Fu et al., ACM MM 2020) in its order and words, and what stands for each row here.

Its figures are 5-way accuracy in % by number of shots, of ResNet-50 streams.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

from amefu_cli.method.heads import MODELS, Model

Figures = Mapping[int, float]


@dataclass(frozen=True)
class Trial:
    """What is evaluated: a model with its head, and for a fused one how it is fused and trained."""

    model: str
    head: str = Model.head
    fusion: str | None = None
    num_aug: int | None = None
    matched: bool = False  # whether the matched depth clip stands in place of the asynchronous ones
    depth_of: str = "own"  # a row of DEPTHS

    @property
    def training(self) -> str:
        """How it is fused: `dgadain-2aug`, `dgadain-2matched`, `concat-0aug-depth-of-class`; empty where nothing is."""
        foreign = f"-depth-of-{self.depth_of}" if self.depth_of != "own" else ""
        return f"{self.fusion}-{self.num_aug}{'matched' if self.matched else 'aug'}{foreign}" if self.fusion else ""

    @property
    def name(self) -> str:
        """`amefu-otam-dgadain-2aug`: tells it from all others."""
        return "-".join(filter(None, [self.model, self.head, self.training]))


@dataclass(frozen=True)
class PaperRow:
    """One row of a table; `trial` is None where it cannot be run here, and `note` says why, or what a row of ours is.

    `end_to_end`: the backbone behind the paper's figures learned with the head. `ours`: the paper has no such row.
    """

    title: str
    trial: Trial | None
    figures: Mapping[str, Figures] = field(default_factory=dict)  # by data set
    end_to_end: bool = False
    ours: bool = False
    note: str = ""


@dataclass(frozen=True)
class PaperTable:
    """One table with its heading."""

    title: str
    rows: tuple[PaperRow, ...]


def _of(text: str) -> dict[int, float]:
    """`65.1 – 78.9` as {1: 65.1, 3: 78.9}: a figure for each number of shots from 1 on."""
    return {shot: float(part) for shot, part in enumerate(text.split(), 1) if part != "–"}


def _k100(text: str) -> dict[str, Figures]:
    return {"kinetics100": _of(text)}


def _small(ucf101: str, hmdb51: str) -> dict[str, Figures]:
    return {"ucf101": _of(ucf101), "hmdb51": _of(hmdb51)}


def fused(fusion: str, num_aug: int) -> Trial:
    return Trial("amefu", fusion=fusion, num_aug=num_aug)


NUM_AUG = 2  # of AMeFu-Net in the paper
AMEFU = fused("dgadain", NUM_AUG)
_DGADAIN = "73.6 80.7 84.0 85.4 86.6"
_AMEFU = "74.1 81.1 84.3 85.6 86.8"
_BASENET = Trial("rgb-basenet", MODELS["rgb-basenet"].head)
_BASENETS = Trial("rgb-basenet++")
_ARN = Trial("rgb", "second-order-relation")
_NUM_AUGS = {1: "73.0 80.6 84.5 85.5 86.0", NUM_AUG: _AMEFU, 3: "72.1 80.5 84.4 85.4 86.0"}

TABLES: Mapping[str, PaperTable] = {
    "1": PaperTable("Table 1: Kinetics-100", (
        PaperRow("RGB Basenet", _BASENET, _k100("65.1 74.9 78.9 81.2 81.9")),
        PaperRow("RGB Basenet++", _BASENETS, _k100("66.5 77.2 80.7 82.9 83.7")),
        PaperRow("CMN", Trial("rgb", "cmn-embedding"), _k100("60.5 70.0 75.6 77.3 78.9")),
        PaperRow("ARN", _ARN, _k100("63.7 – – – 82.4"), end_to_end=True),
        PaperRow("TRAN", Trial("rgb", "tarn"), _k100("66.6 74.6 77.3 78.9 80.7")),
        PaperRow(
            "CFA", None, _k100("69.9 – 80.5 – 83.1"), end_to_end=True,
            note="not run: it composes features over the places of a frame (arXiv:1906.04833), which pooled frames "
            "have not, and neither its code nor its formulas are to be had.",
        ),
        PaperRow(
            "Embodied Learning", Trial("rgb", "segment-augmentation"), _k100("67.8 77.8 81.1 82.6 85.0"),
            end_to_end=True,
        ),
        PaperRow("TAM", Trial("rgb", "otam"), _k100("73.0 – – – 85.8"), end_to_end=True),
        PaperRow("RGB + Depth + DGAdaIN", fused("dgadain", 0), _k100(_DGADAIN)),
        PaperRow("AMeFu-Net", AMEFU, _k100(_AMEFU)),
    )),
    "2": PaperTable("Table 2: UCF101, HMDB51", (
        PaperRow("RGB Basenet", _BASENET, _small("76.4 – 88.7 – 92.1", "48.8 – 62.4 – 67.8")),
        PaperRow("RGB Basenet++", _BASENETS, _small("78.5 – 90.0 – 92.9", "49.3 – 63.0 – 68.2")),
        PaperRow("ARN", _ARN, _small("66.3 – – – 83.1", "45.5 – – – 60.6"), end_to_end=True),
        PaperRow("AMeFu-Net", AMEFU, _small("85.1 – 93.1 – 95.5", "60.2 – 71.5 – 75.5")),
    )),
    "3": PaperTable("Table 3: ablation", (
        PaperRow("RGB", Trial("rgb"), ours=True),
        PaperRow("Depth", Trial("depth"), ours=True),
        PaperRow("RGB + Depth + Concat", fused("concat", 0), _k100("67.5 76.9 81.1 82.0 83.3")),
        PaperRow("RGB + Depth + DGAdaIN", fused("dgadain", 0), _k100(_DGADAIN)),
        PaperRow("RGB guide Depth", fused("rgb-guides-depth", 0), _k100("50.6 58.7 64.3 64.1 66.1")),
        PaperRow("DGAdaIN", fused("dgadain", 0), _k100(_DGADAIN)),
        PaperRow("two-way guidance", fused("two-way", 0), _k100("66.5 74.8 78.3 79.4 82.8")),
    )),
}  # fmt: skip


def num_aug_row(num_aug: int) -> PaperRow:
    """A row of the last part of Table 3: DGAdaIN with so many asynchronous clips."""
    figures = _k100(_NUM_AUGS[num_aug]) if num_aug in _NUM_AUGS else {}
    return PaperRow(f"num_aug = {num_aug}", fused("dgadain", num_aug), figures, ours=not figures)


def _of_others(title: str, fusion: str) -> tuple[PaperRow, PaperRow]:
    """A fusion that is given the depth of other videos, in training and in testing."""
    of_class, of_any = (replace(fused(fusion, 0), depth_of=rule) for rule in ("class", "random"))
    told = "no method but a control: it is told the class, of queries too."
    return (
        PaperRow(f"{title}, depth of another video of the class", of_class, ours=True, note=told),
        PaperRow(f"{title}, depth of a random video", of_any, ours=True),
    )


CONTROLS = (
    PaperRow(f"as many steps as num_aug = {NUM_AUG}, all matched", replace(AMEFU, matched=True), ours=True),
    PaperRow("RGB through one linear layer", fused("rgb-linear", 0), ours=True),
    PaperRow("Depth through one linear layer", fused("depth-linear", 0), ours=True),
    PaperRow("DGAdaIN, then one linear layer", fused("dgadain-linear", 0), ours=True),
    *_of_others("Concat", "concat"),
    *_of_others("DGAdaIN", "dgadain"),
)
"""Ours, behind the rows of Table 3. What asynchrony is worth is told by the first one's difference from num_aug = 2 and
not by that of DGAdaIN, with fewer steps; what depth is worth, by the others."""
