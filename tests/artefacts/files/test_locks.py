from __future__ import annotations

import errno
import fcntl
import os
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

import pytest
from small_stores import begin, put_frames

from amefu_cli.artefacts.files import atomic as locks
from amefu_cli.artefacts.files.atomic import acquire, create_atomic, locked, release, sync
from amefu_cli.artefacts.stores.header import STAGING
from amefu_cli.artefacts.stores.staging import Staging, sweep

REFUSED = [errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP]


def refuse(number: int) -> Any:
    def refused(*words: Any, **options: Any) -> None:
        raise OSError(number, os.strerror(number))

    return refused


@pytest.fixture(params=[None, *REFUSED], ids=lambda number: errno.errorcode.get(number, "flock"))
def flock(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each test with flock, and without."""
    if request.param is not None:
        monkeypatch.setattr(fcntl, "flock", refuse(request.param))


@pytest.mark.usefixtures("flock")
def test_a_lock_is_held_once_and_can_be_taken_again(tmp_path: Path) -> None:
    path = tmp_path / "a.lock"
    held = acquire(path)
    assert held is not None
    assert acquire(path) is None
    release(path, held)
    assert not path.exists()
    again = acquire(path)
    assert again is not None
    release(path, again)
    with pytest.raises(FileNotFoundError):
        acquire(tmp_path / "absent" / "a.lock")


@pytest.mark.usefixtures("flock")
def test_of_many_that_wait_for_a_lock_one_has_it(tmp_path: Path) -> None:
    inside, most = 0, 0

    def enter() -> None:
        nonlocal inside, most
        for _ in range(10):
            with locked(tmp_path / "a.lock"):
                inside += 1
                most = max(most, inside)
                time.sleep(0.0005)
                inside -= 1

    threads = [threading.Thread(target=enter) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert most == 1
    assert not list(tmp_path.iterdir())


def dead_process() -> int:
    process = subprocess.Popen([sys.executable, "-c", ""])
    process.wait()
    return process.pid


@pytest.mark.parametrize(
    ("owner", "age", "held"),
    [
        ("here", 0.0, True),
        ("dead", 0.0, False),
        ("elsewhere", 0.0, True),
        ("elsewhere", 2 * locks.DEAD_AFTER, False),
        ("", 0.0, True),
        ("", 2 * locks.DEAD_AFTER, False),
    ],
)
def test_without_flock_a_lock_ends_with_its_process(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, owner: str, age: float, held: bool
) -> None:
    """On another machine, or where its name is not written yet, only its age is known."""
    monkeypatch.setattr(fcntl, "flock", refuse(errno.ENOLCK))
    path, machine = tmp_path / "a.lock", locks._machine()
    lines = {"here": f"{machine}\n{os.getpid()}", "dead": f"{machine}\n{dead_process()}", "elsewhere": "node7 boot\n1"}
    path.write_text(lines.get(owner, ""))
    os.utime(path, (time.time() - age,) * 2)
    descriptor = acquire(path)
    assert (descriptor is None) == held
    if descriptor is not None:
        assert path.read_text() == f"{machine}\n{os.getpid()}\n"
        release(path, descriptor)


@pytest.mark.usefixtures("flock")
def test_a_store_is_written_and_swept_on_any_file_system(tmp_path: Path) -> None:
    dead = Staging(tmp_path / "frames.zarr")
    (dead.fresh().parent / "half").write_bytes(b"x")
    with begin(tmp_path / "frames.zarr") as store:
        put_frames(store, "a/b")
        assert len(list((store.path / STAGING).iterdir())) == 4  # of this one, and of the other, which lives
    dead.close()
    sweep(store.path)
    assert not (store.path / STAGING).exists()
    assert store.ids() == ["a/b"]


@pytest.mark.parametrize("number", [None, errno.EPERM, errno.EOPNOTSUPP])
def test_a_file_is_created_once_also_without_hard_links(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int | None
) -> None:
    if number is not None:
        monkeypatch.setattr(os, "link", refuse(number))
    barrier, made = threading.Barrier(6), []

    def create(content: bytes) -> None:
        barrier.wait()
        if create_atomic(tmp_path / "x.toml", content):
            made.append(content)

    threads = [threading.Thread(target=create, args=(f"{number}".encode(),)) for number in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [(tmp_path / "x.toml").read_bytes()] == made
    assert [path.name for path in tmp_path.iterdir()] == ["x.toml"]


def test_a_folder_that_cannot_be_synced_is_passed_over_and_a_file_is_not(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").touch()
    monkeypatch.setattr(os, "fsync", refuse(errno.EINVAL))
    sync(tmp_path)
    with pytest.raises(OSError, match="Invalid argument"):
        sync(tmp_path / "file")
    monkeypatch.setattr(os, "fsync", refuse(errno.EIO))
    with pytest.raises(OSError, match="Input/output error"):
        sync(tmp_path)
