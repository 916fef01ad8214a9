"""`amefu frames`, `depth`, `features`: the stores that everything else reads."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from amefu_cli.commands.console import Answer
from amefu_cli.commands.options import (
    DepthPath,
    DepthStreamPath,
    DryRun,
    FramesPath,
    Rebuild,
    RgbPath,
    SplitOption,
    command,
)
from amefu_cli.errors import VideoError
from amefu_cli.flows.session import Session
from amefu_cli.settings import (
    ClipSettings,
    DepthSettings,
    FallbackSettings,
    FeaturesSettings,
    FramesRun,
    FramesSettings,
    NetworkRun,
    SplitSettings,
    WorkRun,
)

if TYPE_CHECKING:
    from amefu_cli.flows.work import AnyHeader, Made

StreamsOption = Annotated[
    list[str] | None,
    typer.Option(
        "--stream",
        metavar="NAME=BACKBONE",
        help="a further frozen network beside rgb and depth; NAME=depth:BACKBONE for one that reads disparity, "
        "@none or @FILE behind it for other weights than ImageNet's; repeat it for several",
    ),
]


@command
def frames(
    session: Session,
    answer: Answer,
    settings: FramesSettings,
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
    rebuild: Rebuild = False,
    dry_run: DryRun = False,
) -> None:
    """Decode every clip of VIDEOS into frames.zarr: upright, resized, as JPEG.

    Example: amefu frames ./videos --jobs 2
    """
    from amefu_cli.flows.frames import FramesOrder, described, make_frames

    order = FramesOrder(out or session.workspace.frames, videos, settings, run, work, prune, rebuild)
    made = make_frames(replace(session, dry_run=dry_run), order)
    if not dry_run or made.found is None:
        return _report(answer, made, order.out)
    document, rows = described(made.found)
    answer.show(document | {"kept": made.outcome.kept}, title="what would be read", rows=rows)


@command
def depth(
    session: Session,
    answer: Answer,
    settings: DepthSettings,
    run: NetworkRun,
    work: WorkRun,
    videos: Annotated[Path | None, typer.Argument(help="folder of videos [the one frames.zarr is made from]")] = None,
    weights: Annotated[
        Path | None,
        typer.Option(help="weights of the estimator: a file, or Monodepth2's folder or zip [its own]"),
    ] = None,
    frames: FramesPath = None,
    out: Annotated[Path | None, typer.Option(help="store to write [WORKSPACE/depth.zarr]")] = None,
    rebuild: Rebuild = False,
    dry_run: DryRun = False,
) -> None:
    """Predict the disparity of every frame into depth.zarr (first the frames, if they are not there).

    Example: amefu depth ./videos --estimator tiny
    """
    from amefu_cli.flows.chain import DepthOrder, FramesOrder, depth_up_to_date

    of_frames = FramesOrder(frames or session.workspace.frames, videos, work=WorkRun(shard=work.shard))
    order = DepthOrder(out or session.workspace.depth, of_frames, settings, weights, run, work, rebuild)
    made = depth_up_to_date(replace(session, dry_run=dry_run), order)
    _report(answer, made, order.out)


@command
def features(
    session: Session,
    answer: Answer,
    settings: FeaturesSettings,
    fallback: FallbackSettings,
    clip: ClipSettings,
    split_settings: SplitSettings,
    run: NetworkRun,
    work: WorkRun,
    split: SplitOption = None,
    frames: FramesPath = None,
    depth: DepthPath = None,
    rgb: RgbPath = None,
    depth_stream: DepthStreamPath = None,
    stream: StreamsOption = None,
    basenet: Annotated[
        bool, typer.Option("--basenet", help="also the RGB network without pretraining, for the baselines")
    ] = False,
    out: Annotated[Path | None, typer.Option(help="store to write [WORKSPACE/features.zarr]")] = None,
    rebuild: Rebuild = False,
    dry_run: DryRun = False,
) -> None:
    """Compute per-frame features of both frozen streams into features.zarr, once for all experiments.

    A stream that was never pretrained is used with the weights of --backbone and --weights; what is not said is taken
    from the other stream, where that was pretrained. Streams added by --stream leave those that are there untouched.

    Example: amefu features --stride 2 --views 1
    """
    from amefu_cli.flows.chain import FeaturesOrder, Inputs, SplitOrder, features_up_to_date

    workspace = session.workspace
    inputs = Inputs(
        frames or workspace.frames, depth or workspace.depth, rgb or workspace.stream("rgb"),
        depth_stream or workspace.stream("depth"),
    )  # fmt: skip
    order = FeaturesOrder(
        out or workspace.features, SplitOrder(split, split_settings), inputs, settings, clip, fallback, run, work,
        stream or (), basenet, rebuild,
    )  # fmt: skip
    made, _ = features_up_to_date(replace(session, dry_run=dry_run), order)
    _report(answer, made, order.out)


def _report(answer: Answer, made: Made[AnyHeader], path: Path) -> None:
    """The result of a store's own command; ends with exit code 3 where videos failed."""
    outcome = made.outcome
    document = {
        "store": str(path), "done": len(outcome.done), "kept": outcome.kept, "failed": outcome.failed,
        "skipped": dict(outcome.skipped), "seconds": round(outcome.seconds, 3),
    }  # fmt: skip
    counts = (len(outcome.done), outcome.kept, len(outcome.failed))
    rows = [["store", "made", "already there", "failed", "seconds"]]
    rows.append([str(path), *map(str, counts), f"{outcome.seconds:.1f}"])
    answer.show(document, title="what was made", rows=rows)
    if outcome.failed:
        raise typer.Exit(VideoError.exit_code)
