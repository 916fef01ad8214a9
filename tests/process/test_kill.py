"""Kills: nothing done is lost, nothing half done counts, and the same command finishes the work.

At every call that changes the disk, once: a command is run in a forked child that ends itself at the n-th of them (in
the middle, where it is a write), for every n. And some at random moments, of real processes with their workers.
"""

from __future__ import annotations

import builtins
import functools
import io
import json
import multiprocessing
import os
import pkgutil
import random
import re
import shutil
import signal
import sys
import traceback
from collections.abc import Callable
from contextlib import redirect_stdout
from multiprocessing.process import BaseProcess
from pathlib import Path
from time import monotonic
from typing import Any

import numpy as np
import pytest
import typer.main
from conftest import CONFIG, RunAmefu, lay_clips, tree
from small_stores import begin, frames_header
from synthetic_features import make_workspace

import amefu_cli
from amefu_cli.artefacts.stores.check import verify_store
from amefu_cli.artefacts.stores.header import HEADER, STAGING, read_header
from amefu_cli.artefacts.stores.store import VideoStore
from amefu_cli.artefacts.videos.find import find_clips
from amefu_cli.artefacts.weights.checkpoint import read_checkpoint
from amefu_cli.commands.app import app

pytestmark = pytest.mark.slow

CONTEXT = multiprocessing.get_context("forkserver")
MODULES = [
    found.name for found in pkgutil.walk_packages(amefu_cli.__path__, "amefu_cli.") if "__main__" not in found.name
]
CONTEXT.set_forkserver_preload([*MODULES, "torchvision.models", __name__])
CALLS = ("fsync", "replace", "rename", "unlink", "remove", "link", "mkdir", "rmdir", "truncate", "ftruncate")
WRITES = ("write", "pwrite")
NEVER = 1 << 30
PRIVATE = re.compile(r"[0-9a-f]{32}")  # in the names of files that nobody reads


class DiskCalls:
    """Counts the calls of this process that change the disk, and ends it at the `last`."""

    def __init__(self, last: int) -> None:
        self._last, self.count = last, 0

    def step(self, finish: Callable[[], object] = lambda: None) -> None:
        self.count += 1
        if self.count == self._last:
            finish()
            os.kill(os.getpid(), signal.SIGKILL)

    def watch(self) -> None:
        """From here on: what goes through `os`, and files that are opened to be written."""
        for name in CALLS:
            setattr(os, name, functools.partial(self._call, getattr(os, name)))
        for name in WRITES:
            setattr(os, name, functools.partial(self._write, getattr(os, name)))
        os.open = functools.partial(self._open_descriptor, os.open)
        io.open = builtins.open = functools.partial(self._open, io.open)

    def _call(self, call: Callable[..., Any], *words: Any, **named: Any) -> Any:
        self.step()
        return call(*words, **named)

    def _write(self, call: Callable[..., Any], descriptor: int, content: Any, *words: Any) -> Any:
        self.step(lambda: call(descriptor, memoryview(content)[: len(content) // 2], *words))
        return call(descriptor, content, *words)

    def _open_descriptor(self, call: Callable[..., int], path: Any, flags: int, *words: Any, **named: Any) -> int:
        if flags & os.O_CREAT:
            self.step()
        return call(path, flags, *words, **named)

    def _open(self, call: Callable[..., Any], path: Any, mode: str = "r", *words: Any, **named: Any) -> Any:
        if mode not in ("wb", "ab", "xb", "r+b"):
            return call(path, mode, *words, **named)
        self.step()
        calls = self

        class Counted(io.FileIO):
            def write(self, content: Any) -> int | None:  # type: ignore[override]
                calls.step(lambda: super(Counted, self).write(memoryview(content)[: len(content) // 2]))
                return super().write(content)

        return io.BufferedWriter(Counted(path, mode.replace("b", "")))  # type: ignore[arg-type]


def amefu(*words: str) -> None:
    """One command, in this process."""
    import torch

    from amefu_cli import cli
    from amefu_cli.stages import training

    torch.set_num_threads(1)
    training.SNAPSHOT_SECONDS = 0.0  # a snapshot after every step
    sys.argv = ["amefu", *words]
    try:
        cli.main()
    except SystemExit as end:
        if end.code:
            raise


def warm_up(folder: Path) -> None:
    """Have all loaded that commands load when they are first called, so that children need not."""
    with open(os.devnull, "w") as nothing, redirect_stdout(nothing):
        typer.main.get_command(app).main(["status", "--workspace", str(folder)], standalone_mode=False)


def frames_in_this_process(clips: str, out: str) -> None:
    """What the workers of `amefu frames` do, in one process."""
    from amefu_cli.stages import ClipJob, frames

    with begin(Path(out), frames_header()) as store:
        for clip in find_clips(Path(clips), follow_links=False).clips:
            made_from = {"size": clip.size}
            if not store.is_done(store.record(clip.id), made_from):
                frames.extract_clip(store.path, ClipJob(clip, made_from), allow_partial=False)
        frames._store(store.path).close()  # as when the worker has ended


RUNS: dict[str, Callable[..., None]] = {"amefu": amefu, "frames": frames_in_this_process}


def _forked(log: Path, last: int, run: str, words: tuple[str, ...]) -> tuple[int, int]:
    """Run in a child of this process that ends at its `last` call; returns its exit code and how many calls it did."""
    ours, theirs = os.pipe()
    pid = os.fork()
    if not pid:
        status = 1
        try:
            with log.open("ab") as file:
                os.dup2(file.fileno(), sys.stdout.fileno())
                os.dup2(file.fileno(), sys.stderr.fileno())
            calls, write = DiskCalls(last), os.write
            calls.watch()
            RUNS[run](*words)
            write(theirs, str(calls.count).encode())
            status = 0
        except BaseException:
            traceback.print_exc()
            sys.stderr.flush()
        finally:
            os._exit(status)
    os.close(theirs)
    _, status = os.waitpid(pid, 0)
    with os.fdopen(ours, "rb") as pipe:
        return os.waitstatus_to_exitcode(status), int(pipe.read() or 0)


def _kill_everywhere(folder: Path, run: str, words: tuple[str, ...], made: Path, kind: str) -> None:
    """In a process of its own: every kill of a command that makes `made`, compared with an undisturbed run."""
    log = folder / "log.txt"
    warm_up(folder)
    check = StoreCheck(made, made) if kind == "store" else TrainingCheck(made, made.parent)
    code, total = _forked(log, NEVER, run, words)
    assert code == 0, log.read_text()[-3000:]
    assert total > 20
    check.remember()
    for last in range(1, total + 1):
        check.clear()
        code, _ = _forked(log, last, run, words)
        assert code in (0, -signal.SIGKILL), f"at call {last}\n{log.read_text()[-3000:]}"
        check.after_kill()
        if check.is_new():
            code, _ = _forked(log, NEVER, run, words)
            assert code == 0, f"after a kill at call {last}\n{log.read_text()[-3000:]}"
            check.after_end()


class Check:
    """What holds of a store or checkpoint after a kill, and after a run that came to its end."""

    def __init__(self, path: Path, root: Path) -> None:
        self._path, self._root = path, root
        self._seen: set[frozenset[tuple[str, bytes]]] = set()

    def clear(self) -> None:
        shutil.rmtree(self._root, ignore_errors=True)

    def is_new(self) -> bool:
        """Whether no kill has left the same files before, but for the bytes and random names of those nobody reads."""
        left = set()
        for path in self._root.rglob("*"):
            name = PRIVATE.sub("*", str(path.relative_to(self._root)))
            left.add((name, path.read_bytes() if path.is_file() and "*" not in name else b""))
        new = frozenset(left) not in self._seen
        self._seen.add(frozenset(left))
        return new


class StoreCheck(Check):
    """Of a store: it holds nothing but what it is to hold, and in the end all of it."""

    def remember(self) -> None:
        self.expect(self._path)

    def expect(self, reference: Path) -> None:
        self._expected = tree(reference)

    def after_kill(self) -> None:
        found = {name: content for name, content in tree(self._path).items() if not name.startswith(STAGING)}
        if header := found.pop(HEADER, None):  # its notes (the weights' licence, say) may still have been to come
            wanted = json.loads(self._expected[HEADER])["attributes"]["amefu"]
            assert {**wanted, **json.loads(header)["attributes"]["amefu"], "notes": wanted["notes"]} == wanted
        assert found.items() <= self._expected.items()

    def after_end(self) -> None:
        assert tree(self._path) == self._expected
        assert not (self._path / STAGING).exists()
        header = read_header(self._path)
        assert header is not None
        store: VideoStore[Any] = VideoStore(self._path, header)
        assert verify_store(store, progress=lambda *_: None).damaged == {}


class TrainingCheck(Check):
    """Of a checkpoint in a folder of its own: it is not there or whole, and in the end nothing else is."""

    def remember(self) -> None:
        self._expected = read_checkpoint(self._path)
        self._files = sorted(path.name for path in self._path.parent.iterdir())

    def after_kill(self) -> None:
        if self._path.exists():
            self._same(read_checkpoint(self._path))

    def after_end(self) -> None:
        self._same(read_checkpoint(self._path))
        assert sorted(path.name for path in self._path.parent.iterdir()) == self._files

    def _same(self, found: Any) -> None:
        assert found.keys() == self._expected.keys()
        for name, tensor in self._expected.items():
            np.testing.assert_array_equal(found[name], tensor)


@pytest.fixture(scope="module")
def small_workspace(tmp_path_factory: pytest.TempPathFactory, run_amefu: RunAmefu) -> Path:
    """Frames and disparity of two short clips, one of a base and one of a novel class."""
    folder = tmp_path_factory.mktemp("small")
    lay_clips(folder / "videos", ("bow", "spin"), clips=1, frames=6, size=32)
    (folder / "amefu.toml").write_text(CONFIG)
    (folder / "split.json").write_text(json.dumps({"train": ["bow"], "val": [], "test": ["spin"]}))
    run_amefu("depth", folder / "videos", "--workspace", folder)
    return folder


def kill_everywhere(folder: Path, run: str, *words: str | Path, made: Path, kind: str = "store") -> None:
    process = CONTEXT.Process(
        target=_kill_everywhere, args=(folder, run, tuple(map(str, words)), made, kind), daemon=True
    )
    process.start()
    process.join()
    assert process.exitcode == 0, (folder / "log.txt").read_text()[-3000:]


def test_frames_killed_at_every_call(tmp_path: Path, small_workspace: Path) -> None:
    store = tmp_path / "frames.zarr"
    kill_everywhere(tmp_path, "frames", small_workspace / "videos", store, made=store)


@pytest.mark.parametrize("stage", ["depth", "features"])
def test_depth_and_features_killed_at_every_call(tmp_path: Path, small_workspace: Path, stage: str) -> None:
    store = tmp_path / f"{stage}.zarr"
    words = (stage, "--no-upstream", "--workspace", small_workspace, "--out", store)
    kill_everywhere(tmp_path, "amefu", *words, made=store)


def test_pretraining_killed_at_every_call(tmp_path: Path, small_workspace: Path) -> None:
    out = tmp_path / "again" / "rgb.safetensors"
    words = ("pretrain", "--modality", "rgb", "--epochs", "2", "--no-upstream", "--workspace", small_workspace)
    kill_everywhere(tmp_path, "amefu", *words, "--out", out, made=out, kind="training")


def test_meta_training_killed_at_every_call(tmp_path: Path) -> None:
    workspace, out = make_workspace(tmp_path / "work"), tmp_path / "again" / "fusion.safetensors"
    words = ("meta-train", "--epochs", "2", "--episodes", "2", "--no-upstream", "--workspace", workspace)
    kill_everywhere(tmp_path, "amefu", *words, "--out", out, made=out, kind="training")


def _child(words: tuple[str, ...], log: Path) -> None:
    os.setsid()
    with log.open("ab") as file:
        os.dup2(file.fileno(), sys.stdout.fileno())
        os.dup2(file.fileno(), sys.stderr.fileno())
    amefu(*words)


def start(log: Path, *words: str | Path) -> BaseProcess:
    """A command, with its workers in a process group of its own."""
    process = CONTEXT.Process(target=_child, args=(tuple(map(str, words)), log))
    process.start()
    return process


def finish(process: BaseProcess, log: Path) -> None:
    process.join()
    assert process.exitcode == 0, log.read_text()[-2000:]


def kill_group(process: BaseProcess) -> None:
    """SIGKILL a command and its workers."""
    assert process.pid is not None
    try:
        os.killpg(process.pid, signal.SIGKILL)
    except ProcessLookupError:  # it has just started, and has no workers yet, or has just ended
        process.kill()
    process.join()


@pytest.fixture(scope="module")
def clips(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("clips")
    lay_clips(folder, ("jump", "spin"), clips=4, frames=24, size=32)
    return folder


def test_frames_and_its_workers_killed_at_random(tmp_path: Path, clips: Path) -> None:
    rng, log = random.Random(20201009), tmp_path / "log.txt"
    words = ("frames", clips, "--size", "32", "--jobs", "2", "--out")
    began = monotonic()
    finish(start(log, *words, tmp_path / "reference.zarr"), log)
    seconds = monotonic() - began
    store = tmp_path / "frames.zarr"
    check = StoreCheck(store, store)
    check.expect(tmp_path / "reference.zarr")
    for _ in range(4):
        process = start(log, *words, store)
        process.join(rng.uniform(0.4, 1.0) * seconds)
        kill_group(process)
        check.after_kill()
    finish(start(log, *words, store), log)
    check.after_end()


def test_the_same_command_twice_at_once_of_which_one_is_killed(tmp_path: Path, clips: Path) -> None:
    """What the dead one staged is swept; what the live one stages is left alone."""
    rng, log = random.Random(7), tmp_path / "log.txt"
    words = ("frames", clips, "--size", "32", "--jobs", "1", "--out")
    began = monotonic()
    finish(start(log, *words, tmp_path / "reference.zarr"), log)
    seconds = monotonic() - began
    store = tmp_path / "frames.zarr"
    living, dying = start(log, *words, store), start(log, *words, store)
    dying.join(rng.uniform(0.6, 0.9) * seconds)
    kill_group(dying)
    third = start(log, *words, store)  # sweeps while the first still works
    finish(living, log)
    finish(third, log)
    finish(start(log, *words, store), log)
    check = StoreCheck(store, store)
    check.expect(tmp_path / "reference.zarr")
    check.after_end()
