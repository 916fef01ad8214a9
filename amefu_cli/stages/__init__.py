"""One room per stage, named as its command: artefacts in, artefact out. Stages never import one another.

What they share: `pipeline.py` (jobs, work done ahead), `computing.py` (videos through a network), `networks.py`,
`training.py` and `vectors.py`.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

Progress = Callable[[int, int, str], None]
"""What a flow passes down to be told of progress: done, total, and the item just finished."""


@dataclass
class Outcome:
    """What one run of a stage did to its store: ids of videos, and what each failed one failed with. `planned` where a
    dry run found something to do, here or before, so that what comes after is not known yet."""

    done: list[str] = field(default_factory=list)
    kept: int = 0
    failed: dict[str, str] = field(default_factory=dict)
    skipped: list[tuple[str, str]] = field(default_factory=list)
    seconds: float = 0.0
    planned: bool = False
