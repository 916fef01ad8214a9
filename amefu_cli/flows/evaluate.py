"""`amefu evaluate`: few-shot episodes of the novel classes by one model, once for each of their settings."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from amefu_cli.artefacts.files.episodes import DrawnEpisodes, read_episodes
from amefu_cli.artefacts.files.fingerprint import differences
from amefu_cli.artefacts.files.results import (
    Fingerprints,
    Recipes,
    Result,
    ResultSettings,
    Switches,
    read_result,
    write_result,
)
from amefu_cli.artefacts.files.split import Split
from amefu_cli.artefacts.stores.features import FeatureTable, fingerprint_of, read_features
from amefu_cli.artefacts.stores.header import FeaturesHeader, header_of
from amefu_cli.artefacts.stores.store import VideoStore
from amefu_cli.artefacts.weights.checkpoint import FusionHeader, open_fusion
from amefu_cli.errors import SettingsMismatch, UsageError
from amefu_cli.flows.chain import Ready, features_with_split
from amefu_cli.flows.compare import interval_by_class
from amefu_cli.flows.episodes import Videos, check_novel, draw_novel
from amefu_cli.flows.features import FeaturesOrder
from amefu_cli.flows.session import Session
from amefu_cli.flows.splits import SplitOrder, refuse_seen
from amefu_cli.flows.streams import IMAGENET
from amefu_cli.flows.training import fused_streams
from amefu_cli.flows.work import check_device
from amefu_cli.method.comparison import Interval
from amefu_cli.method.heads import MODELS, Model
from amefu_cli.settings import EvaluateSettings

if TYPE_CHECKING:
    from amefu_cli.stages.evaluate import ModelVectors


@dataclass(frozen=True)
class EvaluateOrder:
    """Which model is evaluated on which features; `out` is a file below WORKSPACE/results where it is not given."""

    features: Path
    split: SplitOrder
    settings: EvaluateSettings
    fusion: Path
    device: str = "auto"
    out: Path | None = None
    by_class: bool = False


@dataclass(frozen=True)
class Evaluation:
    """A result, and where it was asked for its interval over the novel classes too."""

    result: Result
    by_class: Interval | None


@dataclass(frozen=True)
class Fusion:
    """The checkpoint of a fusion."""

    path: Path
    header: FusionHeader


@dataclass(frozen=True)
class Candidate:
    """What is evaluated: a model by its name, how its vectors are classified, and its fusion where it has one."""

    name: str
    model: Model
    classifier: str
    fusion: Fusion | None

    @property
    def reads_imagenet(self) -> bool:
        """Whether it is one of the basenets."""
        return IMAGENET in self.model.streams


@dataclass(frozen=True)
class Novel:
    """The novel videos of a feature store: what identifies their features, and what of the split is not there."""

    features: str
    missing_videos: int
    missing_classes: tuple[str, ...]


def evaluate(session: Session, order: EvaluateOrder) -> Evaluation:
    """Classify episodes of the novel classes, unless the result is there.

    Raises:
        UsageError: no such model, episodes, fusion or device; too few videos; classes that the fusion was trained on.
        SettingsMismatch: the fusion is of other streams than the features.
    """
    given = given_episodes(order.settings)
    candidate = _candidate(order)
    check_device(order.device)
    of_features = FeaturesOrder(order.features, order.split, basenet=candidate.reads_imagenet)
    ready = features_with_split(
        session, of_features, lambda videos, split: _check(videos, split, order.settings, given, candidate.fusion)
    )
    assert ready is not None, "there is no dry run of this command"
    to_draw = order.settings.episodes_to_draw()
    drawn = draw_novel(ready.store, ready.split, to_draw) if to_draw else given
    assert drawn is not None
    asked = settings_of_result(ready.store, novel_of(ready), candidate, drawn, seed=to_draw.seed if to_draw else None)
    path = order.out or session.workspace.results / asked.file_name
    result = read_result(path)
    if result is not None and result.asked == asked:
        session.say.note(f"evaluate: {path} is up to date")
    else:
        vectors = vectors_of(ready.store, novel_table(ready, candidate.model.streams), candidate, order.device)
        result = classify(vectors, drawn, asked, path, source=ready.store.path)
    return Evaluation(result, interval_by_class(result) if order.by_class else None)


def given_episodes(settings: EvaluateSettings) -> DrawnEpisodes | None:
    """The episodes of the file that `--episodes` names; None where it is a number of new ones.

    Raises:
        UsageError: no such number and no such file; options that the file contradicts.
    """
    if settings.episodes_to_draw() is not None:
        return None
    path = Path(settings.episodes)
    drawn = read_episodes(path)
    held = asdict(drawn.shape) | {"seed": drawn.notes.seed}
    for name, asked in settings.given.items():
        if asked != held[name]:
            raise UsageError(f"--{name} {asked}: the episodes of {path} have {name} {held[name]}; leave the option out")
    return drawn


def _candidate(order: EvaluateOrder) -> Candidate:
    """The model that was asked for: a row of MODELS, or the mean of the frames of a further stream."""
    name = order.settings.model
    if name in MODELS:
        return candidate_of(name, order.fusion, order.settings.classifier)
    there = header_of(order.features, FeaturesHeader)
    streams = sorted(there.streams.keys() - MODELS.keys()) if there else []
    if name not in streams:
        raise UsageError(
            f"--model {name!r}: must be one of {', '.join([*MODELS, *streams])}; `amefu features --stream` adds others"
        )
    return Candidate(name, Model(name, (name,)), order.settings.classifier or Model.classifier, None)


def candidate_of(name: str, fusion: Path, classifier: str | None = None) -> Candidate:
    """A row of MODELS; `fusion` is opened where it fuses streams."""
    model = MODELS[name]
    fused = Fusion(fusion, open_fusion(fusion)) if len(model.streams) > 1 else None
    return Candidate(name, model, classifier or model.classifier, fused)


def _check(
    videos: Videos, split: Split, settings: EvaluateSettings, given: DrawnEpisodes | None, fusion: Fusion | None
) -> None:
    """Raises UsageError for what videos and split tell before any network runs: episodes, a fusion of other classes."""
    if to_draw := settings.episodes_to_draw():
        check_novel(videos, split, to_draw)
    elif given and (seen := sorted(set(given.class_names) - set(split.novel))):
        raise UsageError(
            f"{settings.episodes}: has episodes of {', '.join(seen)}, which the split does not name as novel classes"
        )
    if fusion is not None:
        refuse_seen(split, fusion.header.trained_on, str(fusion.path), "amefu meta-train --rebuild")


def novel_of(ready: Ready[FeaturesHeader]) -> Novel:
    """Which novel videos there are."""
    records, split = ready.store.records(), ready.split
    absent = set(split.novel) - {record.class_name for record in records.values()}
    features, missing = fingerprint_of(split.listed(records), split.novel), split.missing("novel", records)
    return Novel(features, len(missing), tuple(sorted(absent)))


def settings_of_result(
    store: VideoStore[FeaturesHeader], novel: Novel, candidate: Candidate, drawn: DrawnEpisodes, *, seed: int | None
) -> ResultSettings:
    """What a result is the result of; `seed` is that of episodes that are not read from a file.

    Raises:
        SettingsMismatch: the fusion is of other streams than the features.
    """
    made, header = store.header, candidate.fusion.header if candidate.fusion else None
    if candidate.fusion:
        _refuse_other_streams(candidate.fusion, store)
    shape, trained = drawn.shape, header.training.settings if header and header.training else None
    return ResultSettings(
        model=candidate.name, fusion=header.fusion if header else None, num_aug=trained.num_aug if trained else None,
        classifier=candidate.classifier, test_frames=candidate.model.test_frames or made.settings.test_frames,
        way=shape.way, shot=shape.shot, queries=shape.queries, episodes=shape.episodes, seed=seed,
        episodes_fingerprint=drawn.fingerprint,
        recipe=Recipes(made.notes.recipe, header.notes.recipe if header else None), switches=_switches(made, header),
        missing_videos=novel.missing_videos, missing_classes=novel.missing_classes,
        fingerprints=Fingerprints(novel.features, header.fingerprint if header else None),
    )  # fmt: skip


def _switches(made: FeaturesHeader, fusion: FusionHeader | None) -> Switches:
    flip, test_frames, geometry = made.settings.flip, made.settings.test_frames, made.notes.geometry
    if fusion is not None and fusion.training:
        trained = fusion.training.settings
        return Switches(flip, test_frames, geometry, trained.loss, trained.temperature, trained.learning_rate)
    return Switches(flip, test_frames, geometry, fusion.imported.loss if fusion and fusion.imported else None)


def _refuse_other_streams(fusion: Fusion, store: VideoStore[FeaturesHeader]) -> None:
    wanted = fused_streams(store.header)
    if fusion.header.streams != wanted:
        lines = "; ".join(differences(fusion.header.streams, wanted))
        raise SettingsMismatch(
            f"{fusion.path}: learned from features of other streams than those of {store.path} ({lines}); "
            "train it again with `amefu meta-train --rebuild`"
        )


def novel_table(ready: Ready[FeaturesHeader], streams: Iterable[str]) -> FeatureTable:
    """The features of the novel classes."""
    records = ready.split.listed(ready.store.records())
    return read_features(ready.store, records, ready.split.novel, streams=tuple(streams), views=1)


def vectors_of(
    store: VideoStore[FeaturesHeader], table: FeatureTable, candidate: Candidate, device: str
) -> ModelVectors:
    """The vectors of the novel videos by one model."""
    from amefu_cli.stages.evaluate import model_vectors

    fusion = candidate.fusion.path if candidate.fusion else None
    return model_vectors(table, candidate.model, store.header, fusion=fusion, device=device)


def classify(vectors: ModelVectors, drawn: DrawnEpisodes, asked: ResultSettings, path: Path, *, source: Path) -> Result:
    """Classify the episodes, and write the result down."""
    from amefu_cli.stages.evaluate import evaluate as found_by

    result = Result(path, asked, found_by(vectors, drawn, classifier=asked.classifier, source=str(source)))
    write_result(result)
    return result
