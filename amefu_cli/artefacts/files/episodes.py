"""Episodes as video ids: drawn once, replayed bit for bit on any store that holds the videos.

The file is safetensors: `support`, unsigned (episodes, way, shot), and `query` (episodes, asked, queries) are positions
in the list of video ids that stands in its text header, beside how they were drawn and from which store. `asked` is
`way`, or 1 where an episode has a single query, of its first class.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save

from amefu_cli.artefacts.files.atomic import write_atomic
from amefu_cli.artefacts.files.fingerprint import fingerprint, parsed
from amefu_cli.artefacts.files.names import class_of
from amefu_cli.errors import DamagedFile, UsageError

SCHEMA = 1


@dataclass(frozen=True)
class EpisodeNotes:
    """How episodes were drawn: by which seed, and from which features (a fingerprint)."""

    seed: int
    features: str | None = None


@dataclass(frozen=True)
class EpisodeShape:
    """How many episodes there are, and of what; `queries` of every class, or with `one_query` one of a single class."""

    way: int
    shot: int
    queries: int
    episodes: int
    one_query: bool = False


@dataclass(frozen=True)
class DrawnEpisodes:
    """Episodes of the videos `ids` (sorted, each used by some episode), whatever store those come from. `support` int64
    (episodes, way, shot) and `query` int64 (episodes, asked, queries) are positions in `ids`."""

    ids: tuple[str, ...]
    support: NDArray[np.int64]
    query: NDArray[np.int64]
    notes: EpisodeNotes

    @property
    def class_names(self) -> tuple[str, ...]:
        """The classes of the episodes, sorted."""
        return tuple(sorted(set(map(class_of, self.ids))))

    @property
    def shape(self) -> EpisodeShape:
        episodes, way, shot = self.support.shape
        _, asked, queries = self.query.shape
        return EpisodeShape(way, shot, queries, episodes, one_query=asked < way)

    @property
    def fingerprint(self) -> str:
        """The same for the same videos in the same places, wherever the episodes were drawn or read."""
        parts = [hashlib.sha256(part.astype("<i8").tobytes()).hexdigest() for part in (self.support, self.query)]
        shape = asdict(self.shape)
        shape.pop("one_query")  # which the queries tell
        return fingerprint(list(self.ids), shape, parts)

    @property
    def queries_fingerprint(self) -> str:
        """The same for the same queries of the same classes in the same places, whatever the supports are."""
        used, place = np.unique(self.query, return_inverse=True)
        places = hashlib.sha256(place.reshape(self.query.shape).astype("<i8").tobytes()).hexdigest()
        return fingerprint([self.ids[video] for video in used], list(self.query.shape), places)

    @classmethod
    def of(
        cls, ids: tuple[str, ...], support: NDArray[np.int64], query: NDArray[np.int64], notes: EpisodeNotes
    ) -> DrawnEpisodes:
        """Episodes whose indices are positions in `ids`, of which they may use only some."""
        used = sorted(np.unique(np.concatenate([support.ravel(), query.ravel()])), key=lambda video: ids[video])
        place = np.zeros(len(ids), np.int64)
        place[used] = np.arange(len(used))
        return cls(tuple(ids[video] for video in used), place[support], place[query], notes)

    def placed_in(self, ids: tuple[str, ...], *, source: str) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Support and query as positions in `ids`, that of `source`; UsageError where it lacks some."""
        there = {video: index for index, video in enumerate(ids)}
        if missing := [video for video in self.ids if video not in there]:
            lacks = f"lacks {len(missing)} of the {len(self.ids)} videos that the episodes use, such as {missing[0]!r}"
            raise UsageError(f"{source}: {lacks}; draw others with `amefu episodes`")
        place = np.array([there[video] for video in self.ids], np.int64)
        return place[self.support], place[self.query]


def write_episodes(path: Path, drawn: DrawnEpisodes) -> None:
    """Write episodes, with positions as narrow as they can be."""
    kind = np.uint16 if len(drawn.ids) <= 1 << 16 else np.uint32
    header = {"schema": SCHEMA, "videos": list(drawn.ids), "notes": asdict(drawn.notes)}
    parts = {"support": drawn.support, "query": drawn.query}
    arrays = {name: np.ascontiguousarray(part, kind) for name, part in parts.items()}  # save() takes memory as it lies
    write_atomic(path, save(arrays, metadata={"amefu-episodes": json.dumps(header, allow_nan=False)}))


def read_episodes(path: Path) -> DrawnEpisodes:
    """Read episodes and hold them to what they promise. Raises UsageError where there is no such file, DamagedFile
    where it is another one or was changed."""
    if not path.is_file():
        raise UsageError(f"{path}: no such file of episodes; write one with `amefu episodes --out {path}`")
    try:
        with safe_open(path, framework="numpy") as file:
            header = json.loads((file.metadata() or {})["amefu-episodes"])
            support, query = (file.get_tensor(name).astype(np.int64) for name in ("support", "query"))
        ids, notes, schema = header["videos"], parsed(EpisodeNotes, header["notes"]), header["schema"]
    except (SafetensorError, OSError, KeyError, TypeError, ValueError, RecursionError) as error:
        message = f"{path}: not a file of episodes ({error}); write one with `amefu episodes --out OTHER`"
        raise DamagedFile(message) from error
    names = isinstance(ids, list) and all(isinstance(video, str) for video in ids)
    if schema != SCHEMA or not names or ids != sorted(set(ids)):
        raise DamagedFile(f"{path}: the header holds a field of another type or schema")
    _check(path, ids, support, query)
    return DrawnEpisodes(tuple(ids), support, query, notes)


def _check(path: Path, ids: list[str], support: NDArray[np.int64], query: NDArray[np.int64]) -> None:
    """All videos of one way are of one class, and no two ways of an episode are of the same."""
    shapes = ((*support.shape[:2], *query.shape[2:]), (len(support), 1, 1))
    if support.ndim != 3 or query.ndim != 3 or query.shape not in shapes or not support.size * query.size:
        found = f"support {support.shape} and query {query.shape}"
        raise DamagedFile(f"{path}: {found} must share their first two axes (episodes, way)")
    if (last := max(support.max(), query.max())) >= len(ids) or min(support.min(), query.min()) < 0:
        raise DamagedFile(f"{path}: an episode points at video {last}, the file lists {len(ids)}")
    labels = np.unique([class_of(video) for video in ids], return_inverse=True)[1]
    of_support, of_query = labels[support], labels[query]
    ways = of_support[..., :1]  # (episodes, way, 1)
    mixed = (of_support != ways).any() or (of_query != ways[:, : query.shape[1]]).any()
    ways = np.sort(ways[..., 0], axis=1)
    if mixed or (ways[:, 1:] == ways[:, :-1]).any():
        raise DamagedFile(f"{path}: an episode mixes classes in one way, or has one class in two ways")
