"""`amefu status`: what the workspace holds."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any

import typer

from amefu_cli.commands.console import show
from amefu_cli.commands.options import Session, command

TELLING = ("size", "estimator", "backbone", "stride", "views", "precision", "fusion", "num_aug", "epochs", "seed")


@command
def status(
    session: Session,
    failed: Annotated[bool, typer.Option("--failed", help="list the videos that failed, with their errors")] = False,
) -> None:
    """Show the stores with their videos done, failed and missing, the checkpoints, and the results.

    Example: amefu status --failed
    """
    from amefu_cli.stages.status import describe

    document = describe(session.workspace)
    if failed:
        rows = [["video", "stage", "attempts", "error", "message"]]
        rows += [
            [item["video"], item["stage"], str(item["attempt"]), item["error"], item["message"]]
            for item in document["failed"]
        ]
        show({"failed": document["failed"]}, as_json=session.json, title="failed videos", rows=rows)
        return
    show(document, as_json=session.json, title=f"{session.workspace.folder}", rows=_rows(document))


def _rows(document: dict[str, Any]) -> list[list[str]]:
    rows = [["what", "state", "from"]]
    for store in document["stores"]:
        state = (
            f"{store['done']} done, {store['failed']} failed, {store['missing']} missing"
            if store["present"]
            else "not there"
        )
        rows.append([Path(store["path"]).name, state, _summary(store["recipe"])])
    for checkpoint in document["checkpoints"]:
        state = checkpoint["state"]
        rows.append([Path(checkpoint["path"]).name, state, _summary(checkpoint["recipe"])])
    for result in document["results"]:
        name = Path(result["path"]).name
        if result["accuracy"] is None:
            rows.append([name, "not a result", ""])
            continue
        accuracy = f"{result['accuracy']:.2%} ± {result['half_width_95']:.2%}"
        rows.append([name, accuracy, f"{result['model']}, {result['way']}-way {result['shot']}-shot"])
    return rows


def _summary(recipe: dict[str, Any]) -> str:
    """The few words that tell recipes apart; `--json` has them whole."""
    flat = dict(_leaves(recipe))
    return ", ".join(f"{name} {Path(str(flat[name])).name}" for name in TELLING if name in flat)


def _leaves(recipe: dict[str, Any]) -> Iterator[tuple[str, Any]]:
    for name, value in recipe.items():
        if isinstance(value, dict):
            yield from _leaves(value)
        else:
            yield name, value
