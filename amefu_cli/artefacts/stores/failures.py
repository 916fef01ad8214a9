"""`failures.jsonl`, beside a store: one line for each failed attempt on a video, by any number of writers."""

from __future__ import annotations

import json
import os
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from pathlib import Path

from amefu_cli.artefacts.files.fingerprint import parsed
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
        if (written := os.write(descriptor, line)) != len(line):
            raise OSError(f"only {written} of {len(line)} bytes written to {folder / FILE_NAME}")
    finally:
        os.close(descriptor)
    return failure


def read_failures(folder: Path) -> list[Failure]:
    """Every failure recorded in `folder`, oldest first, but lines torn by a kill; DamagedFile for a line not ours."""
    path = folder / FILE_NAME
    try:
        lines = path.read_bytes().splitlines()
    except FileNotFoundError:
        return []
    failures = []
    for number, line in enumerate(lines, start=1):
        try:
            if line:
                failures.append(parsed(Failure, json.loads(line)))
        except (TypeError, ValueError, RecursionError) as error:
            # The beginning of one of our lines is that of a writer that was killed.
            if isinstance(error, TypeError) or not b'{"video": "'.startswith(line[:11]):
                fix = "delete the file to forget past failures"
                raise DamagedFile(f"{path}: line {number} is not a failure record; {fix}") from error
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
