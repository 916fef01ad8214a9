"""Signals, a closed stdout, a full disk, a read-only one, and inputs that vanish: said in a line, nothing half done."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from conftest import (
    MakeClips,
    RunAmefu,
    amefu_environment,
    fresh_python,
    run_python,
    start_amefu,
    start_python,
    tree,
    wait_for,
)  # fmt: skip
from PIL import Image
from warm import Process

from amefu_cli.artefacts.stores.failures import FILE_NAME
from amefu_cli.artefacts.stores.header import STAGING, FramesHeader
from amefu_cli.artefacts.stores.store import open_store

pytestmark = pytest.mark.slow

SLOW = """
import os
import time
from pathlib import Path
from amefu_cli.stages import frames
sound = frames.open_clip
def open_clip(clip, **options):
    Path(__file__).with_name(f"opening-{{os.getpid()}}").touch()
    time.sleep({seconds})
    return sound(clip, **options)
frames.open_clip = open_clip
if __name__ == "__main__":
    from amefu_cli.cli import main
    main()
"""
SMALL_FILES = """
import resource
resource.setrlimit(resource.RLIMIT_FSIZE, (6000, 6000))
from amefu_cli.cli import main
if __name__ == "__main__":
    main()
"""
IMPORTING = """
import os, runpy, sys
class Trap:
    def find_spec(self, name, path, target=None):
        if name == "numpy":
            sys.meta_path.remove(self)
            os.kill(os.getpid(), {number})
sys.meta_path.insert(0, Trap())
sys.argv = ["amefu", "status"]
runpy.run_module("amefu_cli", run_name="__main__")
"""
INTERRUPTED = "error: interrupted; the same command goes on where it stopped\n"


@pytest.fixture
def videos(tmp_path: Path, make_clips: MakeClips) -> Path:
    make_clips(tmp_path / "videos", ("jump", "spin"), 6)
    return tmp_path / "videos"


def start_slow(videos: Path, work: Path, *, seconds: float) -> Process:
    """`amefu frames` with a decoder that is slow to open a clip, in a process group of its own as on a terminal."""
    script = videos.parent / "slow.py"
    script.write_text(SLOW.format(seconds=seconds))
    return start_python(script, "frames", videos, "--workspace", work, "--size", "32", "--jobs", "2")


def stored(work: Path) -> int:
    return len(list((work / "frames.zarr/videos").glob("*/*.zip")))


@pytest.mark.parametrize(
    ("number", "whole_group"), [(signal.SIGINT, True), (signal.SIGTERM, False)], ids=["ctrl-c", "scancel"]
)
def test_a_signal_ends_a_run_that_then_goes_on(
    tmp_path: Path, videos: Path, run_amefu: RunAmefu, number: signal.Signals, whole_group: bool
) -> None:
    work = tmp_path / "work"
    process = start_slow(videos, work, seconds=0.3)
    wait_for(lambda: stored(work) >= 2)
    (os.killpg if whole_group else os.kill)(process.pid, number)
    _, errors = process.communicate(timeout=30)
    assert process.returncode == 128 + number
    assert errors.splitlines(keepends=True)[-1] == INTERRUPTED
    assert len(errors.splitlines()) == 2  # what was to be done, and that it was interrupted
    assert 2 <= stored(work) < 12
    assert not (work / "frames.zarr" / STAGING).exists()
    assert not (work / FILE_NAME).exists()
    done = run_amefu("frames", videos, "--workspace", work, "--size", "32", "--jobs", "2")
    assert f"frames: {12 - stored_before(done.stderr)} videos to make" in done.stderr
    run_amefu("frames", videos, "--out", tmp_path / "whole.zarr", "--size", "32", "--jobs", "2")
    assert tree(work / "frames.zarr/videos") == tree(tmp_path / "whole.zarr/videos")


def stored_before(errors: str) -> int:
    return int(errors.split(" already in")[0].rsplit(" ", 1)[1])


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_while_amefu_is_still_imported_is_one_line_too(number: signal.Signals) -> None:
    done = fresh_python("-c", IMPORTING.format(number=int(number)))
    assert (done.returncode, done.stdout, done.stderr) == (128 + number, "", INTERRUPTED)


@pytest.mark.parametrize("second", [signal.SIGINT, signal.SIGKILL], ids=["twice", "kill"])
def test_a_second_signal_or_a_kill_ends_the_workers_too(tmp_path: Path, videos: Path, second: signal.Signals) -> None:
    process = start_slow(videos, tmp_path / "work", seconds=120.0)
    wait_for(lambda: len(list(tmp_path.glob("opening-*"))) == 2)  # each worker has started its first clip
    os.kill(process.pid, signal.SIGTERM)
    os.kill(process.pid, second)
    process.communicate(timeout=30)  # the pipes close when the last of the processes has ended
    assert process.returncode in (130, 143, -9)


@pytest.mark.parametrize("words", [("depth",), ("features",), ("pretrain", "--modality", "rgb"), ("meta-train",)])
def test_the_other_stages_can_be_interrupted_too(
    workspace: Path, tmp_path: Path, run_amefu: RunAmefu, words: tuple[str, ...]
) -> None:
    out = tmp_path / ("out.zarr" if words[0] in ("depth", "features") else "out.safetensors")
    command = (*words, "--no-upstream", "--workspace", workspace, "--out", out)
    process = start_amefu(*command)
    # After the store's header or the lock of the training is there, the work has started or is about to.
    wait_for(lambda: (out / "zarr.json").exists() or out.with_suffix(".lock").exists() or process.poll() is not None)
    process.send_signal(signal.SIGINT)
    _, errors = process.communicate(timeout=60)
    assert process.returncode == 130, errors
    assert errors.endswith(INTERRUPTED)
    assert "Traceback" not in errors
    assert not (out / STAGING).exists(), (sorted(map(str, (out / STAGING).rglob("*"))), errors)
    assert not out.with_suffix(".lock").exists()
    run_amefu(*command)


def test_a_reader_of_stdout_that_has_gone_is_no_news(workspace: Path) -> None:
    for words in (("status",), ("status", "--json")):
        process = start_amefu(*words, "--workspace", workspace)
        assert process.stdout is not None
        assert process.stderr is not None
        process.stdout.close()
        assert process.stderr.read() == b""
        process.stderr.close()
        assert process.wait(timeout=60) == 1


def test_no_stdout_at_all_is_no_news_either(workspace: Path) -> None:
    command = [sys.executable, "-m", "amefu_cli", "status", "--json", "--workspace", str(workspace)]
    done = subprocess.run(
        ["sh", "-c", 'exec "$@" >&-', "sh", *command], env=amefu_environment(), stderr=subprocess.PIPE, text=True,
        timeout=60, check=False,
    )  # fmt: skip
    assert (done.returncode, done.stderr) == (0, "")


def test_a_file_that_cannot_grow_stops_the_run(tmp_path: Path, videos: Path, run_amefu: RunAmefu) -> None:
    """As a full disk or a quota does, without needing one: no file may grow beyond 6 kB."""
    options = ("frames", videos, "--workspace", tmp_path / "work", "--size", "128", "--jobs", "1")
    script = tmp_path / "small.py"
    script.write_text(SMALL_FILES)
    done = run_python(script, *options)
    assert done.returncode == 1, done.stderr
    assert "error: File too large: " in done.stderr
    assert "Traceback" not in done.stderr
    assert stored(tmp_path / "work") == 0
    assert not (tmp_path / "work" / FILE_NAME).exists()
    assert not (tmp_path / "work/frames.zarr" / STAGING).exists()
    run_amefu(*options)
    assert stored(tmp_path / "work") == 12


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A disk of 300 kB; only root may mount one."""
    folder = tmp_path / "disk"
    folder.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=300k", "tmpfs", str(folder)], capture_output=True, check=False
    )
    if mounted.returncode:
        pytest.skip(f"no file system can be mounted here: {mounted.stderr.decode().strip()}")
    yield folder
    subprocess.run(["umount", "--lazy", str(folder)], check=True)


def remount(folder: Path, options: str) -> None:
    subprocess.run(["mount", "-o", f"remount,{options}", str(folder)], check=True)


def test_a_full_disk_stops_the_run_and_more_room_lets_it_go_on(
    tmp_path: Path, videos: Path, small_disk: Path, run_amefu: RunAmefu
) -> None:
    options = ("--size", "128", "--jobs", "1")
    done = run_amefu("frames", videos, "--workspace", small_disk, *options, code=1)
    assert "error: No space left on device: " in done.stderr
    assert 0 < stored(small_disk) < 12
    before = tree(small_disk / "frames.zarr/videos")
    assert not (small_disk / "frames.zarr" / STAGING).exists()
    remount(small_disk, "size=20m")
    run_amefu("frames", videos, "--workspace", small_disk, *options)
    run_amefu("frames", videos, "--out", tmp_path / "whole.zarr", *options)
    whole = tree(tmp_path / "whole.zarr/videos")
    assert tree(small_disk / "frames.zarr/videos") == whole
    assert before.items() <= whole.items()


def test_a_read_only_disk_is_refused_before_any_work(
    tmp_path: Path, videos: Path, small_disk: Path, run_amefu: RunAmefu
) -> None:
    options = ("--size", "32", "--jobs", "1")
    remount(small_disk, "size=20m,ro")
    done = run_amefu("frames", videos, "--workspace", small_disk / "work", *options, code=2)
    assert "may not be written to; choose another place with --out" in done.stderr
    remount(small_disk, "rw")
    run_amefu("frames", videos, "--workspace", small_disk, *options, "--shard", "0/2")
    remount(small_disk, "ro")
    run_amefu("frames", videos, "--workspace", small_disk, *options, "--shard", "0/2")  # nothing to do is fine
    done = run_amefu("frames", videos, "--workspace", small_disk, *options, code=2)
    assert "may not be written to; choose another place with --out" in done.stderr


def test_videos_that_vanish_stop_the_run_and_count_for_nothing(
    tmp_path: Path, videos: Path, run_amefu: RunAmefu
) -> None:
    work, away = tmp_path / "work", tmp_path / "unmounted"
    process = start_slow(videos, work, seconds=0.2)
    wait_for(lambda: stored(work) >= 2)
    videos.rename(away)
    _, errors = process.communicate(timeout=60)
    assert process.returncode == 1
    assert f"error: {videos}: is not there any more; run the same command again when it is" in errors
    assert not (work / FILE_NAME).exists()
    away.rename(videos)
    run_amefu("frames", videos, "--workspace", work, "--size", "32", "--jobs", "2")
    assert stored(work) == 12


def test_a_source_that_changes_while_it_is_read_is_not_stored(tmp_path: Path, videos: Path) -> None:
    work, images = tmp_path / "work", [videos / f"spin/images/{number}.png" for number in (1, 2)]
    images[0].parent.mkdir()
    for image in images:
        Image.new("RGB", (32, 32)).save(image)
    process = start_slow(videos, work, seconds=0.5)
    wait_for(lambda: (work / "frames.zarr/zarr.json").exists())
    os.utime(videos / "spin/clip_5.mp4", ns=(1, 1))
    os.utime(images[0], ns=(1, 1))
    _, errors = process.communicate(timeout=60)
    assert process.returncode == 3
    assert "spin/clip_5.mp4` changed while it was read; run the same command again" in errors
    assert "spin/images` changed while it was read; run the same command again" in errors
    store = open_store(work / "frames.zarr", FramesHeader, fix="")
    assert store.record("spin/clip_5") is None
    assert store.record("spin/images") is None


def test_frames_that_vanish_stop_the_next_stage(workspace: Path, run_amefu: RunAmefu) -> None:
    (workspace / "frames.zarr").rename(workspace.parent / "unmounted.zarr")
    done = run_amefu("depth", "--no-upstream", "--workspace", workspace, code=2)
    assert "no such store; make it with `amefu frames VIDEOS`" in done.stderr
