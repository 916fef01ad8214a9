"""Which split a command works with: the one it is given, the workspace's, the preset's, or a new one; and its check."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any

import typer

from amefu_cli.artefacts.duplicates import recorded_sources
from amefu_cli.artefacts.split import Split, draw_split, write_split
from amefu_cli.artefacts.split_lists import BUILT_IN, built_in_split, load_split
from amefu_cli.artefacts.workspace import located
from amefu_cli.commands.console import note, warn
from amefu_cli.commands.options import Session
from amefu_cli.errors import UsageError
from amefu_cli.recipes import DEFAULT_SPLIT_RATIO, SplitRecipe

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
    session: Session, path: Path | None, recipe: SplitRecipe, class_names: Sequence[str], *, dry_run: bool = False
) -> Split:
    """The split of `--split`, else the workspace's split.json, else the preset's, else one drawn from `class_names`.

    What is used first becomes the workspace's split.json, so that no later command draws another one; not in a
    dry run.

    Raises:
        UsageError: a split that is no split, or two ways of making one at once.
    """
    written = session.workspace.split
    drawn = bool(recipe.split_ratio or recipe.split_seed is not None)
    preset = session.chosen["preset"]
    source = str(path) if path else str(written) if written.is_file() else None
    if source is None and not drawn and preset in BUILT_IN:
        source = preset
    if source is None:
        return _draw(written, recipe, class_names, dry_run)
    if drawn:
        raise UsageError(
            f"--split-ratio and --split-seed draw a new split, but {source} is there; "
            "leave them out, or remove the file"
        )
    split = load_split(source)
    if not written.is_file():
        _write(written, split, f"of {source}", dry_run, source=source)
    outside = sorted(name for name in class_names if split.part_of(name) is None)
    if outside:
        warn(f"{source} leaves out {len(outside)} classes that are there: {', '.join(outside)}")
    return split


def check_split(session: Session, split: Split, store: Any) -> None:
    """What is looked at before any training or evaluation on `store`: see `amefu split check` for the whole.

    Raises:
        UsageError: the same clip, byte for byte, stands in two of base, validation and novel.
    """
    from amefu_cli.artefacts.duplicates import duplicates
    from amefu_cli.artefacts.store_headers import read_header
    from amefu_cli.artefacts.video_store import VideoStore
    from amefu_cli.stages.split_check import crosses

    _check_preset(session, {record.class_name for record in store.records().values()})
    lacking = {part: split.missing(part, store.records()) for part in ("base", "validation", "novel")}
    if any(lacking.values()):
        counts = ", ".join(f"{len(videos)} {part}" for part, videos in lacking.items())
        note(f"split: of {len(split.videos or ())} listed videos these are missing: {counts}; see `amefu split check`")
    path = store.path if store.kind == "frames" else located(store.notes, "frames", store.path)
    header = read_header(path)
    if header is None:
        return
    frames = VideoStore(path, header)
    same = duplicates(recorded_sources(split.listed(frames.records()), located(frames.notes, "videos", path)))
    for group in same:
        if crosses(split, group):
            raise UsageError(
                f"{' and '.join(group)} are the same clip, byte for byte, but stand in different parts of the split; "
                "leave one out, as `amefu split check --repair FILE` does"
            )
        warn(f"{' and '.join(group)} are the same clip, byte for byte")


def _check_preset(session: Session, class_names: set[str]) -> None:
    preset = session.chosen["preset"]
    if preset in BUILT_IN:
        shared = len(class_names.intersection(built_in_split(preset).classes))
        if shared < BELONGS * len(class_names):
            warn(
                f"--preset {preset} is meant for another data set: {shared} of the {len(class_names)} classes that are "
                "there are among its own"
            )


def _draw(written: Path, recipe: SplitRecipe, class_names: Sequence[str], dry_run: bool) -> Split:
    ratio, seed = recipe.split_ratio or DEFAULT_SPLIT_RATIO, recipe.split_seed or 0
    split = draw_split(class_names, ratio=ratio, seed=seed)
    _write(written, split, f"drawn by {ratio}", dry_run, ratio=ratio, seed=seed)
    return split


def _write(path: Path, split: Split, how: str, dry_run: bool, **notes: Any) -> None:
    if not dry_run:
        write_split(path, split, **notes)
    note(f"split: {_counts(split)}, {how}, {'to be ' if dry_run else ''}written to {path}")


def _counts(split: Split) -> str:
    return f"{len(split.base)} base, {len(split.validation)} validation and {len(split.novel)} novel classes"
