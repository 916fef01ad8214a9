"""`amefu frames VIDEOS`: decode every clip into frames.zarr."""

from __future__ import annotations

import functools
import os
from pathlib import Path
from typing import Annotated, Any

import typer

from amefu_cli.artefacts.workspace import located, noted
from amefu_cli.commands.console import progress, warn
from amefu_cli.commands.options import Session, command
from amefu_cli.commands.work import Work, announce, begun_by, finish, report
from amefu_cli.errors import AmefuError, UsageError
from amefu_cli.recipes import FramesRecipe, FramesRun, WorkRun
from amefu_cli.stages import Outcome


@command
def frames(
    session: Session,
    recipe: FramesRecipe,
    run: FramesRun,
    work: WorkRun,
    videos: Annotated[
        Path | None,
        typer.Argument(help="folder of CLASS/…/clip.mp4, or of CLASS/…/clip/image.jpg [the last one]"),
    ] = None,
    out: Annotated[Path | None, typer.Option(help="store to write [WORKSPACE/frames.zarr]")] = None,
    rebuild: Annotated[bool, typer.Option("--rebuild", help="throw the store away and make it anew")] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="only say what would be done")] = False,
) -> None:
    """Decode every clip of VIDEOS into frames.zarr: upright, resized, as JPEG.

    Example: amefu frames ./videos --jobs 2
    """
    path = out or session.workspace.frames
    outcome = update_frames(
        session, path, videos=videos, recipe=recipe, run=run, work=work, rebuild=rebuild, dry_run=dry_run
    )
    report("frames", outcome, path, as_json=session.json)


def update_frames(
    session: Session,
    path: Path,
    *,
    videos: Path | None,
    recipe: FramesRecipe | None = None,
    run: FramesRun | None = None,
    work: WorkRun | None = None,
    rebuild: bool = False,
    dry_run: bool = False,
) -> Outcome:
    """Bring frames.zarr up to date with VIDEOS; without a recipe, by the one that the store was begun with."""
    from amefu_cli.artefacts.store_headers import header_of
    from amefu_cli.artefacts.video_store import prepare_store
    from amefu_cli.stages.frames import extract_frames
    from amefu_cli.stages.pending import pending_clips

    header = header_of(path, "frames")
    if videos is not None:
        folder = videos
    elif header is None:
        raise UsageError(f"{path}: no such store; name the folder of videos: `amefu frames VIDEOS`")
    else:
        folder = located(header["notes"], "videos", path)
        if not folder.is_dir():
            warn(f"{folder} is not there any more; going on with the frames in {path}")
            return Outcome()
    if recipe is None:
        recipe = FramesRecipe.recorded(header["recipe"], path) if header else session.recipe(FramesRecipe, "frames")
    run = run or session.recipe(FramesRun, "frames")
    found = _clips(folder, run)
    plan = Work("frames", work or WorkRun(), path.parent)
    store = prepare_store(
        path, "frames", recipe=recipe.as_dict(), made_from={}, rebuild=rebuild,
        notes={"videos": noted(folder, path)} | begun_by(session, None if rebuild else header),
    )  # fmt: skip
    jobs, kept = pending_clips(found.clips, store, checksum=recipe.checksum, takes=plan.takes, anew=plan.anew)
    jobs = plan.choose(jobs, store)
    announce("frames", len(jobs), kept, path)
    outcome = Outcome()
    if not dry_run:
        with store:
            if jobs:
                with progress("frames") as report_progress:
                    outcome = extract_frames(
                        jobs, store, recipe=recipe, processes=_processes(run.jobs, len(jobs)), timeout=run.timeout,
                        allow_partial=run.allow_partial, failed=functools.partial(_failed, folder, plan),
                        progress=report_progress,
                    )  # fmt: skip
    outcome.skipped = [(str(skipped), reason) for skipped, reason in found.skipped]
    return finish(outcome, kept, plan, path)


def _clips(folder: Path, run: FramesRun) -> Any:
    from amefu_cli.artefacts.clips import find_clips

    found = find_clips(folder, follow_links=run.follow_links)
    for skipped, reason in found.skipped:
        warn(f"skipped {skipped}: {reason}")
    if not found.clips:
        raise UsageError(f"{folder}: holds no clip; CLASS/clip.mp4 or CLASS/clip/image.jpg is looked for")
    return found


def _failed(folder: Path, plan: Work, video: str, error: AmefuError) -> None:
    """One clip failed; or all that are still to come will, as their folder is gone."""
    if not (folder.is_dir() and any(folder.iterdir())):
        raise AmefuError(f"{folder}: is not there any more; run the same command again when it is")
    plan.failed(video, error)


def _processes(asked: int, videos: int) -> int:
    return max(1, min(asked or len(os.sched_getaffinity(0)), videos))
