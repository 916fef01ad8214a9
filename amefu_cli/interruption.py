"""SIGINT and SIGTERM: the first unwinds the run, so that nothing is left torn; a second one ends it at once."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any

from amefu_cli.errors import Interrupted

_SIGNALS = (signal.SIGINT, signal.SIGTERM)


def unwind_on_signals() -> None:
    """From here on the first signal raises Interrupted, wherever the run is."""
    for number in _SIGNALS:
        signal.signal(number, _unwind)


def _unwind(number: int, _: FrameType | None) -> None:
    _end_at_the_next()
    raise Interrupted(number)


def _end_at_the_next() -> None:
    for number in _SIGNALS:
        signal.signal(number, lambda second, _: os._exit(128 + second))


class HeldSignals:
    """A context that holds the first signal back to its end, where it is raised: what runs in it is not torn.

    Work of many parts looks at `arrived` between two of them. A second signal ends the process at once. Raises
    Interrupted at the end, where a signal has arrived.
    """

    def __init__(self) -> None:
        self.arrived: int | None = None
        self._before: dict[int, Any] = {}

    def __enter__(self) -> HeldSignals:
        self._before = {number: signal.signal(number, self._hold) for number in _SIGNALS}
        return self

    def _hold(self, number: int, _: FrameType | None) -> None:
        _end_at_the_next()
        self.arrived = number

    def __exit__(self, *_: object) -> None:
        for number, handler in self._before.items():  # first, so that none arrives behind the look at `arrived`
            signal.signal(number, handler)
        if self.arrived is not None:
            _end_at_the_next()
            raise Interrupted(self.arrived)


@contextmanager
def interrupts_blocked() -> Iterator[None]:
    """A process that is started in this context never hears a Ctrl-C, not even while it is still importing."""
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
