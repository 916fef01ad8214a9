"""One module per stage, named as its command: artefacts in, artefact out. Stages never import one another."""

from __future__ import annotations

from collections.abc import Callable

Progress = Callable[[int, int, str], None]
"""What a command passes down to be told of progress: done, total, and the item just finished."""
