"""Inputs brought up to date, flat: what can be refused without a look at a frame; frames; what they and the split alone
can tell; depth; features. Each step hands on the store that it has opened."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Generic

from amefu_cli.artefacts.files.split import Split
from amefu_cli.artefacts.files.workspace import located
from amefu_cli.artefacts.stores.header import AnyHeader, DepthHeader, FeaturesHeader, FramesHeader
from amefu_cli.artefacts.stores.store import VideoStore, open_store
from amefu_cli.flows.depth import DepthOrder, DepthPlan, make_depth, refuse_depth
from amefu_cli.flows.features import (
    FeaturesOrder,
    Inputs,
    make_features,
    refuse_features,
    warn_of_other_protocol,
    warn_of_other_switches,
)
from amefu_cli.flows.frames import FIX, FramesOrder, make_frames
from amefu_cli.flows.session import Session
from amefu_cli.flows.splits import SplitOrder, resolve_split
from amefu_cli.flows.work import Made, check_crop, unknown_yet
from amefu_cli.settings import WorkRun
from amefu_cli.stages import Outcome

Check = Callable[[VideoStore[FramesHeader] | VideoStore[FeaturesHeader], Split], None]
"""Refuses what the videos of a store, by a split, are too few for; called before any network runs."""


@dataclass(frozen=True)
class Ready(Generic[AnyHeader]):
    """A store that is up to date, and the split that its videos are read by."""

    store: VideoStore[AnyHeader]
    split: Split


def frames_up_to_date(session: Session, order: FramesOrder) -> Made[FramesHeader]:
    """The frames as they are asked for; with --no-upstream as they are."""
    if session.upstream:
        return make_frames(session, order)
    return Made(open_store(order.out, FramesHeader, fix=FIX), Outcome())


def depth_up_to_date(session: Session, order: DepthOrder) -> Made[DepthHeader]:
    """depth.zarr, and first the frames that it is made from."""
    plan = refuse_depth(session, order)
    return _depth(session, plan, frames_up_to_date(session, order.frames))


def _depth(session: Session, plan: DepthPlan, frames: Made[FramesHeader]) -> Made[DepthHeader]:
    if frames.outcome.planned:
        unknown_yet(session, "depth", plan.order.frames.out)
    if frames.store is None:
        return Made(None, frames.outcome)
    return make_depth(session, plan, frames.store, frames.outcome)


def features_up_to_date(
    session: Session, order: FeaturesOrder, check: Check | None = None
) -> tuple[Made[FeaturesHeader], Split]:
    """features.zarr, and first all that it is made from."""
    plan = refuse_features(session, order)
    of_depth = _depth_order(plan.inputs, order.work)
    depth_plan = refuse_depth(session, of_depth) if session.upstream else None
    frames = frames_up_to_date(session, of_depth.frames)
    assert frames.store is not None, "without VIDEOS there is a store, or it has been refused"
    check_crop(frames.store, [stream.crop for stream in plan.header.streams.values()])
    split = resolve_split(session, order.split, frames.store, plan.header.streams, share=plan.work.is_share)
    if check and not session.dry_run:  # which may not have all frames yet
        check(frames.store, split)
    plan.warn_of_untrained(session)
    if depth_plan:
        depth = _depth(session, depth_plan, frames)
    else:
        depth = Made(open_store(of_depth.out, DepthHeader, fix="amefu depth", frames=frames.store), Outcome())
    if depth.outcome.planned:
        unknown_yet(session, "features", of_depth.out)
    if depth.store is None:
        return Made(None, depth.outcome), split
    return make_features(session, plan, frames.store, depth.store, split, depth.outcome), split


def _depth_order(inputs: Inputs, work: WorkRun) -> DepthOrder:
    """What features are made from, of the same share of the videos."""
    share = WorkRun(shard=work.shard)
    return DepthOrder(inputs.depth, FramesOrder(inputs.frames, work=share), work=share)


def features_with_split(
    session: Session, order: FeaturesOrder, check: Check | None = None
) -> Ready[FeaturesHeader] | None:
    """What trainings and evaluations read. None where a dry run finds something to do before: it has been said."""
    if session.upstream:
        made, split = features_up_to_date(session, order, check)
        if made.outcome.planned or made.store is None:
            unknown_yet(session, session.command, order.out)
            return None
        ready = Ready(made.store, split)
    else:
        store = open_store(order.out, FeaturesHeader, fix="amefu features")
        ready = Ready(store, resolve_split(session, order.split, store, store.header.streams))
        notes = (store.header.notes.rgb, store.header.notes.depth_stream)
        warn_of_other_protocol(session, store.header, [located(path, order.out) for path in notes], order.out)
        if check:
            check(ready.store, ready.split)
    warn_of_other_switches(session, ready.store)
    return ready


def stream_with_split(
    session: Session, modality: str, frames: Path, depth: Path, split: SplitOrder
) -> Ready[FramesHeader] | Ready[DepthHeader] | None:
    """What a stream is trained on, frames or disparity; None where a dry run finds something to do before."""
    order = FramesOrder(frames)
    if modality == "rgb":
        return _with_split(session, frames_up_to_date(session, order), frames, split)
    if session.upstream:
        return _with_split(session, depth_up_to_date(session, DepthOrder(depth, order)), depth, split)
    return _with_split(session, Made(open_store(depth, DepthHeader, fix="amefu depth"), Outcome()), depth, split)


def _with_split(session: Session, made: Made[AnyHeader], path: Path, split: SplitOrder) -> Ready[AnyHeader] | None:
    if made.outcome.planned or made.store is None:
        unknown_yet(session, session.command, path)
        return None
    return Ready(made.store, resolve_split(session, split, made.store, {}))
