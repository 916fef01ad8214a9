"""`amefu episodes`, `evaluate`, `compare`, `ablate`, `predict`: how well new actions are told apart, and which a clip
shows."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from amefu_cli.commands import options
from amefu_cli.commands.console import Answer, accuracy
from amefu_cli.commands.options import command
from amefu_cli.errors import VideoError
from amefu_cli.flows.session import Session
from amefu_cli.settings import (
    AblateSettings,
    DeviceRun,
    EpisodesSettings,
    EvaluateSettings,
    FramesRun,
    NetworkRun,
    PredictSettings,
    SplitSettings,
)

if TYPE_CHECKING:
    from amefu_cli.flows.compare import Result

HeadWeights = Annotated[
    Path | None, typer.Option(help="checkpoint of a head that learns [WORKSPACE/MODEL-HEAD.safetensors]")
]


@command
def episodes(
    session: Session, answer: Answer, settings: EpisodesSettings, split_settings: SplitSettings,
    features: options.FeaturesPath, split: options.SplitOption = None,
    out: Annotated[Path | None, typer.Option(help="file to write [one in WORKSPACE/episodes]")] = None,
) -> None:  # fmt: skip
    """Draw episodes of the novel classes and write them as video ids, for `amefu evaluate --episodes FILE`.

    Example: amefu episodes --way 5 --shot 1 --count 10000 --seed 0
    """
    from amefu_cli.flows.evaluate import SplitOrder, make_episodes

    path, drawn = make_episodes(session, features, SplitOrder(split, split_settings), settings, out)
    document = {"file": str(path), **asdict(drawn.shape), "videos": len(drawn.ids), "fingerprint": drawn.fingerprint}
    answer.show(document, title="episodes")


@command
def evaluate(
    session: Session, answer: Answer, settings: EvaluateSettings, split_settings: SplitSettings, run: DeviceRun,
    features: options.FeaturesPath, fusion: options.FusionPath, split: options.SplitOption = None,
    head_weights: HeadWeights = None,
    out: Annotated[Path | None, typer.Option(help="results file to write [one in WORKSPACE/results]")] = None,
    by_class: Annotated[
        bool, typer.Option("--by-class", help="also the interval over novel classes, which a few of them widen")
    ] = False,
) -> None:  # fmt: skip
    """Classify few-shot episodes of the novel classes; the result is printed and kept as JSON.

    Example: amefu evaluate --way 5 --shot 1
    """
    from amefu_cli.flows.evaluate import EvaluateOrder, SplitOrder, evaluate

    asked_split = SplitOrder(split, split_settings)
    order = EvaluateOrder(features, asked_split, settings, fusion, head_weights, run.device, out, by_class)
    result, interval = evaluate(session, order)
    asked, found = result.asked, result.found
    rows = [["", "accuracy"], ["episodes of these classes", accuracy(found.accuracy, found.half_width_95)]]
    document = {name: value for name, value in result.as_document().items() if name not in ("right", "outcomes")}
    document["file"] = str(result.path)  # which has every episode
    if interval is not None:
        rows.append([f"  over {len(found.by_class)} classes too", f"{interval.low:.2%} to {interval.high:.2%}"])
        document["interval_95_by_class"] = [interval.low, interval.high]
    for what, missing in (("videos", asked.missing_videos), ("classes", len(asked.missing_classes))):
        if missing:
            rows.append([f"novel {what} of the split that are missing", str(missing)])
    rows += [[f"  {name}", f"{share:.2%}"] for name, share in found.by_class.items()]
    title = f"{asked.model}, {asked.head}: {_task(result)}, {asked.episodes} episodes ({found.seconds:.1f} s)"
    answer.show(document, title=title, rows=rows)


def _task(result: Result) -> str:
    """`5-way 1-shot, queries a class: 1`, and whose depth it is of where that is not each video's own."""
    asked = result.asked
    queries = "one query an episode" if asked.one_query else f"queries a class: {asked.queries}"
    of_others = f", --depth-of {asked.depth_of}" if asked.depth_of != "own" else ""
    return f"{asked.way}-way {asked.shot}-shot, {queries}{of_others}"


@command
def compare(
    session: Session, answer: Answer,
    results: Annotated[
        list[Path], typer.Argument(metavar="A.json B.json …", help="results; the first is compared with")
    ],
    by_class: Annotated[
        bool, typer.Option("--by-class", help="let the interval account for the choice of novel classes too")
    ] = False,
) -> None:  # fmt: skip
    """Compare results with the first one: differences of accuracy with their 95% intervals.

    Results of the same episodes are compared episode by episode; others are not, which is said. ≈ marks a
    difference whose interval holds 0.

    Example: amefu compare results/rgb.json results/amefu.json
    """
    from amefu_cli.flows.compare import MARK, compare_results, interval_over

    (first, *others), compared = compare_results(session, results, by_class=by_class)
    rows = [["", "accuracy", f"less {first.path.name}", "95% interval", "episodes"], [*_compared(first), "", "", ""]]
    for result, found in zip(others, compared, strict=True):
        interval, pairing = found.interval_text(" to "), "the same" if found.paired else "others"
        rows.append([*_compared(result), found.text, interval, pairing])
    over = interval_over(by_class)
    document = {"reference": str(first.path), "interval_over": over, "compared": [*map(asdict, compared)]}
    answer.show(document, title=f"95% intervals over {over}; {MARK}: its interval holds 0", rows=rows)


def _compared(result: Result) -> list[str]:
    title = f"{result.path.name} ({result.asked.model}, {result.asked.head}, {_task(result)})"
    return [title, accuracy(result.found.accuracy, result.found.half_width_95)]


@command
def ablate(
    session: options.DryRun, answer: Answer, settings: AblateSettings, split_settings: SplitSettings, run: DeviceRun,
    features: options.FeaturesPath,
    out: Annotated[
        Path,
        options.Place("folder of checkpoints, results and tables", lambda workspace: workspace.folder / "ablation"),
    ],
    split: options.SplitOption = None,
    by_class: Annotated[
        bool, typer.Option("--by-class", help="let intervals of differences account for the novel classes too")
    ] = False,
) -> None:  # fmt: skip
    """Make the paper's tables, or one of all heads: train what is missing, evaluate every row on the same episodes.

    Fusions and heads are trained as `amefu meta-train` would train them; the same command goes on where it was stopped.
    Where novel classes, backbone and task are those of the paper, its figures stand beside ours.

    Example: amefu ablate --tables 3 --shots 1,5
    """
    from amefu_cli.flows.ablate import AblateOrder, SplitOrder, ablate

    order = AblateOrder(features, SplitOrder(split, split_settings), settings, out, run.device, by_class)
    tables = ablate(session, order)
    if tables is None:
        return
    if answer.as_json:
        answer.show({**asdict(tables), "folder": str(out)}, title="")
    else:
        typer.echo(tables.to_markdown(), nl=False)
    session.say.note(f"ablate: {out / 'tables.md'} and tables.json hold these tables")


@command
def predict(
    session: options.DryRun, answer: Answer, settings: PredictSettings, frames: FramesRun, run: NetworkRun,
    fusion: options.FusionPath,
    examples: Annotated[Path, typer.Argument(metavar="EXAMPLES", help="folder of CLASS/clip.mp4: a few a class")],
    clips: Annotated[list[Path], typer.Argument(metavar="CLIPS…", help="videos, or folders of them, to be labelled")],
    head_weights: HeadWeights = None,
    csv: Annotated[Path | None, typer.Option(metavar="FILE", help="write the labels as a table")] = None,
    vtt: Annotated[Path | None, typer.Option(metavar="FILE", help="with --window: write subtitles")] = None,
    picture: Annotated[
        Path | None, typer.Option(metavar="FILE.png", help="with --window: draw the labels below frames of the video")
    ] = None,
) -> None:  # fmt: skip
    """Label your own clips by a few examples of each class; nothing has to be trained.

    Every example is first held out and classified by the others: one that is nearer to another class is named, and
    probabilities are what suits the examples. What a clip gives is kept in WORKSPACE/predict, so that the next call
    computes only what is new.

    Example: amefu predict ./examples ./clips
    """
    from amefu_cli.flows.predict import PredictOrder, predict

    files = {"csv": csv, "vtt": vtt, "picture": picture}
    found = predict(session, PredictOrder(examples, clips, settings, fusion, frames, run, head_weights, **files))
    if found is None:
        return
    timed, top = settings.window is not None, min(settings.top, len(found.examples))
    ranks = ["probability", "runner-up", *map(str, range(3, top + 1))][:top]
    rows = [["clip", *["from", "to"] * timed, "label", *ranks]]
    for of in found.clips:
        first, *others = (f"{label.label} {label.probability:.1%}" for label in of.labels)
        likeliest = f"{of.labels[0].probability:.1%}" if of.label else first
        rows.append([of.clip, *of.times, of.said, likeliest, *others])
    rows += [[path, *[""] * 2 * timed, "failed", *[""] * top] for path in found.failed]
    of_clips = [{**of._asdict(), "labels": [label._asdict() for label in of.labels]} for of in found.clips]
    written = {f"{name}_file": str(path) for name, path in files.items() if path}
    title = f"{found.model}, {found.head}: {len(found.examples)} classes"
    answer.show({**asdict(found), "clips": of_clips, **written}, title=title, rows=rows)
    if found.failed:
        raise typer.Exit(VideoError.exit_code)
