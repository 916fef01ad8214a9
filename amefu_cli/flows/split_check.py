"""`amefu split check`: a split held against the videos on disk: what it lacks, what it misspells, and clips that are
the same file."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path

from amefu_cli.artefacts.files.names import class_of, near_names, same_letters
from amefu_cli.artefacts.files.split import FOLDERS, KEYS, Split, load_split, make_split, split_of_folders, write_split
from amefu_cli.artefacts.files.workspace import located
from amefu_cli.artefacts.stores.header import FramesHeader
from amefu_cli.artefacts.stores.store import open_store
from amefu_cli.artefacts.videos.copies import Source, duplicates
from amefu_cli.artefacts.videos.find import find_clips
from amefu_cli.errors import UsageError
from amefu_cli.flows.session import Session
from amefu_cli.flows.splits import SplitOrder, source_of

SHOWN = 5  # proposals named in a message; --json has all


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
    a class that is not there to another of the split that it seems to be; clips that are `identical` are `crossing`
    where they stand in two parts."""

    classes: tuple[ClassCount, ...]
    missing_videos: tuple[str, ...]
    class_repairs: Mapping[str, str]
    video_repairs: Mapping[str, str]
    twins: Mapping[str, str]
    identical: tuple[tuple[str, ...], ...]
    crossing: tuple[tuple[str, ...], ...]

    def as_document(self) -> dict[str, object]:
        """All of it as plain values."""
        counts = [{**asdict(count), "share": round(count.share, 4)} for count in self.classes]
        return {**asdict(self), "classes": counts}

    def refuse_crossing(self) -> None:
        """Raises UsageError where clips stand in two parts of the split."""
        if self.crossing:
            raise UsageError(
                f"{len(self.crossing)} clips stand in two parts of the split, or in two classes; "
                "leave one of each out: --repair FILE.json"
            )


def check_split_of(
    session: Session, asked: Path | None, videos: Path | None, frames: Path, *, repair: Path | None, follow_links: bool
) -> tuple[str, Path, SplitCheck]:
    """Hold a split against `videos`, else against those that the store `frames` was made from; say what is odd, and
    write the split as it should be to `repair`. Returns what was held against what, and what was found.

    Raises:
        UsageError: no such split; a file to repair into that is not a .json file; no folder of videos.
    """
    source = source_of(session, SplitOrder(asked))
    if source is None:
        raise UsageError(f"{session.workspace.split}: no such split file; name a split with --split")
    split = None if source == FOLDERS else load_split(source)
    if repair is not None and repair.suffix != ".json":
        raise UsageError(f"--repair {repair}: must end in .json; it is a split file for --split")
    if videos is None:
        fix = "amefu frames VIDEOS` or name the folder: `amefu split check VIDEOS"
        notes = open_store(frames, FramesHeader, fix=fix).header.notes
        videos, follow_links = located(notes.videos, frames), follow_links or notes.follow_links
    found = find_clips(videos, follow_links=follow_links)
    by_id = {clip.id: clip.source for clip in found.clips}
    split = split.spelt_as(by_id) if split else split_of_folders(by_id)
    sources = {clip.id: Source(clip.path, clip.size) for clip in found.clips}
    check = check_split(split, sources)
    _say(session, check)
    if repair is not None:
        fixed = repaired(split, check, sources)
        write_split(repair, fixed, repaired_from=source, classes=dict(check.class_repairs))
        session.say.note(f"the repaired split: --split {repair}")
    return source, videos, check


def _say(session: Session, check: SplitCheck) -> None:
    for name, other in check.twins.items():
        twins = f"{name!r} is not there and looks like {other!r}, which the split names too"
        session.say.warn(f"{twins}: is it one class in two places?")
    if check.video_repairs:
        count, pairs = len(check.video_repairs), [f"{old} as {new}" for old, new in check.video_repairs.items()]
        shown = ", ".join(pairs[:SHOWN]) + (", …" if count > SHOWN else "")
        taken_up = f"--repair FILE.json takes it up: {shown}"
        session.say.note(f"{count} missing videos are there under another name; {taken_up}")
    for group in check.identical:
        where = ", and stand in different parts or classes of the split" if group in check.crossing else ""
        session.say.warn(f"{' and '.join(group)} are the same clip, byte for byte{where}")


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
    counts = tuple(
        ClassCount(part, name, None if split.videos is None else listed[name], present[name])
        for part in KEYS.values() for name in getattr(split, part)
    )  # fmt: skip
    return SplitCheck(
        counts, tuple(sorted((split.videos or frozenset()).difference(sources))), class_repairs, video_repairs,
        twins=near_names(lacking, set(split.classes) - lacking), identical=tuple(same),
        crossing=tuple(group for group in same if spelt.crosses(group)),
    )  # fmt: skip


def repaired(split: Split, check: SplitCheck, sources: Mapping[str, Source]) -> Split:
    """The split with names as the disk has them, and of clips in two classes only those of the last part, or none."""
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
    """All but those of the last part; all of them where that holds them in two classes."""
    rank = [None, *KEYS.values()]
    ranks = {video: rank.index(split.part_of(class_of(video))) for video in videos}
    last = [video for video in videos if ranks[video] == max(ranks.values())]
    return [video for video in videos if video not in last or len(set(map(class_of, last))) > 1]
