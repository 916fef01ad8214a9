"""`amefu compare A.json B.json …`: is B better than A, and does the evidence carry it?"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from amefu_cli.commands.console import show, warn
from amefu_cli.commands.options import Session, command
from amefu_cli.errors import UsageError

MARK = "≈"  # stands before a difference that its interval does not carry


@command
def compare(
    session: Session,
    results: Annotated[
        list[Path], typer.Argument(metavar="A.json B.json …", help="results; the first is compared with")
    ],
    by_class: Annotated[
        bool, typer.Option("--by-class", help="let the interval account for the choice of novel classes too")
    ] = False,
) -> None:
    """Compare results with the first one: differences of accuracy with their 95% intervals.

    Results of the same episodes are compared episode by episode; others are not, which is said. ≈ marks a
    difference that its interval does not carry.

    Example: amefu compare results/rgb.json results/amefu.json
    """
    from amefu_cli.artefacts.files.results import open_result
    from amefu_cli.stages.compare import compare as difference_of

    if len(results) < 2:
        raise UsageError("a comparison needs two results or more: amefu compare A.json B.json")
    documents = [open_result(path) for path in results]
    first = documents[0]
    rows = [["", "accuracy", f"less {results[0].name}", "95% interval", "episodes"]]
    rows.append([_title(results[0], first), _accuracy(first), "", "", ""])
    compared = []
    for path, result in zip(results[1:], documents[1:], strict=True):
        _warn_of_settings(results[0], first, path, result)
        found = difference_of(first, result, paths=(results[0], path), by_class=by_class)
        if not found.paired:
            warn(f"{path} and {results[0]} are not of the same episodes: their difference is not paired")
        compared.append(as_document(found, path))
        interval = f"{signed(found.deciding.low)} to {signed(found.deciding.high)}"
        pairing = "the same" if found.paired else "others"
        rows.append([_title(path, result), _accuracy(result), marked(found), interval, pairing])
    over = "episodes and novel classes" if by_class else "episodes"
    document = {"reference": str(results[0]), "interval_over": over, "compared": compared}
    show(document, as_json=session.json, title=f"95% intervals over {over}; {MARK}: not carried", rows=rows)


def as_document(found: Any, path: Path) -> dict[str, Any]:
    """A comparison as plain values."""
    intervals = {"over_episodes_95": found.over_episodes, "by_class_95": found.by_class}
    return {
        "result": str(path),
        "paired": found.paired,
        "difference": found.over_episodes.value,
        **{name: [interval.low, interval.high] for name, interval in intervals.items() if interval is not None},
        "carried": found.deciding.carried,
    }


def marked(found: Any) -> str:
    """The difference in points, with a mark before it where its interval holds 0."""
    return ("" if found.deciding.carried else MARK + " ") + signed(found.deciding.value)


def signed(share: float) -> str:
    """A difference of accuracies (-1..1) in points: `+1.25`, `−0.40`."""
    return f"{100 * share:+.2f}".replace("-", "−")


def _accuracy(result: dict[str, Any]) -> str:
    return f"{result['accuracy']:.2%} ± {result['half_width_95']:.2%}"


def _title(path: Path, result: dict[str, Any]) -> str:
    return f"{path.name} ({result['model']}, {result['way']}-way {result['shot']}-shot)"


def _warn_of_settings(one: Path, first: dict[str, Any], other: Path, second: dict[str, Any]) -> None:
    names = [name for name in ("way", "shot", "queries") if first[name] != second[name]]
    if names:
        differing = ", ".join(f"{name} {first[name]} and {second[name]}" for name in names)
        warn(f"{one} and {other} are of different tasks ({differing})")
