"""What a command says: the result to stdout, everything else to stderr."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

from rich.console import Console
from rich.markup import escape
from rich.table import Table

LOG_EVERY = 30.0  # seconds between two lines of progress where stderr is not a terminal

_errors = Console(stderr=True, highlight=False, soft_wrap=True)
_output = Console(highlight=False)


def printable(text: object) -> str:
    """`text` with control characters and bytes that are not UTF-8 escaped, so that no name reaches the terminal raw."""
    return "".join(
        character if character.isprintable() else character.encode("unicode_escape", "surrogatepass").decode()
        for character in str(text)
    )


def note(message: str) -> None:
    """One line of information."""
    _errors.print(escape(printable(message)), style="dim")


def warn(message: str) -> None:
    """One line that the user should not miss."""
    _errors.print(f"[yellow]warning:[/] {escape(printable(message))}")


def fail(message: str) -> None:
    """The last line of a run that did not succeed."""
    _errors.print(f"[red]error:[/] {escape(printable(message))}")


@contextmanager
def progress(what: str) -> Iterator[Any]:
    """A callable (done, total, item) that draws a bar on a terminal, or writes a line every 30 s elsewhere."""
    if _errors.is_terminal:
        yield from _bar(what)
    else:
        yield _log(what)


def _bar(what: str) -> Iterator[Any]:
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    columns = (
        TextColumn("{task.description:12}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn(),
        TextColumn("[dim]{task.fields[item]}"),
    )  # fmt: skip
    with Progress(*columns, console=_errors, transient=True) as bar:
        task = bar.add_task(what, total=None, item="")

        def report(done: int, total: int, item: str) -> None:
            bar.update(task, completed=done, total=total, item=escape(printable(item)[-60:]))

        yield report


def _log(what: str) -> Any:
    started = last = time.monotonic()

    def report(done: int, total: int, item: str) -> None:
        nonlocal last
        now = time.monotonic()
        if now - last >= LOG_EVERY:
            last = now
            remaining = (now - started) / max(done, 1) * (total - done)
            note(f"{what}: {done}/{total}, about {remaining:.0f} s to go ({item})")

    return report


def percent(share: float | None) -> str:
    """A share of 1 as a cell of a table; a dash where there is none."""
    return "-" if share is None else f"{share:.1%}"


def show(document: Mapping[str, Any], *, as_json: bool, title: str, rows: Sequence[Sequence[str]]) -> None:
    """The result: `document` as one JSON document, or `rows` (the first names the columns) as a table."""
    if as_json:
        sys.stdout.write(json.dumps(document, indent=2) + "\n")
        return
    table = Table(title=escape(title), title_justify="left")
    for position, name in enumerate(rows[0]):
        table.add_column(escape(name), justify="left" if position == 0 else "right", overflow="fold")
    for row in rows[1:]:
        table.add_row(*(escape(printable(cell)) for cell in row))
    _output.print(table)
