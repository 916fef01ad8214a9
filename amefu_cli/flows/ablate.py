"""`amefu ablate`: the paper's tables on one feature store: methods × shots and the ablation × shots.

The paper (arXiv:2010.09982) compares methods in Table 1 (Kinetics-100) and Table 2 (UCF101, HMDB51), and takes its
own model apart in Table 3.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from amefu_cli.artefacts.files.atomic import to_json, write_atomic
from amefu_cli.artefacts.files.episodes import DrawnEpisodes
from amefu_cli.artefacts.files.results import Result, ResultSettings, read_result
from amefu_cli.artefacts.files.split import Split
from amefu_cli.artefacts.stores.features import FeatureTable
from amefu_cli.artefacts.stores.header import FeaturesHeader
from amefu_cli.artefacts.weights.checkpoint import FusionHeader, read_header
from amefu_cli.artefacts.weights.training_run import TrainingRun
from amefu_cli.flows.chain import Ready, features_with_split
from amefu_cli.flows.compare import compare, interval_over
from amefu_cli.flows.episodes import Videos, check_novel, draw_novel
from amefu_cli.flows.evaluate import (
    Candidate,
    candidate_of,
    classify,
    novel_of,
    novel_table,
    settings_of_result,
    vectors_of,
)
from amefu_cli.flows.features import FeaturesOrder
from amefu_cli.flows.session import Session
from amefu_cli.flows.splits import SplitOrder, data_set_of
from amefu_cli.flows.streams import IMAGENET
from amefu_cli.flows.tables import Ablation, Cell, MadeBy, Plan, Row, Table, TableRow, paper_figure, plan_tables
from amefu_cli.flows.training import check_episodes, fusion_header, train_fusion, training_tables
from amefu_cli.flows.work import check_device
from amefu_cli.method.heads import MODELS
from amefu_cli.settings import AblateSettings, EpisodesSettings, MetaTrainSettings, parse_numbers

if TYPE_CHECKING:
    from amefu_cli.stages.evaluate import ModelVectors


@dataclass(frozen=True)
class AblateOrder:
    """Which tables are made, of which features, into which folder."""

    features: Path
    split: SplitOrder
    settings: AblateSettings
    out: Path
    device: str = "auto"
    by_class: bool = False


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
    episodes = {shot: _episodes(settings, shot) for shot in shots}
    check_device(order.device)
    of_features = FeaturesOrder(order.features, order.split, basenet=IMAGENET in _streams(plan))
    ready = features_with_split(
        session, of_features, lambda videos, split: _check(videos, split, [*episodes.values()], training)
    )
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
    drawn = {shot: draw_novel(ready.store, ready.split, asked) for shot, asked in episodes.items()}
    results = _results(session, ready, order, plan, drawn, fusions)
    made = _ablation(session, ready, order, plan, results)
    write_atomic(order.out / "tables.json", to_json(made.as_document()))
    write_atomic(order.out / "tables.md", made.to_markdown().encode())
    return made


def _episodes(settings: AblateSettings, shot: int) -> EpisodesSettings:
    return EpisodesSettings(settings.way, shot, settings.queries, settings.episodes, settings.seed)


def _streams(plan: Plan) -> tuple[str, ...]:
    """Every stream that a row reads."""
    return tuple(dict.fromkeys(stream for row in plan.rows for stream in MODELS[row.model].streams))


def _check(videos: Videos, split: Split, episodes: Sequence[EpisodesSettings], training: MetaTrainSettings) -> None:
    """Raises UsageError where a class holds too few videos, before any network runs."""
    for asked in episodes:
        check_novel(videos, split, asked)
    check_episodes(videos, split, training)


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
        there = [place for place in (path, session.workspace.fusion) if _holds(place, header)]
        if not there:
            missing.append(TrainingRun(path, header))
        fusions[row.name] = there[0] if there else path
    return fusions, missing


def _holds(path: Path, wanted: FusionHeader) -> bool:
    header = read_header(path)
    return header is not None and header.fingerprint == wanted.fingerprint


def _results(
    session: Session,
    ready: Ready[FeaturesHeader],
    order: AblateOrder,
    plan: Plan,
    drawn: Mapping[int, DrawnEpisodes],
    fusions: Mapping[str, Path],
) -> dict[tuple[str, int], Result]:
    """The result of every row and shot; vectors are computed once a row, if at all."""
    measure = _Measure(ready, order, _streams(plan))
    novel, results = novel_of(ready), {}
    for row in plan.rows:
        candidate = candidate_of(row.model, fusions.get(row.name, order.out))
        for shot, episodes in drawn.items():
            asked = settings_of_result(ready.store, novel, candidate, episodes, seed=order.settings.seed)
            results[row.name, shot] = measure.result(row, candidate, episodes, asked)
        accuracies = ", ".join(f"{results[row.name, shot].found.accuracy:.2%}" for shot in drawn)
        session.say.note(f"ablate: {row.title}: {accuracies}")
    return results


class _Measure:
    """Makes the results that are not there; features are read once, if at all, and vectors once a row."""

    def __init__(self, ready: Ready[FeaturesHeader], order: AblateOrder, streams: tuple[str, ...]) -> None:
        self._ready, self._order, self._streams = ready, order, streams
        self._table: FeatureTable | None = None
        self._vectors: tuple[str, ModelVectors] | None = None  # of the row of that name

    def result(self, row: Row, candidate: Candidate, drawn: DrawnEpisodes, asked: ResultSettings) -> Result:
        """The result of one row and shot."""
        path = self._order.out / "results" / f"{row.name}-{asked.file_name}"
        result = read_result(path)
        if result is not None and result.asked == asked:
            return result
        store = self._ready.store
        self._table = self._table or novel_table(self._ready, self._streams)
        if self._vectors is None or self._vectors[0] != row.name:
            self._vectors = row.name, vectors_of(store, self._table, candidate, self._order.device)
        return classify(self._vectors[1], drawn, asked, path, source=store.path)


def _ablation(
    session: Session,
    ready: Ready[FeaturesHeader],
    order: AblateOrder,
    plan: Plan,
    results: Mapping[tuple[str, int], Result],
) -> Ablation:
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
        preset=session.chosen.preset, recipe=MadeBy(ready.store.header.notes.recipe, session.chosen.recipe),
        missing_videos=some.missing_videos, missing_classes=some.missing_classes, data_set=data_set,
        way=settings.way, queries=settings.queries, episodes=settings.episodes, seed=settings.seed,
        reference=plan.reference.title, interval_over=interval_over(order.by_class), tables=tuple(tables),
    )  # fmt: skip
