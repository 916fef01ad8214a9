"""`amefu status`, `verify`, `split check`: what there is, and whether it is sound."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from amefu_cli.commands.console import Answer, accuracy
from amefu_cli.commands.options import FramesPath, SplitOption, command
from amefu_cli.errors import VideoError
from amefu_cli.flows.session import Session

if TYPE_CHECKING:
    from amefu_cli.flows.split_check import ClassCount, SplitCheck
    from amefu_cli.flows.status import Status

TELLING = ("size", "estimator", "backbone", "stride", "views", "precision", "fusion", "num_aug", "epochs", "seed")

split_app = typer.Typer(name="split", help="What a split names, and what is there.", no_args_is_help=True)


@command
def status(
    session: Session,
    answer: Answer,
    failed: Annotated[bool, typer.Option("--failed", help="list the videos that failed, with their errors")] = False,
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
    session: Session,
    answer: Answer,
    paths: Annotated[
        list[Path] | None, typer.Argument(help="stores and checkpoints [all those of the workspace]")
    ] = None,
) -> None:
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
    session: Session,
    answer: Answer,
    videos: Annotated[Path | None, typer.Argument(help="folder of videos [the one frames.zarr is made from]")] = None,
    split: SplitOption = None,
    frames: FramesPath = None,
    repair: Annotated[
        Path | None, typer.Option(metavar="FILE.json", help="write the split as it should be, for --split FILE.json")
    ] = None,
    follow_links: Annotated[bool, typer.Option("--follow-links", help="follow symbolic links out of VIDEOS")] = False,
) -> None:
    """Say which classes and videos of a split are missing or misspelt, and which clips are the same file.

    A class in two parts, or the same clip in two parts, is an error (exit code 2). --repair writes the split with the
    names that the disk has, and without the copies of a clip in the earlier of its parts.

    Example: amefu split check ./videos --split ucf101
    """
    from amefu_cli.flows.split_check import CheckOrder, check_split_of

    order = CheckOrder(frames or session.workspace.frames, videos, split, repair, follow_links)
    checked = check_split_of(session, order)
    title = f"{checked.split} in {checked.videos}: parts, and classes that lack videos"
    answer.show(checked.as_document(), title=title, rows=_split_rows(checked.check))
    checked.refuse_crossing()


split_app.command("check", short_help="Say what of a split is missing, misspelt or double.")(split_check)


def _split_rows(check: SplitCheck) -> list[list[str]]:
    rows = [["", "listed", "there", "share", "on disk as"]]
    for part in dict.fromkeys(count.part for count in check.classes):
        counts = [count for count in check.classes if count.part == part]
        rows.append(_part_row(part, counts))
        rows += [
            [f"  {count.name}", _number(count.listed), str(count.present), f"{count.share:.0%}",
             check.class_repairs.get(count.name, "")]
            for count in counts if count.share < 1
        ]  # fmt: skip
    return rows


def _part_row(part: str, counts: Sequence[ClassCount]) -> list[str]:
    listed = None if any(count.listed is None for count in counts) else sum(count.listed or 0 for count in counts)
    present = sum(count.present for count in counts)
    share = f"{present / listed:.1%}" if listed else ""
    there = f"{part}: {sum(count.present > 0 for count in counts)} of {len(counts)} classes"
    return [there, _number(listed), str(present), share, ""]


def _number(count: int | None) -> str:
    return "" if count is None else str(count)
