"""`amefu meta-train --head`: the checkpoint of a head that learns."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from amefu_cli.artefacts.files.atomic import require_writable
from amefu_cli.artefacts.stores.features import dim_of
from amefu_cli.artefacts.stores.header import FeaturesHeader
from amefu_cli.artefacts.weights import headers
from amefu_cli.artefacts.weights.training_run import TrainingRun
from amefu_cli.errors import UsageError
from amefu_cli.flows.candidates import Candidate, model_of, refuse_other_streams
from amefu_cli.flows.chain import Ready, features_with_split
from amefu_cli.flows.evaluate import Videos
from amefu_cli.flows.features import FeaturesOrder
from amefu_cli.flows.session import Session
from amefu_cli.flows.splits import Split, SplitOrder, refuse_seen
from amefu_cli.flows.training import (
    check_episodes,
    is_due,
    learned_from,
    meta_train,
    notes_of,
    say_of_guessing,
    training_tables,
)
from amefu_cli.flows.work import check_device
from amefu_cli.method.heads import HEADS
from amefu_cli.settings import LEARNED, ClipSettings, HeadTrainSettings

CLIP = ClipSettings(segments=8, frames_per_segment=1)


@dataclass(frozen=True)
class HeadOrder:
    """Which head is trained (None: a fusion) on which features, by which settings, into which checkpoint; `fusion` is
    the checkpoint of the one whose frames a head reads."""

    head: str | None
    features: Path
    fusion: Path
    split: SplitOrder
    settings: HeadTrainSettings
    out: Path
    device: str = "auto"
    rebuild: bool = False


def train_fusion_or_head(session: Session, order: HeadOrder) -> headers.CheckpointNotes | None:
    """Bring the checkpoint that is asked for up to date; see `meta_train` and `train_head`."""
    if order.head is not None:
        return train_head(session, order, order.head)
    return meta_train(
        session, order.features, order.split, order.settings.of_fusion(), order.out, device=order.device,
        rebuild=order.rebuild,
    )  # fmt: skip


def train_head(session: Session, order: HeadOrder, head: str) -> headers.CheckpointNotes | None:
    """Bring a head's checkpoint up to date; returns what it notes, or None where a dry run cannot know it.

    Raises:
        UsageError: no such head or model, an absent device, too few videos for the episodes, no fusion.
        SettingsMismatch: the checkpoint is there by other settings or from other data.
    """
    if head not in LEARNED:
        raise UsageError(f"--head {head!r}: must be one of {', '.join(LEARNED)}; the others learn nothing")
    settings = order.settings.of_head()
    model = model_of(settings.model, order.features, order.fusion, head)
    if model.depth_of[0] != "own":
        raise UsageError(
            f"{order.fusion}: fuses the depth of other videos, a control, on whose frames no head learns; give "
            "--fusion-weights of one that was trained with --depth-of own"
        )
    check_device(order.device)
    if order.rebuild or not order.out.exists():
        require_writable(order.out.parent)

    def check(videos: Videos, split: Split) -> None:
        check_episodes(videos, split, settings)
        if model.fusion:
            refuse_seen(split, model.fusion.trained_on, str(model.checkpoint), "amefu meta-train --rebuild")

    ready = features_with_split(session, FeaturesOrder(order.features, order.split), check)
    if ready is None:
        return None
    refuse_other_streams(model, ready.store)
    files = TrainingRun(order.out, head_header(session, ready, model, head, settings))
    if is_due(session, files, order.rebuild, f"{head} for {settings.epochs} × {settings.episodes} episodes"):
        if order.rebuild:
            files.start_over()
        train_on(session, ready, model, files, device=order.device)
    return notes_of(order.out)


def head_header(
    session: Session, ready: Ready[FeaturesHeader], model: Candidate, head: str, settings: HeadTrainSettings
) -> headers.HeadHeader:
    """What the checkpoint will say of itself."""
    store, records = ready.store, ready.split.listed(ready.store.records())
    classes, *hashes = learned_from(ready, records)
    return headers.HeadHeader(
        role="head", head=head, options={"base_classes": len(classes.base)} if HEADS[head].knows_classes else {},
        model=settings.model, dim=dim_of(store, records, model.model.streams[0]), clip=CLIP,
        streams={name: store.header.streams[name].fingerprint for name in model.model.streams},
        fusion=model.fusion.fingerprint if model.fusion else None,
        training=headers.HeadTraining(settings, classes, *hashes),
        notes=headers.CheckpointNotes(preset=session.chosen.preset, recipe=session.chosen.recipe),
    )  # fmt: skip


def train_on(
    session: Session, ready: Ready[FeaturesHeader], model: Candidate, files: TrainingRun[headers.HeadHeader], *,
    device: str,
) -> None:  # fmt: skip
    """Train, or go on training, the head that the header of `files` describes, on the frames of `model`."""
    from amefu_cli.stages.head_training import HeadSetup, train_head

    header = files.header
    settings = header.training.settings
    base, validation = training_tables(session, ready, settings, model.model.streams)
    session.say.note(
        f"meta-train: {len(base.ids)} videos of {len(base.class_names)} base classes, {header.head} on "
        f"{header.model}, {settings.optimizer} at {settings.learning_rate:g}{files.resumption()}"
    )
    setup = HeadSetup.of(base, validation, model.model, header, fusion=model.checkpoint, device=device)
    with session.say.progress("meta-train") as progress:
        train_head(setup, files, progress=progress)
    if validation is not None:  # the losses of some heads are no cross entropy
        say_of_guessing(session, files.out, settings, validation)
