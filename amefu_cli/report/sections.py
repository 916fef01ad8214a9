"""The sections of a report, in their order, each with one sentence that says how to read it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence

import numpy as np

from amefu_cli.artefacts.files.results import Result
from amefu_cli.method.comparison import Interval
from amefu_cli.method.heads import HEADS
from amefu_cli.report import figures
from amefu_cli.report.contents import Contents, Data, Step, Training, title_of
from amefu_cli.report.page import Block, Cell, Commands, Figure, Section, Table, Text
from amefu_cli.report.pictures import confusions, episodes_shown, neighbourhoods

LISTED = 1000  # rows of a table that grows with the data
DRAWN_CLASSES = 60  # of the figure by class; the table beside it has all
SHOW = "amefu show CLASS/CLIP"


def sections_of(contents: Contents) -> list[Section]:
    """All of them; one without data says which command makes it."""
    parts = [
        ("What was run", "Each row is one file of the workspace; the lines below make them again, in this order.",
         _run(contents)),
        ("The data", "Few videos in a class, or lengths far from the others, are the first place to look when a class "
         "does badly.", _data(contents.data)),
        ("Training", "Loss should fall and accuracy rise, and the dashed line is the epoch that was kept; where both "
         "fall, the videos are learned by heart.", _trainings(contents.trainings)),
        ("Results", "Two results differ for certain only where the interval of their difference leaves out 0; the one "
         "over classes also says how much the choice of novel classes matters.", _results(contents)),
        ("Confusion", "A row is a true class, a column what its queries were taken for, in the episodes that have "
         "both: the diagonal is what was right.", confusions(contents)),
        ("Where the videos lie", "Each point is a novel video, near those whose vectors are like its own (t-SNE; "
         "distances between far groups mean nothing): classes that stand apart are told apart.",
         neighbourhoods(contents)),
        ("Episodes", "Above are the supports of each class, below its queries, with a tick where one was right and a "
         "cross and the class that it was taken for where not.", episodes_shown(contents)),
        ("Where the network looks", "Warm places on a frame are those that its class was decided by (Grad-CAM).",
         [Text(f"Sheets of activation maps are made for one clip at a time: `{SHOW}`.")]),
    ]  # fmt: skip
    return [
        Section(title, reading, tuple(blocks), contents.missing.get(number, ()))
        for number, (title, reading, blocks) in enumerate(parts, 1)
    ]


# 1. What was run ---------------------------------------------------------------------------------------------


def _run(contents: Contents) -> Iterator[Block]:
    if contents.steps:
        columns = ("file", "state", "settings", "fingerprint", "written", "seconds")
        yield Table(columns, [_step(step) for step in contents.steps])
        yield Commands(contents.lines)


def _step(step: Step) -> list[str | Cell]:
    settings = ", ".join(f"{name.replace('_', '-')} {value}" for name, value in step.settings.items())
    seconds = Cell("", -1.0) if step.seconds is None else Cell(f"{step.seconds:.1f}", step.seconds)
    written = Cell(f"{step.written:%Y-%m-%d %H:%M}", step.written.timestamp())
    return [step.name, step.state, settings, step.fingerprint, written, seconds]


# 2. The data -------------------------------------------------------------------------------------------------


def _data(data: Data | None) -> Iterator[Block]:
    if data is None:
        return
    if len(data.lengths):
        (low, middle, high), unit = np.quantile(data.lengths, [0, 0.5, 1]), "seconds" if data.in_seconds else "frames"
        words = f"{len(data.lengths)} videos last {low:.1f} to {high:.1f} {unit}, half of them up to {middle:.1f}"
        yield Text(f"{words}.")
        if low < high:
            yield Figure(figures.histogram(data.lengths, f"length, {unit}"), f"Histogram of lengths: {words}.")
    parts = Counter[str]()
    for row in data.classes:
        parts[row.part] += row.videos
    total = ", ".join(f"{count} {part}" for part, count in parts.items())
    columns = ("class", "part", "videos", "frames", "mean seconds", "failed")
    yield Table(columns, [
        [row.name, row.part, _whole(row.videos), _whole(row.frames), Cell(f"{row.seconds / max(1, row.videos):.1f}",
         row.seconds / max(1, row.videos)), _whole(row.failed)] for row in data.classes
    ], f"videos by class: {total}")  # fmt: skip
    failed: list[list[str | Cell]] = [
        [item.video, item.stage, item.error, item.message, _whole(item.attempt)] for item in data.failed
    ]
    yield from _listed("failed videos", ("video", "stage", "error", "message", "attempts"), failed)
    if data.looked_at:
        copies = [[", ".join(group)] for group in data.copies]
        yield from _listed("the same clip, byte for byte, in two classes", ("videos",), copies)
        yield from _listed("passed over in VIDEOS", ("path", "why"), [[*pair] for pair in data.passed_over])
    yield from _listed("named by the split, but not there", ("video or class",), [[name] for name in data.absent])


def _listed(what: str, columns: Sequence[str], rows: Sequence[Sequence[str | Cell]]) -> Iterator[Block]:
    if rows:
        more = f", the first {LISTED} of {len(rows)}" if len(rows) > LISTED else f": {len(rows)}"
        yield Table(columns, rows[:LISTED], what + more)
    else:
        yield Text(f"{what[0].upper()}{what[1:]}: none.")


def _whole(number: int) -> Cell:
    return Cell(f"{number}", number)


# 3. Training -------------------------------------------------------------------------------------------------


def _trainings(trainings: Sequence[Training]) -> Iterator[Block]:
    rows: list[list[str | Cell]] = []
    for training in trainings:
        accuracies = list(dict.fromkeys(name for row in training.epochs for name in row if name.endswith("accuracy")))
        epoch, last = training.chosen, training.epochs[-1]
        kept = training.epochs[epoch] if epoch is not None and epoch < len(training.epochs) else None
        best = [f"{name.replace('_', ' ')} {kept[name]:.1%}" for name in accuracies if kept and name in kept]
        words = f"epoch {epoch} was kept: {', '.join(best)}" if kept else "not finished"
        alt = f"{training.name}: loss {_number(training.epochs[0], 'loss')} in the first of {len(training.epochs)} "
        alt += f"epochs, {_number(last, 'loss')} in the last; {words}."
        yield Figure(figures.curves(training.epochs, accuracies, epoch), alt, f"{training.name}: {words}", abreast=2)
        rows.append([
            training.name, _whole(len(training.epochs)), "–" if epoch is None else _whole(epoch),
            _number(kept or last, "loss"), ", ".join(best), Cell(f"{training.seconds:.0f}", training.seconds),
        ])  # fmt: skip
    if rows:
        yield Table(("training", "epochs", "kept (from 0)", "its loss", "its accuracy", "seconds"), rows)


def _number(row: Mapping[str, float], name: str) -> str:
    return f"{row[name]:.3f}" if name in row else "–"


# 4. Results --------------------------------------------------------------------------------------------------


def _results(contents: Contents) -> Iterator[Block]:
    results = contents.results
    if not results:
        return
    points = [figures.point_of(_accuracy(result)) for result in results]
    names = [contents.name_of(result) for result in results]
    words = figures.described(names, [f"{result.found.accuracy:.1%}" for result in results])
    svg = figures.intervals(names, {"accuracy": points}, "accuracy, % (95% over episodes)")
    yield Figure(svg, f"Accuracy of every result: {words}.")
    columns = ("file", "model", "head", "way", "shot", "queries", "episodes", "accuracy", "±", "seconds")
    yield Table(columns, [_result(result) for result in results])
    yield from _differences(contents)
    yield from _by_shot(results)
    yield from _by_class(results, names)


def _result(result: Result) -> list[str | Cell]:
    asked, found = result.asked, result.found
    numbers = [_whole(number) for number in (asked.way, asked.shot, asked.queries, asked.episodes)]
    return [
        result.path.name, title_of(result), HEADS[asked.head].title if asked.head in HEADS else asked.head, *numbers,
        Cell(f"{found.accuracy:.2%}", found.accuracy), Cell(f"{found.half_width_95:.2%}", found.half_width_95),
        Cell(f"{found.seconds:.1f}", found.seconds),
    ]  # fmt: skip


def _accuracy(result: Result) -> Interval:
    value, half = result.found.accuracy, result.found.half_width_95
    return Interval(value, value - half, value + half)


def _differences(contents: Contents) -> Iterator[Block]:
    differences = contents.differences
    if not differences:
        return
    yield Text("Paired differences", heading=True)
    names = [f"{contents.name_of(item.result)} − {title_of(item.reference)}" for item in differences]
    over = {
        "over episodes": [figures.point_of(item.over_episodes) for item in differences],
        "over episodes and classes": [figures.point_of(item.over_classes) for item in differences],
    }
    values = [_points(item.over_episodes.value) for item in differences]
    svg = figures.intervals(names, over, "difference of accuracy, points (95%)", zero=True)
    yield Figure(svg, f"Forest plot of differences, in points: {figures.described(names, values)}.")
    rows: list[list[str | Cell]] = []
    for name, value, item in zip(names, values, differences, strict=True):
        deciding = item.over_classes or item.over_episodes
        certain = "yes" if deciding.significant else "no: its interval holds 0"
        pairing = "the same" if item.paired else "others"
        spans = [_span(item.over_episodes), _span(item.over_classes) if item.over_classes else "–"]
        rows.append([name, Cell(value, item.over_episodes.value), *spans, certain, pairing])
    yield Table(("difference", "points", "over episodes", "over classes too", "certain", "episodes"), rows)


def _span(interval: Interval) -> str:
    return f"{_points(interval.low)} to {_points(interval.high)}"


def _points(share: float) -> str:
    return f"{100 * share:+.2f}".replace("-", "−")


def _by_shot(results: Sequence[Result]) -> Iterator[Block]:
    lines: dict[str, dict[int, tuple[int, float, float]]] = {}
    for result in results:
        asked, found = result.asked, result.found
        name = ", ".join([title_of(result), asked.head, f"{asked.way}-way", *([asked.fusion] if asked.fusion else [])])
        lines.setdefault(name, {})[asked.shot] = asked.shot, found.accuracy, found.half_width_95
    several = {name: [*points.values()] for name, points in lines.items() if len(points) > 1}
    if several:
        yield Text("Accuracy by number of shots (K)", heading=True)
        words = (f"{name}: " + ", ".join(f"{shot}-shot {value:.1%}" for shot, value, _ in sorted(points))
                 for name, points in several.items())  # fmt: skip
        yield Figure(figures.by_shot(several), f"Accuracy by number of shots. {'; '.join(words)}.")
    else:
        yield Text("Accuracy by number of shots (K): there is one K only; `amefu evaluate --shot 5` makes another.")


def _by_class(results: Sequence[Result], called: Sequence[str]) -> Iterator[Block]:
    yield Text("Accuracy by class", heading=True)
    shown = results[:5]
    means = {name: np.mean([found[name] for found in (result.found.by_class for result in shown) if name in found])
             for name in sorted({name for result in shown for name in result.found.by_class})}  # fmt: skip
    names = sorted(means, key=lambda name: means[name])
    drawn = names[:DRAWN_CLASSES]
    points = {title: [_of_class(result, name) for name in drawn] for title, result in zip(called, shown, strict=False)}
    words = figures.described(drawn, [f"{means[name]:.0%}" for name in drawn])
    yield Figure(figures.intervals(drawn, points, "accuracy, %"), f"Accuracy by class, the hardest first: {words}.")
    rows = [[name, *(_share(result.found.by_class.get(name)) for result in results)] for name in names]
    yield Table(("class", *called), rows)


def _of_class(result: Result, name: str) -> figures.Point | None:
    share = result.found.by_class.get(name)
    return None if share is None else (share, share, share)


def _share(share: float | None) -> str | Cell:
    return "–" if share is None else Cell(f"{share:.1%}", share)
