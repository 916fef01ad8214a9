"""`amefu verify`: every store and checkpoint read back."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from amefu_cli.artefacts.stores.check import verify_store
from amefu_cli.artefacts.stores.header import read_header
from amefu_cli.artefacts.stores.store import VideoStore
from amefu_cli.artefacts.weights.checkpoint import verify_checkpoint
from amefu_cli.errors import UsageError
from amefu_cli.flows.session import Session


@dataclass(frozen=True)
class Verified:
    """One store or checkpoint: how many videos it has, which are damaged and how, and what to do about it."""

    path: str
    videos: int
    damaged: Mapping[str, str]
    seconds: float
    fix: str


def verify(session: Session, paths: Sequence[Path]) -> list[Verified]:
    """Read `paths` back, else all that the workspace holds; damaged videos are marked, so that they are made again.

    Raises:
        UsageError: there is nothing of that name, or nothing at all.
    """
    found = []
    for path in paths or _all_of(session):
        found.append(_checkpoint(path) if path.is_file() else _store(session, path))
        for video, reason in found[-1].damaged.items():
            session.say.warn(f"{path}: {video}: {reason}")
    return found


def _all_of(session: Session) -> list[Path]:
    workspace = session.workspace
    stores = [path for path in (workspace.frames, workspace.depth, workspace.features) if path.is_dir()]
    found = [*stores, *sorted(workspace.folder.glob("*.safetensors"))]
    if not found:
        raise UsageError(f"{workspace.folder}: holds no store and no checkpoint; start with `amefu frames VIDEOS`")
    return found


def _checkpoint(path: Path) -> Verified:
    reason = verify_checkpoint(path)
    return Verified(str(path), 0, {path.name: reason} if reason else {}, 0.0, f"remove {path} and train it again")


def _store(session: Session, path: Path) -> Verified:
    header = read_header(path)
    if header is None:
        raise UsageError(f"{path}: no such store or checkpoint; `amefu status` lists those of the workspace")
    with VideoStore(path, header) as store, session.say.progress(path.name) as progress:
        found = verify_store(store, progress=progress)
    if not found.marked:
        session.say.warn(f"{path}: cannot be written, so what is damaged was not marked and will not be made again")
    fix = f"`amefu {header.kind}` makes them, and only them, again"
    return Verified(str(path), found.videos, found.damaged, found.seconds, fix)
