"""Worker processes that crash, are killed or hang cost their one video; the pool lives on."""

from __future__ import annotations

import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path

import pytest
from conftest import MakeClips, RunAmefu, amefu_environment

from amefu_cli.artefacts.failures import read_failures
from amefu_cli.artefacts.staging import STAGING
from amefu_cli.artefacts.video_store import open_store

FAULTY = '''
"""amefu with decoders that have faults, by the name of the clip. Spawned workers import this file too."""

import ctypes, os, signal, sys, time
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


def test_a_worker_that_crashes_is_killed_or_hangs_costs_one_video(
    tmp_path: Path, make_clips: MakeClips, run_amefu: RunAmefu, faulty: list[str]
) -> None:
    videos, work = tmp_path / "videos", tmp_path / "work"
    for number, clip in enumerate(make_clips(videos, ("jump",), 12)):
        name = {1: "segfault", 3: "killed", 5: "hang", 6: "deaf", 8: "exit"}.get(number, "good")
        clip.rename(clip.with_name(f"{name}_{number}.mp4"))
    options = ["frames", str(videos), "--workspace", str(work), "--size", "32", "--jobs", "2"]

    began = time.monotonic()
    done = subprocess.run(
        [*faulty, *options, "--timeout", "2"], env=amefu_environment(), capture_output=True, text=True, timeout=120,
        check=False,
    )  # fmt: skip
    assert done.returncode == 3, done.stderr
    assert time.monotonic() - began < 60
    assert {failure.video: failure.error for failure in read_failures(work)} == {
        "jump/segfault_1": "WorkerCrash",
        "jump/killed_3": "WorkerCrash",
        "jump/hang_5": "WorkerTimeout",
        "jump/deaf_6": "WorkerTimeout",
        "jump/exit_8": "WorkerCrash",
    }
    messages = {failure.video: failure.message for failure in read_failures(work)}
    assert messages["jump/hang_5"].endswith("hang_5.mp4` was not decoded in 2 s; raise --timeout")
    assert "ended its worker process" in messages["jump/killed_3"]
    assert len(open_store(work / "frames.zarr", "frames", mend="").records()) == 7
    assert not (work / "frames.zarr" / STAGING).exists()

    run_amefu(*options, "--only-failed")  # by a sound decoder
    assert len(open_store(work / "frames.zarr", "frames", mend="").records()) == 12


def test_workers_do_not_outlive_a_run_that_is_killed(tmp_path: Path, make_clips: MakeClips, faulty: list[str]) -> None:
    """As the out-of-memory killer does it: the command alone, not its workers."""
    make_clips(tmp_path / "videos", ("jump",), 8)
    for clip in (tmp_path / "videos/jump").iterdir():
        clip.rename(clip.with_name(f"slow_{clip.name}"))
    process = subprocess.Popen(
        [*faulty, "frames", str(tmp_path / "videos"), "--workspace", str(tmp_path / "work"), "--jobs", "2"],
        env=amefu_environment(TEST_MARK=str(tmp_path)), stderr=subprocess.DEVNULL,
    )  # fmt: skip
    staging = tmp_path / "work/frames.zarr" / STAGING
    _wait(lambda: any(staging.glob("*/*")))  # a worker has begun
    assert _processes_of(tmp_path) >= 3
    process.kill()
    process.wait()
    _wait(lambda: _processes_of(tmp_path) == 0)


def _wait(condition, seconds: float = 30.0) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "it did not come to pass"
        time.sleep(0.05)


def _processes_of(mark: Path) -> int:
    """How many processes have the mark in their environment."""
    found = 0
    for path in Path("/proc").glob("[0-9]*/environ"):
        with suppress(OSError):
            found += f"TEST_MARK={mark}\0".encode() in path.read_bytes()
    return found
