"""Worker processes, each of which does one task at a time: what goes wrong in it costs that task alone; and shares of
the tasks, so that the jobs of an array do them together.

A worker has a pipe of its own and shares no lock with another, so it may die or be killed at any moment. One that
dies before it has started its task has cost nothing: another one takes the task, for as long as any start.
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
from hashlib import sha256
from multiprocessing import resource_tracker
from multiprocessing.connection import Connection, wait
from typing import Generic, Protocol, TypeVar

from amefu_cli.errors import AmefuError, UsageError, VideoError, shown
from amefu_cli.interruption import HeldSignals, interrupts_blocked

CONTEXT = multiprocessing.get_context("spawn")
LOOK_EVERY = 0.1  # seconds
LOST_IN_A_ROW = 3  # for each worker that there may be


class WorkerCrash(VideoError):
    """The task crashed its process, or the process was killed."""


class WorkerTimeout(VideoError):
    """The task was not finished in the time allowed (--timeout)."""


class WorkerFault(VideoError):
    """The task raised what nobody foresaw, or memory was short."""


class Task(Protocol):
    """What a worker is given. It can be pickled, as what is made of it can."""

    @property
    def name(self) -> str:
        """What messages call it."""


AnyTask = TypeVar("AnyTask", bound=Task)
Result = TypeVar("Result")


class WorkerPool(Generic[AnyTask, Result]):
    """A context in which workers do tasks. Call `fill` and `ended` in turns until `fill` finds nothing more to do."""

    def __init__(
        self, work: Callable[[AnyTask], Result], tasks: Iterable[AnyTask], *, deed: str, processes: int, timeout: float
    ) -> None:
        """`work`, a function of a module, gives anything but None; `deed` says what it does to a task: "decoded"."""
        self._work, self._tasks, self._deed = work, iter(tasks), deed
        self._processes, self._timeout = processes, timeout
        self._workers: list[_Worker[AnyTask, Result]] = []
        self._lost = 0  # workers in a row that started nothing
        resource_tracker.ensure_running()  # which in some Pythons takes blocked signals off the mask

    def fill(self) -> bool:
        """Start workers for tasks that wait; whether any worker is at work."""
        while len(self._workers) < self._processes and (task := next(self._tasks, None)) is not None:
            with HeldSignals(), interrupts_blocked():  # the run ends its workers, not Ctrl-C, which reaches them too
                self._workers.append(_Worker(self._work, self._deed, task))
        return bool(self._workers)

    def ended(self) -> Iterator[tuple[AnyTask, Result | VideoError]]:
        """The tasks that end in the next moment, each with what it gave or failed with.

        Raises:
            AmefuError, OSError: what a worker met concerns the whole run; workers die before they start a task.
        """
        ready = wait([worker.connection for worker in self._workers], LOOK_EVERY)
        for worker in self._workers.copy():
            task, name = worker.task, shown(worker.task.name)
            if worker.connection in ready:
                try:
                    result = worker.receive(self._timeout)
                except (EOFError, OSError):
                    exit_code = self._remove(worker)
                    if worker.has_started:
                        yield task, WorkerCrash(f"`{name}` ended its worker process (exit code {exit_code})")
                    else:
                        self._put_back(task, exit_code)
                    continue
                self._lost = 0
                if result is None:
                    continue
                if (other := next(self._tasks, None)) is None:
                    self._remove(worker)
                else:
                    worker.give(other)
                if isinstance(result, Exception) and not isinstance(result, VideoError):
                    raise result
                yield task, result
            elif time.monotonic() > worker.deadline:
                self._remove(worker)
                yield task, WorkerTimeout(f"`{name}` was not {self._deed} in {self._timeout:g} s; raise --timeout")

    def _put_back(self, task: AnyTask, exit_code: int | None) -> None:
        self._tasks = itertools.chain([task], self._tasks)
        self._lost += 1
        if self._lost > LOST_IN_A_ROW * self._processes:
            raise AmefuError(
                f"{self._lost} worker processes in a row ended before they started a task (the last with exit code "
                f"{exit_code}); where memory is short, fewer at a time may do: --jobs"
            )

    def _remove(self, worker: _Worker[AnyTask, Result]) -> int | None:
        self._workers.remove(worker)
        return worker.end()

    def __enter__(self) -> WorkerPool[AnyTask, Result]:
        return self

    def __exit__(self, *_: object) -> None:
        for worker in self._workers:
            worker.end()


class _Worker(Generic[AnyTask, Result]):
    """One process, the task that it has been given, and by when it is to have done it."""

    def __init__(self, work: Callable[[AnyTask], Result], deed: str, task: AnyTask) -> None:
        self.connection, theirs = CONTEXT.Pipe()
        self._process = CONTEXT.Process(target=_do_tasks, args=(theirs, work, deed), daemon=True)
        self._process.start()
        theirs.close()
        self.give(task)

    def give(self, task: AnyTask) -> None:
        self.task, self.deadline, self.has_started = task, math.inf, False
        with suppress(BrokenPipeError):  # it has died: `receive` finds out
            self.connection.send(task)

    def receive(self, timeout: float) -> Result | Exception | None:
        """What the task gave; None where the worker says that it starts it, from which on its time counts.

        Raises:
            EOFError, OSError: the worker has died.
        """
        result: Result | Exception | None = self.connection.recv()
        if result is None:
            self.has_started, self.deadline = True, time.monotonic() + timeout
        return result

    def end(self) -> int | None:
        """Kill the process, where it has not ended by itself; returns its exit code."""
        self._process.kill()
        self._process.join()
        self.connection.close()
        return self._process.exitcode


def _do_tasks(connection: Connection, work: Callable[[AnyTask], Result], deed: str) -> None:
    """In a worker: do the tasks that come, until the run ends this process."""
    threading.Thread(target=_end_with_parent, name="watch-parent", daemon=True).start()
    with suppress(EOFError, OSError):  # the run has died
        while True:
            task: AnyTask = connection.recv()
            connection.send(None)
            connection.send(_result(work, deed, task))


def _result(work: Callable[[AnyTask], Result], deed: str, task: AnyTask) -> Result | Exception:
    try:
        return work(task)
    except (AmefuError, OSError) as error:
        return error
    except Exception as error:
        said = traceback.format_exception_only(error)[-1].strip()
        return WorkerFault(f"`{shown(task.name)}` cannot be {deed}: {shown(said)}")


def _end_with_parent() -> None:
    """In a worker: end at once when the run has died (kill -9, a second Ctrl-C), whatever it is doing."""
    parent = multiprocessing.parent_process()
    assert parent is not None
    parent.join()
    os._exit(1)


def usable_cores() -> int:
    """On how many cores this process may run."""
    if hasattr(os, "sched_getaffinity"):  # Linux
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


SLURM_TASK = "SLURM_ARRAY_TASK_ID"


def shard_of(video: str, count: int) -> int:
    """The share, of `count`, that a video belongs to: by its id alone, so that other videos do not move it."""
    digest = sha256(video.encode("utf-8", "surrogateescape")).digest()
    return int.from_bytes(digest[:8], "big") % count


def parse_shard(shard: str) -> tuple[int, int]:
    """`i/n` as (i, n); `none` as (0, 1); `auto` from SLURM's array task, if there is one.

    Raises:
        UsageError: not of this form, i not below n, or an array that does not start at 0 or has gaps.
    """
    if shard == "none" or (shard == "auto" and SLURM_TASK not in os.environ):
        return 0, 1
    if shard == "auto":
        first, last, tasks = (os.environ.get(f"SLURM_ARRAY_TASK_{name}", "") for name in ("MIN", "MAX", "COUNT"))
        if first not in ("", "0") or (last.isdigit() and tasks.isdigit() and int(last) != int(tasks) - 1):
            raise UsageError(
                f"SLURM's array has {tasks} tasks from {first} to {last}: "
                "submit it as 0-(n - 1), without gaps, or use --shard none"
            )
        shard = f"{os.environ[SLURM_TASK]}/{tasks}"
    try:
        index, count = (int(part) for part in shard.split("/"))
    except ValueError as error:
        raise UsageError(f"--shard {shard!r}: must be i/n, such as 0/4; auto; or none") from error
    if not 0 <= index < count:
        raise UsageError(f"--shard {shard}: i must be from 0 to n - 1")
    return index, count
