"""Which videos one run takes, and the record of what failed: what frames, depth and features share."""

from __future__ import annotations

import os
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import Any

import typer

from amefu_cli.artefacts.failures import attempts_of, read_failures, record_failure
from amefu_cli.commands.console import note, show, warn
from amefu_cli.commands.options import Session
from amefu_cli.errors import AmefuError, UsageError, VideoError
from amefu_cli.recipes import WorkRun
from amefu_cli.stages import Outcome

SLURM = ("SLURM_ARRAY_TASK_ID", "SLURM_ARRAY_TASK_COUNT", "SLURM_ARRAY_TASK_MIN")


@dataclass(frozen=True)
class Work:
    """The videos of one run of one stage, and where its failures are written."""

    takes: Callable[[str], bool]
    anew: frozenset[str]
    failed: Callable[[str, AmefuError], None]
    given_up: frozenset[str]


def plan_work(stage: str, run: WorkRun, folder: Path) -> Work:
    """Sort out `--only`, `--shard`, `--only-failed` and earlier failures; `folder` holds failures.jsonl."""
    index, count = parse_shard(run.shard)
    only = frozenset(run.only or ())
    attempts = {
        video: tried for (video, of), tried in attempts_of(read_failures(folder)).items() if of == stage
    }
    given_up = frozenset(video for video, tried in attempts.items() if tried >= run.max_attempts)

    def takes(video: str) -> bool:
        if shard_of(video, count) != index:
            return False
        if only:
            return video in only
        if run.only_failed:
            return video in attempts
        return video not in given_up

    def failed(video: str, error: AmefuError) -> None:
        record_failure(folder, video=video, stage=stage, error=error, attempt=attempts.get(video, 0) + 1)

    return Work(takes, only, failed, given_up)


def shard_of(video: str, count: int) -> int:
    """The share, of `count`, that a video belongs to: by its id alone, so that other videos do not move it."""
    digest = sha256(video.encode("utf-8", "surrogateescape")).digest()
    return int.from_bytes(digest[:8], "big") % count


def parse_shard(shard: str) -> tuple[int, int]:
    """`i/n` as (i, n); `none` as (0, 1); `auto` from SLURM's array task, if there is one.

    Raises:
        UsageError: not of this form, i not below n, or an array that does not start at 0.
    """
    if shard == "none" or (shard == "auto" and SLURM[0] not in os.environ):
        return 0, 1
    if shard == "auto":
        if os.environ.get(SLURM[2], "0") != "0":
            raise UsageError(
                f"{SLURM[2]}={os.environ[SLURM[2]]}: submit the array from 0, or use --shard none"
            )
        shard = f"{os.environ[SLURM[0]]}/{os.environ.get(SLURM[1], '')}"
    try:
        index, count = (int(part) for part in shard.split("/"))
    except ValueError as error:
        raise UsageError(f"--shard {shard!r}: must be i/n, such as 0/4; auto; or none") from error
    if not 0 <= index < count:
        raise UsageError(f"--shard {shard}: i must be from 0 to n - 1 (a SLURM array must start at 0)")
    return index, count


def begun_by(session: Session, header: Mapping[str, Any] | None) -> dict[str, str]:
    """The note on the recipe that a store was begun with; `header` is None where it is begun now."""
    return {"recipe": (header["notes"] if header else session.chosen).get("recipe") or "paper"}


def announce(stage: str, pending: int, kept: int, path: Path) -> None:
    """One line on what a stage is about to do."""
    if pending:
        note(f"{stage}: {pending} videos to make, {kept} already in {path}")
    else:
        note(f"{stage}: {path} is up to date ({kept} videos)")


def finish(outcome: Outcome, kept: int, work: Work, there: Collection[str], path: Path) -> Outcome:
    """Complete what a stage did by what it did not have to do and what it gave up on; say what failed."""
    outcome.kept = kept
    for video in sorted(work.given_up.intersection(there).difference(outcome.done)):
        outcome.failed.setdefault(video, "failed too often before; see --max-attempts and --only-failed")
    for video, message in outcome.failed.items():
        warn(f"{video}: {message}")
    if outcome.failed:
        warn(f"{len(outcome.failed)} videos failed; {path.parent / 'failures.jsonl'} lists every attempt")
    return outcome


def report(stage: str, outcome: Outcome, path: Path, *, as_json: bool) -> None:
    """The result of a store's own command; ends with exit code 3 where videos failed."""
    document = {
        "store": str(path),
        "done": len(outcome.done),
        "kept": outcome.kept,
        "failed": outcome.failed,
        "skipped": dict(outcome.skipped),
        "seconds": round(outcome.seconds, 3),
    }
    row = [str(path), *(str(number) for number in (len(outcome.done), outcome.kept, len(outcome.failed)))]
    show(
        document,
        as_json=as_json,
        title=stage,
        rows=[["store", "made", "already there", "failed", "seconds"], [*row, f"{outcome.seconds:.1f}"]],
    )
    if outcome.failed:
        raise typer.Exit(VideoError.exit_code)
