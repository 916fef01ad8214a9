"""A workspace in one document: what is done, failed and missing, read from headers alone."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from amefu_cli.artefacts.checkpoint import read_header as read_checkpoint_header
from amefu_cli.artefacts.clips import find_clips
from amefu_cli.artefacts.failures import read_failures
from amefu_cli.artefacts.results import read_result
from amefu_cli.artefacts.split import read_split
from amefu_cli.artefacts.store_headers import VideoRecord, read_header
from amefu_cli.artefacts.video_store import VideoStore
from amefu_cli.artefacts.workspace import Workspace, located

MAIN_FIGURES = ("model", "way", "shot", "episodes", "seed", "accuracy", "half_width_95")


def describe(workspace: Workspace) -> dict[str, Any]:
    """Stores, checkpoints, results and failed videos of a workspace."""
    stores = {name: _open(path) for name, path in _stores(workspace).items()}
    records = {name: store.records() if store else {} for name, store in stores.items()}
    latest = {(failure.video, failure.stage): failure for failure in read_failures(workspace.folder)}
    failed = [failure for (video, stage), failure in latest.items() if video not in records.get(stage, {})]
    wanted = _wanted(workspace, stores["frames"], records)
    return {
        "workspace": str(workspace.folder),
        "stores": [
            _store(path, stores[name], records[name], wanted[name], sum(f.stage == name for f in failed))
            for name, path in _stores(workspace).items()
        ],
        "checkpoints": [_checkpoint(path) for path in _checkpoints(workspace)],
        "results": [_result(path) for path in sorted(workspace.results.glob("*.json"))],
        "failed": [vars(failure) for failure in failed],
    }


def _stores(workspace: Workspace) -> dict[str, Path]:
    return {"frames": workspace.frames, "depth": workspace.depth, "features": workspace.features}


def _checkpoints(workspace: Workspace) -> list[Path]:
    known = [workspace.stream("rgb"), workspace.stream("depth"), workspace.fusion]
    others = [
        path
        for path in sorted(workspace.folder.glob("*.safetensors"))
        if path not in known and not path.stem.endswith((".snapshot", ".best"))
    ]
    return known + others


def _open(path: Path) -> VideoStore | None:
    header = read_header(path)
    return VideoStore(path, header) if header else None


def _wanted(
    workspace: Workspace, frames: VideoStore | None, records: dict[str, dict[str, VideoRecord]]
) -> dict[str, set[str]]:
    """The ids that each store would hold if all were done."""
    videos = located(frames.notes["videos"], frames.path) if frames else None
    clips = (
        {clip.id for clip in find_clips(videos, follow_links=False).clips}
        if videos and videos.is_dir()
        else set()
    )
    split = read_split(workspace.split) if workspace.split.is_file() else None
    return {
        "frames": clips | set(records["frames"]),
        "depth": set(records["frames"]),
        "features": {
            video
            for video, record in records["depth"].items()
            if split is None or split.part_of(record.class_name)
        },
    }


def _store(
    path: Path, store: VideoStore | None, records: dict[str, VideoRecord], wanted: set[str], failed: int
) -> dict[str, Any]:
    missing = len(wanted - set(records))
    return {
        "path": str(path),
        "present": store is not None,
        "done": len(records),
        "failed": failed,
        "missing": max(0, missing - failed),
        "recipe": dict(store.recipe) if store else {},
        "made_from": dict(store.made_from) if store else {},
        "notes": dict(store.notes) if store else {},
    }


def _checkpoint(path: Path) -> dict[str, Any]:
    header = read_checkpoint_header(path)
    snapshot = read_checkpoint_header(path.with_suffix(".snapshot.safetensors"))
    if header is not None:
        return {
            "path": str(path), "state": f"epoch {header.notes.get('epoch', '-')}, done",
            "recipe": dict(header.recipe), "data": dict(header.data), "notes": dict(header.notes),
        }  # fmt: skip
    if snapshot is not None:
        position = snapshot.notes["position"]
        state = f"in training: epoch {position['epoch']}, step {position['step']}"
        return {"path": str(path), "state": state, "recipe": dict(snapshot.recipe), "data": {}, "notes": {}}
    return {"path": str(path), "state": "not there", "recipe": {}, "data": {}, "notes": {}}


def _result(path: Path) -> dict[str, Any]:
    result = read_result(path) or {}
    return {"path": str(path)} | {name: result.get(name) for name in MAIN_FIGURES}
