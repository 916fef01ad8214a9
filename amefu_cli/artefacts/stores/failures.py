"""`failures.jsonl`, beside a store: one line for each failed attempt on a video, by any number of writers."""

from __future__ import annotations

import json
import os
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from pathlib import Path

from amefu_cli.errors import DamagedFile

FILE_NAME = "failures.jsonl"


@dataclass(frozen=True)
class Failure:
    """One failed attempt. `error` is the class name; `fingerprint` tells what was tried, so that attempts on another
    source, with other settings or with another time limit count again; `attempt` counts from 1, and is that of before
    where an input was damaged, which says nothing of the video."""

    video: str
    stage: str
    error: str
    message: str
    fingerprint: str
    attempt: int


def record_failure(
    folder: Path, *, video: str, stage: str, error: BaseException, fingerprint: str, attempt: int
) -> Failure:
    """Append one line to `folder`/failures.jsonl in one write; safe beside other writers. Raises OSError."""
    failure = Failure(video, stage, type(error).__name__, str(error), fingerprint, attempt)
    line = json.dumps(asdict(failure)).encode("ascii") + b"\n"  # ASCII: surrogates of odd names as escapes
    descriptor = os.open(folder / FILE_NAME, os.O_RDWR | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o666)
    try:
        size = os.fstat(descriptor).st_size
        if size and os.pread(descriptor, 1, size - 1) != b"\n":
            line = b"\n" + line  # a writer died inside the line above
        written = os.write(descriptor, line)
        if written != len(line):
            raise OSError(f"only {written} of {len(line)} bytes written to {folder / FILE_NAME}")
    finally:
        os.close(descriptor)
    return failure


def read_failures(folder: Path) -> list[Failure]:
    """Every failure recorded in `folder`, oldest first. Lines torn by a kill are passed over.

    Raises DamagedFile where a line is none of ours.
    """
    failures = []
    try:
        with open(folder / FILE_NAME, "rb") as file:
            for number, line in enumerate(file, start=1):
                failure = _parse(folder / FILE_NAME, number, line.rstrip(b"\n"))
                if failure is not None:
                    failures.append(failure)
    except FileNotFoundError:
        return []
    return failures


def latest_failures(failures: Iterable[Failure], stage: str) -> dict[tuple[str, str], Failure]:
    """The last attempt of one stage on each (video, fingerprint): the one with the highest number."""
    latest: dict[tuple[str, str], Failure] = {}
    for failure in failures:
        key = failure.video, failure.fingerprint
        if failure.stage == stage and (key not in latest or failure.attempt >= latest[key].attempt):
            latest[key] = failure
    return latest


def last_failures(failures: Iterable[Failure], stage: str) -> dict[str, Failure]:
    """The last failure of one stage on each video, whatever it was made from."""
    return {failure.video: failure for failure in failures if failure.stage == stage}


def _parse(path: Path, number: int, line: bytes) -> Failure | None:
    if not line:
        return None
    try:
        fields = json.loads(line)
    except (ValueError, RecursionError) as error:
        if b'{"video": "'.startswith(line[:11]):
            return None  # the beginning of one of our lines: its writer was killed
        raise _damaged(path, number) from error
    texts = ("video", "stage", "error", "message", "fingerprint")
    if (
        not isinstance(fields, dict)
        or set(fields) != {*texts, "attempt"}
        or not all(isinstance(fields[name], str) for name in texts)
        or type(fields["attempt"]) is not int
    ):
        raise _damaged(path, number)
    return Failure(**fields)


def _damaged(path: Path, number: int) -> DamagedFile:
    return DamagedFile(f"{path}: line {number} is not a failure record; delete the file to forget past failures")
