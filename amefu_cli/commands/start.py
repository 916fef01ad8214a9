"""`amefu init` and `amefu demo`: a commented amefu.toml to be edited, and the whole pipeline on a rendered world."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Annotated

import typer

from amefu_cli.commands.console import Answer, accuracy
from amefu_cli.commands.options import command
from amefu_cli.flows.session import Session, write_config
from amefu_cli.settings import TABLES, DemoSettings, preset_defaults, recipe_defaults

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
    answer: Answer,
    force: Annotated[bool, typer.Option("--force", help="replace an amefu.toml that is there")] = False,
) -> None:
    """Write a commented amefu.toml into the workspace.

    Example: amefu init --preset tiny
    """
    path = session.workspace.config
    preset, recipe = session.preset or "paper", session.recipe or "paper"
    text = config_text(preset, recipe)  # an unknown name is said before anything is written
    write_config(session, text, replace=force)
    session.say.note("edit it, then: amefu depth ./videos")
    document = {"config": str(path), "preset": preset, "recipe": recipe}
    answer.show(document, title="init", rows=[["written"], [str(path)]])


def config_text(preset: str, recipe: str) -> str:
    """The text of an amefu.toml with every option of every command, commented out, at the values of both sets."""
    lines = [HEAD.format(preset=json.dumps(preset), recipe=json.dumps(recipe))]
    for name, groups in TABLES.items():
        lines.append(f"[{name}]")
        overrides = {**preset_defaults(preset, name), **recipe_defaults(recipe, name)}
        for kind in groups:
            for field in dataclasses.fields(kind):
                value = overrides.get(field.name, field.default)
                choices = "|".join(field.metadata["choices"])
                comment = f"{field.metadata['help']}{f' ({choices})' if choices else ''}"
                lines.append(f"# {field.name.replace('_', '-')} = {_toml(value)}  # {comment}")
        lines.append("")
    return "\n".join(lines)


def _toml(value: object) -> str:
    """A plain value as TOML; JSON agrees for text, numbers and booleans. Three dots where there is none to show."""
    return json.dumps(value) if value is not None else "..."


@command
def demo(
    session: Session,
    answer: Answer,
    settings: DemoSettings,
    folder: Annotated[Path, typer.Argument(metavar="[DIR]", help="folder of the world and of its workspace")] = Path(
        "amefu-demo"
    ),
) -> None:
    """Render a small world of actions and run the whole pipeline on it, in a few minutes on two cores.

    Needs the extra: pip install 'amefu[timm]'

    Example: amefu demo ./amefu-demo
    """
    from amefu_cli.flows.demo import MODELS, demonstrate

    ended = demonstrate(session, settings, folder)
    rows = [["", "5-way 1-shot accuracy", "episodes"]]
    document: dict[str, object] = {}
    for model, result in ended.results.items():
        found = (result.found.accuracy, result.found.half_width_95)
        rows.append([MODELS[model], accuracy(*found), str(result.asked.episodes)])
        document[model] = dict(
            zip(("accuracy", "half_width_95", "episodes"), (*found, result.asked.episodes), strict=True)
        )
    document |= {"recipe": ended.recipe, "picture": str(ended.picture), "seconds": round(ended.seconds, 1)}
    answer.show(
        document,
        title=f"novel actions of the rendered world, recipe {ended.recipe}, the same episodes (chance: 20%)",
        rows=rows,
    )
    session.say.note(f"clips beside their depth: {ended.picture}; the whole took {ended.seconds:.0f} s")
