"""Locks that end with the process that holds them, also on file systems that do not know of flock."""

from __future__ import annotations

import errno
import fcntl
import os
import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

NOT_OFFERED = (errno.EINVAL, errno.ENOSYS, errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOLCK, errno.EPERM)
"""What file systems answer to calls that they do not have: flock, link, fsync of a folder."""
DEAD_AFTER = 24 * 3600.0  # seconds without a sign of life, where the process that holds a lock cannot be looked at
LOOK_EVERY = 0.005  # seconds


def acquire(path: Path) -> int | None:
    """Take the lock at `path`, for as long as the descriptor that this returns stays open.

    None where a live process holds it. Raises FileNotFoundError where its folder is gone.
    """
    while True:
        descriptor, is_new = _open(path)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            is_live = False
        except BlockingIOError:
            is_live = True
        except OSError as error:
            if error.errno not in NOT_OFFERED:
                raise
            is_live = not is_new and _is_live(descriptor)
            if not is_new and not is_live and _is_at(descriptor, path):
                path.unlink(missing_ok=True)  # of a dead process: taken by whoever now makes it first
        if not is_live and _is_at(descriptor, path):
            return descriptor
        os.close(descriptor)
        if is_live:
            return None


def release(path: Path, descriptor: int) -> None:
    """Let go of a lock taken by `acquire`."""
    path.unlink(missing_ok=True)
    os.close(descriptor)


@contextmanager
def locked(path: Path) -> Iterator[None]:
    """Wait for the lock at `path`, and hold it for a moment."""
    while (descriptor := acquire(path)) is None:
        time.sleep(LOOK_EVERY)
    try:
        yield
    finally:
        release(path, descriptor)


def _open(path: Path) -> tuple[int, bool]:
    """The file at `path`, and whether this call has made it; then it says which process that was."""
    while True:
        try:
            descriptor = os.open(path, os.O_CREAT | os.O_EXCL | os.O_RDWR | os.O_CLOEXEC, 0o644)
        except FileExistsError:
            try:
                return os.open(path, os.O_RDWR | os.O_CLOEXEC), False
            except FileNotFoundError:
                continue
        os.write(descriptor, f"{_machine()}\n{os.getpid()}\n".encode())
        return descriptor, True


def _is_at(descriptor: int, path: Path) -> bool:
    """Whether the file is still there: else whoever held the lock has removed it meanwhile."""
    try:
        return os.path.samestat(os.fstat(descriptor), path.stat())
    except FileNotFoundError:
        return False


def _is_live(descriptor: int) -> bool:
    """Whether the process that made the file of a lock still runs, as far as can be known from here."""
    machine, _, process = os.pread(descriptor, 1024, 0).decode(errors="replace").strip().partition("\n")
    if machine != _machine() or not process.isdecimal():
        return time.time() - os.fstat(descriptor).st_mtime < DEAD_AFTER
    try:
        os.kill(int(process), 0)
    except ProcessLookupError:
        return False
    except PermissionError:  # of another user
        pass
    return True


def _machine() -> str:
    """This machine since it was started last."""
    try:
        started = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    except OSError:
        started = ""
    return f"{socket.gethostname()} {started}"
