"""Shares of the videos, so that the jobs of an array fill one store together."""

from __future__ import annotations

import os
from hashlib import sha256

from amefu_cli.errors import UsageError

SLURM_TASK = "SLURM_ARRAY_TASK_ID"


def shard_of(video: str, count: int) -> int:
    """The share, of `count`, that a video belongs to: by its id alone, so that other videos do not move it."""
    digest = sha256(video.encode("utf-8", "surrogateescape")).digest()
    return int.from_bytes(digest[:8], "big") % count


def parse_shard(shard: str) -> tuple[int, int]:
    """`i/n` as (i, n); `none` as (0, 1); `auto` from SLURM's array task, if there is one.

    Raises:
        UsageError: not of this form, i not below n, or an array that does not start at 0 or has gaps.
    """
    if shard == "none" or (shard == "auto" and SLURM_TASK not in os.environ):
        return 0, 1
    if shard == "auto":
        first, last, tasks = (os.environ.get(f"SLURM_ARRAY_TASK_{name}", "") for name in ("MIN", "MAX", "COUNT"))
        if first not in ("", "0") or (last.isdigit() and tasks.isdigit() and int(last) != int(tasks) - 1):
            raise UsageError(
                f"SLURM's array has {tasks} tasks from {first} to {last}: "
                "submit it as 0-(n - 1), without gaps, or use --shard none"
            )
        shard = f"{os.environ[SLURM_TASK]}/{tasks}"
    try:
        index, count = (int(part) for part in shard.split("/"))
    except ValueError as error:
        raise UsageError(f"--shard {shard!r}: must be i/n, such as 0/4; auto; or none") from error
    if not 0 <= index < count:
        raise UsageError(f"--shard {shard}: i must be from 0 to n - 1")
    return index, count
