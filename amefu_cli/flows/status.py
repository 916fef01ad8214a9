"""`amefu status`: what a workspace holds, from headers alone; `amefu verify`: whether it is sound, all of it read."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path

from amefu_cli.artefacts.files.results import read_result
from amefu_cli.artefacts.files.split import read_split
from amefu_cli.artefacts.files.workspace import Workspace, located
from amefu_cli.artefacts.stores import header as headers
from amefu_cli.artefacts.stores.check import verify_store
from amefu_cli.artefacts.stores.failures import Failure, last_failures, read_failures
from amefu_cli.artefacts.stores.header import AnyHeader, DepthHeader, FeaturesHeader, FramesHeader, VideoRecord
from amefu_cli.artefacts.stores.store import VideoStore
from amefu_cli.artefacts.videos.copies import one_of_each
from amefu_cli.artefacts.videos.find import find_clips
from amefu_cli.artefacts.weights.checkpoint import read_header, verify_checkpoint
from amefu_cli.artefacts.weights.headers import AnyCheckpoint, Position
from amefu_cli.artefacts.weights.training_run import snapshot_path
from amefu_cli.errors import DamagedFile, UsageError
from amefu_cli.flows.frames import Sources
from amefu_cli.flows.session import Session

Identities = dict[str, Mapping[str, object]]
"""What each video would be made from now, by id."""
Records = Mapping[str, VideoRecord]


@dataclass(frozen=True)
class StoreStatus:
    """One store: its videos by number, and its header where it is there."""

    path: str
    done: int
    failed: int
    missing: int
    header: Mapping[str, object] | None

    @property
    def state(self) -> str:
        """In words."""
        return f"{self.done} done, {self.failed} failed, {self.missing} missing" if self.header else "not there"


@dataclass(frozen=True)
class CheckpointStatus:
    """One checkpoint: its state in words, and its header, or that of its snapshot, where there is one."""

    path: str
    state: str
    header: Mapping[str, object] | None


@dataclass(frozen=True)
class ResultStatus:
    """The main figures of a result; all None where the file is something else."""

    path: str
    model: str | None = None
    way: int | None = None
    shot: int | None = None
    episodes: int | None = None
    seed: int | None = None
    accuracy: float | None = None
    half_width_95: float | None = None


@dataclass(frozen=True)
class Status:
    """Stores, checkpoints, results and failed videos of a workspace."""

    workspace: str
    stores: tuple[StoreStatus, ...]
    checkpoints: tuple[CheckpointStatus, ...]
    results: tuple[ResultStatus, ...]
    failed: tuple[Failure, ...]


def describe(workspace: Workspace) -> Status:
    """What a workspace holds."""
    frames = _open(workspace.frames, FramesHeader)
    depth, features = _open(workspace.depth, DepthHeader, frames), _open(workspace.features, FeaturesHeader, frames)
    attempts = read_failures(workspace.folder)
    failures = {name: last_failures(attempts, name) for name in ("frames", "depth", "features")}
    decoded, predicted, computed = _records(frames), _records(depth), _records(features)
    of_frames = _clips(frames, decoded, failures["frames"])
    of_depth: Identities = {video: {"frames": record.fingerprint} for video, record in decoded.items()}
    of_features = _features(workspace, decoded, predicted, computed, features)
    described = [
        _store(workspace.frames, frames, decoded, of_frames, failures["frames"]),
        _store(workspace.depth, depth, predicted, of_depth, failures["depth"]),
        _store(workspace.features, features, computed, of_features, failures["features"]),
    ]
    return Status(
        str(workspace.folder), stores=tuple(store for store, _ in described),
        checkpoints=tuple(_checkpoints(workspace)),
        results=tuple(map(_result, sorted(workspace.results.glob("*.json")))),
        failed=tuple(failure for _, failed in described for failure in failed),
    )  # fmt: skip


def _open(
    path: Path, kind: type[AnyHeader], frames: VideoStore[FramesHeader] | None = None
) -> VideoStore[AnyHeader] | None:
    header = headers.header_of(path, kind)
    return VideoStore(path, header, frames=frames) if header else None


def _records(store: VideoStore[AnyHeader] | None) -> Records:
    return store.records() if store else {}


def _clips(frames: VideoStore[FramesHeader] | None, decoded: Records, failed: Mapping[str, Failure]) -> Identities:
    """What each video of frames would be made from now; `failed` tells of clips where VIDEOS is not there."""
    wanted: Identities = {video: record.made_from for video, record in decoded.items()}
    folder = located(frames.header.notes.videos, frames.path) if frames else None
    if frames is None or folder is None or not folder.is_dir():
        return {video: {} for video in failed} | wanted
    sources = Sources(frames, compare=False)
    for clip in one_of_each(find_clips(folder, follow_links=frames.header.notes.follow_links)).clips:
        if clip.id not in wanted or not frames.header.settings.checksum:
            wanted[clip.id] = sources.made_from(clip)
    return wanted


def _features(
    workspace: Workspace, frames: Records, depth: Records, there: Records, features: VideoStore[FeaturesHeader] | None
) -> Identities:
    """The same of the features of the videos of the split: as they are, but of their present frames and disparity, and
    with all streams."""
    split = read_split(workspace.split) if workspace.split.is_file() else None
    rows = features.header.streams if features else {}
    streams = {name: row.fingerprint for name, row in rows.items() if not row.novel_only}
    wanted: Identities = {}
    for video, record in depth.items():
        if video in frames and (split is None or split.lists(video)):
            held = dict(there[video].made_from) if video in there else {}
            present = {"frames": frames[video].fingerprint, "depth": record.fingerprint}
            wanted[video] = {**held, **present, "streams": {**held.get("streams", {}), **streams}}
    return wanted


def _store(
    path: Path, store: VideoStore[AnyHeader] | None, there: Records, wanted: Identities,
    failures: Mapping[str, Failure],
) -> tuple[StoreStatus, list[Failure]]:  # fmt: skip
    """A store, and the last failure of each video that it lacks: that is not there as it would be made now."""
    lacking = {
        video for video, made_from in wanted.items()
        if video not in there or there[video].damaged or there[video].made_from != made_from
    }  # fmt: skip
    failed = [failures[video] for video in sorted(lacking) if store and video in failures]
    done, header = len(there.keys() - lacking), asdict(store.header) if store else None
    return StoreStatus(str(path), done, len(failed), len(lacking) - len(failed), header), failed


def _checkpoints(workspace: Workspace) -> Iterator[CheckpointStatus]:
    """Those that the workspace names, whether they are there or not, then any others."""
    known = [workspace.stream("rgb"), workspace.stream("depth"), workspace.fusion]
    paths = dict.fromkeys([*known, *sorted(workspace.folder.glob("*.safetensors"))])
    return (_checkpoint(path) for path in paths if not path.stem.endswith((".snapshot", ".best")))


def _checkpoint(path: Path) -> CheckpointStatus:
    try:
        header = read_header(path)
        snapshot = None if header else read_header(snapshot_path(path))
    except DamagedFile:
        return CheckpointStatus(str(path), "not a checkpoint", None)
    shown = header or snapshot
    if shown is None:
        return CheckpointStatus(str(path), "not there", None)
    notes, position = shown.notes, shown.notes.position or Position()
    state = f"epoch {'-' if notes.epoch is None else notes.epoch}, done"
    if snapshot:
        state = f"in training: epoch {position.epoch}, step {position.step}"
    elif notes.imported_from:
        state = f"imported from {notes.imported_from}"
    return CheckpointStatus(str(path), state, _document(shown))


def _document(header: AnyCheckpoint) -> dict[str, object]:
    """What a checkpoint says of itself, without what it has nothing to say of."""
    notes = {name: value for name, value in asdict(header.notes).items() if value is not None}
    return {name: value for name, value in header.compared().items() if value is not None} | {"notes": notes}


def _result(path: Path) -> ResultStatus:
    with suppress(DamagedFile):
        if result := read_result(path):
            asked, found = result.asked, result.found
            task = asked.model, asked.way, asked.shot, asked.episodes, asked.seed
            return ResultStatus(str(path), *task, found.accuracy, found.half_width_95)
    return ResultStatus(str(path))


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
    workspace = session.workspace
    stores = [path for path in (workspace.frames, workspace.depth, workspace.features) if path.is_dir()]
    stores += sorted((workspace.folder / "predict").glob("*.zarr"))
    everything = [*stores, *sorted(workspace.folder.glob("*.safetensors"))]
    if not paths and not everything:
        raise UsageError(f"{workspace.folder}: holds no store and no checkpoint; start with `amefu frames VIDEOS`")
    found = []
    for path in paths or everything:
        found.append(_verify_checkpoint(path) if path.is_file() else _verify_store(session, path))
        for video, reason in found[-1].damaged.items():
            session.say.warn(f"{path}: {video}: {reason}")
    return found


def _verify_checkpoint(path: Path) -> Verified:
    reason = verify_checkpoint(path)
    return Verified(str(path), 0, {path.name: reason} if reason else {}, 0.0, f"remove {path} and train it again")


def _verify_store(session: Session, path: Path) -> Verified:
    header = headers.read_header(path)
    if header is None:
        raise UsageError(f"{path}: no such store or checkpoint; `amefu status` lists those of the workspace")
    with VideoStore(path, header) as store, session.say.progress(path.name) as progress:
        found = verify_store(store, progress=progress)
    if not found.marked:
        session.say.warn(f"{path}: cannot be written, so what is damaged was not marked and will not be made again")
    command = "predict" if path.parent == session.workspace.folder / "predict" else header.kind
    fix = f"`amefu {command}` makes them, and only them, again"
    return Verified(str(path), found.videos, found.damaged, found.seconds, fix)
