"""A workspace in one document: what is done, failed and missing, read from headers alone."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from amefu_cli.artefacts.files.results import read_result
from amefu_cli.artefacts.files.split import read_split
from amefu_cli.artefacts.files.workspace import Workspace, located
from amefu_cli.artefacts.stores.failures import Failure, last_failures, read_failures
from amefu_cli.artefacts.stores.header import VideoRecord, read_header
from amefu_cli.artefacts.stores.store import VideoStore
from amefu_cli.artefacts.videos.find import find_clips
from amefu_cli.artefacts.weights.checkpoint import read_header as read_checkpoint_header
from amefu_cli.errors import DamagedFile
from amefu_cli.stages.pending import source_identity

MAIN_FIGURES = ("model", "way", "shot", "episodes", "seed", "accuracy", "half_width_95")


def describe(workspace: Workspace) -> dict[str, Any]:
    """Stores, checkpoints, results and failed videos of a workspace."""
    stores = {name: _open(path) for name, path in _stores(workspace).items()}
    records = {name: store.records() if store else {} for name, store in stores.items()}
    failures = {name: last_failures(read_failures(workspace.folder), name) for name in stores}
    wanted = _wanted(workspace, stores["frames"], records, failures["frames"])
    described, failed = [], []
    for name, path in _stores(workspace).items():
        store, there = stores[name], records[name]
        missing = {
            video
            for video, made_from in wanted[name].items()
            if video not in there or there[video].damaged or there[video].made_from != made_from
        }
        unmade = [failures[name][video] for video in sorted(missing) if store and video in failures[name]]
        failed += unmade
        described.append(_store(path, store, len(there.keys() - missing), len(unmade), len(missing)))
    return {
        "workspace": str(workspace.folder),
        "stores": described,
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


Identities = dict[str, Mapping[str, Any]]
"""What each video would be made from now, by id."""


def _wanted(
    workspace: Workspace,
    frames: VideoStore | None,
    records: dict[str, dict[str, VideoRecord]],
    failed: Mapping[str, Failure],
) -> dict[str, Identities]:
    """What each store would hold if all were done; `failed` tells of clips where VIDEOS is not there at the moment."""
    wanted: dict[str, Identities] = {
        "frames": {video: record.made_from for video, record in records["frames"].items()},
        "depth": {video: {"frames": record.fingerprint} for video, record in records["frames"].items()},
        "features": {},
    }
    videos = located(frames.notes, "videos", frames.path) if frames else None
    if frames and videos and videos.is_dir():
        for clip in find_clips(videos, follow_links=frames.notes.get("follow_links", False)).clips:
            if clip.id not in records["frames"] or not frames.settings["checksum"]:
                wanted["frames"][clip.id] = source_identity(clip, checksum=False)
    else:
        wanted["frames"] = {video: {} for video in failed} | wanted["frames"]
    split = read_split(workspace.split) if workspace.split.is_file() else None
    for video, record in (split.listed(records["depth"]) if split else records["depth"]).items():
        if video in records["frames"]:
            there = records["features"].get(video)
            made_from = {"frames": records["frames"][video].fingerprint, "depth": record.fingerprint}
            wanted["features"][video] = {**(there.made_from if there else {}), **made_from}
    return wanted


def _store(path: Path, store: VideoStore | None, done: int, failed: int, missing: int) -> dict[str, Any]:
    return {
        "path": str(path),
        "present": store is not None,
        "done": done,
        "failed": failed,
        "missing": missing - failed,
        "settings": dict(store.settings) if store else {},
        "made_from": dict(store.made_from) if store else {},
        "notes": dict(store.notes) if store else {},
    }


def _checkpoint(path: Path) -> dict[str, Any]:
    try:
        header = read_checkpoint_header(path)
        snapshot = read_checkpoint_header(path.with_suffix(".snapshot.safetensors"))
    except DamagedFile:
        return {"path": str(path), "state": "not a checkpoint", "settings": {}, "data": {}, "notes": {}}
    if header is not None:
        imported = header.notes.get("imported_from")
        state = f"imported from {imported}" if imported else f"epoch {header.notes.get('epoch', '-')}, done"
        return {
            "path": str(path), "state": state,
            "settings": dict(header.settings), "data": dict(header.data), "notes": dict(header.notes),
        }  # fmt: skip
    if snapshot is not None:
        position = snapshot.notes["position"]
        state = f"in training: epoch {position['epoch']}, step {position['step']}"
        return {"path": str(path), "state": state, "settings": dict(snapshot.settings), "data": {}, "notes": {}}
    return {"path": str(path), "state": "not there", "settings": {}, "data": {}, "notes": {}}


def _result(path: Path) -> dict[str, Any]:
    """The main figures of a result; all None where the file is something else."""
    try:
        result = read_result(path) or {}
    except DamagedFile:
        result = {}
    sound = all(isinstance(result.get(name), float) for name in ("accuracy", "half_width_95"))
    return {"path": str(path)} | {name: result.get(name) if sound else None for name in MAIN_FIGURES}
