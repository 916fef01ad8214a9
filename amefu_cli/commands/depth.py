"""`amefu depth [VIDEOS]`: the disparity of every frame into depth.zarr."""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from amefu_cli.artefacts.files.workspace import located, noted
from amefu_cli.commands.checks import check_device, check_estimator
from amefu_cli.commands.console import note, progress
from amefu_cli.commands.frames import update_frames
from amefu_cli.commands.options import Session, command
from amefu_cli.commands.precision import settled_precision
from amefu_cli.commands.work import WHOLE, Work, report, started_by, unknown_yet
from amefu_cli.errors import AmefuError
from amefu_cli.settings import DepthSettings, NetworkRun, WorkRun
from amefu_cli.stages import Outcome

if TYPE_CHECKING:
    from amefu_cli.artefacts.stores.store import VideoStore
    from amefu_cli.stages.pending import VideoJob


@command
def depth(
    session: Session,
    recipe: DepthSettings,
    run: NetworkRun,
    work: WorkRun,
    videos: Annotated[Path | None, typer.Argument(help="folder of videos [the one frames.zarr is made from]")] = None,
    weights: Annotated[
        Path | None,
        typer.Option(help="weights of the estimator: a file, or Monodepth2's folder or zip [its own]"),
    ] = None,
    frames: Annotated[
        Path | None, typer.Option("--frames", "--frames-store", help="store to read [WORKSPACE/frames.zarr]")
    ] = None,
    out: Annotated[Path | None, typer.Option(help="store to write [WORKSPACE/depth.zarr]")] = None,
    rebuild: Annotated[bool, typer.Option("--rebuild", help="throw the store away and make it again")] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="only say what would be done")] = False,
) -> None:
    """Predict the disparity of every frame into depth.zarr (first the frames, if they are not there).

    Example: amefu depth ./videos --estimator tiny
    """
    frames_path, path = frames or session.workspace.frames, out or session.workspace.depth
    outcome = update_depth(
        session, frames_path, path, videos=videos, recipe=recipe, weights=weights, run=run, work=work,
        rebuild=rebuild, dry_run=dry_run,
    )  # fmt: skip
    report("depth", outcome, path, as_json=session.json)


def update_depth(
    session: Session,
    frames_path: Path,
    path: Path,
    *,
    videos: Path | None = None,
    recipe: DepthSettings | None = None,
    weights: Path | None = None,
    run: NetworkRun | None = None,
    work: WorkRun = WHOLE,
    rebuild: bool = False,
    dry_run: bool = False,
    check: Callable[[], object] | None = None,
) -> Outcome:
    """Bring depth.zarr up to date with frames.zarr, and that first, unless --no-upstream; without a recipe, by the one
    that the store was started with. `check` is called in between, to refuse what the frames are too few for."""
    from amefu_cli.artefacts.stores.header import header_of
    from amefu_cli.artefacts.stores.store import open_store, prepare_store
    from amefu_cli.artefacts.weights.identity import estimator_identity, located_estimator
    from amefu_cli.stages.pending import pending_depth

    header = None if rebuild else header_of(path, "depth")
    if recipe is None and header:
        recipe = DepthSettings.recorded(header["settings"], path)
        weights = located(header["notes"], "weights", path) if header["notes"].get("weights") else None
    recipe = recipe or session.settings(DepthSettings, "depth")
    run = run or session.settings(NetworkRun, "depth")
    check_device(run.device)
    if header is None:
        check_estimator(recipe.estimator)
    before = Outcome()
    if session.upstream:
        before = update_frames(session, frames_path, videos=videos, work=WorkRun(shard=work.shard), dry_run=dry_run)
        if before.planned:
            unknown_yet("depth", frames_path)
        if dry_run and header_of(frames_path, "frames") is None:
            return before
    frames = open_store(frames_path, "frames", fix="amefu frames VIDEOS")
    if check is not None:
        check()
    recipe = replace(
        recipe,
        estimator=located_estimator(recipe.estimator),
        precision=settled_precision(recipe.precision, header, run.device),
    )
    notes = {"frames": noted(frames_path, path), "weights": noted(weights, path) if weights else None}
    plan = Work("depth", work, path.parent)
    store = prepare_store(
        path, "depth", settings=recipe.as_dict(), made_from=estimator_identity(recipe.estimator, weights),
        notes=notes | started_by(session, header), rebuild=rebuild,
    )  # fmt: skip
    jobs, kept = pending_depth(frames, store, takes=plan.takes, again=plan.again)
    jobs = plan.choose(jobs, store)
    prepare = functools.partial(_prediction, frames, store, recipe, weights, run, plan.failed)
    return plan.carry_out(store, jobs, kept, prepare, before=before, dry_run=dry_run)


def _prediction(
    frames: VideoStore,
    store: VideoStore,
    recipe: DepthSettings,
    weights: Path | None,
    run: NetworkRun,
    failed: Callable[[str, AmefuError], None],
    jobs: Sequence[VideoJob],
) -> Callable[[], Outcome]:
    """What predicts the videos: all that can be refused is, before the store is started or replaced."""
    if not jobs:  # which is known before torch is loaded
        return Outcome
    from amefu_cli.artefacts.weights.identity import note_provenance
    from amefu_cli.stages.depth import load_estimator, predict_depth
    from amefu_cli.stages.networks import choose_device

    device = choose_device(run.device)
    estimator, message, provenance = load_estimator(recipe, weights, device)

    def predict() -> Outcome:
        note_provenance(store, {"estimator": provenance})
        if message:
            note(message)
        with progress("depth") as report_progress:
            return predict_depth(
                jobs, frames, store, estimator=estimator, device=device, batch=run.batch, failed=failed,
                progress=report_progress,
            )  # fmt: skip

    return predict
