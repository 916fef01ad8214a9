"""`amefu init`, `status`, `verify`, `split check`, `demo`: a workspace is started, looked at, checked, shown."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Iterator, Mapping
from dataclasses import asdict
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from amefu_cli.commands import options
from amefu_cli.commands.console import Answer, accuracy
from amefu_cli.commands.options import command
from amefu_cli.errors import VideoError
from amefu_cli.flows.session import Session, write_config
from amefu_cli.settings import TABLES, DemoSettings, preset_defaults, recipe_defaults

if TYPE_CHECKING:
    from amefu_cli.flows.split_check import SplitCheck
    from amefu_cli.flows.status import Status

TELLING = ("size", "estimator", "backbone", "runs", "views", "precision", "fusion", "num_aug", "epochs", "seed")

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
    session: Session, answer: Answer, force: Annotated[bool, "replace an amefu.toml that is there"] = False
) -> None:
    """Write a commented amefu.toml into the workspace.

    Example: amefu init --preset tiny
    """
    path, preset, recipe = session.workspace.config, session.preset or "paper", session.recipe or "paper"
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
        for field in chain.from_iterable(map(dataclasses.fields, groups)):
            value = overrides.get(field.name, field.default)
            shown = "..." if value is None else json.dumps(value)  # JSON agrees with TOML on plain values
            choices = "|".join(field.metadata["choices"])
            comment = f"{field.metadata['help']}{f' ({choices})' if choices else ''}"
            lines.append(f"# {field.name.replace('_', '-')} = {shown}  # {comment}")
        lines.append("")
    return "\n".join(lines)


@command
def status(
    session: Session, answer: Answer, failed: Annotated[bool, "list the videos that failed, with their errors"] = False
) -> None:
    """Show the stores with their videos done, failed and missing, the checkpoints, and the results.

    Example: amefu status --failed
    """
    from amefu_cli.flows.status import describe

    found = describe(session.workspace)
    if failed:
        rows = [["video", "stage", "attempts", "error", "message"]]
        rows += [[item.video, item.stage, str(item.attempt), item.error, item.message] for item in found.failed]
        document: dict[str, object] = {"failed": [asdict(item) for item in found.failed]}
        answer.show(document, title="failed videos", rows=rows)
    else:
        answer.show(asdict(found), title=found.workspace, rows=_status_rows(found))


def _status_rows(found: Status) -> list[list[str]]:
    rows = [["what", "state", "from"]]
    rows += [[Path(store.path).name, store.state, _summary(store.header or {})] for store in found.stores]
    rows += [[Path(part.path).name, part.state, _summary(part.header or {})] for part in found.checkpoints]
    for result in found.results:
        if result.accuracy is None or result.half_width_95 is None:
            rows.append([Path(result.path).name, "not a result", ""])
        else:
            task = f"{result.model}, {result.way}-way {result.shot}-shot"
            rows.append([Path(result.path).name, accuracy(result.accuracy, result.half_width_95), task])
    return rows


def _summary(header: Mapping[str, object]) -> str:
    """The few words that tell headers apart; `--json` has them whole."""
    flat = dict(_leaves(header))
    return ", ".join(f"{name} {Path(str(flat[name])).name}" for name in TELLING if name in flat)


def _leaves(header: Mapping[str, object]) -> Iterator[tuple[str, object]]:
    for name, value in header.items():
        if isinstance(value, dict):
            yield from _leaves(value)
        else:
            yield name, value


@command
def verify(
    session: Session, answer: Answer,
    paths: Annotated[
        list[Path] | None, typer.Argument(help="stores and checkpoints [all those of the workspace]")
    ] = None,
) -> None:  # fmt: skip
    """Read every store and checkpoint back: checksums, counts, finite values. Exit code 3 where a video is damaged.

    A damaged video is marked, and the command that made it makes it, and only it, again.

    Example: amefu verify
    """
    from amefu_cli.flows.status import verify

    found = verify(session, paths or ())
    rows = [["what", "videos", "damaged", "seconds"]]
    rows += [[part.path, str(part.videos), str(len(part.damaged)), f"{part.seconds:.1f}"] for part in found]
    answer.show({"checked": [asdict(part) for part in found]}, title="verify", rows=rows)
    damaged = [part for part in found if part.damaged]
    for part in damaged:
        session.say.warn(f"{part.path}: {len(part.damaged)} damaged; {part.fix}")
    if damaged:
        raise typer.Exit(VideoError.exit_code)


@command
def split_check(
    session: Session, answer: Answer, frames: options.FramesPath,
    videos: Annotated[Path | None, typer.Argument(help="folder of videos [the one frames.zarr is made from]")] = None,
    split: options.SplitOption = None,
    repair: Annotated[
        Path | None, typer.Option(metavar="FILE.json", help="write the split as it should be, for --split FILE.json")
    ] = None,
    follow_links: Annotated[bool, "follow symbolic links out of VIDEOS"] = False,
) -> None:  # fmt: skip
    """Say which classes and videos of a split are missing or misspelt, and which clips are the same file.

    A class in two parts, or the same clip in two parts, is an error (exit code 2). --repair writes the split with the
    names that the disk has, and without the copies of a clip in the earlier of its parts.

    Example: amefu split check ./videos --split ucf101
    """
    from amefu_cli.flows.split_check import check_split_of

    source, folder, check = check_split_of(session, split, videos, frames, repair=repair, follow_links=follow_links)
    document = {"split": source, "videos": str(folder), **check.as_document()}
    answer.show(document, title=f"{source} in {folder}: parts, and classes that lack videos", rows=_split_rows(check))
    if repair is None:
        check.refuse_crossing()


def _split_rows(check: SplitCheck) -> list[list[str]]:
    """For each part its sums, and its classes that lack videos; nothing is `listed` where the split lists no videos."""
    rows = [["", "listed", "there", "share", "on disk as"]]
    for part in dict.fromkeys(count.part for count in check.classes):
        counts = [count for count in check.classes if count.part == part]
        listed, present = sum(count.listed or 0 for count in counts), sum(count.present for count in counts)
        title = f"{part}: {sum(count.present > 0 for count in counts)} of {len(counts)} classes"
        shown = "" if counts[0].listed is None else str(listed)
        rows.append([title, shown, str(present), f"{present / listed:.1%}" if listed else "", ""])
        for count in counts:
            if count.share < 1:
                shown = "" if count.listed is None else str(count.listed)
                repair = check.class_repairs.get(count.name, "")
                rows.append([f"  {count.name}", shown, str(count.present), f"{count.share:.0%}", repair])
    return rows


@command
def demo(
    session: Session, answer: Answer, settings: DemoSettings,
    folder: Annotated[
        Path, typer.Argument(metavar="[DIR]", help="folder of the world and of its workspace")
    ] = Path("amefu-demo"),
) -> None:  # fmt: skip
    """Render a small world of actions and run the whole pipeline on it, in a few minutes on two cores.

    Needs the extra: pip install 'amefu[timm]'

    Example: amefu demo ./amefu-demo
    """
    from amefu_cli.flows.demo import MODELS, demonstrate

    ended = demonstrate(session, settings, folder)
    rows = [["", "5-way 1-shot accuracy", "episodes"]]
    document: dict[str, object] = {}
    for model, result in ended.results.items():
        found, episodes = result.found, result.asked.episodes
        rows.append([MODELS[model], accuracy(found.accuracy, found.half_width_95), str(episodes)])
        document[model] = {"accuracy": found.accuracy, "half_width_95": found.half_width_95, "episodes": episodes}
    document |= {"recipe": ended.recipe, "picture": str(ended.picture), "seconds": round(ended.seconds, 1)}
    title = f"novel actions of the rendered world, recipe {ended.recipe}, the same episodes (chance: 20%)"
    answer.show(document, title=title, rows=rows)
    session.say.note(f"clips beside their depth: {ended.picture}; the whole took {ended.seconds:.0f} s")
