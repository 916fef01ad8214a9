"""Which split a command works with: the one it is given, the workspace's, or a new one that is written down."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from amefu_cli.artefacts.split import Split, draw_split, read_split, write_split
from amefu_cli.commands.console import note, warn
from amefu_cli.commands.options import Session
from amefu_cli.errors import UsageError
from amefu_cli.recipes import DEFAULT_SPLIT_RATIO, SplitRecipe


def resolve_split(
    session: Session, path: Path | None, recipe: SplitRecipe, class_names: Sequence[str]
) -> Split:
    """The split of `--split`, else the workspace's split.json, else a new one drawn from `class_names`.

    Raises:
        UsageError: a split that is no split, or two ways of making one at once.
    """
    written = session.workspace.split
    if path is None and not written.is_file():
        ratio, seed = recipe.split_ratio or DEFAULT_SPLIT_RATIO, recipe.split_seed or 0
        split = draw_split(class_names, ratio=ratio, seed=seed)
        write_split(written, split, ratio=ratio, seed=seed)
        note(
            f"split: {len(split.base)} base, {len(split.validation)} validation and {len(split.novel)} novel "
            f"classes, drawn by {ratio} and written to {written}"
        )
        return split
    if recipe.split_ratio or recipe.split_seed is not None:
        raise UsageError(
            f"--split-ratio and --split-seed draw a new split, but {path or written} is there; "
            "leave them out, or remove the file"
        )
    split = read_split(path or written)
    outside = sorted(name for name in class_names if split.part_of(name) is None)
    if outside:
        warn(f"{path or written} leaves out {len(outside)} classes that are there: {', '.join(outside)}")
    return split
