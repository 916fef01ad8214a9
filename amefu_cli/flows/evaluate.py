"""`amefu episodes`, `amefu evaluate`: few-shot episodes of the novel classes, drawn, and classified by one model."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from amefu_cli.artefacts.files import results
from amefu_cli.artefacts.files.atomic import require_writable
from amefu_cli.artefacts.files.episodes import DrawnEpisodes, EpisodeNotes, read_episodes, write_episodes
from amefu_cli.artefacts.files.split import Split
from amefu_cli.artefacts.stores.features import FeatureTable, fingerprint_of, read_features
from amefu_cli.artefacts.stores.header import FeaturesHeader, FramesHeader, VideoRecord
from amefu_cli.artefacts.stores.store import VideoStore
from amefu_cli.artefacts.weights.checkpoint import FIXES
from amefu_cli.artefacts.weights.headers import FusionHeader
from amefu_cli.errors import UsageError
from amefu_cli.flows.candidates import Candidate, candidate_with_head, refuse_other_streams
from amefu_cli.flows.chain import Ready, features_with_split
from amefu_cli.flows.compare import interval_by_class
from amefu_cli.flows.features import FeaturesOrder
from amefu_cli.flows.session import Session
from amefu_cli.flows.splits import SplitOrder, refuse_seen
from amefu_cli.flows.streams import IMAGENET
from amefu_cli.flows.work import check_device
from amefu_cli.method.comparison import Interval
from amefu_cli.method.episodes import draw_episodes
from amefu_cli.method.heads import HEADS
from amefu_cli.settings import ONE_QUERY, EpisodesSettings, EvaluateSettings

if TYPE_CHECKING:
    from amefu_cli.stages.evaluate import ModelVectors

Videos = VideoStore[FramesHeader] | VideoStore[FeaturesHeader]

GALLERY_SEED = 0  # of the base videos that a head sees: the same for every evaluation


# Episodes ----------------------------------------------------------------------------------------------------


def make_episodes(
    session: Session, features: Path, order: SplitOrder, settings: EpisodesSettings, out: Path | None
) -> tuple[Path, DrawnEpisodes]:
    """Draw episodes of the novel classes of a feature store and write them down, unless they are there.

    Returns their file too: a file below WORKSPACE/episodes where `out` is not given.

    Raises:
        UsageError: too few videos; the file holds other episodes.
    """
    name = f"{settings.way}way-{settings.shot}shot-{settings.queries}query-{settings.count}-seed{settings.seed}"
    path = out or session.workspace.folder / "episodes" / f"{name}.safetensors"
    if not path.exists():
        require_writable(path)
    ready = features_with_split(
        session, FeaturesOrder(features, order), lambda videos, split: check_novel(videos, split, settings)
    )
    assert ready is not None, "there is no dry run of this command"
    drawn = draw_novel(ready.store, ready.split, settings)
    if not path.exists():
        write_episodes(path, drawn)
    elif read_episodes(path).fingerprint == drawn.fingerprint:
        session.say.note(f"episodes: {path} is up to date")
    else:
        raise UsageError(f"{path}: holds other episodes; remove it, or choose another --out")
    return path, drawn


def draw_novel(videos: Videos, split: Split, settings: EpisodesSettings) -> DrawnEpisodes:
    """Episodes of the novel videos of a feature store, or of the frames that one is made from."""
    records = split.listed(videos.records())
    return _draw(records, split.novel, settings, features=fingerprint_of(records, split.novel))


def check_novel(videos: Videos, split: Split, settings: EpisodesSettings) -> None:
    """Raises UsageError where the novel videos are too few for episodes of this shape."""
    check_drawing(split.listed(videos.records()), split.novel, settings)


def check_drawing(records: Mapping[str, VideoRecord], classes: Sequence[str], settings: EpisodesSettings) -> None:
    """Raises UsageError where the videos of `classes` are too few for episodes of this shape."""
    _draw(records, classes, replace(settings, count=2), features=None)


def _draw(
    records: Mapping[str, VideoRecord], classes: Sequence[str], settings: EpisodesSettings, *, features: str | None
) -> DrawnEpisodes:
    """Episodes of the videos of `classes`. Raises UsageError, which names it, for a class with too few videos."""
    wanted = set(classes)
    ids = tuple(video for video, record in records.items() if record.class_name in wanted)
    names, labels = np.unique([records[video].class_name for video in ids], return_inverse=True)
    episodes = draw_episodes(
        labels.astype(np.int64), way=settings.way, shot=settings.shot, queries=settings.queries_each,
        count=settings.count, rng=np.random.default_rng(settings.seed), class_names=names.tolist(),
        one_query=settings.one_query,
    )  # fmt: skip
    return DrawnEpisodes.of(ids, episodes.support, episodes.query, EpisodeNotes(settings.seed, features))


# Evaluation --------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class EvaluateOrder:
    """Which model is evaluated on which features; `out` is a file below WORKSPACE/results where it is not given."""

    features: Path
    split: SplitOrder
    settings: EvaluateSettings
    fusion: Path
    head_weights: Path | None = None
    device: str = "auto"
    out: Path | None = None
    by_class: bool = False


class Novel:
    """The novel videos of a feature store, by the streams that are evaluated; they are read once, if at all."""

    def __init__(self, ready: Ready[FeaturesHeader], streams: Iterable[str]) -> None:
        self.store, self._streams, self._classes = ready.store, tuple(streams), ready.split.novel
        records = ready.store.records()
        self._records, self.base = ready.split.listed(records), ready.split.base
        self.fingerprint = fingerprint_of(self._records, self._classes)
        self.missing_videos = len(ready.split.missing("novel", records))
        absent = set(self._classes) - {record.class_name for record in records.values()}
        self.missing_classes = tuple(sorted(absent))

    @cached_property
    def table(self) -> FeatureTable:
        return read_features(self.store, self._records, self._classes, streams=self._streams, views=1)

    def vectors(self, candidate: Candidate, device: str) -> ModelVectors:
        """What one model gives the videos, for its head to score.

        Raises:
            UsageError: the store was made before the frames were asked for that the head reads.
        """
        from amefu_cli.stages.evaluate import FromBase, model_vectors

        made, test_frames = self.store.header, candidate.test_frames(self.store.header)
        self._refuse_without(test_frames)
        gallery, streams = self.gallery(candidate), candidate.model.streams
        seen = read_features(self.store, gallery, self.base, streams=streams, views=1) if gallery else None
        return model_vectors(
            self.table, candidate.model, made, head=candidate.head, test_frames=test_frames,
            brought=FromBase(candidate.checkpoint, candidate.head_checkpoint, seen, candidate.depth_of), device=device,
            source=self.store.path,
        )  # fmt: skip

    def gallery(self, candidate: Candidate) -> dict[str, VideoRecord]:
        """The base videos that the head sees: of each class as many as its row asks for, drawn by GALLERY_SEED.

        Raises:
            UsageError: the store has none.
        """
        count = HEADS[candidate.head].gallery
        if not count:
            return {}
        rng, chosen = np.random.default_rng(GALLERY_SEED), list[str]()
        for name in self.base:
            videos = sorted(video for video, record in self._records.items() if record.class_name == name)
            chosen += [videos[place] for place in rng.permutation(len(videos))[:count]]
        if not chosen:
            raise UsageError(f"--head {candidate.head}: reads base videos too, and {self.store.path} holds none")
        return {video: self._records[video] for video in sorted(chosen)}

    def _refuse_without(self, test_frames: str) -> None:
        wanted = set(self._classes)
        for video, record in self._records.items():
            rules = record.made_from.get("kept") if record.class_name in wanted else None
            if rules and test_frames not in rules:
                raise UsageError(
                    f"{self.store.path}: lacks the {test_frames!r} frames of {video}, which only has those of "
                    f"{', '.join(rules)}; add them with `amefu features`"
                )


def evaluate(session: Session, order: EvaluateOrder) -> tuple[results.Result, Interval | None]:
    """Classify episodes of the novel classes, unless the result is there; where the order says so, also gives its
    interval over the novel classes.

    Raises:
        UsageError: no such model, episodes, fusion or device; too few videos; classes that the fusion was trained on.
        SettingsMismatch: the fusion is of other streams than the features.
    """
    to_draw = order.settings.episodes_to_draw()
    given = None if to_draw else _given_episodes(order.settings)
    candidate = candidate_with_head(
        session, order.settings.model, head=order.settings.head, features=order.features, fusion=order.fusion,
        head_weights=order.head_weights,
    )  # fmt: skip
    check_device(order.device)
    ready = features_with_split(
        session, FeaturesOrder(order.features, order.split, basenet=IMAGENET in candidate.model.streams),
        lambda videos, split: _check(videos, split, order.settings, given, candidate),
    )  # fmt: skip
    assert ready is not None, "there is no dry run of this command"
    drawn = draw_novel(ready.store, ready.split, to_draw) if to_draw else given
    assert drawn is not None
    novel = Novel(ready, candidate.model.streams)
    asked = settings_of_result(novel, candidate, drawn, seed=to_draw.seed if to_draw else None)
    path = order.out or session.workspace.results / asked.file_name
    result = stored_result(path, asked)
    if result:
        session.say.note(f"evaluate: {path} is up to date")
    else:
        require_writable(path)
        result = classify(session, novel.vectors(candidate, order.device), drawn, asked, path)
    if (row := HEADS[candidate.head]).classifier is None:
        session.say.note(f"evaluate: {candidate.head} ({row.citation}): {row.exactness}")
    return result, interval_by_class(result) if order.by_class else None


def _given_episodes(settings: EvaluateSettings) -> DrawnEpisodes:
    """The episodes of the file that `--episodes` names. Raises UsageError for options that the file contradicts."""
    drawn = read_episodes(Path(settings.episodes))
    queries = ONE_QUERY if drawn.shape.one_query else str(drawn.shape.queries)
    held = asdict(drawn.shape) | {"seed": drawn.notes.seed, "queries": queries}
    for name, asked in settings.given.items():
        if asked != held[name]:
            raise UsageError(
                f"--{name} {asked}: the episodes of {settings.episodes} have {name} {held[name]}; leave the option out"
            )
    return drawn


def _check(
    videos: Videos, split: Split, settings: EvaluateSettings, given: DrawnEpisodes | None, candidate: Candidate
) -> None:
    """Raises UsageError for what videos and split tell before any network runs: episodes, a fusion of other classes."""
    if to_draw := settings.episodes_to_draw():
        check_novel(videos, split, to_draw)
    elif given and (seen := sorted(set(given.class_names) - set(split.novel))):
        raise UsageError(
            f"{settings.episodes}: has episodes of {', '.join(seen)}, which the split does not name as novel classes"
        )
    if candidate.fusion:
        refuse_seen(split, candidate.fusion.trained_on, str(candidate.checkpoint), "amefu meta-train --rebuild")
    if head := candidate.trained_head:
        fix = f"{FIXES['head']} --rebuild".replace("HEAD", head.head)
        refuse_seen(split, head.trained_on, str(candidate.head_checkpoint), fix)


def settings_of_result(
    novel: Novel, candidate: Candidate, drawn: DrawnEpisodes, *, seed: int | None
) -> results.ResultSettings:
    """What a result is the result of; `seed` is that of episodes that are not read from a file.

    Raises:
        SettingsMismatch: the fusion is of other streams than the features.
    """
    refuse_other_streams(candidate, novel.store)
    made, fusion = novel.store.header, candidate.fusion
    trained = fusion.training.settings if fusion and fusion.training else None
    return results.ResultSettings(
        model=candidate.name, fusion=fusion.fusion if fusion else None, num_aug=trained.num_aug if trained else None,
        depth_of=candidate.depth_of[0], head=candidate.head, test_frames=candidate.test_frames(made),
        **asdict(drawn.shape), seed=seed, episodes_fingerprint=drawn.fingerprint,
        queries_fingerprint=drawn.queries_fingerprint,
        recipe=results.Recipes(made.notes.recipe, fusion.notes.recipe if fusion else None),
        switches=_switches(made, fusion), missing_videos=novel.missing_videos,
        missing_classes=novel.missing_classes,
        fingerprints=results.Fingerprints(
            novel.fingerprint, fusion.fingerprint if fusion else None,
            candidate.trained_head.fingerprint if candidate.trained_head else None,
            fingerprint_of(gallery, novel.base) if (gallery := novel.gallery(candidate)) else None,
        ),
    )  # fmt: skip


def _switches(made: FeaturesHeader, fusion: FusionHeader | None) -> results.Switches:
    switches = results.Switches(made.settings.flip, made.settings.test_frames, made.notes.geometry)
    if fusion and fusion.training:
        of = fusion.training.settings
        return replace(switches, loss=of.loss, temperature=of.temperature, learning_rate=of.learning_rate)
    return replace(switches, loss=fusion.imported.loss) if fusion and fusion.imported else switches


def stored_result(path: Path, asked: results.ResultSettings) -> results.Result | None:
    """The result at `path`, if it is of what is asked for."""
    result = results.read_result(path)
    return result if result and result.asked == asked else None


def classify(
    session: Session, vectors: ModelVectors, drawn: DrawnEpisodes, asked: results.ResultSettings, path: Path
) -> results.Result:
    """Classify the episodes, and write the result down."""
    from amefu_cli.stages.evaluate import evaluate as found_by

    with session.say.progress("evaluate") as progress:
        result = results.Result(path, asked, found_by(vectors, drawn, progress=progress))
    results.write_result(result)
    return result
