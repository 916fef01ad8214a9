"""What several test files share: small clips, the command line as a user types it, and a finished tiny workspace."""

from __future__ import annotations

import atexit
import fcntl
import functools
import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import pytest
import typer.main
from hypothesis import HealthCheck, settings
from synthetic_features import make_workspace
from typer.testing import CliRunner, Result
from warm import Process, WarmPython

from amefu_cli.artefacts.files.workspace import Config, Workspace
from amefu_cli.commands.app import app
from amefu_cli.demo.clips import write_mp4
from amefu_cli.flows.session import Session
from amefu_cli.stages import Progress

# How fast a shared machine draws examples says nothing about the code.
settings.register_profile("shared", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("shared")

ROOT = Path(__file__).parents[1]
FIXTURES = ROOT / "tests" / "fixtures"
SHARED = ROOT.parent / "shared"  # data of the developers' machines, which no test may need

CLASSES = ("bow", "clap", "dive", "jump", "kick", "spin", "wave")
SPLIT = {"train": ["bow", "clap", "dive"], "val": ["jump", "kick"], "test": ["spin", "wave"]}
CONFIG = """
[frames]
size = 32
jobs = 1
[depth]
estimator = "tiny"
[pretrain]
backbone = "squeezenet1_1"
weights = "none"
crop = 32
epochs = 1
segments = 2
frames-per-segment = 2
[features]
backbone = "squeezenet1_1"
weights = "none"
crop = 32
views = 1
segments = 2
frames-per-segment = 2
[meta-train]
way = 2
queries = 1
epochs = 2
episodes = 5
validation-episodes = 10
[evaluate]
way = 2
episodes = 50
"""
Done = subprocess.CompletedProcess[str]
SINGLE_THREAD = dict.fromkeys(("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"), "1")


def pytest_configure() -> None:
    """Before a test file loads torch: two pytest processes whose threads wait for one another are ten times slower."""
    os.environ.update(SINGLE_THREAD)


@functools.cache
def commands() -> Mapping[tuple[str, ...], Any]:
    """Every command and group of commands by the words that type it, `amefu` itself by none."""
    found, waiting = {}, [((), typer.main.get_command(app))]
    while waiting:
        words, command = waiting.pop(0)
        found[words] = command
        waiting += [((*words, name), below) for name, below in getattr(command, "commands", {}).items()]
    return found


class Quiet:
    """Says nothing."""

    def note(self, message: str) -> None:
        pass

    warn = note

    @contextmanager
    def progress(self, what: str) -> Iterator[Progress]:
        yield lambda done, total, item: None


def quiet_session(folder: Path, **typed: Any) -> Session:
    """A session of a workspace without amefu.toml, for flows that are called directly."""
    return Session("test", Workspace(folder), Config(), Quiet(), **typed)


class MakeClips(Protocol):
    def __call__(
        self, folder: Path, classes: tuple[str, ...] = ..., clips: int = ..., frames: int = ..., size: int = ...
    ) -> list[Path]: ...


class RunAmefu(Protocol):
    def __call__(
        self, *words: str | Path, cwd: Path | None = None, code: int | None = ..., **environment: str
    ) -> Done: ...


def amefu_environment(**environment: str) -> dict[str, str]:
    """The environment of a command: one thread, no SLURM array, no colours, as a test asks otherwise."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("SLURM_", "AMEFU_"))}
    return kept | SINGLE_THREAD | {"NO_COLOR": "1", "COLUMNS": "200", "PYTHONWARNINGS": "default"} | environment


STARTED = ExitStack()


@pytest.fixture(autouse=True)
def _no_test_leaves_a_process_behind() -> Iterator[None]:
    yield
    STARTED.close()


@functools.cache
def warm_python() -> WarmPython:
    """The one warm Python of this pytest process, started when a test first asks for it."""
    python = WarmPython(amefu_environment())
    atexit.register(python.stop)
    return python


def start_python(*words: str | Path, cwd: Path | None = None, **environment: str) -> Process:
    """Start `python WORD…` in a child of the warm Python: a script, or `-m` and a module."""
    process = warm_python().start(*map(str, words), cwd=cwd, environment=amefu_environment(**environment))
    return STARTED.enter_context(process)


def start_amefu(*words: str | Path, cwd: Path | None = None, **environment: str) -> Process:
    """Start one amefu command in a child of the warm Python, for a test that sends it signals."""
    return start_python("-m", "amefu_cli", *words, cwd=cwd, **environment)


def run_python(*words: str | Path, cwd: Path | None = None, **environment: str) -> Done:
    """Run `python WORD…` in a child of the warm Python, to its end."""
    process = start_python(*words, cwd=cwd, **environment)
    stdout, stderr = process.communicate(timeout=240)
    return Done(words, process.wait(), stdout, stderr)


def fresh_python(*words: str | Path, cwd: Path | None = None, **environment: str) -> Done:
    """Run `python WORD…` in a Python that has imported nothing, where that is what a test is about."""
    return subprocess.run(
        [sys.executable, *map(str, words)], cwd=cwd, env=amefu_environment(**environment), capture_output=True,
        text=True, timeout=240, check=False,
    )  # fmt: skip


def checked(done: Done, code: int | None) -> Done:
    """Hold a command to an exit code (None: any)."""
    if code is not None and done.returncode != code:
        words = " ".join(map(str, done.args[2:]))
        pytest.fail(f"amefu {words}: exit code {done.returncode}, not {code}\n{done.stderr}")
    return done


def run(*words: str | Path, cwd: Path | None = None, code: int | None = 0, **environment: str) -> Done:
    """Run one amefu command in a child of the warm Python and hold it to an exit code (None: any)."""
    return checked(run_python("-m", "amefu_cli", *words, cwd=cwd, **environment), code)


def run_fresh(*words: str | Path, cwd: Path | None = None, code: int | None = 0, **environment: str) -> Done:
    """The same in a Python that has imported nothing."""
    return checked(fresh_python("-m", "amefu_cli", *words, cwd=cwd, **environment), code)


def amefu(*words: object, code: int = 0, **environment: str) -> Result:
    """Run one command in this process and hold it to an exit code; an error that it ends with is raised."""
    done = CliRunner().invoke(app, [*map(str, words)], env=environment, catch_exceptions=False)
    assert done.exit_code == code, f"amefu {' '.join(map(str, words))}\n{done.output}"
    return done


def wait_for(condition: Callable[[], object], seconds: float = 60.0) -> None:
    """Wait until the condition holds; a test that waits too long fails."""
    end = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > end:
            pytest.fail("it did not come to pass")
        time.sleep(0.02)


def moving_clip(seed: int, *, frames: int, size: int) -> np.ndarray:
    """uint8 (frames, size, size, 3): a coarse random texture that drifts, so that every frame differs."""
    rng = np.random.default_rng(seed)
    texture = np.kron(rng.integers(0, 256, (8, 8, 3), np.uint8), np.ones((size // 8, size // 8, 1), np.uint8))
    step = rng.integers(1, 4, 2)
    return np.stack([np.roll(texture, tuple(step * number), (0, 1)) for number in range(frames)])


def lay_clips(
    folder: Path, classes: tuple[str, ...] = CLASSES, clips: int = 3, frames: int = 8, size: int = 32
) -> list[Path]:
    """Small mp4 files `folder`/CLASS/clip_N.mp4; returns their paths, sorted."""
    paths = []
    for label, name in enumerate(sorted(classes)):
        for number in range(clips):
            path = folder / name / f"clip_{number}.mp4"
            write_mp4(path, moving_clip(1000 * label + number, frames=frames, size=size), fps=8)
            paths.append(path)
    return paths


@pytest.fixture(scope="session")
def make_clips() -> MakeClips:
    """`make_clips(folder, classes, clips, frames, size)`: small mp4 files in class folders."""
    return lay_clips


@pytest.fixture(scope="session")
def run_amefu() -> RunAmefu:
    """`run_amefu("frames", folder, "--workspace", …, code=0, NAME="value")`: one command in a process of its own."""
    return run


@pytest.fixture(scope="session")
def fresh_amefu() -> RunAmefu:
    """`fresh_amefu(…)`: the same in a new interpreter, for tests of how a command starts. It costs up to 4 s."""
    return run_fresh


@pytest.fixture(scope="session")
def finished_workspace(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with `videos` and, in `work`, all artefacts up to a result. To be read only: see `workspace`.

    Made once, also when pytest-xdist runs several workers.
    """
    base = tmp_path_factory.getbasetemp()
    root = (base.parent if "PYTEST_XDIST_WORKER" in os.environ else base) / "finished"
    root.mkdir(exist_ok=True)
    with (root / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not (root / "made").exists():
            _make_workspace(root)
            (root / "made").touch()
    return root


@pytest.fixture(scope="session")
def features_only(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A workspace that holds nothing but synthetic features and their split. To be read only: see `feature_space`."""
    return make_workspace(tmp_path_factory.mktemp("features") / "work")


@pytest.fixture
def feature_space(features_only: Path, tmp_path: Path) -> Path:
    """A copy of that workspace that a test may change."""
    return Path(shutil.copytree(features_only, tmp_path / "features-only"))


def _make_workspace(root: Path) -> None:
    lay_clips(root / "videos")
    work = root / "work"
    work.mkdir()
    (work / "amefu.toml").write_text(CONFIG)
    (work / "split.json").write_text(json.dumps(SPLIT))
    run("depth", root / "videos", "--workspace", work)
    run("meta-train", "--workspace", work)
    run("evaluate", "--workspace", work, "--no-upstream")


@pytest.fixture
def workspace(finished_workspace: Path, tmp_path: Path) -> Path:
    """A copy of the finished workspace that a test may change, with `videos` beside it."""
    shutil.copytree(finished_workspace / "videos", tmp_path / "videos")
    shutil.copytree(finished_workspace / "work", tmp_path / "work")
    return tmp_path / "work"


def tree(folder: Path) -> Mapping[str, bytes]:
    """Every file under a folder by its relative path, for comparing two stores byte for byte."""
    return {str(path.relative_to(folder)): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}
