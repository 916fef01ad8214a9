"""Which rows the tables of `amefu ablate` have, and how they are printed: rows × shots, with the paper's figures beside
ours and paired differences."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace

from amefu_cli.artefacts.files.results import Recipes
from amefu_cli.errors import UsageError
from amefu_cli.flows.compare import MARK, Comparison
from amefu_cli.method.heads import HEADS, MODELS, Model
from amefu_cli.method.heads.published import AMEFU, CONTROLS, NUM_AUG, TABLES, Figures, PaperRow, Trial, num_aug_row
from amefu_cli.settings import ONE_QUERY, AblateSettings, parse_numbers

END_TO_END = "†"
OF_HEADS = "heads"
AMEFU_NET, PLAIN = "AMeFu-Net", Model.head


@dataclass(frozen=True)
class Plan:
    """What is to be tabled: the rows of each table by its heading, and AMeFu-Net as it is trained here."""

    tables: Mapping[str, tuple[PaperRow, ...]]
    amefu: Trial

    @property
    def trials(self) -> tuple[Trial, ...]:
        """Everything that is evaluated, once; AMeFu-Net, with which the paper's tables are compared, first."""
        papers = any(title != OF_HEADS for title in self.tables)
        rows = [row.trial for rows in self.tables.values() for row in rows if row.trial]
        return tuple(dict.fromkeys([self.amefu, *rows] if papers else rows))

    @property
    def streams(self) -> tuple[str, ...]:
        """Every stream that a row reads."""
        models = dict.fromkeys(trial.model for trial in self.trials)
        return tuple(dict.fromkeys(name for of in models for name in (MODELS[of].streams if of in MODELS else (of,))))


def plan_tables(settings: AblateSettings, *, num_aug: int) -> Plan:
    """The rows of the tables that are asked for, where AMeFu-Net is trained with `num_aug`.

    Raises:
        UsageError: no such table or head, numbers that are none, a model that is none.
    """
    names, allowed = [name.strip() for name in str(settings.tables).split(",")], [*TABLES, OF_HEADS]
    if unknown := [name for name in names if name not in allowed]:
        raise UsageError(f"--tables {unknown[0]!r}: must be of {', '.join(allowed)}")
    num_augs = parse_numbers(settings.num_aug, "--num-aug", minimum=1, maximum=64)
    amefu, tables = replace(AMEFU, num_aug=num_aug), dict[str, tuple[PaperRow, ...]]()
    for name in dict.fromkeys(names):
        if name == OF_HEADS:
            tables[OF_HEADS] = _rows_of_heads(settings, amefu)
            continue
        rows = TABLES[name].rows + ((*map(num_aug_row, num_augs), *CONTROLS) if name == "3" else ())
        if num_aug != NUM_AUG:  # the paper's figures are not those of AMeFu-Net as it is trained here
            rows = tuple(replace(row, trial=amefu, figures={}) if row.title == AMEFU_NET else row for row in rows)
        tables[TABLES[name].title] = rows
    return Plan(tables, amefu)


def _rows_of_heads(settings: AblateSettings, amefu: Trial) -> tuple[PaperRow, ...]:
    names = [*HEADS] if settings.heads == "all" else [name.strip() for name in settings.heads.split(",")]
    if unknown := [name for name in names if name not in HEADS]:
        raise UsageError(f"--heads {unknown[0]!r}: must be of {', '.join(HEADS)}; or all")
    of = amefu if settings.model == amefu.model else Trial(settings.model)
    names = [*dict.fromkeys([PLAIN, *names])]
    return tuple(PaperRow(f"{HEADS[name].title} (`{name}`)", replace(of, head=name)) for name in names)


def comparable_figures(
    row: PaperRow, data_set: str | None, *, way: int, shots: Sequence[int], backbones: Sequence[str]
) -> dict[str, Figures]:
    """The paper's figures of a row, by data set, where this and way, number of shots and both streams' backbones are
    the paper's; rows of another num_aug than the paper's have none."""
    figures = {shot: figure for shot, figure in row.figures.get(data_set or "", {}).items() if shot in shots}
    return {data_set: figures} if data_set and figures and way == 5 and tuple(backbones) == ("resnet50",) else {}


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
class TableRow(PaperRow):
    """One row with its cells by number of shots; of the paper's figures it has those that are comparable."""

    shots: Mapping[str, Cell] = field(default_factory=dict)

    @property
    def paper(self) -> Mapping[int, float]:
        """The comparable figures, in %, by number of shots."""
        return next(iter(self.figures.values()), {})

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
            differences = [
                (row.shown, [row.shots[shot].difference_text(reference) for shot in shots])
                for row in self.rows
                if row.shots and reference in row.shots[shots[0]].less
            ]
            parts += [f"Difference from {reference}, points:", _grid([f"{shot}-shot" for shot in shots], differences)]
        return "\n\n".join(filter(None, parts))

    def _notes(self) -> Iterable[str]:
        if any(row.end_to_end and row.paper for row in self.rows):
            yield f"{END_TO_END}: the backbone behind the paper's figure learned with its head, end to end.\n"
        for row in self.rows:
            if row.note:
                yield f"- {row.title}: {row.note}"
            elif row.trial and (head := HEADS[row.trial.head]).classifier is None:
                what = f"`{row.trial.head}` on `{row.trial.model}`, " if row.trial.head not in row.title else ""
                yield f"- {row.title}: {what}{head.citation}. {head.exactness}"


def _accuracies(row: TableRow, shots: Sequence[str], with_figures: bool) -> list[str]:
    cells = []
    for shot in shots:
        cells.append(row.shots[shot].accuracy_text() if row.shots else "–")
        if with_figures:
            figure = row.paper.get(int(shot))
            cells.append("–" if figure is None else f"{figure}{END_TO_END if row.end_to_end else ''}")
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
    queries: str
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
        queries = "one query an episode" if self.queries == ONE_QUERY else f"queries a class: {self.queries}"
        trainings = f" What learns was trained {self.seeds} times: the mean, in brackets the deviation over seeds."
        parts = [
            f"{self.way}-way, {queries}, {self.episodes} episodes a shot, the same for every row, "
            f"with the same queries for every shot; accuracy in % ± 95% over episodes."
            f"{trainings if self.seeds > 1 else ''} "
            f"Differences are paired, with their 95% interval over {self.interval_over}; {MARK} marks one whose "
            "interval holds 0.",
            f"Features by recipe {self.recipe.features}, trained by recipe {self.recipe.fusion}, preset {self.preset}."
            f"{missing if self.missing_videos or self.missing_classes else ''}",
        ]
        if any(row.paper for table in self.tables for row in table.rows):
            parts.append(f"Data set ({self.data_set}) and backbone are the paper's: its figures stand beside ours.")
        shots = [*dict.fromkeys(shot for table in self.tables for row in table.rows for shot in row.shots)]
        return "\n\n".join([*parts, *(table.to_markdown(shots) for table in self.tables)]) + "\n"
