"""`amefu depth`: by which estimator, and which videos lack their disparity."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from amefu_cli.artefacts.files.workspace import located, located_estimator, noted, noted_estimator
from amefu_cli.artefacts.stores.header import DepthHeader, DepthNotes, EstimatorIdentity, FramesHeader, header_of
from amefu_cli.artefacts.stores.store import VideoStore, prepare_store
from amefu_cli.flows.frames import FramesOrder
from amefu_cli.flows.session import Session
from amefu_cli.flows.work import WHOLE, Made, Work, check_device, recipe_noted, settled_precision
from amefu_cli.method.depth import parse_estimator
from amefu_cli.settings import DepthSettings, NetworkRun, WorkRun
from amefu_cli.stages import Outcome, VideoJob


@dataclass(frozen=True)
class DepthOrder:
    """Which disparity is asked for; without `settings`, by the estimator that the store was started with."""

    out: Path
    frames: FramesOrder
    settings: DepthSettings | None = None
    weights: Path | None = None
    run: NetworkRun | None = None
    work: WorkRun = WHOLE
    rebuild: bool = False


@dataclass(frozen=True)
class DepthPlan:
    """An order of which all is settled that needs no look at a frame."""

    order: DepthOrder
    there: DepthHeader | None
    settings: DepthSettings
    weights: Path | None
    run: NetworkRun
    work: Work


def refuse_depth(session: Session, order: DepthOrder) -> DepthPlan:
    """Raises UsageError for what can be refused before any video is decoded: device, estimator, share."""
    there = None if order.rebuild else header_of(order.out, DepthHeader)
    settings, weights = order.settings, order.weights
    if settings is None and there is not None:
        settings = replace(there.settings, estimator=located_estimator(there.settings.estimator, order.out))
        weights = located(there.notes.weights, order.out) if there.notes.weights else None
    settings = settings or session.settings(DepthSettings, "depth")
    run = order.run or session.settings(NetworkRun, "depth")
    check_device(run.device)
    parse_estimator(settings.estimator)
    return DepthPlan(order, there, settings, weights, run, Work(session, "depth", order.work, order.out.parent))


def make_depth(
    session: Session, plan: DepthPlan, frames: VideoStore[FramesHeader], before: Outcome
) -> Made[DepthHeader]:
    """Bring depth.zarr up to date with frames.zarr; `before` is what was done to that."""
    path, recorded = plan.order.out, plan.there.settings.precision if plan.there else None
    precision = settled_precision(plan.settings.precision, recorded, plan.run.device)
    settings = replace(plan.settings, precision=precision)
    notes = DepthNotes(
        frames=noted(frames.path, path), weights=noted(plan.weights, path) if plan.weights else None,
        recipe=recipe_noted(session, plan.there),
    )  # fmt: skip
    kept = replace(settings, estimator=noted_estimator(settings.estimator, path))
    identity = EstimatorIdentity.of(settings.estimator, plan.weights)
    header = DepthHeader(settings=kept, made_from=identity, notes=notes)
    store = prepare_store(path, header, rebuild=plan.order.rebuild, frames=frames)

    def job(video: str) -> VideoJob | None:
        if (record := frames.record(video)) is None:  # taken out of the store meanwhile
            return None
        return VideoJob(record, {"frames": record.fingerprint}, np.arange(record.frames, dtype=np.int64))

    jobs = plan.work.choose(frames.ids(), store, job)
    outcome = None if session.dry_run else _predict(session, replace(plan, settings=settings), frames, store, jobs)
    return plan.work.made(store, outcome, before)


def _predict(
    session: Session, plan: DepthPlan, frames: VideoStore[FramesHeader], store: VideoStore[DepthHeader],
    jobs: Sequence[VideoJob],
) -> Outcome:  # fmt: skip
    """What the networks say when they load is heard before the store is started or replaced."""
    if not jobs:  # which is known before torch is loaded
        with store:
            return Outcome()
    from amefu_cli.stages.depth import load_estimator, predict_depth
    from amefu_cli.stages.networks import choose_device

    device = choose_device(plan.run.device)
    estimator, message, provenance = load_estimator(plan.settings, plan.weights, device)
    with store:
        store.note_provenance({"estimator": provenance})
        if message:
            session.say.note(message)
        with session.say.progress("depth") as progress:
            return predict_depth(
                frames, store, jobs, estimator=estimator, device=device, batch=plan.run.batch,
                failed=plan.work.failed, progress=progress,
            )  # fmt: skip
