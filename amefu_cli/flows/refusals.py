"""What a flow refuses before any work: before a video is decoded, a network runs, or anything is replaced.

Each loads torch only where there is something to look up in it.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from amefu_cli.artefacts.stores.kinds import FramesHeader
from amefu_cli.artefacts.stores.store import VideoStore
from amefu_cli.artefacts.weights.identity import NO_FILES
from amefu_cli.errors import UsageError
from amefu_cli.method.backbones import family_of
from amefu_cli.method.geometry import stored_size


def check_device(device: str) -> None:
    """Raises UsageError where a device that is asked for by name is not there."""
    if device != "auto":
        from amefu_cli.stages.networks import choose_device

        choose_device(device)


def check_backbone(backbone: str, weights: str) -> None:
    """Raises UsageError where there is no such backbone, or no such file of weights."""
    family_of(backbone)
    if weights not in NO_FILES and not Path(weights).is_file():
        raise UsageError(f"--weights {weights}: no such file; give a file, imagenet or none")


def check_crop(frames: VideoStore[FramesHeader], crops: Iterable[int]) -> None:
    """Raises UsageError where a crop is larger than all frames of a store."""
    settings = frames.header.settings
    side = min(stored_size(1, 1, geometry=settings.geometry, size=settings.size))  # no other aspect has a larger one
    if max(crops) > side:
        raise UsageError(
            f"--crop {max(crops)}: the frames in {frames.path} are only {side} pixels high; lower it, or make larger "
            "ones with `amefu frames --rebuild`"
        )


def settled_precision(asked: str, recorded: str | None, device: str, *, training: bool = False) -> str:
    """What `--precision auto` means: as a store or a training was started with, so that every machine that goes on
    with it computes alike; else the faster one here."""
    if asked != "auto":
        return asked
    if recorded:
        return recorded
    from amefu_cli.stages.networks import choose_device, choose_precision, precision_name

    return precision_name(choose_precision("auto", choose_device(device), training=training))
