"""`amefu frames VIDEOS`: decode every clip into frames.zarr."""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from amefu_cli.artefacts.files.workspace import located, noted
from amefu_cli.commands.console import note, progress, warn
from amefu_cli.commands.options import Session, command
from amefu_cli.commands.work import WHOLE, Work, report, started_by
from amefu_cli.errors import AmefuError, UsageError
from amefu_cli.settings import FramesRun, FramesSettings, WorkRun
from amefu_cli.stages import Outcome

if TYPE_CHECKING:
    from amefu_cli.artefacts.stores.store import VideoStore
    from amefu_cli.stages.pending import ClipJob


@command
def frames(
    session: Session,
    recipe: FramesSettings,
    run: FramesRun,
    work: WorkRun,
    videos: Annotated[
        Path | None,
        typer.Argument(help="folder of CLASS/…/clip.mp4, or of CLASS/…/clip/image.jpg [the last one]"),
    ] = None,
    out: Annotated[Path | None, typer.Option(help="store to write [WORKSPACE/frames.zarr]")] = None,
    prune: Annotated[
        bool, typer.Option("--prune", help="take videos out of the store whose clips are no longer in VIDEOS")
    ] = False,
    rebuild: Annotated[bool, typer.Option("--rebuild", help="throw the store away and make it again")] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="only say what would be done")] = False,
) -> None:
    """Decode every clip of VIDEOS into frames.zarr: upright, resized, as JPEG.

    Example: amefu frames ./videos --jobs 2
    """
    path = out or session.workspace.frames
    outcome = update_frames(
        session, path, videos=videos, recipe=recipe, run=run, work=work, prune=prune, rebuild=rebuild,
        dry_run=dry_run,
    )  # fmt: skip
    report("frames", outcome, path, as_json=session.json)


def update_frames(
    session: Session,
    path: Path,
    *,
    videos: Path | None,
    recipe: FramesSettings | None = None,
    run: FramesRun | None = None,
    work: WorkRun = WHOLE,
    prune: bool = False,
    rebuild: bool = False,
    dry_run: bool = False,
) -> Outcome:
    """Bring frames.zarr up to date with VIDEOS; without a recipe, by the one that the store was started with."""
    from amefu_cli.artefacts.stores.header import header_of
    from amefu_cli.artefacts.stores.store import prepare_store
    from amefu_cli.stages.pending import pending_clips

    header = header_of(path, "frames")
    folder = videos or _recorded_folder(path, header)
    if videos is None and not folder.is_dir():
        if prune:
            raise UsageError(f"{folder}: is not there, so nothing says which of its clips are gone; name VIDEOS")
        warn(f"{folder} is not there any more; going on with the frames in {path}")
        return Outcome()
    if recipe is None:
        recipe = (
            FramesSettings.recorded(header["settings"], path) if header else session.settings(FramesSettings, "frames")
        )
    chosen = run is not None and videos is not None  # `amefu frames VIDEOS`: other lines do as the last one of these
    run = run or session.settings(FramesRun, "frames")
    followed = header is not None and bool(header["notes"].get("follow_links"))
    follow_links = run.follow_links or (followed and not chosen)
    found = _clips(folder, follow_links)
    gone = _gone(path, header, folder, found.clips) if header and not rebuild else []
    plan = Work("frames", work, path.parent, timeout=run.timeout, allow_partial=run.allow_partial)
    store = prepare_store(
        path, "frames", settings=recipe.as_dict(), made_from={}, rebuild=rebuild,
        notes={"videos": noted(folder, path), "follow_links": follow_links}
        | started_by(session, None if rebuild else header),
    )  # fmt: skip
    jobs, kept = pending_clips(found.clips, store, checksum=recipe.checksum, takes=plan.takes, again=plan.again)
    jobs = plan.choose(jobs, store)
    _say_gone(gone, path, folder, prune=prune, dry_run=dry_run)
    failed = functools.partial(_failed, folder, plan)
    prepare = functools.partial(_extraction, store, recipe, run, failed, gone if prune else [])
    outcome = plan.carry_out(store, jobs, kept, prepare, before=Outcome(), dry_run=dry_run)
    outcome.skipped = [(str(skipped), reason) for skipped, reason in found.skipped]
    return outcome


def _extraction(
    store: VideoStore,
    recipe: FramesSettings,
    run: FramesRun,
    failed: Callable[[str, AmefuError], None],
    gone: Sequence[str],
    jobs: Sequence[ClipJob],
) -> Callable[[], Outcome]:
    """What decodes the clips, and takes the videos that are `gone` out of the store."""
    from amefu_cli.stages.frames import extract_frames

    def extract() -> Outcome:
        for video in gone:
            store.remove(video)
        if not jobs:
            return Outcome()
        with progress("frames") as report_progress:
            return extract_frames(
                jobs, store, settings=recipe, processes=_processes(run.jobs, len(jobs)), timeout=run.timeout,
                allow_partial=run.allow_partial, failed=failed, progress=report_progress,
            )  # fmt: skip

    return extract


def _recorded_folder(path: Path, header: Mapping[str, Any] | None) -> Path:
    if header is None:
        raise UsageError(f"{path}: no such store; name the folder of videos: `amefu frames VIDEOS`")
    return located(header["notes"], "videos", path)


def _clips(folder: Path, follow_links: bool) -> Any:
    from amefu_cli.artefacts.videos.find import find_clips

    found = find_clips(folder, follow_links=follow_links)
    for skipped, reason in found.skipped:
        warn(f"skipped {skipped}: {reason}")
    if not found.clips:
        raise UsageError(f"{folder}: holds no clip; CLASS/clip.mp4 or CLASS/clip/image.jpg is looked for")
    return found


def _gone(path: Path, header: Mapping[str, Any], folder: Path, clips: Any) -> list[str]:
    """The videos of the store at `path` whose clip is not among those of `folder`, sorted.

    Raises:
        UsageError: that is all of them, and the store was made from another folder.
    """
    from amefu_cli.artefacts.stores.store import VideoStore

    there = VideoStore(path, header).records()
    gone = sorted(there.keys() - {clip.id for clip in clips})
    before = header["notes"].get("videos")
    if gone and len(gone) == len(there) and noted(folder, path) != before:
        raise UsageError(
            f"{folder}: holds none of the {len(there)} videos of {path}, which is made from {before}; "
            "take another --workspace, or replace the store with `amefu frames VIDEOS --rebuild`"
        )
    return gone


def _say_gone(gone: list[str], path: Path, folder: Path, *, prune: bool, dry_run: bool) -> None:
    """Say that videos of the store at `path` are gone from `folder`, and what becomes of them."""
    if not gone:
        return
    first = ", ".join(gone[:3]) + (", …" if gone[3:] else "")
    some = f"{len(gone)} videos of {path} are no longer in {folder} ({first})"
    if not prune:
        warn(f"{some}, but are still used; take them out with `amefu frames --prune`")
        return
    note(f"frames: {some}; they {'would be' if dry_run else 'are'} taken out")


def _failed(folder: Path, plan: Work, video: str, error: AmefuError) -> None:
    """One clip failed; or all that are still to come will, as their folder is gone."""
    if not (folder.is_dir() and any(folder.iterdir())):
        raise AmefuError(f"{folder}: is not there any more; run the same command again when it is")
    plan.failed(video, error)


def _processes(asked: int, videos: int) -> int:
    from amefu_cli.engines.workers import usable_cores

    return max(1, min(asked or usable_cores(), videos))
