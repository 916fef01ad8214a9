"""What a command says: the result to stdout, everything else to stderr."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from amefu_cli.errors import shown
from amefu_cli.flows.session import Progress

LOG_EVERY = 30.0  # seconds between two lines of progress where stderr is not a terminal

_errors = Console(stderr=True, highlight=False, soft_wrap=True)
_output = Console(highlight=False)


def printable(text: object) -> str:
    """`text` so that no name reaches the terminal raw, nor as what rich would take for a style."""
    return escape(shown(str(text)))


def fail(message: str) -> None:
    """The last line of a run that did not succeed."""
    _errors.print(f"[red]error:[/] {printable(message)}")


class Terminal:
    """How flows say things: to stderr, progress as a bar on a terminal and as a line every 30 s elsewhere."""

    def note(self, message: str) -> None:
        """One line of information."""
        _errors.print(printable(message), style="dim")

    def warn(self, message: str) -> None:
        """One line that the user should not miss."""
        _errors.print(f"[yellow]warning:[/] {printable(message)}")

    @contextmanager
    def progress(self, what: str) -> Iterator[Progress]:
        """A callable (done, total, item)."""
        if _errors.is_terminal:
            with _bar(what) as report:
                yield report
        else:
            yield self._log(what)

    def _log(self, what: str) -> Progress:
        started = last = time.monotonic()

        def report(done: int, total: int, item: str) -> None:
            nonlocal last
            now = time.monotonic()
            if now - last >= LOG_EVERY:
                last = now
                remaining = (now - started) / max(done, 1) * (total - done)
                self.note(f"{what}: {done}/{total}, about {remaining:.0f} s to go ({item})")

        return report


@contextmanager
def _bar(what: str) -> Iterator[Progress]:
    from rich import progress

    columns = (
        progress.TextColumn("{task.description:12}"), progress.BarColumn(), progress.MofNCompleteColumn(),
        progress.TimeRemainingColumn(), progress.TextColumn("[dim]{task.fields[item]}"),
    )  # fmt: skip
    with progress.Progress(*columns, console=_errors, transient=True) as bar:
        task = bar.add_task(what, total=None, item="")
        yield lambda done, total, item: bar.update(task, completed=done, total=total, item=printable(item[-60:]))


def accuracy(share: float, half_width: float) -> str:
    """`74.10% ± 0.38%`."""
    return f"{share:.2%} ± {half_width:.2%}"


@dataclass(frozen=True)
class Answer:
    """How a command gives its result to stdout."""

    as_json: bool

    def show(self, document: Mapping[str, object], *, title: str, rows: Sequence[Sequence[str]] | None = None) -> None:
        """The result: `document` as one JSON document, or `rows` (the first names the columns) as a table.

        Without rows the document is the one row; its fractional numbers are shares.
        """
        if self.as_json:
            sys.stdout.write(json.dumps(document, indent=2) + "\n")
            return
        names, *cells = rows or ([name.replace("_", " ") for name in document], [*map(_cell, document.values())])
        table = Table(title=escape(title), title_justify="left")
        for name in names:
            table.add_column(escape(name), justify="right" if table.columns else "left", overflow="fold")
        for row in cells:
            table.add_row(*map(printable, row))
        _output.print(table)


def _cell(value: object) -> str:
    return "-" if value is None else f"{value:.1%}" if isinstance(value, float) else str(value)
