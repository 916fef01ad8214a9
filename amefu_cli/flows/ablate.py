"""`amefu ablate`: the paper's tables on one feature store: methods × shots and the ablation × shots.

The paper (arXiv:2010.09982) compares methods in Table 1 (Kinetics-100) and Table 2 (UCF101, HMDB51), and takes its
own model apart in Table 3.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path

from amefu_cli.artefacts.files.atomic import require_writable, to_json, write_atomic
from amefu_cli.artefacts.files.episodes import DrawnEpisodes
from amefu_cli.artefacts.files.results import Recipes, Result
from amefu_cli.artefacts.files.split import Split
from amefu_cli.artefacts.stores.header import FeaturesHeader
from amefu_cli.artefacts.weights.checkpoint import FusionHeader, read_header
from amefu_cli.artefacts.weights.training_run import TrainingRun
from amefu_cli.flows import evaluate
from amefu_cli.flows.candidates import candidate_of
from amefu_cli.flows.chain import Ready, features_with_split
from amefu_cli.flows.compare import MARK, Comparison, compare, interval_over
from amefu_cli.flows.features import FeaturesOrder
from amefu_cli.flows.session import Session
from amefu_cli.flows.splits import SplitOrder, data_set_of
from amefu_cli.flows.streams import IMAGENET
from amefu_cli.flows.training import check_episodes, fusion_header, train_fusion, training_tables
from amefu_cli.flows.work import check_device
from amefu_cli.method.heads import FUSIONS, MODELS
from amefu_cli.settings import AblateSettings, EpisodesSettings, MetaTrainSettings, parse_numbers

REFERENCE, OURS = "amefu", "dgadain"

# Accuracy in %, 5-way: by data set, row and shot. Only figures that a second publication repeats are here, the
# 1-shot and 5-shot ones of AMeFu-Net: Table 1 of Otter (AAAI 2026) cites all six.
PAPER: Mapping[str, Mapping[str, Mapping[int, float]]] = {
    "kinetics100": {"amefu": {1: 74.1, 5: 86.8}},
    "ucf101": {"amefu": {1: 85.1, 5: 95.5}},
    "hmdb51": {"amefu": {1: 60.2, 5: 75.5}},
}


# What is made -------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class AblateOrder:
    """Which tables are made, of which features, into which folder."""

    features: Path
    split: SplitOrder
    settings: AblateSettings
    out: Path
    device: str = "auto"
    by_class: bool = False


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
        return tuple(dict.fromkeys([self.reference, *(row for rows in self.tables.values() for row in rows)]))

    @property
    def streams(self) -> tuple[str, ...]:
        """Every stream that a row reads."""
        return tuple(dict.fromkeys(stream for row in self.rows for stream in MODELS[row.model].streams))


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
        counts = sorted({*num_augs, num_aug})
        ours = [reference if count == num_aug else _fused(OURS, count) for count in counts]  # last, as in the paper
        planned["Table 3: ablation"] = (_baseline("rgb"), _baseline("depth"), *others, *ours)
    return Plan(planned, reference)


def _baseline(model: str) -> Row:
    return Row(model, MODELS[model].title, model)


def _fused(fusion: str, num_aug: int) -> Row:
    asynchrony = f"{num_aug} asynchronous clips" if num_aug else "no asynchrony"
    return Row(f"{fusion}-{num_aug}", f"{FUSIONS[fusion].title}, {asynchrony}", REFERENCE, fusion, num_aug)


def ablate(session: Session, order: AblateOrder) -> Ablation | None:
    """Train the fusions that are missing, evaluate every row on the same episodes, write the tables.

    None in a dry run, which says what would be trained.

    Raises:
        UsageError: numbers that are none, too few videos for an episode, an absent device.
    """
    training, settings = session.settings(MetaTrainSettings, "meta-train"), order.settings
    tables = parse_numbers(settings.tables, "--tables", minimum=1, maximum=3)
    num_augs = parse_numbers(settings.num_aug, "--num-aug", minimum=0, maximum=64)
    shots = parse_numbers(settings.shots, "--shots", minimum=1, maximum=1000)
    plan = plan_tables(tables, num_augs=num_augs, num_aug=training.num_aug)
    asked = [EpisodesSettings(settings.way, shot, settings.queries, settings.episodes, settings.seed) for shot in shots]

    def check(videos: evaluate.Videos, split: Split) -> None:
        for episodes in asked:
            evaluate.check_novel(videos, split, episodes)
        check_episodes(videos, split, training)

    check_device(order.device)
    if not session.dry_run:
        require_writable(order.out)
    of_features = FeaturesOrder(order.features, order.split, basenet=IMAGENET in plan.streams)
    ready = features_with_split(session, of_features, check)
    if ready is None:
        return None
    fusions, missing = _fusions(session, ready, plan, training, order.out)
    if session.dry_run:
        names = ", ".join(files.out.stem for files in missing)
        session.say.note(f"ablate: would train {names or 'nothing'} into {order.out}")
        return None
    if missing:
        base_and_validation = training_tables(session, ready, training)
        for files in missing:
            train_fusion(session, ready, base_and_validation, files, device=order.device)
    drawn = {episodes.shot: evaluate.draw_novel(ready.store, ready.split, episodes) for episodes in asked}
    made = _ablation(session, ready, order, plan, _results(session, ready, order, plan, drawn, fusions))
    write_atomic(order.out / "tables.json", to_json(asdict(made)))
    write_atomic(order.out / "tables.md", made.to_markdown().encode())
    return made


def _fusions(
    session: Session, ready: Ready[FeaturesHeader], plan: Plan, training: MetaTrainSettings, folder: Path
) -> tuple[dict[str, Path], list[TrainingRun[FusionHeader]]]:
    """The checkpoint of every fused row by its name, and those that are still to be trained.

    Each has the fingerprint of its settings and data in its name, so that other settings never meet an old file. What
    `amefu meta-train` has trained already is not trained again.
    """
    fusions: dict[str, Path] = {}
    missing = []
    for row in plan.rows:
        if row.fusion is None or row.num_aug is None:
            continue
        header = fusion_header(session, ready, replace(training, fusion=row.fusion, num_aug=row.num_aug))
        path = folder / f"{row.fusion}-{row.num_aug}aug-{header.fingerprint[:8]}.safetensors"
        found = {place: read_header(place) for place in (path, session.workspace.fusion)}
        there = [place for place, held in found.items() if held and held.fingerprint == header.fingerprint]
        if not there:
            missing.append(TrainingRun(path, header))
        fusions[row.name] = there[0] if there else path
    return fusions, missing


def _results(
    session: Session, ready: Ready[FeaturesHeader], order: AblateOrder, plan: Plan,
    drawn: Mapping[int, DrawnEpisodes], fusions: Mapping[str, Path],
) -> dict[tuple[str, int], Result]:  # fmt: skip
    """The result of every row and shot; vectors are computed once a row, if at all."""
    novel, results = evaluate.Novel(ready, plan.streams), {}
    for row in plan.rows:
        candidate, vectors = candidate_of(row.model, fusions.get(row.name, order.out)), None
        for shot, episodes in drawn.items():
            asked = evaluate.settings_of_result(novel, candidate, episodes, seed=order.settings.seed)
            path = order.out / "results" / f"{row.name}-{asked.file_name}"
            result = evaluate.stored_result(path, asked)
            if result is None:
                vectors = vectors or novel.vectors(candidate, order.device)
                result = evaluate.classify(session, vectors, episodes, asked, path)
            results[row.name, shot] = result
        accuracies = ", ".join(f"{results[row.name, shot].found.accuracy:.2%}" for shot in drawn)
        session.say.note(f"ablate: {row.title}: {accuracies}")
    return results


# What comes of it ---------------------------------------------------------------------------------------------


@dataclass(frozen=True, kw_only=True)
class Cell(Comparison):
    """One row and shot: its accuracy, the paper's in % where it is known, and the difference from the reference."""

    accuracy: float
    half_width_95: float
    paper: float | None

    def accuracy_text(self) -> str:
        """`74.10 ± 0.86 (paper: 74.1)`, in %."""
        text = f"{100 * self.accuracy:.2f} ± {100 * self.half_width_95:.2f}"
        return text if self.paper is None else f"{text} (paper: {self.paper})"

    def difference_text(self) -> str:
        """`−1.20 [−1.61, −0.79]`, in points, with ≈ before it where the interval holds 0."""
        return f"{self.text} [{self.interval_text(', ')}]"


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
class Ablation:
    """The tables with all that they are of."""

    preset: str
    recipe: Recipes
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

    def to_markdown(self) -> str:
        """Accuracies, then differences from the reference."""
        missing = (
            f" Of the novel part of the split {self.missing_videos} videos are missing, and "
            f"{len(self.missing_classes)} classes."
        )
        parts = [
            f"{self.way}-way, {self.queries} query a class, {self.episodes} episodes a shot, the same for every row; "
            f"accuracy in % ± 95% over episodes. Differences from {self.reference} are paired, with their 95% interval "
            f"over {self.interval_over}; {MARK} marks one whose interval holds 0.",
            f"Features by recipe {self.recipe.features}, fusions by recipe {self.recipe.fusion}, preset {self.preset}."
            f"{missing if self.missing_videos or self.missing_classes else ''}",
        ]
        if self.data_set:
            parts.append(
                f"The data set is the paper's {self.data_set}. Of the paper's figures those are here that a second "
                "publication repeats: AMeFu-Net in 1-shot and 5-shot."
            )
        for table in self.tables:
            others = [row for row in table.rows if row.name != REFERENCE]
            parts += [f"## {table.title}", _grid(table.rows, Cell.accuracy_text)]
            parts += [f"Difference from {self.reference}, points:", _grid(others, Cell.difference_text)]
        return "\n\n".join(parts) + "\n"


def _grid(rows: Sequence[TableRow], text_of: Callable[[Cell], str]) -> str:
    """A Markdown table: rows × shots."""
    shots = list(rows[0].shots)
    lines = [["", *(f"{shot}-shot" for shot in shots)], ["---"] * (1 + len(shots))]
    lines += [[row.title, *(text_of(row.shots[shot]) for shot in shots)] for row in rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def _ablation(
    session: Session, ready: Ready[FeaturesHeader], order: AblateOrder, plan: Plan,
    results: Mapping[tuple[str, int], Result],
) -> Ablation:  # fmt: skip
    """The tables, each row compared with the reference."""
    settings, data_set = order.settings, data_set_of(ready.split)
    shots = sorted({shot for _, shot in results})

    def cell(row: Row, shot: int) -> Cell:
        result = results[row.name, shot]
        found = compare(results[plan.reference.name, shot], result, by_class=order.by_class)
        return Cell(
            **vars(found), accuracy=result.found.accuracy, half_width_95=result.found.half_width_95,
            paper=paper_figure(data_set, row, shot, way=settings.way),
        )  # fmt: skip

    tables = [
        Table(title, tuple(TableRow(**vars(row), shots={str(shot): cell(row, shot) for shot in shots}) for row in rows))
        for title, rows in plan.tables.items()
    ]
    some = next(iter(results.values())).asked
    return Ablation(
        preset=session.chosen.preset, recipe=Recipes(ready.store.header.notes.recipe, session.chosen.recipe),
        missing_videos=some.missing_videos, missing_classes=some.missing_classes, data_set=data_set,
        way=settings.way, queries=settings.queries, episodes=settings.episodes, seed=settings.seed,
        reference=plan.reference.title, interval_over=interval_over(order.by_class), tables=tuple(tables),
    )  # fmt: skip


def paper_figure(data_set: str | None, row: Row, shot: int, *, way: int) -> float | None:
    """The paper's accuracy in %, or None where it is not known or the task is another."""
    return PAPER.get(data_set or "", {}).get(row.name, {}).get(shot) if way == 5 else None
