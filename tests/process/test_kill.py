"""SIGKILL at random moments: nothing done is lost, nothing half done counts, and the same command finishes the work.

The commands run as real processes, each with its workers in a process group of its own. They are forked from a server
that has imported everything once, so that sixty kills cost a minute.
"""

from __future__ import annotations

import json
import multiprocessing
import os
import random
import shutil
import signal
import sys
from collections.abc import Callable, Iterator
from multiprocessing.process import BaseProcess
from pathlib import Path
from time import monotonic

import numpy as np
import pytest
from conftest import lay_clips, tree

from amefu_cli.artefacts.stores.header import HEADER, STAGING
from amefu_cli.artefacts.weights.checkpoint import read_checkpoint

pytestmark = pytest.mark.slow

CONTEXT = multiprocessing.get_context("forkserver")
CONTEXT.set_forkserver_preload(
    ["amefu_cli.commands.app", "amefu_cli.stages.frames", "amefu_cli.stages.depth", "amefu_cli.stages.features",
     "amefu_cli.stages.pretrain", "amefu_cli.stages.meta_train", "torchvision.models", __name__]
)  # fmt: skip


def _child(words: tuple[str, ...], log: Path) -> None:
    import torch

    from amefu_cli import cli
    from amefu_cli.stages import training as training_loop

    os.setsid()
    with log.open("ab") as file:
        os.dup2(file.fileno(), sys.stdout.fileno())
        os.dup2(file.fileno(), sys.stderr.fileno())
    torch.set_num_threads(1)
    training_loop.SNAPSHOT_SECONDS = 0.02  # so that most kills fall after a snapshot
    sys.argv = ["amefu", *words]
    cli.main()


def kill_group(process: BaseProcess) -> None:
    """SIGKILL a command and its workers."""
    assert process.pid is not None
    try:
        os.killpg(process.pid, signal.SIGKILL)
    except ProcessLookupError:  # it has just started, and has no workers yet, or has just ended
        process.kill()
    process.join()


class Amefu:
    """Starts one command again and again."""

    def __init__(self, folder: Path, *words: str | Path) -> None:
        self._words, self._log = tuple(map(str, words)), folder / "log.txt"

    def start(self) -> BaseProcess:
        process = CONTEXT.Process(target=_child, args=(self._words, self._log))
        process.start()
        return process

    def finish(self) -> float:
        """Run to the end; returns the seconds that it took."""
        began, process = monotonic(), self.start()
        process.join()
        self.expect_success(process)
        return monotonic() - began

    def expect_success(self, process: BaseProcess) -> None:
        assert process.exitcode == 0, f"{self._words}\n{self._log.read_text()[-2000:]}"

    def kill_often(
        self, kills: int, seconds: float, rng: random.Random, *, after_kill: Callable[[], None],
        after_end: Callable[[], None],
    ) -> None:  # fmt: skip
        """Kill so many runs, each at a random moment of `seconds`; what one began the next goes on with."""
        while kills:
            process = self.start()
            process.join(rng.uniform(0.25, 1.0) * seconds)
            if process.is_alive():
                kill_group(process)
                kills -= 1
                after_kill()
            else:
                self.expect_success(process)
                self.finish()  # changes nothing
                after_end()


@pytest.fixture
def rng() -> random.Random:
    return random.Random(20201009)


@pytest.fixture(scope="module")
def clips(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    folder = tmp_path_factory.mktemp("clips")
    lay_clips(folder, ("jump", "spin"), clips=6, frames=24, size=32)
    Amefu(folder, "status", "--workspace", folder).finish()  # the server has imported everything from here on
    yield folder
    shutil.rmtree(folder)


def store_checks(store: Path, reference: Path) -> tuple[Callable[[], None], Callable[[], None]]:
    """What holds of a store after a kill, and after a run that came to its end (which also empties it again)."""
    expected = tree(reference)

    def after_kill() -> None:
        found = {name: content for name, content in tree(store).items() if not name.startswith(STAGING)}
        if header := found.pop(HEADER, None):  # its notes (the weights' licence, say) may still have been to come
            wanted = json.loads(expected[HEADER])["attributes"]["amefu"]
            assert {**wanted, **json.loads(header)["attributes"]["amefu"], "notes": wanted["notes"]} == wanted
        assert found.items() <= expected.items()

    def after_end() -> None:
        assert tree(store) == expected
        assert not (store / STAGING).exists()
        shutil.rmtree(store)

    return after_kill, after_end


def test_frames(tmp_path: Path, clips: Path, rng: random.Random) -> None:
    def frames(store: Path) -> Amefu:
        return Amefu(tmp_path, "frames", clips, "--out", store, "--size", "32", "--jobs", "2")

    seconds = frames(tmp_path / "reference.zarr").finish()
    after_kill, after_end = store_checks(tmp_path / "frames.zarr", tmp_path / "reference.zarr")
    command = frames(tmp_path / "frames.zarr")
    command.kill_often(14, seconds, rng, after_kill=after_kill, after_end=after_end)
    command.finish()
    after_end()


@pytest.mark.parametrize("stage", ["depth", "features"])
@pytest.mark.usefixtures("clips")
def test_depth_and_features(workspace: Path, tmp_path: Path, rng: random.Random, stage: str) -> None:
    store = workspace / f"{stage}.zarr"
    reference = store.rename(tmp_path / "reference.zarr")
    command = Amefu(tmp_path, stage, "--no-upstream", "--workspace", workspace)
    seconds = command.finish()
    after_kill, after_end = store_checks(store, reference)
    after_end()
    command.kill_often(18, seconds, rng, after_kill=after_kill, after_end=after_end)
    command.finish()
    after_end()


@pytest.mark.parametrize(
    ("out", "words"),
    [
        ("rgb", ("pretrain", "--modality", "rgb", "--epochs", "3", "--videos-per-batch", "2")),
        ("fusion", ("meta-train", "--epochs", "3", "--episodes", "30")),
    ],
)
@pytest.mark.usefixtures("clips")
def test_a_training_goes_on_to_the_same_weights(
    workspace: Path, tmp_path: Path, rng: random.Random, out: str, words: tuple[str, ...]
) -> None:
    def training(path: Path) -> Amefu:
        return Amefu(tmp_path, *words, "--no-upstream", "--workspace", workspace, "--out", path)

    reference, path = tmp_path / "reference.safetensors", tmp_path / "again" / f"{out}.safetensors"
    seconds = training(reference).finish()
    expected = read_checkpoint(reference)

    def after_kill() -> None:
        assert not path.exists() or read_checkpoint(path).keys() == expected.keys()

    def after_end() -> None:
        found = read_checkpoint(path)
        assert found.keys() == expected.keys()
        for name, tensor in expected.items():
            np.testing.assert_array_equal(found[name], tensor)
        assert sorted(file.name for file in path.parent.iterdir()) == [f"{out}.metrics.jsonl", f"{out}.safetensors"]
        shutil.rmtree(path.parent)

    command = training(path)
    command.kill_often(5, seconds, rng, after_kill=after_kill, after_end=after_end)
    for _ in range(2):  # also a run that ended, but was killed before it had cleared up
        command.finish()
    after_end()


def test_the_same_command_twice_at_once_of_which_one_is_killed(tmp_path: Path, clips: Path, rng: random.Random) -> None:
    """What the dead one staged is swept; what the live one stages is left alone."""
    reference, store = tmp_path / "reference.zarr", tmp_path / "frames.zarr"
    seconds = Amefu(tmp_path, "frames", clips, "--out", reference, "--size", "32", "--jobs", "1").finish()
    command = Amefu(tmp_path, "frames", clips, "--out", store, "--size", "32", "--jobs", "1")
    living, dying = command.start(), command.start()
    dying.join(rng.uniform(0.6, 0.9) * seconds)
    kill_group(dying)
    third = command.start()  # sweeps while the first still works
    for process in (living, third):
        process.join()
    command.expect_success(living)
    command.expect_success(third)
    command.finish()
    assert tree(store) == tree(reference)
