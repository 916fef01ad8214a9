"""The tables of an ablation: which rows the paper's tables have, what is in them, and how they read as Markdown."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass

from amefu_cli.flows.compare import MARK, Comparison
from amefu_cli.method.heads import FUSIONS, MODELS

REFERENCE, OURS = "amefu", "dgadain"

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
    reference = Row(REFERENCE, MODELS[REFERENCE].title, REFERENCE, OURS, num_aug)
    planned: dict[str, tuple[Row, ...]] = {}
    if 1 in tables or 2 in tables:
        planned["Tables 1 and 2: methods"] = (_baseline("rgb-basenet"), _baseline("rgb-basenet++"), reference)
    if 3 in tables:
        others = [_fused(fusion, count) for fusion in FUSIONS if fusion != OURS for count in sorted(num_augs)]
        ours = [
            reference if count == num_aug else _fused(OURS, count) for count in sorted({*num_augs, num_aug})
        ]  # last, as in the paper
        planned["Table 3: ablation"] = (_baseline("rgb"), _baseline("depth"), *others, *ours)
    return Plan(planned, reference)


def _baseline(model: str) -> Row:
    return Row(model, MODELS[model].title, model)


def _fused(fusion: str, num_aug: int) -> Row:
    asynchrony = f"{num_aug} asynchronous clips" if num_aug else "no asynchrony"
    return Row(f"{fusion}-{num_aug}", f"{FUSIONS[fusion].title}, {asynchrony}", REFERENCE, fusion, num_aug)


def paper_figure(data_set: str | None, row: Row, shot: int, *, way: int) -> float | None:
    """The paper's accuracy in %, or None where it is not known or the task is another."""
    return PAPER.get(data_set or "", {}).get(row.name, {}).get(shot) if way == 5 else None


@dataclass(frozen=True, kw_only=True)
class Cell(Comparison):
    """One row and shot: its accuracy, the paper's in % where it is known, and the difference from the reference."""

    accuracy: float
    half_width_95: float
    paper: float | None


@dataclass(frozen=True, kw_only=True)
class TableRow(Row):
    """One row with its cells by number of shots."""

    shots: Mapping[str, Cell]


@dataclass(frozen=True)
class Table:
    """One table of the paper."""

    title: str
    rows: tuple[TableRow, ...]


@dataclass(frozen=True)
class MadeBy:
    """The recipes that features and fusions were made by."""

    features: str
    fusion: str


@dataclass(frozen=True)
class Ablation:
    """The tables with all that they are of."""

    preset: str
    recipe: MadeBy
    missing_videos: int
    missing_classes: tuple[str, ...]
    data_set: str | None
    way: int
    queries: int
    episodes: int
    seed: int
    reference: str
    interval_over: str
    tables: tuple[Table, ...]

    def as_document(self) -> dict[str, object]:
        """The tables as plain values."""
        return asdict(self)

    def to_markdown(self) -> str:
        """Accuracies, then differences from the reference."""
        parts = [
            f"{self.way}-way, {self.queries} query a class, {self.episodes} episodes a shot, the same for every row; "
            f"accuracy in % ± 95% over episodes. Differences from {self.reference} are paired, with their 95% interval "
            f"over {self.interval_over}; {MARK} marks one whose interval holds 0.",
            f"Features by recipe {self.recipe.features}, fusions by recipe {self.recipe.fusion}, preset {self.preset}."
            f"{self._missing()}",
        ]
        if self.data_set:
            parts.append(
                f"The data set is the paper's {self.data_set}. Of the paper's figures those are here that a second "
                "publication repeats: AMeFu-Net in 1-shot and 5-shot."
            )
        for table in self.tables:
            others = [row for row in table.rows if row.name != REFERENCE]
            parts += [f"## {table.title}", _grid(table.rows, accuracy_text)]
            parts += [f"Difference from {self.reference}, points:", _grid(others, difference_text)]
        return "\n\n".join(parts) + "\n"

    def _missing(self) -> str:
        if not self.missing_videos and not self.missing_classes:
            return ""
        return (
            f" Of the novel part of the split {self.missing_videos} videos are missing, and "
            f"{len(self.missing_classes)} classes."
        )


def _grid(rows: Sequence[TableRow], text_of: Callable[[Cell], str]) -> str:
    """A Markdown table: rows × shots."""
    shots = list(rows[0].shots)
    lines = [["", *(f"{shot}-shot" for shot in shots)], ["---"] * (1 + len(shots))]
    lines += [[row.title, *(text_of(row.shots[shot]) for shot in shots)] for row in rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def accuracy_text(cell: Cell) -> str:
    """`74.10 ± 0.86 (paper: 74.1)`, in %."""
    text = f"{100 * cell.accuracy:.2f} ± {100 * cell.half_width_95:.2f}"
    return text if cell.paper is None else f"{text} (paper: {cell.paper})"


def difference_text(cell: Comparison) -> str:
    """`−1.20 [−1.61, −0.79]`, in points, with ≈ before it where the interval holds 0."""
    return f"{cell.text} [{cell.interval_text(', ')}]"
