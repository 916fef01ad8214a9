"""What a command refuses before any work: before a video is decoded, a network runs, or anything is replaced.

Each loads a library only where there is something to look up in it.
"""

from __future__ import annotations

from pathlib import Path

from amefu_cli.errors import UsageError
from amefu_cli.settings import FramesSettings


def check_device(device: str) -> None:
    """Raises UsageError where a device that is asked for by name is not there."""
    if device != "auto":
        from amefu_cli.stages.networks import choose_device

        choose_device(device)


def check_estimator(estimator: str) -> None:
    """Raises UsageError where there is no such depth estimator."""
    from amefu_cli.method.depth import parse_estimator

    parse_estimator(estimator)


def check_backbone(backbone: str, weights: str) -> None:
    """Raises UsageError where there is no such backbone, or no such file of weights."""
    from amefu_cli.stages.networks import require_backbone

    require_backbone(backbone, weights)


def check_crop(frames: Path, *crops: int) -> None:
    """Raises UsageError where a crop is larger than all frames of a store; of one that is not there none are known."""
    from amefu_cli.artefacts.stores.header import header_of
    from amefu_cli.method.geometry import stored_size

    header = header_of(frames, "frames")
    if header is None:
        return
    recipe = FramesSettings.recorded(header["settings"], frames)
    side = min(stored_size(1, 1, geometry=recipe.geometry, size=recipe.size))  # no other aspect has a larger one
    if max(crops) > side:
        raise UsageError(
            f"--crop {max(crops)}: the frames in {frames} are only {side} pixels high; lower it, or make larger ones "
            "with `amefu frames --rebuild`"
        )
