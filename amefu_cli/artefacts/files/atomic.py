"""Files that are either wholly there or not there: written under a temporary name, synced, renamed; and locks."""

from __future__ import annotations

import errno
import fcntl
import json
import os
import socket
import time
import uuid
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from amefu_cli.errors import UsageError

# What file systems without flock answer to it, and what an fsync of a folder fails with where they offer that.
NOT_OFFERED = (errno.EINVAL, errno.ENOSYS, errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOLCK, errno.EPERM)
LOST = (errno.EIO, errno.ENOSPC, errno.EDQUOT)
DEAD_AFTER = 24 * 3600.0  # seconds without a sign of life, where the process that holds a lock cannot be looked at
LOOK_EVERY = 0.005  # seconds


def sync(path: str | Path) -> None:
    """Flush one file or folder to the disk; a folder only where its file system can."""
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    except OSError as error:
        if error.errno in LOST or not os.path.isdir(path):
            raise
    finally:
        os.close(descriptor)


def temporary_beside(path: Path) -> Path:
    """A name in the same folder that no other process uses."""
    return path.with_name(f".{path.name[:64]}.{uuid.uuid4().hex}.tmp")


def write_atomic(path: Path, content: bytes, *, temporary: Path | None = None) -> None:
    """Replace `path` by `content`; a reader sees the old bytes or the new ones, never a mixture. `temporary` is a name
    on the same file system to write under first, where one beside `path` would be in the way."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with _written(temporary or temporary_beside(path), content) as written:
        os.replace(written, path)
    sync(path.parent)


def create_atomic(path: Path, content: bytes) -> bool:
    """Write `path` unless it is there already; of several processes exactly one gets True."""
    with _written(temporary_beside(path), content) as written:
        try:
            os.link(written, path)
        except FileExistsError:
            return False
        except OSError:  # of file systems without hard links each says it in its own way
            with locked(path.with_name(f".{path.name[:64]}.lock")):
                if path.exists():
                    return False
                os.replace(written, path)
    sync(path.parent)
    return True


@contextmanager
def _written(path: Path, content: bytes) -> Iterator[Path]:
    """A synced file of this content, which is gone afterwards unless it was given another name."""
    try:
        with path.open("wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        yield path
    finally:
        path.unlink(missing_ok=True)


def require_writable(path: Path) -> None:
    """Raise UsageError where this process may not write at `path`, or where it would be made."""
    there = next(place for place in (path, *path.absolute().parents) if place.exists())
    if there == path and not path.is_dir():  # it is replaced, for which its folder is written
        there = path.absolute().parent
    if not os.access(there, os.W_OK):
        raise UsageError(f"{path}: may not be written to; choose another place with --out")


def to_json(document: Mapping[str, Any]) -> bytes:
    """One JSON document as ASCII bytes; names that are not UTF-8 survive as escaped surrogates."""
    return (json.dumps(document, indent=2, allow_nan=False) + "\n").encode("ascii")


def acquire(path: Path) -> int | None:
    """Take the lock at `path`, for as long as the descriptor that this returns stays open. None where a live process
    holds it. Raises FileNotFoundError where its folder is gone."""
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
            os.write(descriptor, f"{_machine()}\n{os.getpid()}\n".encode())
            return descriptor, True
        except FileExistsError:
            with suppress(FileNotFoundError):  # removed meanwhile
                return os.open(path, os.O_RDWR | os.O_CLOEXEC), False


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
    except OSError as error:
        return error.errno != errno.ESRCH  # else it is of another user
    return True


def _machine() -> str:
    """This machine since it was started last."""
    started = ""
    with suppress(OSError):
        started = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    return f"{socket.gethostname()} {started}"
