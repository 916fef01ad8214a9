"""What a training leaves on disk while it runs: a snapshot to resume from, the best epoch so far, its metrics.

Beside `rgb.safetensors` stand, until it is finished, `rgb.snapshot.safetensors` and `rgb.best.safetensors`;
`rgb.metrics.jsonl` stays. (Of a result called `lr0.001` it is `lr0.001.snapshot.safetensors`.) All randomness of a
training is a function of (seed, epoch, step), so the position in the snapshot is its random state.
"""

from __future__ import annotations

import glob
import json
import os
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any, Generic, Self

from numpy.typing import NDArray

from amefu_cli.artefacts.files.atomic import acquire, release, sync, write_atomic
from amefu_cli.artefacts.weights import checkpoint
from amefu_cli.artefacts.weights.checkpoint import Tensors, read_header
from amefu_cli.artefacts.weights.headers import AnyCheckpoint, Kind, Position
from amefu_cli.errors import Interrupted, UsageError
from amefu_cli.interruption import HeldSignals

SUFFIX = ".safetensors"
State = Mapping[str, Tensors]  # tensors by group and name: {"model": {...}, "optimizer": {...}}


def beside(out: Path, ending: str) -> Path:
    """A file of the training of `out`: its whole name, dots and all, but for .safetensors, and an ending."""
    return out.with_name(out.name.removesuffix(SUFFIX) + ending)


def snapshot_path(out: Path) -> Path:
    """Where the snapshot of a training is, until it is finished."""
    return beside(out, f".snapshot{SUFFIX}")


def started_header(out: Path) -> AnyCheckpoint | None:
    """A training's header, from its result or else from its snapshot; None before it was started."""
    return read_header(out) or read_header(snapshot_path(out))


class TrainingRun(Generic[Kind]):
    """The files of one training whose result will be `out`. As a context it keeps other processes from them, and raises
    UsageError where another one trains the same checkpoint at this moment."""

    def __init__(self, out: Path, header: Kind) -> None:
        self.out = out
        self.header: Kind = header
        self._snapshot, self._best = snapshot_path(out), beside(out, f".best{SUFFIX}")
        self.metrics, self._lock = beside(out, ".metrics.jsonl"), beside(out, ".lock")
        self._descriptor: int | None = None

    def __enter__(self) -> Self:
        self.out.parent.mkdir(parents=True, exist_ok=True)
        try:
            with HeldSignals():  # which would otherwise leave the lock's file
                self._descriptor = acquire(self._lock)
        except Interrupted:
            self.__exit__()
            raise
        if self._descriptor is None:
            raise UsageError(f"{self.out}: another process is training it; wait for it, or choose another --out")
        of_any = glob.escape(self.out.name.removesuffix(SUFFIX))
        for leftover in self.out.parent.glob(f".{of_any}.*.tmp"):  # of a writer that was killed
            leftover.unlink(missing_ok=True)
        return self

    def __exit__(self, *_: object) -> None:
        if self._descriptor is not None:
            release(self._lock, self._descriptor)

    def is_finished(self) -> bool:
        """Whether the result is there; then nothing else is, even if the run that made it was killed at its very end.
        Raises SettingsMismatch where what is there, a result or before there is one a snapshot, is of other settings or
        of other data."""
        if not checkpoint.is_finished(self.out, self.header):
            checkpoint.is_finished(self._snapshot, self.header, done="started")
            return False
        if any(path.exists() for path in (self._snapshot, self._best, self._lock)):
            with suppress(UsageError):  # unless another process ends at this moment
                self._drop(self._snapshot, self._best)
        return True

    def position(self) -> Position | None:
        """Where this very training goes on from; None where it starts at the beginning."""
        found = read_header(self._snapshot)
        if found is None or found.compared() != self.header.compared():
            return None
        position = found.notes.position
        ended = position and position.best_epoch >= 0 and not self._best.exists()  # killed just after `finish` took it
        return None if ended else position

    def resumption(self) -> str:
        """The end of a line that says what is trained: where this very training goes on, if it has started."""
        position = self.position()
        return f"; goes on after step {position.step} of epoch {position.epoch + 1}" if position else ""

    def resume(self) -> tuple[State, Position] | None:
        """The state and position to go on from; None where there is no snapshot of this very training."""
        if (position := self.position()) is None:
            return None
        groups: dict[str, dict[str, NDArray[Any]]] = {}
        for name, tensor in checkpoint.read_checkpoint(self._snapshot).items():
            group, _, rest = name.partition("/")
            groups.setdefault(group, {})[rest] = tensor
        return groups, position

    def save(self, state: State, position: Position) -> None:
        """Replace the snapshot."""
        tensors = {f"{group}/{name}": tensor for group, named in state.items() for name, tensor in named.items()}
        self._write(self._snapshot, tensors, position=position)

    def keep_best(self, tensors: Tensors, figures: Mapping[str, Any]) -> None:
        """Keep this epoch as the best so far; its `figures` are noted in the fields of that name."""
        self._write(self._best, tensors, **figures)

    def _write(self, path: Path, tensors: Tensors, **noted: Any) -> None:
        checkpoint.write_checkpoint(path, tensors, replace(self.header, notes=replace(self.header.notes, **noted)))

    def finish(self) -> None:
        """Make the best epoch the result, and drop the snapshot."""
        os.replace(self._best, self.out)
        sync(self.out.parent)
        self._snapshot.unlink(missing_ok=True)

    def discard(self) -> None:
        """Forget the snapshot and the metrics, not the result. Raises UsageError while another process makes them."""
        self._drop(self._snapshot, self._best, self.metrics)

    def _drop(self, *paths: Path) -> None:
        with self:
            for path in paths:
                path.unlink(missing_ok=True)

    def start_over(self) -> None:
        """Forget a training that was interrupted, as --rebuild does; the result stays until `finish` replaces it. A
        snapshot beside a result is of a --rebuild that was itself interrupted: that one goes on."""
        if not self.out.exists():
            self.discard()

    def record(self, epoch: int, numbers: Mapping[str, Any]) -> None:
        """One line of metrics; a line of this epoch or a later one, from before a kill, is replaced."""
        lines = []
        if self.metrics.exists():
            lines = [line for line in self.metrics.read_text().splitlines() if _epoch_of(line) < epoch]
        lines.append(json.dumps({"epoch": epoch, **numbers}, default=asdict))
        write_atomic(self.metrics, ("\n".join(lines) + "\n").encode())


def _epoch_of(line: str) -> float:
    try:
        return float(json.loads(line)["epoch"])
    except (ValueError, KeyError, TypeError):
        return float("inf")
