"""`amefu init`: a commented amefu.toml, to be edited."""

from __future__ import annotations

import dataclasses
import json
from typing import Annotated, Any

import typer

from amefu_cli.artefacts.files.atomic import create_atomic
from amefu_cli.commands.console import note, show
from amefu_cli.commands.options import Session, command
from amefu_cli.errors import UsageError
from amefu_cli.settings import TABLES, preset_defaults, recipe_defaults

HEAD = """\
# Options of amefu in this workspace, one table a command. A line that is commented out shows the default, or ... where
# it depends. Paths (--out, --frames, --split and the like) are typed.
# The command line wins over this file, this file over the recipe, the recipe over the preset, and that over the
# paper's numbers.
# Tables [pretrain-rgb] and [pretrain-depth] hold for one modality and win over [pretrain].

preset = {preset}
recipe = {recipe}
"""


@command
def init(
    session: Session,
    force: Annotated[bool, typer.Option("--force", help="replace an amefu.toml that is there")] = False,
) -> None:
    """Write a commented amefu.toml into the workspace.

    Example: amefu init --preset tiny
    """
    path = session.workspace.config
    preset, recipe = session.preset or "paper", session.recipe_name or "paper"
    text = config_text(preset, recipe)  # an unknown name is said before anything is written
    session.workspace.folder.mkdir(parents=True, exist_ok=True)
    if force:
        path.unlink(missing_ok=True)
    if not create_atomic(path, text.encode()):
        raise UsageError(f"{path}: is there already; edit it, or replace it with --force")
    note("edit it, then: amefu depth ./videos")
    show(
        {"config": str(path), "preset": preset, "recipe": recipe},
        as_json=session.json,
        title="init",
        rows=[["written"], [str(path)]],
    )


def config_text(preset: str, recipe: str) -> str:
    """The text of an amefu.toml with every option of every command, commented out, at the values of both sets."""
    lines = [HEAD.format(preset=json.dumps(preset), recipe=json.dumps(recipe))]
    for name, recipes in TABLES.items():
        lines.append(f"[{name}]")
        overrides = {**preset_defaults(preset, name), **recipe_defaults(recipe, name)}
        for kind in recipes:
            for field in dataclasses.fields(kind):  # type: ignore[arg-type]
                value = overrides.get(field.name, field.default)
                choices = "|".join(field.metadata["choices"])
                comment = f"{field.metadata['help']}{f' ({choices})' if choices else ''}"
                lines.append(f"# {field.name.replace('_', '-')} = {_toml(value)}  # {comment}")
        lines.append("")
    return "\n".join(lines)


def _toml(value: Any) -> str:
    """A plain value as TOML; JSON agrees for text, numbers and booleans. Three dots where there is none to show."""
    return json.dumps(value) if value is not None else "..."
