"""Worker processes: each does one job at a time, and what goes wrong in it costs that job alone.

A worker has a pipe of its own and shares no lock with another, so it may die or be killed at any moment. One that
dies before it has started its job has cost nothing: another one takes the job, for as long as any begin.
"""

from __future__ import annotations

import itertools
import math
import multiprocessing
import os
import threading
import time
import traceback
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from multiprocessing import resource_tracker
from multiprocessing.connection import Connection, wait
from typing import Generic, Protocol, Self, TypeVar

from amefu_cli.errors import AmefuError, VideoError, shown
from amefu_cli.interruption import HeldSignals, interrupts_blocked

CONTEXT = multiprocessing.get_context("spawn")
LOOK_EVERY = 0.1  # seconds
LOST_IN_A_ROW = 3  # for each worker that there may be


class WorkerCrash(VideoError):
    """The decoder crashed its process, or the process was killed."""


class WorkerTimeout(VideoError):
    """The video was not finished in the time allowed (--timeout)."""


class WorkerFault(VideoError):
    """Decoding raised what nobody foresaw, or memory was short."""


class Named(Protocol):
    """A job with a name for messages."""

    @property
    def name(self) -> str: ...


AnyJob = TypeVar("AnyJob", bound=Named)
Message = tuple[bool, Exception | None]
"""Of a worker: whether it begins its job; else what that failed with, if it did."""


class WorkerPool(Generic[AnyJob]):
    """A context in which workers do jobs. Call `fill` and `ended` in turns until `fill` finds nothing more to do."""

    def __init__(
        self, work: Callable[[AnyJob], None], jobs: Iterable[AnyJob], *, processes: int, timeout: float
    ) -> None:
        self._work, self._jobs, self._processes, self._timeout = work, iter(jobs), processes, timeout
        self._workers: list[_Worker[AnyJob]] = []
        self._lost = 0  # workers in a row that began nothing
        resource_tracker.ensure_running()  # which in some Pythons takes blocked signals off the mask

    def fill(self) -> bool:
        """Start workers for jobs that wait; whether any worker is at work."""
        while len(self._workers) < self._processes and (job := next(self._jobs, None)) is not None:
            with HeldSignals(), interrupts_blocked():  # the run ends its workers, not Ctrl-C, which reaches them too
                self._workers.append(_Worker(self._work, job))
        return bool(self._workers)

    def ended(self) -> Iterator[tuple[AnyJob, VideoError | None]]:
        """The jobs that end in the next moment, each with what it failed with, if it did.

        Raises:
            AmefuError, OSError: what a worker met concerns the whole run; workers die before they begin.
        """
        ready = wait([worker.connection for worker in self._workers], LOOK_EVERY)
        for worker in self._workers.copy():
            job = worker.job
            if worker.connection in ready:
                try:
                    is_start, error = worker.receive(self._timeout)
                except (EOFError, OSError):
                    exit_code = self._remove(worker)
                    if worker.has_started:
                        yield job, WorkerCrash(f"`{job.name}` ended its worker process (exit code {exit_code})")
                    else:
                        self._put_back(job, exit_code)
                    continue
                self._lost = 0
                if is_start:
                    continue
                self._go_on(worker)
                if error is not None and not isinstance(error, VideoError):
                    raise error
                yield job, error
            elif time.monotonic() > worker.deadline:
                self._remove(worker)
                yield job, WorkerTimeout(f"`{job.name}` was not decoded in {self._timeout:g} s; raise --timeout")

    def _go_on(self, worker: _Worker[AnyJob]) -> None:
        job = next(self._jobs, None)
        if job is None:
            self._remove(worker)
        else:
            worker.give(job)

    def _put_back(self, job: AnyJob, exit_code: int | None) -> None:
        self._jobs = itertools.chain([job], self._jobs)
        self._lost += 1
        if self._lost > LOST_IN_A_ROW * self._processes:
            raise AmefuError(
                f"{self._lost} worker processes in a row ended before they began a job (the last with exit code "
                f"{exit_code}); where memory is short, fewer at a time may do: --jobs"
            )

    def _remove(self, worker: _Worker[AnyJob]) -> int | None:
        self._workers.remove(worker)
        return worker.end()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        for worker in self._workers:
            worker.end()


class _Worker(Generic[AnyJob]):
    """One process, the job that it has been given, and by when it is to have done it."""

    def __init__(self, work: Callable[[AnyJob], None], job: AnyJob) -> None:
        self.connection, theirs = CONTEXT.Pipe()
        self._process = CONTEXT.Process(target=_work, args=(theirs, work), daemon=True)
        self._process.start()
        theirs.close()
        self.give(job)

    def give(self, job: AnyJob) -> None:
        self.job, self.deadline, self.has_started = job, math.inf, False
        with suppress(BrokenPipeError):  # it has died: `receive` is told so
            self.connection.send(job)

    def receive(self, timeout: float) -> Message:
        """What the worker says; from where it begins its job, its time counts.

        Raises:
            EOFError, OSError: the worker has died.
        """
        is_start, error = self.connection.recv()
        if is_start:
            self.has_started, self.deadline = True, time.monotonic() + timeout
        return is_start, error

    def end(self) -> int | None:
        """Kill the process, where it has not ended by itself; returns its exit code."""
        self._process.kill()
        self._process.join()
        self.connection.close()
        return self._process.exitcode


def _work(connection: Connection, work: Callable[[AnyJob], None]) -> None:
    """In a worker: do the jobs that come, until the run ends this process."""
    _end_with_parent()
    with suppress(EOFError, OSError):  # the run has died
        while True:
            job: AnyJob = connection.recv()
            connection.send((True, None))
            connection.send((False, _error_of(work, job)))


def _error_of(work: Callable[[AnyJob], None], job: AnyJob) -> Exception | None:
    try:
        work(job)
    except (AmefuError, OSError) as error:
        return error
    except Exception as error:
        said = traceback.format_exception_only(error)[-1].strip()
        return WorkerFault(f"`{job.name}` cannot be decoded: {shown(said)}")
    return None


def _end_with_parent() -> None:
    """In a worker: end at once when the run has died (kill -9, a second Ctrl-C), whatever clip is being decoded."""

    def watch() -> None:
        parent = multiprocessing.parent_process()
        assert parent is not None
        parent.join()
        os._exit(1)

    threading.Thread(target=watch, name="watch-parent", daemon=True).start()


def usable_cores() -> int:
    """On how many cores this process may run."""
    if hasattr(os, "sched_getaffinity"):  # Linux
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1
