"""`amefu features`: by which streams, and which videos lack their features."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from amefu_cli.artefacts.files.names import class_of
from amefu_cli.artefacts.files.split import Split
from amefu_cli.artefacts.files.workspace import imported_protocol, located, noted, noted_weights
from amefu_cli.artefacts.stores.header import DepthHeader, FeaturesHeader, FeaturesNotes, FramesHeader, header_of
from amefu_cli.artefacts.stores.store import VideoStore, prepare_store
from amefu_cli.flows.session import Session
from amefu_cli.flows.splits import SplitOrder, refuse_to_draw
from amefu_cli.flows.streams import IMAGENET, Asked, basenet_of, further_streams, streams_of
from amefu_cli.flows.work import WHOLE, Made, Work, WorkRun, check_device, recipe_noted
from amefu_cli.method.heads import HEADS, MODELS
from amefu_cli.method.sampling import clip_by_rule, mirrored_views, spread_runs
from amefu_cli.settings import (
    MOSTLY,
    RECIPES,
    ClipSettings,
    FallbackSettings,
    FeaturesSettings,
    FramesSettings,
    NetworkRun,
)
from amefu_cli.stages import Outcome, VideoJob

# By which rules, besides that of the store, testing reads frames of a novel video: those of every model and head, so
# that one that is evaluated later finds its frames (40 at most of a clip of 16). Of others, validation reads by heads'.
OF_HEADS = sorted({head.frames for head in HEADS.values() if head.frames})
ENOUGH_FRAMES = 64  # to tell that a feature is constant
RULES = sorted({*OF_HEADS, *(model.test_frames for model in MODELS.values() if model.test_frames)})


@dataclass(frozen=True)
class Inputs:
    """What features are made from: two stores and two checkpoints."""

    frames: Path
    depth: Path
    rgb: Path
    depth_stream: Path

    @property
    def checkpoints(self) -> dict[str, Path]:
        """Those of the streams, by name."""
        return {"rgb": self.rgb, "depth": self.depth_stream}


@dataclass(frozen=True)
class FeaturesOrder:
    """Which features are asked for; without `inputs`, `settings`, `clip` or `fallback`, as the store was started with.

    `streams` are further ones, as --stream spells them. What was added once stays up to date from then on.
    """

    out: Path
    split: SplitOrder
    inputs: Inputs | None = None
    settings: FeaturesSettings | None = None
    clip: ClipSettings | None = None
    fallback: FallbackSettings | None = None
    run: NetworkRun | None = None
    work: WorkRun = WHOLE
    streams: Sequence[str] = ()
    basenet: bool = False
    rebuild: bool = False


@dataclass(frozen=True)
class FeaturesPlan:
    """An order of which all is settled that needs no look at a frame."""

    order: FeaturesOrder
    inputs: Inputs
    header: FeaturesHeader
    asked: Mapping[str, Asked]
    run: NetworkRun
    work: Work

    def warn_of_untrained(self, session: Session) -> None:
        """Name the streams that were never pretrained."""
        for name, path in self.inputs.checkpoints.items():
            used = self.asked[name]
            if used.weights != str(path):
                session.say.warn(
                    f"the {name} stream was never pretrained ({path} is not there): {used.row.backbone} is used with "
                    f"weights {used.weights!r}"
                )


def refuse_features(session: Session, order: FeaturesOrder) -> FeaturesPlan:
    """Raises UsageError for what can be refused before any video is decoded: device, backbones, weights, share."""
    path, there = order.out, None if order.rebuild else header_of(order.out, FeaturesHeader)
    run = order.run or session.settings(NetworkRun, "features")
    check_device(run.device)
    inputs = order.inputs or _inputs(session, path, there)
    settings = order.settings or (there.settings if there else session.settings(FeaturesSettings, "features"))
    asked = _asked(session, order, inputs, there, seed=settings.seed)
    header = FeaturesHeader(
        settings=settings,
        clip=order.clip or (there.clip if there else session.settings(ClipSettings, "features")),
        streams={name: stream.row for name, stream in asked.items()},
        notes=_notes(session, inputs, asked, path, there),
    )
    if there is None:
        session.note_protocol("features", header.settings)
    work = Work(session, "features", order.work, path.parent)
    if work.is_share:
        refuse_to_draw(session, order.split)
    return FeaturesPlan(order, inputs, header, asked, run, work)


def _asked(
    session: Session, order: FeaturesOrder, inputs: Inputs, there: FeaturesHeader | None, *, seed: int
) -> dict[str, Asked]:
    fallback, recorded = order.fallback or session.settings(FallbackSettings, "features"), order.fallback is None
    asked = streams_of(inputs.checkpoints, fallback, there, order.out, recorded=recorded)
    reads_it = order.basenet or (there is not None and IMAGENET in there.streams)
    basenet = basenet_of(asked["rgb"], inputs.rgb, seed=seed) if reads_it else None
    return asked | further_streams(order.streams, asked["rgb"].row, basenet=basenet, there=there, beside=order.out)


def _inputs(session: Session, path: Path, there: FeaturesHeader | None) -> Inputs:
    """Those that the store was made from, else the workspace's."""
    if there is None:
        workspace = session.workspace
        return Inputs(workspace.frames, workspace.depth, workspace.stream("rgb"), workspace.stream("depth"))
    notes = there.notes
    return Inputs(*(located(noted, path) for noted in (notes.frames, notes.depth, notes.rgb, notes.depth_stream)))


def _notes(
    session: Session, inputs: Inputs, asked: Mapping[str, Asked], path: Path, there: FeaturesHeader | None
) -> FeaturesNotes:
    checkpoints = {*map(str, inputs.checkpoints.values())}
    others = {name: stream.weights for name, stream in asked.items() if stream.weights not in checkpoints}
    return FeaturesNotes(
        frames=noted(inputs.frames, path), depth=noted(inputs.depth, path), rgb=noted(inputs.rgb, path),
        depth_stream=noted(inputs.depth_stream, path), recipe=recipe_noted(session, there),
        weights={name: noted_weights(weights, path) for name, weights in others.items()},
    )  # fmt: skip


def make_features(
    session: Session, plan: FeaturesPlan, frames: VideoStore[FramesHeader], depth: VideoStore[DepthHeader],
    split: Split, before: Outcome,
) -> Made[FeaturesHeader]:  # fmt: skip
    """Bring features.zarr up to date with both stores; `before` is what was done to them."""
    header = replace(plan.header, notes=replace(plan.header.notes, geometry=frames.header.settings.geometry))
    warn_of_other_protocol(session, header, plan.inputs.checkpoints.values(), plan.order.out)
    store = prepare_store(plan.order.out, header, rebuild=plan.order.rebuild, frames=frames)
    making = _Making(plan, frames, depth, store, split)
    jobs = plan.work.choose([*filter(split.lists, frames.ids())], store, making.job)
    if jobs and (flip := header.settings.flip) > 0 and header.settings.views == 0:
        session.say.warn(f"--flip {flip} mirrors random crops alone, and --views 0 makes none: no feature is mirrored")
    outcome = None if session.dry_run else making.extract(session, jobs)
    return plan.work.made(store, outcome, before)


@dataclass(frozen=True)
class _Making:
    """The stores of one run, and what the features of each video are made from."""

    plan: FeaturesPlan
    frames: VideoStore[FramesHeader]
    depth: VideoStore[DepthHeader]
    store: VideoStore[FeaturesHeader]
    split: Split

    def job(self, video: str) -> VideoJob | None:
        """The streams that a video lacks; None where its disparity is not that of its present frames.

        Only base videos get random views, since only training looks at them. Streams that are there stay untouched,
        as long as the same frames of the video are kept.
        """
        record, disparity = self.frames.record(video), self.depth.record(video)
        part = self.split.part_of(class_of(video))
        if record is None or disparity is None or disparity.made_from.get("frames") != record.fingerprint:
            return None
        header, novel = self.plan.header, part == "novel"
        settings = header.settings
        rows = {name: row for name, row in header.streams.items() if novel or not row.novel_only}
        streams = {name: row.fingerprint for name, row in rows.items()}
        auto = novel and settings.novel_frames == "auto"
        rules = [*dict.fromkeys([settings.test_frames, *(RULES if novel else OF_HEADS)])]
        rules = rules if auto or settings.runs else []
        numbers = kept_frames(record.frames, rules, runs=0 if auto else settings.runs, clip=header.clip)
        views = settings.views if part == "base" else 0
        made_from: dict[str, object] = {
            "frames": record.fingerprint, "depth": disparity.fingerprint, "part": part, "kept": rules,
            "mirrored": mirrored_views(video, views, flip=settings.flip, seed=settings.seed),
        }  # fmt: skip
        copied = self._sound_streams(video, made_from, streams)
        lacking = tuple(name for name in streams if name not in copied)
        made_from["streams"] = streams
        return VideoJob(record, made_from, numbers, 1 + views, lacking, copied)

    def _sound_streams(
        self, video: str, made_from: Mapping[str, object], streams: Mapping[str, str]
    ) -> tuple[str, ...]:
        """The streams of a stored video that making it now would give again, frame by frame."""
        there = self.store.record(video)
        if there is None or video in self.plan.work.again or not self.store.is_done(there, there.made_from):
            return ()
        held = dict(there.made_from)
        of_streams = held.pop("streams", {})
        return tuple(name for name, of in of_streams.items() if streams.get(name) == of) if held == made_from else ()

    def extract(self, session: Session, jobs: Sequence[VideoJob]) -> Outcome:
        """What the networks say when they load is heard before the store is started or replaced."""
        if not jobs:  # which is known before torch is loaded
            with self.store:
                return Outcome()
        from amefu_cli.stages.features import Extraction, extract_features, load_streams
        from amefu_cli.stages.networks import choose_device, choose_precision

        run, settings = self.plan.run, self.plan.header.settings
        device = choose_device(run.device)
        precision = choose_precision(settings.precision, device)
        needed = {name for job in jobs for name in job.streams}
        asked = {name: stream for name, stream in self.plan.asked.items() if name in needed}
        streams = load_streams(asked, device=device, precision=precision, seed=settings.seed)
        setup = Extraction(
            frames=self.frames, depth=self.depth, features=self.store, streams=streams, device=device,
            precision=precision, batch=run.batch, seed=settings.seed,
        )  # fmt: skip
        with self.store as store, session.say.progress("features") as progress:
            store.note_provenance({name: of.provenance for name, of in streams.items() if of.provenance})
            outcome = extract_features(setup, jobs, failed=self.plan.work.failed, progress=progress)
        for name, found in setup.ranges.items():
            if found.constant > MOSTLY and found.frames >= ENOUGH_FRAMES:
                session.say.warn(
                    f"{store.path}: {found.constant:.0%} of the features of {name!r} are the same in all "
                    f"{found.frames} frames: its network tells them apart no more; pretrain it again (see what `amefu "
                    "pretrain` says at its end), or remove its checkpoint to use ImageNet's weights"
                )
        return outcome


def kept_frames(frames: int, rules: Sequence[str], *, runs: int, clip: ClipSettings) -> NDArray[np.int64]:
    """The frame numbers of a video of `frames` frames that are kept, ascending: those that `rules` of testing read, and
    `runs` runs in each segment; without any of both every frame."""
    if not rules and not runs:
        return np.arange(frames, dtype=np.int64)
    size = {"segments": clip.segments, "frames_per_segment": clip.frames_per_segment}
    parts = [clip_by_rule(rule, frames, **size) for rule in rules]
    return np.unique(np.concatenate([*parts, spread_runs(frames, runs=runs, **size)] if runs else parts))


def warn_of_other_protocol(session: Session, header: FeaturesHeader, checkpoints: Iterable[Path], store: Path) -> None:
    """Say where an imported stream was trained and tested on other frames than features are made of."""
    made = {"geometry": header.notes.geometry, "test_frames": header.settings.test_frames}
    protocol = imported_protocol(checkpoints)
    other = [name for name in made if protocol.get(name, made[name]) != made[name]]
    if not other:
        return
    trained, found = (", ".join(f"{name} {of[name]}" for name in other) for of in (protocol, made))
    lines = {"geometry": "frames VIDEOS", "test_frames": "features"}
    fixes = (f"`amefu {lines[name]} --rebuild --{name.replace('_', '-')} {protocol[name]}`" for name in other)
    session.say.warn(
        f"the imported streams were trained and tested by {trained}, but {store} has {found}; for the public code's "
        f"numbers type {', then '.join(fixes)}"
    )


def warn_of_other_switches(session: Session, store: VideoStore[FeaturesHeader]) -> None:
    """Say where `--recipe` asks for other frames or features than those that `store` was made with."""
    if session.recipe is None:
        return
    asked = {**vars(session.settings(FramesSettings, "frames")), **vars(session.settings(FeaturesSettings, "features"))}
    held = {"geometry": store.header.notes.geometry, **vars(store.header.settings)}
    tables = [defaults.get(kind, {}) for defaults in RECIPES.values() for kind in ("frames", "features")]
    switches = {name for table in tables for name in table}
    other = [f"{name} {held[name]} (not {asked[name]})" for name in sorted(switches) if held[name] != asked[name]]
    if other:
        session.say.warn(
            f"--recipe {session.recipe} is not what {store.path} was made by: it has {', '.join(other)}; "
            "give --recipe to every line of another --workspace"
        )
