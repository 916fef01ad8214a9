"""`amefu verify`: read everything back."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from amefu_cli.commands.console import progress, show, warn
from amefu_cli.commands.options import Session, command
from amefu_cli.errors import UsageError, VideoError


@command
def verify(
    session: Session,
    paths: Annotated[
        list[Path] | None, typer.Argument(help="stores and checkpoints [all those of the workspace]")
    ] = None,
) -> None:
    """Read every store and checkpoint back: checksums, counts, finite values. Exit code 3 where a video is damaged.

    A damaged video is marked, and the command that made it makes it, and only it, again.

    Example: amefu verify
    """
    rows = [["what", "videos", "damaged", "seconds"]]
    checked: list[dict[str, Any]] = []
    for path in paths or _all_of(session):
        found = _verify(path)
        checked.append(found)
        for video, reason in found["damaged"].items():
            warn(f"{path}: {video}: {reason}")
        rows.append([str(path), str(found["videos"]), str(len(found["damaged"])), f"{found['seconds']:.1f}"])
    show({"checked": checked}, as_json=session.json, title="verify", rows=rows)
    bad = [found for found in checked if found["damaged"]]
    for found in bad:
        warn(f"{found['path']}: {len(found['damaged'])} damaged; {found['fix']}")
    if bad:
        raise typer.Exit(VideoError.exit_code)


def _all_of(session: Session) -> list[Path]:
    workspace = session.workspace
    stores = [workspace.frames, workspace.depth, workspace.features]
    found = [*(path for path in stores if path.is_dir()), *sorted(workspace.folder.glob("*.safetensors"))]
    if not found:
        raise UsageError(f"{workspace.folder}: holds no store and no checkpoint; begin with `amefu frames VIDEOS`")
    return found


def _verify(path: Path) -> dict[str, Any]:
    from amefu_cli.artefacts.stores.check import verify_store
    from amefu_cli.artefacts.stores.header import read_header
    from amefu_cli.artefacts.stores.store import VideoStore
    from amefu_cli.artefacts.weights.checkpoint import verify_checkpoint

    if path.is_file():
        reason = verify_checkpoint(path)
        damaged = {path.name: reason} if reason else {}
        return {
            "path": str(path), "videos": 0, "damaged": damaged, "seconds": 0.0,
            "fix": f"remove {path} and train it again",
        }  # fmt: skip
    header = read_header(path)
    if header is None:
        raise UsageError(f"{path}: no such store or checkpoint; `amefu status` lists those of the workspace")
    with VideoStore(path, header) as store, progress(path.name) as report:
        found = verify_store(store, progress=report)
    if not found.marked:
        warn(f"{path}: cannot be written, so what is damaged was not marked and will not be made again")
    return {
        "path": str(path), "videos": found.videos, "damaged": found.damaged, "seconds": found.seconds,
        "fix": f"`amefu {store.kind}` makes them, and only them, again",
    }  # fmt: skip
