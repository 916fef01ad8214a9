"""Which split a command works with: the one it is given, the workspace's, the preset's, or a new one; and its check."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from amefu_cli.artefacts.files.names import letters
from amefu_cli.artefacts.files.split import (
    BUILT_IN,
    Split,
    built_in_split,
    draw_split,
    load_split,
    read_split,
    write_split,
)
from amefu_cli.artefacts.files.workspace import located
from amefu_cli.artefacts.stores.header import VideoRecord
from amefu_cli.artefacts.videos.find import Source
from amefu_cli.commands.console import note, warn
from amefu_cli.commands.options import Session
from amefu_cli.errors import UsageError
from amefu_cli.settings import DEFAULT_SPLIT_RATIO, EpisodesSettings, SplitSettings

if TYPE_CHECKING:
    from amefu_cli.artefacts.stores.store import VideoStore


BELONGS = 0.5  # below this share of its classes in a preset's split, a data set is another one


SplitOption = Annotated[
    Path | None,
    typer.Option(
        metavar="NAME|FILE|LISTS",
        help=f"{', '.join(BUILT_IN)}; a .json or .toml file of class names; or lists of class/video: a folder, a "
        "prefix, or train.txt,val.txt,test.txt [WORKSPACE/split.json, else that of --preset]",
    ),
]


def resolve_split(
    session: Session,
    path: Path | None,
    recipe: SplitSettings,
    store: VideoStore,
    *,
    streams: Mapping[str, Any] | None = None,
    checked: bool = False,
    dry_run: bool = False,
) -> Split:
    """The split of `--split`, else the workspace's split.json, else the preset's, else one drawn from the classes of
    `store`; held against `store`, and against what `streams` (its own, if it has any) were trained on.

    What is used first becomes the workspace's split.json, so that no later command draws another one; not in a dry
    run. With `checked` only the split itself is found, as a command before it has looked at the rest.

    Raises:
        UsageError: a split that is no split, or two ways of making one at once; the same clip, byte for byte, in two
            of base, validation and novel; novel classes that a stream was trained on.
    """
    from amefu_cli.stages.pending import class_names

    names, written = class_names(store), session.workspace.split
    source = _source(session, path, recipe)
    if source is None:
        ratio, seed = recipe.split_ratio or DEFAULT_SPLIT_RATIO, recipe.split_seed or 0
        split, how = draw_split(names, ratio=ratio, seed=seed), f"drawn by {ratio}"
        origin: dict[str, Any] = {"ratio": ratio, "seed": seed}
    elif _draws(recipe):
        raise UsageError(
            f"--split-ratio and --split-seed draw a new split, but {source} is there; "
            "leave them out, or remove the file"
        )
    else:
        split, origin, how = load_split(source), {"source": source}, f"of {source}"
    if checked:
        return split
    _check(session, split, source or how, store, streams)
    if not written.is_file():
        if source is None and len(split.novel) < EpisodesSettings.way:
            warn(
                f"{len(split.novel)} of {len(names)} classes are novel, too few for `amefu evaluate --way "
                f"{EpisodesSettings.way}`: remove {written} and draw others, as by --split-ratio 5:0:5"
            )
        if not dry_run:
            write_split(written, split, **origin)
        note(f"split: {_counts(split)}, {how}, {'to be ' if dry_run else ''}written to {written}")
    elif path and read_split(written) != split:
        note(f"split: {_counts(split)}, {how}; the workspace's own, {written}, is another one")
    return split


def refuse_to_draw(session: Session, path: Path | None, recipe: SplitSettings) -> None:
    """Raises UsageError where `resolve_split` would draw a split: for one share of the videos, which may not show all
    classes."""
    if _source(session, path, recipe) is None:
        raise UsageError(
            f"{session.workspace.split}: is not there, and is not drawn from the classes of one share of the videos; "
            "name a split with --split, or have one drawn first, as `amefu pretrain` does"
        )


def _source(session: Session, path: Path | None, recipe: SplitSettings) -> str | None:
    """Where the split is read from; None where one is to be drawn."""
    if path:
        return str(path)
    if session.workspace.split.is_file():
        return str(session.workspace.split)
    preset: str | None = session.chosen["preset"]
    return preset if preset in BUILT_IN and not _draws(recipe) else None


def _draws(recipe: SplitSettings) -> bool:
    return bool(recipe.split_ratio or recipe.split_seed is not None)


def _check(session: Session, split: Split, source: str, store: VideoStore, streams: Mapping[str, Any] | None) -> None:
    """What is looked at before any training or evaluation on `store`: see `amefu split check` for the whole."""
    records = store.records()
    there = {record.class_name for record in records.values()}
    outside = sorted(name for name in there if split.part_of(name) is None)
    if outside:
        warn(f"{source} leaves out {len(outside)} classes that are there: {', '.join(outside)}")
    absent = sorted(set(split.classes) - there)
    if absent:
        first = ", ".join(absent[:5]) + (", …" if len(absent) > 5 else "")
        note(f"split: {len(absent)} classes of {source} are not there ({first}); see `amefu split check`")
    _check_preset(session, there)
    lacking = {part: split.missing(part, records) for part in ("base", "validation", "novel")}
    if any(lacking.values()):
        counts = ", ".join(f"{len(videos)} {part}" for part, videos in lacking.items())
        note(f"split: of {len(split.videos or ())} listed videos these are missing: {counts}; see `amefu split check`")
    streams = streams or store.settings.get("streams", {})
    for modality in ("rgb", "depth"):
        trained_on = streams.get(modality, {}).get("trained_on") or ()
        refuse_seen(split, trained_on, f"the {modality} stream", f"amefu pretrain --modality {modality} --rebuild")
    _check_copies(split, store)


def refuse_seen(split: Split, trained_on: Iterable[str], what: str, fix: str) -> None:
    """Raises UsageError where `what` was trained on classes that the split names as novel."""
    seen = sorted(set(trained_on).intersection(split.novel))
    if seen:
        raise UsageError(
            f"{what} was trained on {', '.join(seen)}, which the split names as novel: an accuracy on them would say "
            f"nothing; train it again by this split with `{fix}`, or evaluate by the split that it was trained by"
        )


def _check_copies(split: Split, store: VideoStore) -> None:
    """The same clip, byte for byte, may not stand in two parts."""
    from amefu_cli.artefacts.stores.header import read_header
    from amefu_cli.artefacts.stores.store import VideoStore
    from amefu_cli.artefacts.videos.find import duplicates
    from amefu_cli.stages.split_check import crosses

    path = store.path if store.kind == "frames" else located(store.notes, "frames", store.path)
    header = read_header(path)
    if header is None:
        note(f"split: {path} is not there any more, so clips were not checked for standing in two parts")
        return
    frames = VideoStore(path, header)
    sources = recorded_sources(split.listed(frames.records()), located(frames.notes, "videos", path))
    same, unread = duplicates(sources)
    for group in same:
        if crosses(split, group):
            raise UsageError(
                f"{_named(group)} are the same clip, byte for byte, but stand in different parts of the split; "
                "leave one out, as `amefu split check --repair FILE` does"
            )
        warn(f"{_named(group)} are the same clip, byte for byte")
    if unread:
        note(f"split: {len(unread)} clips of equal size could not be compared, as their files are gone")


def _named(group: tuple[str, ...]) -> str:
    return " and ".join(group[:3]) + (f" and {len(group) - 3} more" if len(group) > 3 else "")


def data_set_of(split: Split) -> str | None:
    """The data set of the field whose novel classes are those of `split`, however they are spelt; None: another one."""
    return next((name for name in BUILT_IN if _spelt(built_in_split(name).novel) == _spelt(split.novel)), None)


def _check_preset(session: Session, class_names: set[str]) -> None:
    preset = session.chosen["preset"]
    if preset in BUILT_IN:
        shared = len(_spelt(class_names) & _spelt(built_in_split(preset).classes))
        if shared < BELONGS * len(class_names):
            warn(
                f"--preset {preset} is meant for another data set: {shared} of the {len(class_names)} classes that are "
                "there are among its own"
            )


def _spelt(names: Iterable[str]) -> set[str]:
    """Names without case, spaces and punctuation: data sets are unpacked as `brush_hair` and as `brush hair`."""
    return {letters(name) for name in names}


def _counts(split: Split) -> str:
    return f"{len(split.base)} base, {len(split.validation)} validation and {len(split.novel)} novel classes"


def recorded_sources(records: Mapping[str, VideoRecord], folder: Path) -> dict[str, Source]:
    """The sources of the videos of a frame store that was made from `folder`."""
    return {video: Source(folder / record.source, record.made_from.get("size")) for video, record in records.items()}
