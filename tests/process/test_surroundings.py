"""Where the program runs: file systems that lack what others have, and processes without a home, a folder or UTF-8."""

from __future__ import annotations

import json
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from conftest import CONFIG, ROOT, SPLIT, Done, RunAmefu, amefu_environment, lay_clips, moving_clip, tree

from amefu_cli.demo.clips import write_mp4

pytestmark = pytest.mark.slow  # each command starts a Python of its own

REFUSING = r"""
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>
static int refused(const char *name) { errno = getenv(name) ? atoi(getenv(name)) : 0; return errno ? -1 : 0; }
int flock(int file, int how) { return refused("NO_FLOCK") ? -1 : syscall(SYS_flock, file, how); }
int link(const char *from, const char *to) {
    return refused("NO_LINK") ? -1 : syscall(SYS_linkat, AT_FDCWD, from, AT_FDCWD, to, 0);
}
int linkat(int a, const char *from, int b, const char *to, int how) {
    return refused("NO_LINK") ? -1 : syscall(SYS_linkat, a, from, b, to, how);
}
int fsync(int file) {
    struct stat found;
    if (fstat(file, &found) == 0 && S_ISDIR(found.st_mode) && refused("NO_FOLDER_FSYNC")) return -1;
    return syscall(SYS_fsync, file);
}
"""


@pytest.fixture(scope="module")
def shim(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A library that, preloaded, refuses what some file systems do not have."""
    folder = tmp_path_factory.mktemp("shim")
    (folder / "refusing.c").write_text(REFUSING)
    compiler = shutil.which("gcc") or shutil.which("cc")
    if compiler is None or sys.platform != "linux":
        pytest.skip("there is no C compiler to make a library that refuses flock, link and fsync of a folder")
    subprocess.run([compiler, "-shared", "-fPIC", "-o", folder / "refusing.so", folder / "refusing.c"], check=True)
    return folder / "refusing.so"


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """Clips, and a workspace that holds settings alone."""
    lay_clips(tmp_path / "videos")
    work = tmp_path / "work"
    work.mkdir()
    (work / "amefu.toml").write_text(CONFIG)
    (work / "split.json").write_text(json.dumps(SPLIT))
    return tmp_path


@pytest.mark.parametrize(
    "refused",
    [
        {"NO_FLOCK": "37", "NO_FOLDER_FSYNC": "22", "NO_LINK": "1"},  # ENOLCK, EINVAL, EPERM
        {"NO_FLOCK": "38", "NO_FOLDER_FSYNC": "9", "NO_LINK": "38"},  # ENOSYS, EBADF, ENOSYS
        {"NO_FLOCK": "95", "NO_FOLDER_FSYNC": "13", "NO_LINK": "95"},  # EOPNOTSUPP, EACCES, EOPNOTSUPP
    ],
    ids=["Lustre-CIFS-exFAT", "FUSE", "others"],
)
def test_file_systems_without_locks_links_and_folder_syncs_work(
    finished_workspace: Path, project: Path, fresh_amefu: RunAmefu, shim: Path, refused: dict[str, str]
) -> None:
    work, preload = project / "work", {"LD_PRELOAD": str(shim), **refused}
    (work / "amefu.toml").unlink()
    fresh_amefu("init", "--workspace", work, **preload)
    (work / "amefu.toml").write_text(CONFIG)
    fresh_amefu("depth", project / "videos", "--workspace", work, **preload)
    fresh_amefu("meta-train", "--workspace", work, **preload)
    done = fresh_amefu("evaluate", "--workspace", work, "--json", **preload)
    expected = next((finished_workspace / "work/results").iterdir())
    assert json.loads(done.stdout)["accuracy"] == json.loads(expected.read_text())["accuracy"]
    assert not [path for path in work.rglob("*") if path.suffix in (".lock", ".tmp") or path.name == ".staging"]


def mounted(mount: str, *commands: tuple[object, ...]) -> list[Done]:
    """Commands of amefu where a mount of this process's own was made; skips the test where none may be."""
    probe = subprocess.run(["unshare", "-m", "sh", "-c", mount], capture_output=True, check=False)
    if shutil.which("unshare") is None or probe.returncode != 0:
        pytest.skip("this user may not mount")
    done = []
    for words in commands:
        line = shlex.join([sys.executable, "-m", "amefu_cli", *map(str, words)])
        done.append(
            subprocess.run(
                ["unshare", "-m", "sh", "-c", f"{mount} && {line}"], env=amefu_environment(PYTHONPATH=str(ROOT)),
                capture_output=True, text=True, timeout=240, check=False,
            )
        )  # fmt: skip
    return done


def test_a_workspace_below_an_overlay_is_changed_pruned_and_rebuilt(workspace: Path, tmp_path: Path) -> None:
    """Its folders cannot be renamed: the kernel answers with EXDEV."""
    places = {name: tmp_path / "mount" / name for name in ("upper", "work", "seen")}
    for place in places.values():
        place.mkdir(parents=True)
    options = f"lowerdir={workspace},upperdir={places['upper']},workdir={places['work']}"
    seen, videos = places["seen"], workspace.parent / "videos"
    write_mp4(videos / "bow/clip_0.mp4", moving_clip(77, frames=8, size=32), fps=8)
    (videos / "bow/clip_1.mp4").unlink()
    before = tree(workspace)
    changed, pruned, rebuilt, again = mounted(
        f"mount -t overlay overlay -o {options} {seen}",
        ("frames", videos, "--workspace", seen),
        ("frames", videos, "--workspace", seen, "--prune"),
        ("depth", "--workspace", seen, "--rebuild"),
        ("depth", "--workspace", seen),
    )
    assert "1 videos to make, 19 already" in changed.stderr
    assert "they are taken out" in pruned.stderr
    assert "depth: 20 videos to make" in rebuilt.stderr
    assert f"depth: {seen / 'depth.zarr'} is up to date (20 videos)" in again.stderr
    assert [done.returncode for done in (changed, pruned, rebuilt, again)] == [0] * 4
    assert tree(workspace) == before


def test_a_result_that_cannot_be_written_is_refused_before_any_work(workspace: Path) -> None:
    """What is there is still shown; by root too, whom only a mount keeps from writing."""
    shown, refused, elsewhere, drawn = mounted(
        f"mount --bind {workspace} {workspace} && mount -o remount,ro,bind {workspace}",
        ("evaluate", "--workspace", workspace),
        ("evaluate", "--workspace", workspace, "--seed", "5"),
        ("evaluate", "--workspace", workspace, "--seed", "5", "--out", workspace.parent / "five.json"),
        ("episodes", "--workspace", workspace, "--way", "2", "--count", "3"),
    )
    assert "is up to date" in shown.stderr.splitlines()[-1]
    assert "may not be written to; choose another place with --out" in refused.stderr
    assert "may not be written to; choose another place with --out" in drawn.stderr
    assert (workspace.parent / "five.json").exists()
    assert [done.returncode for done in (shown, refused, elsewhere, drawn)] == [0, 2, 0, 2]


def test_a_user_without_a_home_needs_none_until_weights_are_fetched(project: Path) -> None:
    stranger = ["unshare", "--map-user=54321"]  # of whom no system has an entry
    if shutil.which("unshare") is None or subprocess.run([*stranger, "true"], check=False).returncode != 0:
        pytest.skip("this user may not be somebody else")
    environment = amefu_environment(PYTHONPATH=str(ROOT))
    del environment["HOME"]

    def homeless(*words: str | Path) -> Done:
        line = [*stranger, sys.executable, "-m", "amefu_cli", *map(str, words), "--workspace", str(project / "work")]
        return subprocess.run(line, env=environment, capture_output=True, text=True, timeout=240, check=False)

    for words in (("depth", project / "videos"), ("meta-train",)):
        done = homeless(*words)
        assert done.returncode == 0, done.stderr
    done = homeless("depth", "--rebuild", "--estimator", "monodepth2")
    assert done.returncode == 2
    assert "~/.cache/amefu: this user has no home to cache weights in; set AMEFU_CACHE to a folder" in done.stderr


@pytest.mark.parametrize("encoding", ["ascii", "latin-1", "ascii:surrogateescape"])
def test_a_stream_that_cannot_show_a_character_replaces_it(finished_workspace: Path, encoding: str) -> None:
    words = ("--workspace", finished_workspace / "work")
    mark = "±" if encoding == "latin-1" else "?"
    for command in ("status", "evaluate"):
        done = subprocess.run(
            [sys.executable, "-m", "amefu_cli", command, *map(str, words)], capture_output=True, check=False,
            env=amefu_environment(PYTHONIOENCODING=encoding, PYTHONPATH=str(ROOT)),
        )  # fmt: skip
        assert (done.returncode, done.stderr.count(b"Traceback")) == (0, 0)
        assert f"% {mark} ".encode("latin-1") in done.stdout


def test_a_deleted_working_folder_is_named(finished_workspace: Path, tmp_path: Path) -> None:
    gone = tmp_path / "gone"

    def from_there(*words: str | Path) -> Done:
        gone.mkdir()
        line = shlex.join([sys.executable, "-m", "amefu_cli", *map(str, words)])
        return subprocess.run(
            ["sh", "-c", f"cd {gone} && rmdir {gone} && {line}"], env=amefu_environment(PYTHONPATH=str(ROOT)),
            capture_output=True, text=True, check=False, timeout=240,
        )  # fmt: skip

    absolute = from_there("evaluate", "--workspace", finished_workspace / "work")
    assert (absolute.returncode, "is up to date" in absolute.stderr) == (0, True)
    for words in (("evaluate",), ("frames", "./videos"), ("depth", tmp_path, "--workspace", "here")):
        done = from_there(*words)
        assert done.returncode in (1, 2)
        assert "the working folder was deleted: change to one that is there" in done.stderr
        assert "Traceback" not in done.stderr
