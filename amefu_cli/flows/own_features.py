"""The frames and features of one's own clips, kept in WORKSPACE/predict: made as the workspace's own stores are, of
just the frames that are read, by just the streams that the model reads."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path

import numpy as np

from amefu_cli.artefacts.files.fingerprint import fingerprint
from amefu_cli.artefacts.files.workspace import located, noted, noted_weights
from amefu_cli.artefacts.stores import header as headers
from amefu_cli.artefacts.stores.header import AnyHeader, FeaturesHeader, FramesHeader, VideoRecord, header_of
from amefu_cli.artefacts.stores.store import VideoStore, prepare_store
from amefu_cli.engines.workers import usable_cores
from amefu_cli.errors import AmefuError, DamagedFile, UsageError
from amefu_cli.flows.depth import DepthOrder, DepthPlan, refuse_depth
from amefu_cli.flows.features import kept_frames
from amefu_cli.flows.frames import FramesOrder
from amefu_cli.flows.own_clips import OwnClip
from amefu_cli.flows.session import Session
from amefu_cli.flows.streams import IMAGENET, Asked, basenet_of, further_streams, streams_of
from amefu_cli.flows.work import Work, check_crop, settled_precision
from amefu_cli.method.sampling import Window, windows_of
from amefu_cli.settings import (
    ClipSettings,
    DepthSettings,
    FallbackSettings,
    FeaturesSettings,
    FramesRun,
    FramesSettings,
    NetworkRun,
    WorkRun,
)
from amefu_cli.stages import ClipJob, Outcome, Progress, VideoJob

PART = 64  # windows of a long video that are kept together
ALWAYS_TRIED = WorkRun(shard="none", max_attempts=1_000_000)  # no option asks for one that was left alone


@dataclass(frozen=True)
class OwnOrder:
    """Which features are asked for: of which streams, the frames that some `rules` of testing read."""

    folder: Path
    streams: tuple[str, ...]
    rules: tuple[str, ...]  # besides that of the workspace's features
    windows: tuple[float, float] | None  # of clips that are not examples: their length and distance, in seconds
    frames: FramesRun
    run: NetworkRun


@dataclass(frozen=True)
class OwnPlan:
    """An order of which all is settled that needs no look at a frame: both headers, the networks, the estimator of a
    model that reads depth."""

    order: OwnOrder
    frames: FramesHeader
    features: FeaturesHeader
    asked: Mapping[str, Asked]
    checkpoints: Mapping[str, Path]
    depth: DepthPlan | None

    @property
    def needed(self) -> dict[str, Asked]:
        return {name: self.asked[name] for name in self.order.streams}

    @property
    def store(self) -> VideoStore[FeaturesHeader]:
        """The features as they will be."""
        return VideoStore(self.order.folder / "features.zarr", self.features)

    def trained(self, stream: str) -> bool:
        """Whether a stream is a checkpoint that was pretrained, or imported."""
        return self.asked[stream].weights == str(self.checkpoints.get(stream))


def plan_own(session: Session, order: OwnOrder) -> OwnPlan:
    """What clips become in this workspace: as its own stores have it where they are there. Raises UsageError for what
    can be refused before any video is decoded."""
    workspace, folder = session.workspace, order.folder
    decoded = header_of(workspace.frames, FramesHeader)
    there, beside = header_of(workspace.features, FeaturesHeader), workspace.features
    notes = there.notes if there else None
    checkpoints = {
        "rgb": located(notes.rgb, beside) if notes else workspace.stream("rgb"),
        "depth": located(notes.depth_stream, beside) if notes else workspace.stream("depth"),
    }
    fallback = session.settings(FallbackSettings, "features")
    settings = there.settings if there else session.settings(FeaturesSettings, "features")
    asked = streams_of(checkpoints, fallback, there, beside, recorded=True)
    basenet = basenet_of(asked["rgb"], checkpoints["rgb"], seed=settings.seed) if IMAGENET in order.streams else None
    asked |= further_streams((), asked["rgb"].row, basenet=basenet, there=there, beside=beside)
    needed = {name: asked[name] for name in order.streams}
    of_depth = None
    if any(stream.row.reads == "depth" for stream in needed.values()):
        of_depth = refuse_depth(session, DepthOrder(workspace.depth, FramesOrder(workspace.frames), run=order.run))
    others = {name: of.weights for name, of in needed.items() if of.weights != str(checkpoints.get(name))}
    path, recipe = folder / "features.zarr", session.chosen.recipe
    of_frames = decoded.settings if decoded else session.settings(FramesSettings, "frames")
    return OwnPlan(
        order,
        FramesHeader(settings=replace(of_frames, checksum=True), notes=headers.FramesNotes(videos="", recipe=recipe)),
        FeaturesHeader(
            settings=FeaturesSettings(
                views=0, test_frames=settings.test_frames, seed=settings.seed, precision=settings.precision
            ),
            clip=there.clip if there else session.settings(ClipSettings, "features"),
            streams={name: stream.row for name, stream in needed.items()},
            notes=headers.FeaturesNotes(
                frames="", depth=noted(workspace.depth, path), rgb=noted(checkpoints["rgb"], path),
                depth_stream=noted(checkpoints["depth"], path), geometry=of_frames.geometry, recipe=recipe,
                weights={name: noted_weights(weights, path) for name, weights in others.items()},
            ),
        ),
        asked, checkpoints, of_depth,
    )  # fmt: skip


@dataclass(frozen=True)
class Part:
    """What is kept of a clip in one archive: some windows of it; the one of the whole has the clip's own id."""

    record: VideoRecord
    windows: Sequence[Window]
    suffix: str = ""

    @property
    def id(self) -> str:
        return self.record.id + self.suffix


@dataclass(frozen=True)
class Kept:
    """The features of examples and of clips: the parts of each by its id; and by id what those that are not among them
    failed with."""

    frames: VideoStore[FramesHeader]
    store: VideoStore[FeaturesHeader]
    examples: Mapping[str, Sequence[Part]]
    clips: Mapping[str, Sequence[Part]]
    failed: Mapping[str, str]

    def without(self, lost: Mapping[str, str]) -> Kept:
        """Without clips of which the features of some part failed."""
        examples, clips = (
            {video: parts for video, parts in some.items() if lost.keys().isdisjoint(part.id for part in parts)}
            for some in (self.examples, self.clips)
        )
        parts = {part.id: part for some in (self.examples, self.clips) for of in some.values() for part in of}
        failed = {**self.failed, **{parts[part].record.id: message for part, message in lost.items()}}
        return replace(self, examples=examples, clips=clips, failed=failed)


def features_of(session: Session, plan: OwnPlan, examples: Sequence[OwnClip], clips: Sequence[OwnClip]) -> Kept:
    """Decode what was never decoded, and compute what was never computed."""
    folder = plan.order.folder
    frames = _prepared(session, folder / "frames.zarr", plan.frames)
    check_crop(frames, [stream.row.crop for stream in plan.needed.values()])
    features = _prepared(session, folder / "features.zarr", plan.features)
    decoded = _decoded(session, plan, frames, [*examples, *clips])
    kept = Kept(frames, features, {}, {}, decoded.failed)
    if decoded.planned:
        return kept
    failed, names = dict(decoded.failed), {clip.id: clip.path for clip in [*clips, *examples]}
    of_examples = _parts(frames, examples, None, failed)
    kept = replace(kept, examples=of_examples, clips=_parts(frames, clips, plan.order.windows, failed), failed=failed)
    every = {part.id: part for some in (kept.examples, kept.clips) for of in some.values() for part in of}
    making = _Making(plan, frames, features, _estimator_of(plan.depth), every)
    work = Work(session, "features", ALWAYS_TRIED, folder)
    jobs = work.choose(every, features, making.job)
    _refuse_to_make(session, jobs)
    if session.dry_run or not jobs:
        return kept
    with session.say.progress("features") as progress:
        tell = _by_name(progress, {part: names[of.record.id] for part, of in every.items()})
        return kept.without(making.extract(session, jobs, work, tell).failed)


def _by_name(progress: Progress, names: Mapping[str, str]) -> Progress:
    """Progress that is told of a clip by its path."""
    return lambda done, total, item: progress(done, total, names[item])


def _parts(
    frames: VideoStore[FramesHeader], clips: Sequence[OwnClip], windows: tuple[float, float] | None,
    failed: dict[str, str],
) -> dict[str, Sequence[Part]]:  # fmt: skip
    """By clip the whole of it, or its windows, some at a time: what is computed of a long one is kept as it goes."""
    found: dict[str, Sequence[Part]] = {}
    for record in filter(None, (frames.record(clip.id) for clip in clips if clip.id not in failed)):
        if windows is None:
            found[record.id] = [Part(record, [Window(0, record.frames)])]
        elif record.fps is None:
            failed[record.id] = "its frame rate is not known, so --window counts no seconds of it; make a video of it"
        else:
            window, every = windows
            cut = windows_of(record.frames, record.fps, window=window, every=every)
            found[record.id] = [
                Part(record, cut[first : first + PART], f"/{window:g}-{every:g}/{first // PART:06}")
                for first in range(0, len(cut), PART)
            ]
    return found


def _prepared(session: Session, path: Path, header: AnyHeader) -> VideoStore[AnyHeader]:
    """The store at `path`, which is replaced where it was made otherwise: what it holds can be made again."""
    there = header_of(path, type(header))
    other = header.mismatch(there) if there else []
    if other:
        session.say.note(f"predict: {path} was made with other settings or by other streams; all of it is made again")
    return prepare_store(path, header, rebuild=bool(other))


def _decoded(session: Session, plan: OwnPlan, store: VideoStore[FramesHeader], clips: Sequence[OwnClip]) -> Outcome:
    run = plan.order.frames
    work = Work(
        session, "frames", ALWAYS_TRIED, plan.order.folder, timeout=run.timeout, allow_partial=run.allow_partial
    )
    own = {clip.id: clip for clip in reversed(clips)}
    jobs = work.choose(own, store, lambda video: ClipJob(own[video].clip._replace(id=video), own[video].made_from))
    _refuse_to_make(session, jobs)
    if session.dry_run or not jobs:
        return Outcome(planned=bool(jobs))
    from amefu_cli.stages.frames import extract_frames

    names = {video: clip.path for video, clip in own.items()}
    with store, session.say.progress("frames") as progress:
        return extract_frames(
            store, jobs, processes=max(1, min(run.jobs or usable_cores(), len(jobs))), timeout=run.timeout,
            allow_partial=run.allow_partial, failed=work.failed, progress=_by_name(progress, names),
        )  # fmt: skip


def _refuse_to_make(session: Session, jobs: Sequence[object]) -> None:
    if jobs and not session.upstream:
        raise UsageError(f"{len(jobs)} clips were never read, or not for this model; leave --no-upstream out")


def _estimator_of(depth: DepthPlan | None) -> DepthSettings | None:
    """By which settings, to the arithmetic, the clips get their disparity; None where the model reads none."""
    if depth is None:
        return None
    recorded = depth.there.settings.precision if depth.there else None
    return replace(depth.settings, precision=settled_precision(depth.settings.precision, recorded, depth.run.device))


@dataclass(frozen=True)
class _Making:
    """The stores of one run, and what the features of each clip are made from."""

    plan: OwnPlan
    frames: VideoStore[FramesHeader]
    store: VideoStore[FeaturesHeader]
    estimator: DepthSettings | None
    parts: Mapping[str, Part]

    def job(self, video: str) -> VideoJob:
        """The streams that a clip lacks. Frames and streams that it has beyond those that are asked for stay."""
        part, there, header = self.parts[video], self.store.record(video), self.plan.features
        source = {"frames": part.record.fingerprint, "windows": fingerprint(part.windows)}
        rules, sound = {header.settings.test_frames, *self.plan.order.rules}, dict[str, str]()
        held = dict(there.made_from) if there and self.store.is_done(there, there.made_from) else {}
        if source.items() <= held.items() and rules <= {*held["kept"]}:
            rules, needed = {*held["kept"]}, self.plan.needed
            streams = held["streams"].items()
            sound = {name: of for name, of in streams if name not in needed or of == self._made_by(name)}
        lacking = {name: self._made_by(name) for name in self.plan.needed if name not in sound}
        made_from = {**source, "kept": sorted(rules), "mirrored": [], "streams": sound | lacking}
        of_window = partial(kept_frames, rules=sorted(rules), runs=0, clip=header.clip)
        numbers = np.unique(np.concatenate([window.begin + of_window(window.frames) for window in part.windows]))
        return VideoJob(part.record, made_from, numbers, 1, tuple(lacking), tuple(sound), part.suffix)

    def _made_by(self, name: str) -> str:
        """What identifies a stream's features, with the disparity that it reads."""
        row = self.plan.needed[name].row
        if row.reads != "depth" or not self.estimator or not self.plan.depth:
            return row.fingerprint
        identity = headers.EstimatorIdentity.of(self.estimator.estimator, self.plan.depth.weights)
        return fingerprint(row.fingerprint, asdict(identity), {**self.estimator.as_dict(), "estimator": ""})

    def extract(self, session: Session, jobs: Sequence[VideoJob], work: Work, progress: Progress) -> Outcome:
        """What the networks say when they load is heard before the store is started or replaced."""
        from amefu_cli.stages import depth, features, networks

        run, settings = self.plan.order.run, self.plan.features.settings
        device = networks.choose_device(run.device)
        precision = networks.choose_precision(settings.precision, device)
        lacking = {name for job in jobs for name in job.streams}
        asked = {name: stream for name, stream in self.plan.needed.items() if name in lacking}
        streams = features.load_streams(asked, device=device, precision=precision, seed=settings.seed)
        estimator, known = None, {name: of.provenance for name, of in streams.items() if of.provenance}
        if self.estimator and self.plan.depth and any(stream.row.reads == "depth" for stream in asked.values()):
            weights = self.plan.depth.weights
            estimator, message, known["estimator"] = depth.load_estimator(self.estimator, weights, device)
            if message:
                session.say.note(message)
        setup = features.Extraction(
            frames=self.frames, depth=None, features=self.store, streams=streams, device=device, precision=precision,
            batch=run.batch, seed=settings.seed, estimator=estimator,
        )  # fmt: skip

        def failed(video: str, error: AmefuError) -> None:
            if isinstance(error, DamagedFile):  # of its kept frames: decoded again by the next call
                self.frames.remove(self.parts[video].record.id)
            work.failed(video, error)

        with self.store as store:
            store.note_provenance(known)
            return features.extract_features(setup, jobs, failed=failed, progress=progress)
