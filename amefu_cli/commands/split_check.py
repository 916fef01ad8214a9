"""`amefu split check [VIDEOS]`: a split held against the videos on disk before any work is put into it."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from amefu_cli.artefacts.files.split import BUILT_IN, load_split
from amefu_cli.artefacts.files.workspace import located
from amefu_cli.commands.console import note, show, warn
from amefu_cli.commands.options import Session, command
from amefu_cli.commands.splits import SplitOption
from amefu_cli.errors import UsageError

SHOWN = 5  # proposals named on the terminal; --json has all

split_app = typer.Typer(name="split", help="What a split names, and what is there.", no_args_is_help=True)


@command
def split_check(
    session: Session,
    videos: Annotated[Path | None, typer.Argument(help="folder of videos [the one frames.zarr is made from]")] = None,
    split: SplitOption = None,
    frames: Annotated[
        Path | None, typer.Option("--frames", "--frames-store", help="store that says where VIDEOS are")
    ] = None,
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
    from amefu_cli.artefacts.files.split import write_split
    from amefu_cli.artefacts.videos.find import Source, find_clips
    from amefu_cli.stages.split_check import check_split, repaired

    source = _source(session, split)
    classes = load_split(source)
    if repair is not None and repair.suffix != ".json":
        raise UsageError(f"--repair {repair}: must end in .json; it is a split file for --split")
    folder, followed = (videos, False) if videos else _recorded_folder(frames or session.workspace.frames)
    found = find_clips(folder, follow_links=follow_links or followed)
    sources = {clip.id: Source(clip.path, clip.size) for clip in found.clips}
    check = check_split(classes, sources)
    _show(source, folder, check, session.json)
    if repair is not None:
        write_split(repair, repaired(classes, check, sources), repaired_from=source, classes=dict(check.class_repairs))
        note(f"the repaired split: --split {repair}")
    elif check.crossing:
        raise UsageError(
            f"{len(check.crossing)} clips stand in two parts of the split; leave one of each out: --repair FILE.json"
        )


split_app.command("check", short_help="Say what of a split is missing, misspelt or double.")(split_check)


def _source(session: Session, split: Path | None) -> str:
    if split is not None:
        return str(split)
    if session.workspace.split.is_file():
        return str(session.workspace.split)
    if session.chosen["preset"] in BUILT_IN:
        return session.chosen["preset"]
    raise UsageError(f"{session.workspace.split}: no such split file; name a split with --split")


def _recorded_folder(frames: Path) -> tuple[Path, bool]:
    """The folder that the frames were made from, and whether links out of it were followed."""
    from amefu_cli.artefacts.stores.store import open_store

    store = open_store(frames, "frames", fix="amefu frames VIDEOS` or name the folder: `amefu split check VIDEOS")
    return located(store.notes, "videos", store.path), bool(store.notes.get("follow_links"))


def _show(source: str, folder: Path, check: Any, as_json: bool) -> None:
    document = {
        "split": source,
        "videos": str(folder),
        "classes": [{**vars(count), "share": round(count.share, 4)} for count in check.classes],
        "missing_videos": list(check.missing),
        "class_repairs": dict(check.class_repairs),
        "video_repairs": dict(check.video_repairs),
        "twins": dict(check.twins),
        "identical": [list(group) for group in check.duplicates],
        "crossing": [list(group) for group in check.crossing],
    }
    rows = [["", "listed", "there", "share", "on disk as"]]
    for part in dict.fromkeys(count.part for count in check.classes):
        counts = [count for count in check.classes if count.part == part]
        rows.append(_part_row(part, counts))
        rows += [
            [f"  {count.name}", _number(count.listed), str(count.present), f"{count.share:.0%}",
             check.class_repairs.get(count.name, "")]
            for count in counts if count.share < 1
        ]  # fmt: skip
    show(document, as_json=as_json, title=f"{source} in {folder}: parts, and classes that lack videos", rows=rows)
    for name, other in check.twins.items():
        warn(
            f"{name!r} is not there and looks like {other!r}, which the split names too: is it one class in two places?"
        )
    if check.video_repairs:
        shown = ", ".join(f"{old} as {new}" for old, new in [*check.video_repairs.items()][:SHOWN])
        note(
            f"{len(check.video_repairs)} missing videos are there under another name; --repair FILE.json takes it up: "
            f"{shown}{', …' if len(check.video_repairs) > SHOWN else ''}"
        )
    for group in check.duplicates:
        where = ", and stand in different parts of the split" if group in check.crossing else ""
        warn(f"{' and '.join(group)} are the same clip, byte for byte{where}")


def _part_row(part: str, counts: list[Any]) -> list[str]:
    listed = None if any(count.listed is None for count in counts) else sum(count.listed for count in counts)
    present = sum(count.present for count in counts)
    share = f"{present / listed:.1%}" if listed else ""
    return [f"{part}: {sum(count.present > 0 for count in counts)} of {len(counts)} classes", _number(listed),
            str(present), share, ""]  # fmt: skip


def _number(count: int | None) -> str:
    return "" if count is None else str(count)
