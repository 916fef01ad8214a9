"""`amefu frames`, `depth`, `features`: the stores that everything else reads."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from amefu_cli import settings as groups
from amefu_cli.commands import options
from amefu_cli.commands.console import Answer
from amefu_cli.commands.options import command
from amefu_cli.errors import VideoError

if TYPE_CHECKING:
    from amefu_cli.flows.work import AnyHeader, Made

StreamsOption = Annotated[list[str] | None, typer.Option(metavar="NAME=BACKBONE", help=(
    "a further frozen network beside rgb and depth; NAME=depth:BACKBONE for one that reads disparity, @none or @FILE "
    "behind it for other weights than ImageNet's; repeat it for several"
))]  # fmt: skip


@command
def frames(
    session: options.DryRun, answer: Answer, settings: groups.FramesSettings, run: groups.FramesRun,
    work: groups.WorkRun,
    out: Annotated[Path, options.Place("store to write", lambda workspace: workspace.frames)],
    videos: Annotated[
        Path | None, typer.Argument(help="folder of CLASS/…/clip.mp4, or of CLASS/…/clip/image.jpg [the last one]")
    ] = None,
    prune: Annotated[bool, "take videos out of the store whose clips are no longer in VIDEOS"] = False,
    rebuild: options.Rebuild = False,
) -> None:  # fmt: skip
    """Decode every clip of VIDEOS into frames.zarr: upright, resized, as JPEG.

    Example: amefu frames ./videos --jobs 2
    """
    from amefu_cli.flows.frames import FramesOrder, described, make_frames

    made = make_frames(session, FramesOrder(out, videos, settings, run, work, prune, rebuild))
    if not session.dry_run or made.found is None:
        return _report(answer, made, out)
    document, rows = described(made.found)
    answer.show(document | {"kept": made.outcome.kept}, title="what would be read", rows=rows)


@command
def depth(
    session: options.DryRun, answer: Answer, settings: groups.DepthSettings, run: groups.NetworkRun,
    work: groups.WorkRun, frames: options.FramesPath,
    out: Annotated[Path, options.Place("store to write", lambda workspace: workspace.depth)],
    videos: Annotated[Path | None, typer.Argument(help="folder of videos [the one frames.zarr is made from]")] = None,
    weights: Annotated[Path | None, "weights of the estimator: a file, or Monodepth2's folder or zip [its own]"] = None,
    rebuild: options.Rebuild = False,
) -> None:  # fmt: skip
    """Predict the disparity of every frame into depth.zarr (first the frames, if they are not there).

    Example: amefu depth ./videos --estimator tiny
    """
    from amefu_cli.flows.chain import DepthOrder, FramesOrder, depth_up_to_date

    of_frames = FramesOrder(frames, videos, work=groups.WorkRun(shard=work.shard))
    made = depth_up_to_date(session, DepthOrder(out, of_frames, settings, weights, run, work, rebuild))
    _report(answer, made, out)


@command
def features(
    session: options.DryRun, answer: Answer, settings: groups.FeaturesSettings, fallback: groups.FallbackSettings,
    clip: groups.ClipSettings, split_settings: groups.SplitSettings, run: groups.NetworkRun, work: groups.WorkRun,
    frames: options.FramesPath, depth: options.DepthPath, rgb: options.RgbPath, depth_stream: options.DepthStreamPath,
    out: Annotated[Path, options.Place("store to write", lambda workspace: workspace.features)],
    split: options.SplitOption = None, stream: StreamsOption = None,
    basenet: Annotated[bool, "also the RGB network without pretraining, for the baselines"] = False,
    rebuild: options.Rebuild = False,
) -> None:  # fmt: skip
    """Compute per-frame features of both frozen streams into features.zarr, once for all experiments.

    A stream that was never pretrained is used with the weights of --backbone and --weights; what is not said is taken
    from the other stream, where that was pretrained. Streams added by --stream leave those that are there untouched.

    Example: amefu features --runs 5 --views 1
    """
    from amefu_cli.flows.chain import FeaturesOrder, Inputs, SplitOrder, features_up_to_date

    order = FeaturesOrder(
        out, SplitOrder(split, split_settings), Inputs(frames, depth, rgb, depth_stream), settings, clip, fallback,
        run, work, stream or (), basenet, rebuild,
    )  # fmt: skip
    made, _ = features_up_to_date(session, order)
    _report(answer, made, out)


def _report(answer: Answer, made: Made[AnyHeader], path: Path) -> None:
    """The result of a store's own command; ends with exit code 3 where videos failed."""
    outcome = made.outcome
    document = {
        "store": str(path), "done": len(outcome.done), "kept": outcome.kept, "failed": outcome.failed,
        "skipped": dict(outcome.skipped), "seconds": round(outcome.seconds, 3),
    }  # fmt: skip
    counts = map(str, (len(outcome.done), outcome.kept, len(outcome.failed)))
    columns = ["store", "made", "already there", "failed", "seconds"]
    answer.show(document, title="what was made", rows=[columns, [str(path), *counts, f"{outcome.seconds:.1f}"]])
    if outcome.failed:
        raise typer.Exit(VideoError.exit_code)
