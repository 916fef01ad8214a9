"""A split held against what is there: what it lacks, what it misspells, and clips that are the same file."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, replace

from amefu_cli.artefacts.files.names import class_of, near_names, same_letters
from amefu_cli.artefacts.files.split import KEYS, Split, make_split
from amefu_cli.artefacts.videos.find import Source, duplicates


@dataclass(frozen=True)
class ClassCount:
    """One class of a split: how many videos the split lists (None where it lists none) and how many are there."""

    part: str
    name: str
    listed: int | None
    present: int

    @property
    def share(self) -> float:
        """The share of the listed videos that is there, 0..1; of a class without a list, 1 where any video is."""
        return self.present / self.listed if self.listed else float(self.present > 0)


@dataclass(frozen=True)
class SplitCheck:
    """What a check found. Repairs lead from a name of the split to the one on disk that it seems to mean, `twins` from
    a class that is not there to another of the split that it seems to be."""

    classes: tuple[ClassCount, ...]
    missing: tuple[str, ...]
    class_repairs: Mapping[str, str]
    video_repairs: Mapping[str, str]
    twins: Mapping[str, str]
    duplicates: tuple[tuple[str, ...], ...]
    crossing: tuple[tuple[str, ...], ...]


def check_split(split: Split, sources: Mapping[str, Source]) -> SplitCheck:
    """Hold a split against the videos that are there, by id; equally large ones are read whole."""
    there = {class_of(video) for video in sources}
    class_repairs = near_names(split.classes, there)
    lacking = set(split.classes) - there - class_repairs.keys()
    video_repairs = _video_repairs(split, sources, class_repairs)
    spelt = _respelt(split, class_repairs, video_repairs)
    same, _ = duplicates(sources)
    present = Counter(map(class_of, split.listed(sources)))
    listed = Counter(map(class_of, split.videos or ()))
    return SplitCheck(
        classes=tuple(
            ClassCount(part, name, None if split.videos is None else listed[name], present[name])
            for part in KEYS.values()
            for name in getattr(split, part)
        ),
        missing=tuple(sorted((split.videos or frozenset()).difference(sources))),
        class_repairs=class_repairs,
        video_repairs=video_repairs,
        twins=near_names(lacking, set(split.classes) - lacking),
        duplicates=tuple(same),
        crossing=tuple(group for group in same if crosses(spelt, group)),
    )


def crosses(split: Split, videos: tuple[str, ...]) -> bool:
    """Whether videos of the split stand in two or more of base, validation and novel."""
    return len({split.part_of(class_of(video)) for video in split.listed(dict.fromkeys(videos))}) > 1


def repaired(split: Split, check: SplitCheck, sources: Mapping[str, Source]) -> Split:
    """The split with names as the disk has them, and of clips that cross it only those of the last part."""
    fixed = _respelt(split, check.class_repairs, check.video_repairs)
    left_out = {video for group in check.crossing for video in _not_in_last_part(fixed, group)}
    if left_out:
        listed = fixed.listed(sources) if fixed.videos is None else fixed.videos
        fixed = replace(fixed, videos=frozenset(listed) - left_out)
    return fixed


def _respelt(split: Split, class_repairs: Mapping[str, str], video_repairs: Mapping[str, str]) -> Split:
    """The split with the names that the disk has."""
    parts = [[class_repairs.get(name, name) for name in getattr(split, part)] for part in KEYS.values()]
    videos = split.videos
    if videos is not None:
        videos = frozenset(video_repairs.get(video) or _in_class(video, class_repairs) for video in videos)
    return make_split(*parts, source="the repaired split", videos=videos)


def _video_repairs(split: Split, sources: Mapping[str, Source], class_repairs: Mapping[str, str]) -> dict[str, str]:
    """Missing videos with the id on disk that they seem to mean: of the same (repaired) class, the same letters."""
    repairs: dict[str, str] = {}
    lacking = {video: _in_class(video, class_repairs) for video in (split.videos or ()) if video not in sources}
    free = set(sources).difference(split.videos or ())
    for name in sorted({class_of(video) for video in lacking.values()}):
        there = {video for video in free if class_of(video) == name}
        found = same_letters((video for video in lacking.values() if class_of(video) == name), there)
        exact = {video: video for video in lacking.values() if video in there}
        repairs |= {old: (exact | found)[new] for old, new in lacking.items() if new in exact | found}
    return repairs


def _in_class(video: str, class_repairs: Mapping[str, str]) -> str:
    name, _, rest = video.partition("/")
    return f"{class_repairs.get(name, name)}/{rest}"


def _not_in_last_part(split: Split, videos: tuple[str, ...]) -> list[str]:
    rank = [None, *KEYS.values()]
    ranks = {video: rank.index(split.part_of(class_of(video))) for video in videos}
    return [video for video in videos if ranks[video] < max(ranks.values())]
