"""`amefu ablate`: the paper's tables, and a table of all heads, on one feature store and the same episodes.

The paper (arXiv:2010.09982) compares methods in Table 1 (Kinetics-100) and Table 2 (UCF101, HMDB51), and takes its
own model apart in Table 3. What learns is trained where it is missing; the same command goes on where it was stopped.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from functools import cached_property
from pathlib import Path

import numpy as np

from amefu_cli.artefacts.files.atomic import require_writable, to_json, write_atomic
from amefu_cli.artefacts.files.episodes import DrawnEpisodes
from amefu_cli.artefacts.files.results import Recipes, Result
from amefu_cli.artefacts.files.split import Split
from amefu_cli.artefacts.stores.features import FeatureTable
from amefu_cli.artefacts.stores.header import FeaturesHeader
from amefu_cli.artefacts.weights.checkpoint import open_head, read_header
from amefu_cli.artefacts.weights.headers import FusionHeader, HeadHeader, Kind
from amefu_cli.artefacts.weights.training_run import TrainingRun
from amefu_cli.errors import UsageError
from amefu_cli.flows import evaluate
from amefu_cli.flows.candidates import Candidate, model_of
from amefu_cli.flows.chain import Ready, features_with_split
from amefu_cli.flows.compare import averaged, compare, interval_over, student
from amefu_cli.flows.features import FeaturesOrder
from amefu_cli.flows.head_training import head_header, train_on
from amefu_cli.flows.session import Session
from amefu_cli.flows.splits import SplitOrder, data_set_of
from amefu_cli.flows.streams import IMAGENET
from amefu_cli.flows.tables import (
    AMEFU_NET,
    OF_HEADS,
    PLAIN,
    Cell,
    Plan,
    Table,
    TableRow,
    Tables,
    comparable_figures,
    plan_tables,
)
from amefu_cli.flows.training import STREAMS, check_episodes, fusion_header, train_fusion, training_tables
from amefu_cli.flows.work import check_device
from amefu_cli.method.comparison import half_width_of
from amefu_cli.method.heads import HEADS
from amefu_cli.method.heads.published import PaperRow, Trial
from amefu_cli.settings import AblateSettings, EpisodesSettings, HeadTrainSettings, MetaTrainSettings, parse_numbers

Key = tuple[Trial, int]
"""What was evaluated, in how many shots."""


@dataclass(frozen=True)
class AblateOrder:
    """Which tables are made, of which features, into which folder."""

    features: Path
    split: SplitOrder
    settings: AblateSettings
    out: Path
    device: str = "auto"
    by_class: bool = False


def ablate(session: Session, order: AblateOrder) -> Tables | None:
    """Train what is missing, evaluate every row on the same episodes, write the tables.

    None in a dry run, which says what would be trained.

    Raises:
        UsageError: see `plan_tables`; too few videos for an episode, an absent device.
    """
    training, settings = session.settings(MetaTrainSettings, "meta-train"), order.settings
    plan = plan_tables(settings, num_aug=training.num_aug)
    shots = parse_numbers(settings.shots, "--shots", minimum=1, maximum=1000)
    asked = [EpisodesSettings(settings.way, shot, settings.queries, settings.episodes, settings.seed) for shot in shots]

    for trial in plan.trials:
        if trial.fusion is None:
            model_of(trial.model, order.features, order.out, trial.head)  # which refuses what is none

    def check(videos: evaluate.Videos, split: Split) -> None:
        for episodes in asked:
            evaluate.check_novel(videos, split, episodes)
        check_episodes(videos, split, training)
        for trial in plan.trials:
            if HEADS[trial.head].learns:
                with _named(f"{trial.head}, trained by its defaults and by [meta-train] of amefu.toml"):
                    check_episodes(videos, split, head_settings(session, trial))

    check_device(order.device)
    if not session.dry_run:
        require_writable(order.out)
    of_features = FeaturesOrder(order.features, order.split, basenet=IMAGENET in plan.streams)
    ready = features_with_split(session, of_features, check)
    if ready is None:
        return None
    ablating = _Ablating(session, ready, order, training)
    if session.dry_run:
        missing = dict.fromkeys(name for trial in plan.trials for name in ablating.missing(trial))
        session.say.note(f"ablate: would train {', '.join(missing) or 'nothing'} into {order.out}")
        return None
    drawn = {episodes.shot: evaluate.draw_novel(ready.store, ready.split, episodes) for episodes in asked}
    made = _tabled(ablating, plan, ablating.results(plan, drawn))
    write_atomic(order.out / "tables.json", to_json(asdict(made)))
    write_atomic(order.out / "tables.md", made.to_markdown().encode())
    return made


@contextmanager
def _named(what: str) -> Iterator[None]:
    """Says what a refusal is of."""
    try:
        yield
    except UsageError as error:
        raise UsageError(f"{what}: {error}") from error


def head_settings(session: Session, trial: Trial) -> HeadTrainSettings:
    """How `amefu meta-train --head --model` would train the head of a row if it were typed without other options."""
    return replace(session.settings(HeadTrainSettings, "meta-train", trial.head), model=trial.model).of_head()


@dataclass(frozen=True)
class _Ablating:
    """One run: the features that all rows are of, and where what learns lies.

    A checkpoint has the fingerprint of its settings and data in its name, so that other settings never meet an old
    file. What `amefu meta-train` has trained already is not trained again.
    """

    session: Session
    ready: Ready[FeaturesHeader]
    order: AblateOrder
    training: MetaTrainSettings

    def seeds(self, trial: Trial) -> range:
        """The seeds of its trainings; one where nothing learns."""
        learns = trial.fusion or HEADS[trial.head].learns
        return range(self.training.seed, self.training.seed + (self.order.settings.seeds if learns else 1))

    def missing(self, trial: Trial) -> list[str]:
        """What would have to be trained for a row."""
        lacking = []
        for seed in self.seeds(trial):
            fusion, trained = self._fusion(trial, seed) if trial.fusion else (None, True)
            if fusion and not trained:
                lacking.append(fusion.out.stem)
            if HEADS[trial.head].learns:
                if not trained:  # whose frames it would read
                    lacking.append(f"{trial.name} (seed {seed})")
                    continue
                head, trained = self._head(trial, seed, self._model(trial, fusion))
                lacking += [] if trained else [head.out.stem]
        return lacking

    def candidate(self, trial: Trial, seed: int) -> Candidate:
        """What one row is by one seed; its fusion and its head are trained where they are missing."""
        session, ready, device = self.session, self.ready, self.order.device
        fusion, trained = self._fusion(trial, seed) if trial.fusion else (None, True)
        if fusion and not trained:
            train_fusion(session, ready, self._base_and_validation, fusion, device=device)
        found = self._model(trial, fusion)
        if not HEADS[trial.head].learns:
            return found
        head, trained = self._head(trial, seed, found)
        if not trained:
            train_on(session, ready, found, head, device=device)
        return replace(found, head_checkpoint=head.out, trained_head=open_head(head.out))

    def _model(self, trial: Trial, fusion: TrainingRun[FusionHeader] | None) -> Candidate:
        path = fusion.out if fusion else self.session.workspace.fusion
        return model_of(trial.model, self.order.features, path, trial.head)

    def _fusion(self, trial: Trial, seed: int) -> tuple[TrainingRun[FusionHeader], bool]:
        assert trial.fusion is not None
        assert trial.num_aug is not None
        settings = replace(
            self.training, fusion=trial.fusion, num_aug=trial.num_aug, matched=trial.matched, depth_of=trial.depth_of,
            seed=seed,
        )  # fmt: skip
        header = fusion_header(self.session, self.ready, settings)
        return self._placed(header, trial.training, self.session.workspace.fusion)

    def _head(self, trial: Trial, seed: int, model: Candidate) -> tuple[TrainingRun[HeadHeader], bool]:
        settings = replace(head_settings(self.session, trial), seed=seed)
        header = head_header(self.session, self.ready, model, trial.head, settings)
        name = f"{trial.model}-{trial.head}"
        return self._placed(header, name, self.session.workspace.stream(name))

    def _placed(self, header: Kind, name: str, usual: Path) -> tuple[TrainingRun[Kind], bool]:
        """Where a training is or will be: in the folder of this run, or where `amefu meta-train` has it; and whether
        it is there."""
        path = self.order.out / f"{name}-{header.fingerprint[:8]}.safetensors"
        for place in (path, usual):
            held = read_header(place)
            if held is not None and held.fingerprint == header.fingerprint:
                return TrainingRun(place, header), True
        return TrainingRun(path, header), False

    @cached_property
    def _base_and_validation(self) -> tuple[FeatureTable, FeatureTable | None]:
        return training_tables(self.session, self.ready, self.training)

    def results(self, plan: Plan, drawn: Mapping[int, DrawnEpisodes]) -> dict[Key, list[Result]]:
        """The results of every row and shot, one a training seed; a model's vectors are computed once, if at all."""
        novel, found = evaluate.Novel(self.ready, plan.streams), dict[Key, list[Result]]()
        for trial in plan.trials:
            for seed in self.seeds(trial):
                candidate, vectors = self.candidate(trial, seed), None
                for shot, episodes in drawn.items():
                    asked = evaluate.settings_of_result(novel, candidate, episodes, seed=self.order.settings.seed)
                    path = self.order.out / "results" / f"{trial.name}-{asked.file_name}"
                    result = evaluate.stored_result(path, asked)
                    if result is None:
                        vectors = vectors or novel.vectors(candidate, self.order.device)
                        result = evaluate.classify(self.session, vectors, episodes, asked, path)
                    found.setdefault((trial, shot), []).append(result)
            accuracies = ", ".join(f"{averaged(found[trial, shot]).accuracies.mean():.2%}" for shot in drawn)
            self.session.say.note(f"ablate: {trial.name}: {accuracies}")
        return found


def _tabled(ablating: _Ablating, plan: Plan, found: Mapping[Key, Sequence[Result]]) -> Tables:
    """The tables: of the paper each row compared with AMeFu-Net, of heads with the best and the plain prototype."""
    order, ready = ablating.order, ablating.ready
    settings, data_set = order.settings, data_set_of(ready.split)
    backbones = tuple(dict.fromkeys(ready.store.header.streams[name].backbone for name in STREAMS))
    shots = sorted({shot for _, shot in found})

    def row_of(row: PaperRow, references: Mapping[str, Trial]) -> TableRow:
        cells = {str(shot): _cell(found, (row.trial, shot), references, order) for shot in shots if row.trial}
        figures = comparable_figures(row, data_set, way=settings.way, shots=shots, backbones=backbones)
        return TableRow(**vars(row) | {"figures": figures, "shots": cells})

    tables = []
    for title, rows in plan.tables.items():
        references = {AMEFU_NET: plan.amefu}
        if title == OF_HEADS:
            rows = tuple(sorted(rows, key=lambda row: -_accuracy(found, row, shots[0])))
            title = f"Heads on {settings.model}"
            ends = (rows[0], next(row for row in rows if row.trial and row.trial.head == PLAIN))
            references = {row.title: row.trial for row in ends if row.trial}
        elif all(data_set not in row.figures for row in rows):
            title += " (its rows, on other data)"
        tables.append(Table(title, tuple(row_of(row, references) for row in rows), tuple(references)))
    some, chosen = next(iter(found.values()))[0].asked, ablating.session.chosen
    return Tables(
        preset=chosen.preset, recipe=Recipes(ready.store.header.notes.recipe, chosen.recipe),
        missing_videos=some.missing_videos, missing_classes=some.missing_classes, data_set=data_set,
        backbone=" and ".join(backbones), way=settings.way, queries=settings.queries, episodes=settings.episodes,
        seed=settings.seed,
        seeds=settings.seeds, interval_over=interval_over(order.by_class, settings.seeds), tables=tuple(tables),
    )  # fmt: skip


def _accuracy(found: Mapping[Key, Sequence[Result]], row: PaperRow, shot: int) -> float:
    return float(averaged(found[row.trial, shot]).accuracies.mean()) if row.trial else 0.0


def _cell(found: Mapping[Key, Sequence[Result]], key: Key, references: Mapping[str, Trial], order: AblateOrder) -> Cell:
    (trial, shot), results = key, found[key]
    accuracies = [result.found.accuracy for result in results]
    less = {
        title: compare(found[of, shot], results, by_class=order.by_class, reach=_reach(found[of, shot], results))
        for title, of in references.items()
        if of != trial
    }
    return Cell(
        accuracy=float(np.mean(accuracies)), half_width_95=half_width_of(averaged(results).accuracies),
        seeds_deviation=float(np.std(accuracies, ddof=1)) if len(results) > 1 else None, less=less,
        results=tuple(str(result.path) for result in results),
    )  # fmt: skip


def _reach(*sides: Sequence[Result]) -> float:
    """How far training seeds may move the difference of two means (95%), 0 where neither side was trained repeatedly.

    The variances of the means add up; Student's t of their degrees of freedom tells how far 95% reach.
    """
    by_seed = [[result.found.accuracy for result in results] for results in sides if len(results) > 1]
    freedom = sum(len(accuracies) - 1 for accuracies in by_seed)
    variance = sum(float(np.var(accuracies, ddof=1)) / len(accuracies) for accuracies in by_seed)
    return student(freedom) * variance**0.5 if freedom else 0.0
