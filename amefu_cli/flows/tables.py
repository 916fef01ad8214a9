"""What `amefu ablate` prints: tables of rows × shots, with the paper's figures beside ours and paired differences."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass

from amefu_cli.artefacts.files.results import Recipes
from amefu_cli.flows.compare import MARK, Comparison
from amefu_cli.method.heads import HEADS
from amefu_cli.method.heads.published import Trial

END_TO_END = "†"


@dataclass(frozen=True)
class Cell:
    """One row and shot: the mean accuracy of its trainings, 0..1, by how much they differ, and from what it does."""

    accuracy: float
    half_width_95: float  # over episodes
    seeds_deviation: float | None  # standard deviation of the accuracies by training seed; None: one training or none
    less: Mapping[str, Comparison]  # by the title of the row that it is compared with
    results: tuple[str, ...]  # files, one a training

    def accuracy_text(self) -> str:
        """`74.10 ± 0.86`, or `74.10 ± 0.86 (0.52)` with the deviation over seeds, in %."""
        text = f"{100 * self.accuracy:.2f} ± {100 * self.half_width_95:.2f}"
        return text if self.seeds_deviation is None else f"{text} ({100 * self.seeds_deviation:.2f})"

    def difference_text(self, reference: str) -> str:
        """`−1.20 [−1.61, −0.79]`, in points, with ≈ before it where the interval holds 0."""
        return f"{self.less[reference].text} [{self.less[reference].interval_text(', ')}]"


@dataclass(frozen=True)
class TableRow:
    """One row: what was evaluated (None: not run), the paper's figures in % where they are comparable, and its cells,
    both by number of shots."""

    title: str
    trial: Trial | None
    paper: Mapping[str, float]
    end_to_end: bool
    ours: bool
    note: str
    shots: Mapping[str, Cell]

    @property
    def shown(self) -> str:
        return f"{self.title} (ours)" if self.ours else self.title


@dataclass(frozen=True)
class Table:
    """One table, and the titles of the rows that its others are compared with."""

    title: str
    rows: tuple[TableRow, ...]
    references: tuple[str, ...]

    def to_markdown(self, shots: Sequence[str]) -> str:
        """Accuracies, the sentences that go with them, then differences from each reference."""
        with_figures = any(row.paper for row in self.rows)
        heading = [part for shot in shots for part in (f"{shot}-shot", *(["paper"] if with_figures else []))]
        lines = [(row.shown, _accuracies(row, shots, with_figures)) for row in self.rows]
        parts = [f"## {self.title}", _grid(heading, lines), "\n".join(self._notes())]
        for reference in self.references:
            others = [row for row in self.rows if all(reference in cell.less for cell in row.shots.values()) and row.shots]
            differences = [(row.shown, [row.shots[shot].difference_text(reference) for shot in shots]) for row in others]
            heading = [f"{shot}-shot" for shot in shots]
            parts += [f"Difference from {reference}, points:", _grid(heading, differences)]
        return "\n\n".join(filter(None, parts))

    def _notes(self) -> Iterable[str]:
        if any(row.end_to_end and row.paper for row in self.rows):
            yield f"{END_TO_END}: the backbone behind the paper's figure learned with its head, end to end.\n"
        for row in self.rows:
            if row.trial is None:
                yield f"- {row.title}: {row.note}"
            elif HEADS[row.trial.head].classifier is None:
                head = HEADS[row.trial.head]
                yield f"- {row.title}: `{row.trial.head}` on `{row.trial.model}` ({head.citation}). {head.exactness}"


def _accuracies(row: TableRow, shots: Sequence[str], with_figures: bool) -> list[str]:
    cells = []
    for shot in shots:
        cells.append(row.shots[shot].accuracy_text() if row.shots else "–")
        if with_figures:
            cells.append(f"{row.paper[shot]}{END_TO_END if row.end_to_end else ''}" if shot in row.paper else "–")
    return cells


def _grid(heading: Sequence[str], rows: Iterable[tuple[str, Sequence[str]]]) -> str:
    """A Markdown table."""
    lines = [["", *heading], ["---"] * (1 + len(heading)), *([title, *cells] for title, cells in rows)]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


@dataclass(frozen=True)
class Tables:
    """The tables with all that they are of."""

    preset: str
    recipe: Recipes
    missing_videos: int
    missing_classes: tuple[str, ...]
    data_set: str | None
    backbone: str
    way: int
    queries: int
    episodes: int
    seed: int
    seeds: int
    interval_over: str
    tables: tuple[Table, ...]

    def to_markdown(self) -> str:
        missing = (
            f" Of the novel part of the split {self.missing_videos} videos are missing, and "
            f"{len(self.missing_classes)} classes."
        )
        trainings = f" What learns was trained {self.seeds} times: the mean, in brackets the deviation over seeds."
        parts = [
            f"{self.way}-way, {self.queries} query a class, {self.episodes} episodes a shot, the same for every row and "
            f"their queries for every shot; accuracy in % ± 95% over episodes.{trainings if self.seeds > 1 else ''} "
            f"Differences are paired, with their 95% interval over {self.interval_over}; {MARK} marks one whose "
            "interval holds 0.",
            f"Features by recipe {self.recipe.features}, trainings by recipe {self.recipe.fusion}, preset {self.preset}."
            f"{missing if self.missing_videos or self.missing_classes else ''}",
        ]
        if any(row.paper for table in self.tables for row in table.rows):
            parts.append(f"The data set is the paper's {self.data_set}, and the backbone its own: its figures stand beside.")
        shots = [*dict.fromkeys(shot for table in self.tables for row in table.rows for shot in row.shots)]
        return "\n\n".join([*parts, *(table.to_markdown(shots) for table in self.tables)]) + "\n"
