"""`amefu report`: what a workspace holds, gathered for one page. Nothing is trained or brought up to date for it."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

from amefu_cli.artefacts.files.atomic import require_writable, write_atomic
from amefu_cli.artefacts.files.episodes import DrawnEpisodes, read_episodes
from amefu_cli.artefacts.files.results import Result, open_result, read_result
from amefu_cli.artefacts.files.split import Split, read_split
from amefu_cli.artefacts.files.workspace import located
from amefu_cli.artefacts.stores.failures import Failure
from amefu_cli.artefacts.stores.header import FeaturesHeader, FramesHeader, StoreHeader
from amefu_cli.artefacts.stores.store import open_store
from amefu_cli.artefacts.weights.checkpoint import library_versions
from amefu_cli.artefacts.weights.training_run import SUFFIX, started_header
from amefu_cli.errors import AmefuError, DamagedFile, UsageError, import_extra
from amefu_cli.flows.candidates import Candidate, candidate_of, candidate_with_head, refuse_other_streams
from amefu_cli.flows.chain import Ready
from amefu_cli.flows.compare import compare
from amefu_cli.flows.evaluate import Novel, draw_novel, settings_of_result
from amefu_cli.flows.remaking import Remaking
from amefu_cli.flows.session import Chosen, Session
from amefu_cli.flows.status import Status, describe
from amefu_cli.method.comparison import Interval
from amefu_cli.method.heads import HEADS, MODELS
from amefu_cli.report.contents import (
    Classified,
    Contents,
    Difference,
    NovelVectors,
    Training,
    data_of,
    step_of_checkpoint,
    step_of_result,
    step_of_store,
    trainings_below,
)
from amefu_cli.report.page import render
from amefu_cli.report.sections import sections_of
from amefu_cli.settings import ONE_QUERY, EpisodesSettings

if TYPE_CHECKING:
    from amefu_cli.stages.evaluate import ModelVectors

CLASSIFIED = 3  # results whose confusion is shown where none are named
OVER_CLASSES = 12  # differences that also get an interval over classes: a second each
EPISODES_OF_HEADS = 1000  # that are classified again by a head that compares frames, which takes its time
VECTORS = ("rgb", "depth", "amefu")
FRAMES, EVALUATE = "amefu frames VIDEOS", "amefu evaluate --way 5 --shot 1"


@dataclass(frozen=True)
class ReportOrder:
    """Where the page goes, which results it looks into (none named: the best of a few models), and which device."""

    out: Path
    results: Sequence[Path] = ()
    device: str = "auto"


@dataclass(frozen=True)
class Report:
    """A page: its file, its size in bytes, and what it took."""

    path: Path
    bytes: int
    seconds: float
    missing: Sequence[str]


def make_report(session: Session, order: ReportOrder) -> Report:
    """Gather what the workspace holds and write the page; what is not there is said in it, with the command for it.

    Raises:
        UsageError: Jinja2 is not installed; there is no workspace; a named result is none; the page cannot be written.
    """
    started, workspace = time.monotonic(), session.workspace
    import_extra("jinja2", extra="report", needed_by="amefu report")
    if not workspace.folder.is_dir():
        raise UsageError(f"{workspace.folder}: no such workspace; start one with `amefu depth VIDEOS`")
    named = [open_result(path) for path in order.results]
    require_writable(order.out)
    contents = Contents(workspace.folder.resolve().name)
    gathering = _Gathering(session, order, contents, named)
    with session.say.progress("report") as progress:
        parts: tuple[tuple[int, Callable[[], None]], ...] = (
            (1, gathering.steps), (2, gathering.data), (3, gathering.trainings), (4, gathering.results),
            (5, gathering.classified), (6, gathering.vectors),
        )  # fmt: skip
        for number, (section, gather) in enumerate(parts):
            progress(number, len(parts) + 1, gather.__name__)
            try:
                gather()
            except AmefuError as error:
                contents.lacks(section, f"{error}.")
        progress(len(parts), len(parts) + 1, "the page")
        sections = sections_of(contents)
    page = render(f"amefu report: {contents.workspace}", contents.facts, sections).encode("utf-8")
    write_atomic(order.out, page)
    missing = [line for section in sections for line in section.missing]
    return Report(order.out, len(page), time.monotonic() - started, missing)


class _Gathering:
    """Fills `contents` part by part; each part raises AmefuError where it cannot."""

    def __init__(self, session: Session, order: ReportOrder, contents: Contents, named: Sequence[Result]) -> None:
        self.session, self.order, self.contents, self.named = session, order, contents, named
        self.workspace = session.workspace
        self._vectors: dict[tuple[str, str], ModelVectors] = {}

    @cached_property
    def status(self) -> Status:
        return describe(self.workspace)

    @cached_property
    def split(self) -> Split:
        if not self.workspace.split.is_file():
            raise UsageError(f"{self.workspace.split}: there is no split yet; `amefu pretrain` or `features` writes it")
        return read_split(self.workspace.split)

    # What was run

    def steps(self) -> None:
        chosen, folder, status = self._chosen(), self.workspace.folder, self.status
        lines = Remaking(["--workspace", str(folder)], chosen, self.workspace.split)
        steps = []
        for path, state in ((Path(store.path), store.state) for store in status.stores if store.header):
            store = open_store(path, StoreHeader, fix="")
            steps.append(step_of_store(store, state, lines.of_store(path, store.header)))
        for path, state in ((Path(part.path), part.state) for part in status.checkpoints if part.header):
            if header := started_header(path):
                training = self._trainings.get(path.stem)
                steps.append(step_of_checkpoint(path, header, state, training, lines.of_checkpoint(path, header)))
        order = ("frames.zarr", "depth.zarr", "rgb.safetensors", "depth.safetensors", "features.zarr")
        steps.sort(key=lambda step: [*order, step.name].index(step.name))
        own = [result for result in self._readable if result.path.parent == self.workspace.results]
        steps += [step_of_result(result, lines.of_result(result)) for result in own]
        self.contents.steps = steps
        self.contents.lines = [*lines.with_split([step.command for step in steps if step.command])]
        if not steps:
            raise UsageError(f"{folder}: holds nothing yet; start with `amefu depth VIDEOS`")
        self.contents.facts = [
            ("workspace", str(folder.resolve())), ("recipe", chosen.recipe), ("preset", chosen.preset),
            ("made", f"{datetime.now():%Y-%m-%d %H:%M}"), *library_versions().items(),
        ]  # fmt: skip

    def _chosen(self) -> Chosen:
        """The sets of defaults that the checkpoints were trained with, else those of the session."""
        headers = [part.header for part in self.status.checkpoints if part.header]
        notes = [notes for header in headers if isinstance(notes := header.get("notes"), Mapping)]
        names = [
            next((str(note[name]) for note in reversed(notes) if name in note), getattr(self.session.chosen, name))
            for name in ("preset", "recipe")
        ]
        return Chosen(*names)

    def data(self) -> None:
        frames = open_store(self.workspace.frames, FramesHeader, fix=FRAMES)
        self.contents.frames = frames
        split, failed = self.split if self.workspace.split.is_file() else None, tuple[Failure, ...]()
        try:
            failed = self.status.failed
        except AmefuError as error:  # of another store
            self.contents.lacks(2, f"What failed is not known: {error}.")
        self.contents.data = data = data_of(frames, split, failed)
        if not data.looked_at:
            gone = located(frames.header.notes.videos, frames.path)
            self.contents.lacks(2, f"{gone} is not there any more, so no copies were looked for in it.")

    def trainings(self) -> None:
        self.contents.trainings = [*self._trainings.values()]
        if not self._trainings:
            raise UsageError(f"{self.workspace.folder}: nothing was trained; `amefu pretrain --modality rgb` does it")

    @cached_property
    def _trainings(self) -> dict[str, Training]:
        return {training.name: training for training in trainings_below(self.workspace.folder)}

    # Results

    @cached_property
    def _readable(self) -> list[Result]:
        """Those of the workspace and of `amefu ablate`, by task and model; says which are not readable."""
        found, ablation = list[Result](), self.workspace.folder / "ablation" / "results"
        for path in [*sorted(self.workspace.results.glob("*.json")), *sorted(ablation.glob("*.json"))]:
            try:
                found += filter(None, [read_result(path)])
            except DamagedFile as error:
                self.contents.lacks(4, f"{error}.")
        ranks = {name: number for number, name in enumerate(MODELS)}
        return sorted(found, key=lambda one: (one.asked.way, one.asked.shot, ranks.get(one.asked.model, len(ranks))))

    def results(self) -> None:
        self.contents.results = results = self._readable
        if not results:
            raise UsageError(f"{self.workspace.results}: there is no result; `{EVALUATE}` makes one")
        tasks: dict[tuple[str, int], list[Result]] = {}
        for result in results:
            tasks.setdefault((result.asked.queries_fingerprint, result.asked.shot), []).append(result)
        pairs = [
            (_reference(some), other) for some in tasks.values() for other in some if other is not _reference(some)
        ]
        for number, (reference, other) in enumerate(pairs):
            found = compare([reference], [other], by_class=number < OVER_CLASSES)
            over = found.by_class_95
            self.contents.differences.append(Difference(
                other, reference, found.paired, Interval(found.difference, *found.over_episodes_95),
                Interval(found.difference, *over) if over else None,
            ))  # fmt: skip

    # Confusion and episodes

    @cached_property
    def novel(self) -> Novel:
        store = open_store(self.workspace.features, FeaturesHeader, fix="amefu features")
        models = [*VECTORS, *(result.asked.model for result in self._looked_into())]
        streams = {name for model in models for name in (MODELS[model].streams if model in MODELS else (model,))}
        return Novel(Ready(store, self.split), sorted(streams & store.header.streams.keys()))

    def _looked_into(self) -> Sequence[Result]:
        """The results that were named; else of the task that most results are of, the best of each of a few models."""
        results = [one for one in self.contents.results if one.path.parent == self.workspace.results]
        if self.named or not results:
            return self.named
        ((task, _),) = Counter(result.asked.episodes_fingerprint for result in results).most_common(1)
        best: dict[str, Result] = {}
        for result in sorted(results, key=lambda result: -result.found.accuracy):
            if result.asked.episodes_fingerprint == task:
                best.setdefault(result.asked.model, result)
        return [*best.values()][:CLASSIFIED]

    def classified(self) -> None:
        for result in self._looked_into():
            try:
                self.contents.classified.append(self._classify(result))
            except AmefuError as error:
                self.contents.lacks(5, f"{result.path.name}: {error}.")
        if not self.contents.classified:
            for section in (5, 7):
                self.contents.lacks(section, f"There is no result to look into; `{EVALUATE}` makes one.")
        elif self.contents.frames is None:
            for section in (5, 7):
                self.contents.lacks(section, f"There are no frames to show; `{FRAMES}` makes them.")

    def _classify(self, result: Result) -> Classified:
        """The episodes of a result once more, now with the class that each query falls to."""
        asked, novel, workspace = result.asked, self.novel, self.workspace
        candidate = candidate_with_head(
            self.session, asked.model, head=asked.head, features=workspace.features, fusion=workspace.fusion,
            head_weights=None,
        )  # fmt: skip
        drawn = self._episodes_of(result)
        if settings_of_result(novel, candidate, drawn, seed=asked.seed) != asked:
            fix = f"evaluate again: `amefu evaluate --model {asked.model} --head {asked.head} --shot {asked.shot}`"
            raise UsageError(f"is of other features or weights than those that are there now; {fix}")
        if HEADS[asked.head].classifier is None:
            few = slice(0, EPISODES_OF_HEADS)
            drawn = replace(drawn, support=drawn.support[few], query=drawn.query[few])
        vectors = self._vectors_of(candidate)
        episodes, chosen = vectors.chosen_ways(drawn, progress=lambda done, total, item: None)
        return Classified(result, vectors.ids, vectors.class_names, episodes, chosen)

    def _episodes_of(self, result: Result) -> DrawnEpisodes:
        asked, store = result.asked, self.novel.store
        if asked.seed is not None:
            queries = ONE_QUERY if asked.one_query else str(asked.queries)
            shape = EpisodesSettings(asked.way, asked.shot, queries, asked.episodes, asked.seed)
            return draw_novel(store, self.split, shape)
        for path in sorted((self.workspace.folder / "episodes").glob(f"*{SUFFIX}")):
            if (drawn := read_episodes(path)).fingerprint == asked.episodes_fingerprint:
                return drawn
        raise UsageError("its episodes are of a file that is not in WORKSPACE/episodes; put it there")

    def _vectors_of(self, candidate: Candidate) -> ModelVectors:
        key = candidate.name, candidate.head
        if key not in self._vectors:
            self._vectors[key] = self.novel.vectors(candidate, self.order.device)
        return self._vectors[key]

    # t-SNE

    def vectors(self) -> None:
        found: dict[str, ModelVectors] = {}
        for name in VECTORS:
            try:
                candidate = candidate_of(name, self.workspace.fusion)
                refuse_other_streams(candidate, self.novel.store)
                found[MODELS[name].title] = self._vectors_of(candidate)
            except AmefuError as error:
                self.contents.lacks(6, f"{MODELS[name].title}: {error}.")
        for first in [*found.values()][:1]:
            vectors = {title: of.vectors for title, of in found.items()}
            self.contents.novel = NovelVectors(first.class_names, first.labels, vectors)


def _reference(results: Sequence[Result]) -> Result:
    """What the others of a task are compared with: AMeFu-Net as the paper evaluates it, else the best."""
    plain = [one for one in results if (one.asked.model, one.asked.head) == ("amefu", MODELS["amefu"].head)]
    return plain[0] if plain else max(results, key=lambda result: result.found.accuracy)
