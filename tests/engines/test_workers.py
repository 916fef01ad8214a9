"""Worker processes that crash, are killed or hang cost their one video; the pool lives on."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from contextlib import suppress
from pathlib import Path

import pytest
from conftest import MakeClips, RunAmefu, amefu_environment, wait_for

from amefu_cli.artefacts.stores.failures import read_failures
from amefu_cli.artefacts.stores.header import STAGING, FramesHeader
from amefu_cli.artefacts.stores.store import open_store
from amefu_cli.engines.workers import usable_cores

FAULTY = '''
"""amefu with decoders that have faults, by the name of the clip. Spawned workers import this file too."""

import ctypes, os, signal, sys, time
from pathlib import Path

def stillborn(number):
    try:
        return Path(__file__).with_name(f"stillborn_{number}").touch(exist_ok=False) is None
    except FileExistsError:
        return False

if __name__ == "__mp_main__":  # a worker that has not imported what it needs
    if any(stillborn(number) for number in range(int(os.environ.get("STILLBORN", 0)))):
        os.kill(os.getpid(), signal.SIGKILL)
    if "HELD" in os.environ:
        Path(__file__).with_name(f"held_{os.getpid()}").touch()
        time.sleep(1000)

from amefu_cli.stages import frames

sound = frames.open_clip

def open_clip(clip, **options):
    name = clip.path.stem
    if name.startswith("segfault"):
        ctypes.string_at(0)
    if name.startswith("killed"):
        os.kill(os.getpid(), signal.SIGKILL)
    if name.startswith("exit"):
        os._exit(7)
    if name.startswith("hang"):
        time.sleep(1000)
    if name.startswith("deaf"):  # does not even hear SIGTERM
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        time.sleep(1000)
    if name.startswith("memory"):
        raise MemoryError
    if name.startswith("bug"):
        raise KeyError("stream")
    if name.startswith("slow"):
        time.sleep(0.3)
    return sound(clip, **options)

frames.open_clip = open_clip

if __name__ == "__main__":
    from amefu_cli.cli import main
    main()
'''


@pytest.fixture
def faulty(tmp_path: Path) -> list[str]:
    """The beginning of a command line of an amefu whose decoders have faults."""
    script = tmp_path / "faulty.py"
    script.write_text(FAULTY)
    return [sys.executable, "-X", "faulthandler=0", str(script)]


@pytest.mark.slow
def test_a_worker_that_crashes_is_killed_or_hangs_costs_one_video(
    tmp_path: Path, make_clips: MakeClips, run_amefu: RunAmefu, faulty: list[str]
) -> None:
    videos, work = tmp_path / "videos", tmp_path / "work"
    for number, clip in enumerate(make_clips(videos, ("jump",), 12)):
        name = {1: "segfault", 3: "killed", 5: "hang", 6: "deaf", 8: "exit", 9: "memory", 10: "bug"}.get(number, "good")
        clip.rename(clip.with_name(f"{name}_{number}.mp4"))
    options = ["frames", str(videos), "--workspace", str(work), "--size", "32", "--jobs", "2"]

    done = subprocess.run(
        [*faulty, *options, "--timeout", "2"], env=amefu_environment(), capture_output=True, text=True, timeout=60,
        check=False,
    )  # fmt: skip
    assert done.returncode == 3, done.stderr
    assert {failure.video: failure.error for failure in read_failures(work)} == {
        "jump/segfault_1": "WorkerCrash",
        "jump/killed_3": "WorkerCrash",
        "jump/hang_5": "WorkerTimeout",
        "jump/deaf_6": "WorkerTimeout",
        "jump/exit_8": "WorkerCrash",
        "jump/memory_9": "WorkerFault",
        "jump/bug_10": "WorkerFault",
    }
    messages = {failure.video: failure.message for failure in read_failures(work)}
    assert messages["jump/hang_5"].endswith("hang_5.mp4` was not decoded in 2 s; raise --timeout")
    assert "ended its worker process" in messages["jump/killed_3"]
    assert messages["jump/memory_9"].endswith("memory_9.mp4` cannot be decoded: MemoryError")
    assert messages["jump/bug_10"].endswith("bug_10.mp4` cannot be decoded: KeyError: 'stream'")
    assert len(open_store(work / "frames.zarr", FramesHeader, fix="").records()) == 5
    assert not (work / "frames.zarr" / STAGING).exists()

    run_amefu(*options, "--only-failed")  # by a sound decoder
    assert len(open_store(work / "frames.zarr", FramesHeader, fix="").records()) == 12


def test_workers_that_die_before_they_begin_cost_nothing_while_some_begin(
    tmp_path: Path, make_clips: MakeClips, faulty: list[str]
) -> None:
    videos, work = tmp_path / "videos", tmp_path / "work"
    make_clips(videos, ("jump",), 3)
    command = [*faulty, "frames", str(videos), "--workspace", str(work), "--size", "32", "--jobs", "2"]

    def run(stillborn: int) -> subprocess.CompletedProcess[str]:
        environment = amefu_environment(STILLBORN=str(stillborn))
        return subprocess.run(command, env=environment, capture_output=True, text=True, timeout=60, check=False)

    done = run(7)
    assert done.returncode == 1
    assert done.stderr.splitlines()[1:] == [
        "error: 7 worker processes in a row ended before they started a task (the last with exit code -9); "
        "where memory is short, fewer at a time may do: --jobs"
    ]
    assert not (work / "frames.zarr" / STAGING).exists()
    done = run(7 + 3)
    assert done.returncode == 0, done.stderr
    assert len(open_store(work / "frames.zarr", FramesHeader, fix="").records()) == 3
    assert read_failures(work) == []


def test_ctrl_c_is_one_line_also_while_workers_start(tmp_path: Path, make_clips: MakeClips, faulty: list[str]) -> None:
    """On a terminal it reaches the workers too, here the first two and one that took the place of another."""
    make_clips(tmp_path / "videos", ("jump",), 3)
    process = subprocess.Popen(
        [*faulty, "frames", str(tmp_path / "videos"), "--workspace", str(tmp_path / "work"), "--jobs", "2"],
        env=amefu_environment(STILLBORN="1", HELD="yes"), stderr=subprocess.PIPE, text=True, start_new_session=True,
    )  # fmt: skip
    wait_for(lambda: len(list(tmp_path.glob("held_*"))) == 2)
    os.killpg(process.pid, signal.SIGINT)
    _, errors = process.communicate(timeout=30)  # the pipe closes when the last of the processes has ended
    assert process.returncode == 130
    assert errors.splitlines()[1:] == ["error: interrupted; the same command goes on where it stopped"]


def test_workers_do_not_outlive_a_run_that_is_killed(tmp_path: Path, make_clips: MakeClips, faulty: list[str]) -> None:
    """As the out-of-memory killer does it: the command alone, not its workers."""
    make_clips(tmp_path / "videos", ("jump",), 8)
    for clip in (tmp_path / "videos/jump").iterdir():
        clip.rename(clip.with_name(f"slow_{clip.name}"))
    process = subprocess.Popen(
        [*faulty, "frames", str(tmp_path / "videos"), "--workspace", str(tmp_path / "work"), "--jobs", "2"],
        env=amefu_environment(TEST_MARK=str(tmp_path)), stderr=subprocess.DEVNULL,
    )  # fmt: skip
    wait_for(lambda: _processes_of(tmp_path) >= 3)  # workers, besides the command itself
    process.kill()
    process.wait()
    wait_for(lambda: _processes_of(tmp_path) == 0)


def test_all_cores_count_where_the_system_knows_no_affinity(monkeypatch: pytest.MonkeyPatch) -> None:
    assert usable_cores() == len(os.sched_getaffinity(0))
    monkeypatch.delattr(os, "sched_getaffinity")  # as on macOS
    monkeypatch.setattr(os, "cpu_count", lambda: 3)
    assert usable_cores() == 3


def _processes_of(mark: Path) -> int:
    """How many processes have the mark in their environment."""
    found = 0
    for path in Path("/proc").glob("[0-9]*/environ"):
        with suppress(OSError):
            found += f"TEST_MARK={mark}\0".encode() in path.read_bytes()
    return found
