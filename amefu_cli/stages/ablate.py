"""results/*.json of many models -> tables laid out as the paper's: methods × shots and the ablation × shots.

The paper (arXiv:2010.09982) compares methods in Table 1 (Kinetics-100) and Table 2 (UCF101, HMDB51), and takes its
own model apart in Table 3.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from amefu_cli.method.heads import FUSIONS, MODELS

# Accuracy in %, 5-way: by data set, row and shot. Only figures that a second publication repeats are here, the
# 1-shot and 5-shot ones of AMeFu-Net: Table 1 of Otter (AAAI 2026) cites all six.
PAPER: Mapping[str, Mapping[str, Mapping[int, float]]] = {
    "kinetics100": {"amefu": {1: 74.1, 5: 86.8}},
    "ucf101": {"amefu": {1: 85.1, 5: 95.5}},
    "hmdb51": {"amefu": {1: 60.2, 5: 75.5}},
}


@dataclass(frozen=True)
class Row:
    """One row of a table: a model of `evaluate`, and for a fused one how it is fused and trained."""

    name: str
    title: str
    model: str
    fusion: str | None = None
    num_aug: int | None = None


@dataclass(frozen=True)
class Plan:
    """What is to be tabled: the tables with their rows, and the row that the others are compared with."""

    tables: Mapping[str, tuple[Row, ...]]  # by heading
    reference: Row

    @property
    def rows(self) -> tuple[Row, ...]:
        """Every row once, the reference first."""
        found = {row.name: row for rows in self.tables.values() for row in rows}
        return (self.reference, *(row for name, row in found.items() if name != self.reference.name))


def plan_tables(tables: Sequence[int], *, num_augs: Sequence[int], num_aug: int) -> Plan:
    """The rows of the paper's tables 1 to 3. AMeFu-Net is DGAdaIN with `num_aug`; Table 3 has each of `num_augs`.

    Tables 1 and 2 have the same rows, of other data sets: of one data set they are one table.
    """
    reference = Row("amefu", MODELS["amefu"].title, "amefu", "dgadain", num_aug)
    planned: dict[str, tuple[Row, ...]] = {}
    if 1 in tables or 2 in tables:
        planned["Tables 1 and 2: methods"] = (_baseline("rgb-basenet"), _baseline("rgb-basenet++"), reference)
    if 3 in tables:
        fused = [
            reference if (fusion, count) == (reference.fusion, num_aug) else _fused(fusion, count)
            for fusion in sorted(FUSIONS, key=lambda name: name == reference.fusion)  # its rows last, as in the paper
            for count in sorted({*num_augs, *([num_aug] if fusion == reference.fusion else [])})
        ]
        planned["Table 3: ablation"] = (_baseline("rgb"), _baseline("depth"), *fused)
    return Plan(planned, reference)


def _baseline(model: str) -> Row:
    return Row(model, MODELS[model].title, model)


def _fused(fusion: str, num_aug: int) -> Row:
    asynchrony = f"{num_aug} asynchronous clips" if num_aug else "no asynchrony"
    return Row(f"{fusion}-{num_aug}", f"{FUSIONS[fusion].title}, {asynchrony}", "amefu", fusion, num_aug)


def paper_figure(data_set: str | None, row: Row, shot: int, *, way: int) -> float | None:
    """The paper's accuracy in %, or None where it is not known or the task is another."""
    return PAPER.get(data_set or "", {}).get(row.name, {}).get(shot) if way == 5 else None


def to_markdown(document: Mapping[str, Any]) -> str:
    """The tables of an ablation's JSON document as Markdown: accuracies, then differences from the reference."""
    over = document["interval_over"]
    parts = [
        f"{document['way']}-way, {document['queries']} query a class, {document['episodes']} episodes a shot, the same "
        f"for every row; accuracy in % ± 95% over episodes. Differences from {document['reference']} are paired, with "
        f"their 95% interval over {over}; ≈ marks one that the interval does not carry.",
        f"Features by recipe {document['recipe']['features']}, fusions by recipe {document['recipe']['fusion']}, "
        f"preset {document['preset']}.{_missing(document)}",
    ]
    if document["data_set"]:
        parts.append(
            f"The data set is the paper's {document['data_set']}. Of the paper's figures those are here that a second "
            "publication repeats: AMeFu-Net in 1-shot and 5-shot."
        )
    for table in document["tables"]:
        parts.append(f"## {table['title']}")
        parts.append(_grid(table["rows"], _accuracy))
        parts.append(f"Difference from {document['reference']}, points:")
        compared = [row for row in table["rows"] if row["name"] != "amefu"]
        parts.append(_grid(compared, difference_text))
    return "\n\n".join(parts) + "\n"


def _missing(document: Mapping[str, Any]) -> str:
    videos, classes = document["missing_videos"], document["missing_classes"]
    if not videos and not classes:
        return ""
    return f" Of the novel part of the split {videos} videos are missing, and {len(classes)} classes."


def _grid(rows: Sequence[Mapping[str, Any]], cell: Any) -> str:
    shots = list(rows[0]["shots"])
    lines = [["", *(f"{shot}-shot" for shot in shots)], ["---"] * (1 + len(shots))]
    lines += [[row["title"], *(cell(row["shots"][shot]) for shot in shots)] for row in rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def _accuracy(cell: Mapping[str, Any]) -> str:
    text = f"{100 * cell['accuracy']:.2f} ± {100 * cell['half_width_95']:.2f}"
    return text if cell["paper"] is None else f"{text} (paper: {cell['paper']})"


def difference_text(cell: Mapping[str, Any]) -> str:
    """`−1.20 [−1.61, −0.79]`, in points, with ≈ before it where the interval holds 0."""
    low, high = cell.get("by_class_95", cell["over_episodes_95"])
    value, low, high = (f"{100 * share:+.2f}".replace("-", "−") for share in (cell["difference"], low, high))
    return f"{'' if cell['carried'] else '≈ '}{value} [{low}, {high}]"
