"""What `--precision auto` means for a store or a training that may already have been started, maybe elsewhere."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any


def settled_precision(asked: str, started: Mapping[str, Any] | None, device: str, *, training: bool = False) -> str:
    """`auto` is what it was started with, so that every machine that fills a store computes alike; else the faster.

    `started` is a header with `settings`, or None.
    """
    if asked != "auto":
        return asked
    recorded = _recorded(started["settings"]) if started else None
    if recorded:
        return recorded
    from amefu_cli.stages.networks import choose_device, choose_precision, precision_name

    return precision_name(choose_precision("auto", choose_device(device), training=training))


def _recorded(recipe: Mapping[str, Any]) -> str | None:
    """The precision in settings, or in the first of its parts that has one."""
    parts = [recipe, *(part for part in recipe.values() if isinstance(part, Mapping))]
    return next((str(part["precision"]) for part in parts if "precision" in part), None)
