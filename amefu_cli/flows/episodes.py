"""`amefu episodes`, and whatever draws episodes: which videos of some classes are the supports and the queries."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from amefu_cli.artefacts.files.episodes import DrawnEpisodes, EpisodeNotes, read_episodes, write_episodes
from amefu_cli.artefacts.files.split import Split
from amefu_cli.artefacts.stores.features import fingerprint_of
from amefu_cli.artefacts.stores.header import FeaturesHeader, FramesHeader, VideoRecord
from amefu_cli.artefacts.stores.store import VideoStore
from amefu_cli.errors import UsageError
from amefu_cli.flows.chain import features_with_split
from amefu_cli.flows.features import FeaturesOrder
from amefu_cli.flows.session import Session
from amefu_cli.flows.splits import SplitOrder
from amefu_cli.method.episodes import draw_episodes
from amefu_cli.settings import EpisodesSettings

Videos = VideoStore[FramesHeader] | VideoStore[FeaturesHeader]


@dataclass(frozen=True)
class EpisodesOrder:
    """Which episodes are drawn from a feature store; `out` is a file below WORKSPACE/episodes where it is not given."""

    features: Path
    split: SplitOrder
    settings: EpisodesSettings
    out: Path | None = None


def make_episodes(session: Session, order: EpisodesOrder) -> tuple[Path, DrawnEpisodes]:
    """Draw episodes of the novel classes and write them down, unless they are there; returns their file too.

    Raises:
        UsageError: too few videos; the file holds other episodes.
    """
    of_features = FeaturesOrder(order.features, order.split)
    ready = features_with_split(session, of_features, lambda videos, split: check_novel(videos, split, order.settings))
    assert ready is not None, "there is no dry run of this command"
    drawn, asked = draw_novel(ready.store, ready.split, order.settings), order.settings
    name = f"{asked.way}way-{asked.shot}shot-{asked.queries}query-{asked.count}-seed{asked.seed}.safetensors"
    path = order.out or session.workspace.folder / "episodes" / name
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
    """Episodes of the videos in `records` that are of `classes`.

    Raises:
        UsageError: too few classes, or a class with too few videos; names it.
    """
    wanted = set(classes)
    ids = tuple(video for video, record in records.items() if record.class_name in wanted)
    names, labels = np.unique([records[video].class_name for video in ids], return_inverse=True)
    episodes = draw_episodes(
        labels.astype(np.int64), way=settings.way, shot=settings.shot, queries=settings.queries, count=settings.count,
        rng=np.random.default_rng(settings.seed), class_names=names.tolist(),
    )  # fmt: skip
    return DrawnEpisodes.of(ids, episodes.support, episodes.query, EpisodeNotes(settings.seed, features))
