"""Inputs brought up to date, flat: what can be refused without a look at a frame; frames; what they and the split alone
can tell; depth; features. Each step hands on the store that it has opened."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Generic

from amefu_cli.artefacts.files.split import Split
from amefu_cli.artefacts.stores.header import AnyHeader, DepthHeader, FeaturesHeader, FramesHeader
from amefu_cli.artefacts.stores.store import VideoStore, open_store
from amefu_cli.engines.workers import parse_shard
from amefu_cli.flows.depth import DepthOrder, DepthPlan, make_depth, refuse_depth
from amefu_cli.flows.features import (
    FeaturesOrder,
    FeaturesPlan,
    Inputs,
    make_features,
    refuse_features,
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
    frames = frames_up_to_date(session, order.frames)
    return _depth(session, plan, frames)


def _depth(session: Session, plan: DepthPlan, frames: Made[FramesHeader]) -> Made[DepthHeader]:
    if frames.outcome.planned:
        unknown_yet(session, "depth", plan.order.frames.out)
    if frames.store is None:
        return Made(None, frames.outcome)
    return make_depth(session, plan, frames.store, frames.outcome)


def features_up_to_date(
    session: Session, order: FeaturesOrder, check: Check | None = None
) -> tuple[Made[FeaturesHeader], Split | None]:
    """features.zarr, and first all that it is made from; no split where a dry run cannot know it yet."""
    plan = refuse_features(session, order)
    depth_plan = refuse_depth(session, _depth_order(plan.inputs, order.work)) if session.upstream else None
    frames = frames_up_to_date(session, _frames_order(plan.inputs, order.work))
    if frames.store is None:
        return Made(None, frames.outcome), None
    check_crop(frames.store, plan.crops)
    share = parse_shard(order.work.shard)[1] > 1
    split = resolve_split(session, order.split, frames.store, plan.trained_on, share=share)
    if check and not session.dry_run:  # which may not have all frames yet
        check(frames.store, split)
    depth = _depth_of_features(session, plan, depth_plan, frames)
    if depth.outcome.planned:
        unknown_yet(session, "features", plan.inputs.depth)
    if depth.store is None:
        return Made(None, depth.outcome), split
    return make_features(session, plan, frames.store, depth.store, split, depth.outcome), split


def _depth_of_features(
    session: Session, plan: FeaturesPlan, depth_plan: DepthPlan | None, frames: Made[FramesHeader]
) -> Made[DepthHeader]:
    if depth_plan is not None:
        return _depth(session, depth_plan, frames)
    return Made(open_store(plan.inputs.depth, DepthHeader, fix="amefu depth", frames=frames.store), frames.outcome)


def _frames_order(inputs: Inputs, work: WorkRun) -> FramesOrder:
    return FramesOrder(inputs.frames, work=WorkRun(shard=work.shard))


def _depth_order(inputs: Inputs, work: WorkRun) -> DepthOrder:
    return DepthOrder(inputs.depth, _frames_order(inputs, work), work=WorkRun(shard=work.shard))


def features_with_split(
    session: Session, order: FeaturesOrder, check: Check | None = None
) -> Ready[FeaturesHeader] | None:
    """What trainings and evaluations read. None where a dry run finds something to do before: it has been said."""
    if session.upstream:
        made, split = features_up_to_date(session, order, check)
        if made.outcome.planned or made.store is None or split is None:
            unknown_yet(session, session.command, order.out)
            return None
        ready = Ready(made.store, split)
    else:
        store = open_store(order.out, FeaturesHeader, fix="amefu features")
        trained_on = {name: row.trained_on for name, row in store.header.streams.items()}
        ready = Ready(store, resolve_split(session, order.split, store, trained_on))
        if check:
            check(ready.store, ready.split)
    warn_of_other_switches(session, ready.store)
    return ready


def frames_with_split(session: Session, order: FramesOrder, split: SplitOrder) -> Ready[FramesHeader] | None:
    """The frames that a stream is trained on; None where a dry run finds something to do before."""
    return _with_split(session, frames_up_to_date(session, order), order.out, split)


def depth_with_split(session: Session, order: DepthOrder, split: SplitOrder) -> Ready[DepthHeader] | None:
    """The disparity that a stream is trained on; None where a dry run finds something to do before."""
    if session.upstream:
        return _with_split(session, depth_up_to_date(session, order), order.out, split)
    store = open_store(order.out, DepthHeader, fix="amefu depth")
    return _with_split(session, Made(store, Outcome()), order.out, split)


def _with_split(session: Session, made: Made[AnyHeader], path: Path, split: SplitOrder) -> Ready[AnyHeader] | None:
    if made.outcome.planned or made.store is None:
        unknown_yet(session, session.command, path)
        return None
    return Ready(made.store, resolve_split(session, split, made.store, {}))
