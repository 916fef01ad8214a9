"""Which split a command works with: the one it is given, the workspace's, the preset's, or a new one; and its check."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import cast

import numpy as np

from amefu_cli.artefacts.files import split as files
from amefu_cli.artefacts.files.names import class_of, letters
from amefu_cli.artefacts.files.split import FOLDERS, Split, built_in_split
from amefu_cli.artefacts.files.workspace import located
from amefu_cli.artefacts.stores.header import AnyHeader, DepthHeader, FeaturesHeader, FramesHeader, Stream, header_of
from amefu_cli.artefacts.stores.store import VideoStore
from amefu_cli.artefacts.videos.copies import Source, duplicates
from amefu_cli.errors import UsageError
from amefu_cli.flows.session import Session
from amefu_cli.settings import BUILT_IN, DEFAULT_SPLIT_RATIO, EpisodesSettings, SplitSettings

BELONGS = 0.5  # below this share of its classes in a preset's split, a data set is another one


@dataclass(frozen=True)
class SplitOrder:
    """The split that was asked for: a name, a file or lists; else how one is drawn."""

    path: Path | None = None
    settings: SplitSettings = field(default_factory=SplitSettings)

    @property
    def draws(self) -> bool:
        """Whether it says how a new one is to be drawn."""
        return bool(self.settings.split_ratio or self.settings.split_seed is not None)

    @property
    def ratio(self) -> str:
        """By which a new one is drawn."""
        return self.settings.split_ratio or DEFAULT_SPLIT_RATIO

    @property
    def seed(self) -> int:
        """Of that draw."""
        return self.settings.split_seed or 0


def resolve_split(
    session: Session, order: SplitOrder, store: VideoStore[AnyHeader], streams: Mapping[str, Stream], *,
    share: bool = False,
) -> Split:  # fmt: skip
    """The split of `--split`, else the workspace's split.json, else the preset's, else one drawn from the classes of
    `store`; held against `store`, and against what its `streams` were trained on.

    What is used first becomes the workspace's split.json, so that no later command draws another one; not in a dry
    run. Of a `share` of the videos the split may name none.

    Raises:
        UsageError: a split that is no split, or that no video matches, or two ways of making one at once; the same
            clip, byte for byte, in two classes; novel classes that a stream was trained on.
    """
    source = source_of(session, order)
    if source is not None and order.draws:
        raise UsageError(
            f"--split-ratio and --split-seed draw a new split, but {source} is there; "
            "leave them out, or remove the file"
        )
    names = sorted({class_of(video) for video in store.ids()})
    if source:
        split, how = _loaded(session, source, store), f"of {source}"
    else:
        split = files.draw_split(names, ratio=order.ratio, rng=np.random.default_rng(order.seed))
        how = f"drawn by {order.ratio}"
    _check(session, split, source or how, store)
    for name in ("rgb", "depth"):  # further ones are frozen as they were
        if name in streams:
            fix = f"amefu pretrain --modality {name} --rebuild"
            refuse_seen(split, streams[name].trained_on or (), f"the {name} stream", fix)
    _check_copies(session, split, store)
    if not names or any(map(split.lists, store.ids())):
        _write_down(session, order, split, source, how)
    elif not share:
        raise UsageError(
            f"{source} matches none of the videos that are there: it names {_some(split.videos or split.classes)} "
            f"and there are {_some(store.ids())}; name another one with --split"
        )
    return split


def _loaded(session: Session, source: str, store: VideoStore[AnyHeader]) -> Split:
    """The split of a name, a file, lists or folders, with its names in the form of those of `store`."""
    if source != FOLDERS:
        return files.load_split(source).spelt_as(store.ids())
    frames = _frames_of(session, store)
    if frames is None:
        raise UsageError(f"--split {FOLDERS}: the frames are not there, which say in which folder a video lies")
    return files.split_of_folders({video: record.source for video, record in frames.records().items()})


def _some(names: Iterable[str]) -> str:
    return ", ".join(sorted(names)[:2])


def _write_down(session: Session, order: SplitOrder, split: Split, source: str | None, how: str) -> None:
    written, (base, validation, novel) = session.workspace.split, map(len, (split.base, split.validation, split.novel))
    counts = f"{base} base, {validation} validation and {novel} novel classes"
    if written.is_file():
        if order.path and files.read_split(written) != split:
            session.say.note(f"split: {counts}, {how}; the workspace's own, {written}, is another one")
        return
    if source is None and novel < EpisodesSettings.way:
        session.say.warn(
            f"{novel} of {len(split.classes)} classes are novel, too few for `amefu evaluate --way "
            f"{EpisodesSettings.way}`: remove {written} and draw others, as by --split-ratio 5:0:5"
        )
    if not session.dry_run:
        drawn = {"ratio": order.ratio, "seed": order.seed}
        files.write_split(written, split, **({"source": source} if source else drawn))
    session.say.note(f"split: {counts}, {how}, {'to be ' if session.dry_run else ''}written to {written}")


def refuse_to_draw(session: Session, order: SplitOrder) -> None:
    """Raises UsageError where `resolve_split` would draw a split: for one share of the videos, which may not show all
    classes."""
    if source_of(session, order) is None:
        raise UsageError(
            f"{session.workspace.split}: is not there, and is not drawn from the classes of one share of the videos; "
            "name a split with --split, or have one drawn first, as `amefu pretrain` does"
        )


def source_of(session: Session, order: SplitOrder) -> str | None:
    """Where the split is read from; None where one is to be drawn."""
    if order.path:
        return str(order.path)
    if session.workspace.split.is_file():
        return str(session.workspace.split)
    preset = session.chosen.preset
    return preset if preset in BUILT_IN and not order.draws else None


def _check(session: Session, split: Split, source: str, store: VideoStore[AnyHeader]) -> None:
    """What is said before any training or evaluation on `store`: see `amefu split check` for the whole."""
    videos = store.ids()
    there = {class_of(video) for video in videos}
    outside = sorted(name for name in there if split.part_of(name) is None)
    if outside:
        session.say.warn(f"{source} leaves out {len(outside)} classes that are there: {', '.join(outside)}")
    absent = sorted(set(split.classes) - there)
    if absent:
        first = ", ".join(absent[:5]) + (", …" if len(absent) > 5 else "")
        session.say.note(f"split: {len(absent)} classes of {source} are not there ({first}); see `amefu split check`")
    preset = session.chosen.preset
    shared = len(_spelt(there) & _spelt(built_in_split(preset).classes)) if preset in BUILT_IN else len(there)
    if shared < BELONGS * len(there):
        session.say.warn(
            f"--preset {preset} is meant for another data set: {shared} of the {len(there)} classes that are there are "
            "among its own"
        )
    lacking = {part: split.missing(part, videos) for part in ("base", "validation", "novel")}
    if any(lacking.values()):
        counts = ", ".join(f"{len(missing)} {part}" for part, missing in lacking.items())
        of_all = f"of {len(split.videos or ())} listed videos"
        session.say.note(f"split: {of_all} these are missing: {counts}; see `amefu split check`")


def refuse_seen(split: Split, trained_on: Iterable[str], what: str, fix: str) -> None:
    """Raises UsageError where `what` was trained on classes that the split names as novel."""
    seen = sorted(set(trained_on).intersection(split.novel))
    if seen:
        raise UsageError(
            f"{what} was trained on {', '.join(seen)}, which the split names as novel: an accuracy on them would say "
            f"nothing; train it again by this split with `{fix}`, or evaluate by the split that it was trained by"
        )


def _check_copies(session: Session, split: Split, store: VideoStore[AnyHeader]) -> None:
    """The same clip, byte for byte, may not stand in two classes."""
    frames = _frames_of(session, store)
    if frames is None:
        return
    folder, records = located(frames.header.notes.videos, frames.path), split.listed(frames.records())
    same, unread = duplicates({
        video: Source(folder / record.source, record.made_from.get("size")) for video, record in records.items()
    })  # fmt: skip
    for group in same:
        if split.crosses(group):
            parts = {split.part_of(class_of(video)) for video in group if split.lists(video)}
            names = " and ".join(group[:3]) + (f" and {len(group) - 3} more" if len(group) > 3 else "")
            raise UsageError(
                f"{names} are the same clip, byte for byte, but stand in different "
                f"{'parts of the split' if len(parts) > 1 else 'classes'}; "
                "leave one out, as `amefu split check --repair FILE` does"
            )
    if unread:
        session.say.note(f"split: {len(unread)} clips of equal size could not be compared, as their files are gone")


def _frames_of(session: Session, store: VideoStore[AnyHeader]) -> VideoStore[FramesHeader] | None:
    """The frame store that a store was made from, or is; says where it is gone."""
    header: object = store.header
    if isinstance(header, FramesHeader):
        return cast(VideoStore[FramesHeader], store)
    assert isinstance(header, DepthHeader | FeaturesHeader)
    path = located(header.notes.frames, store.path)
    there = header_of(path, FramesHeader)
    if there is None:
        session.say.note(f"split: {path} is not there any more, so no clip was checked for standing in two parts")
        return None
    return VideoStore(path, there)


def data_set_of(split: Split) -> str | None:
    """The data set of the field whose novel classes are those of `split`, however they are spelt; None: another one."""
    return next((name for name in BUILT_IN if _spelt(built_in_split(name).novel) == _spelt(split.novel)), None)


def _spelt(names: Iterable[str]) -> set[str]:
    """Names without case, spaces and punctuation: data sets are unpacked as `brush_hair` and as `brush hair`."""
    return {letters(name) for name in names}
