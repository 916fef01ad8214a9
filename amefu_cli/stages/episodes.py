"""features.zarr -> a file of episodes: which videos of the novel classes are supports and queries of each episode."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from amefu_cli.artefacts.files.episodes import DrawnEpisodes
from amefu_cli.artefacts.stores.header import VideoRecord
from amefu_cli.method.episodes import draw_episodes
from amefu_cli.settings import EpisodesSettings


def draw(
    records: Mapping[str, VideoRecord], classes: Sequence[str], settings: EpisodesSettings, notes: Mapping[str, Any]
) -> DrawnEpisodes:
    """Draw episodes of the videos in `records` that are of `classes`; `notes` go into the file beside the seed.

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
    return DrawnEpisodes.of(ids, episodes.support, episodes.query, {"seed": settings.seed, **notes})
