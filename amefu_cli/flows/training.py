"""`amefu pretrain` and `amefu meta-train`: what a checkpoint will be, whether it is there, and how it is made or
gone on with."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from amefu_cli.artefacts.files.atomic import require_writable
from amefu_cli.artefacts.files.split import Split
from amefu_cli.artefacts.files.workspace import noted_weights, weights_identity
from amefu_cli.artefacts.stores.features import FeatureTable, dim_of, fingerprint_of, read_features
from amefu_cli.artefacts.stores.header import FeaturesHeader, FramesHeader, VideoRecord, header_of
from amefu_cli.artefacts.stores.store import VideoStore
from amefu_cli.artefacts.weights import checkpoint, headers
from amefu_cli.artefacts.weights.training_run import TrainingRun, started_header
from amefu_cli.errors import UsageError
from amefu_cli.flows.chain import Ready, features_with_split, stream_with_split
from amefu_cli.flows.evaluate import Videos, check_drawing
from amefu_cli.flows.features import FeaturesOrder
from amefu_cli.flows.session import Session
from amefu_cli.flows.splits import SplitOrder
from amefu_cli.flows.work import check_backbone, check_crop, check_device, settled_precision
from amefu_cli.settings import (
    MOSTLY,
    NEAR_CHANCE,
    ClipSettings,
    EpisodesSettings,
    MetaTrainSettings,
    PretrainSettings,
    StreamSettings,
)

STREAMS = ("rgb", "depth")  # what a fusion fuses
FEW_HELD_OUT = 100  # below, the choice of an epoch is one of a few videos


@dataclass(frozen=True)
class PretrainOrder:
    """Which stream is trained, on what, and how; `modality` is rgb or depth."""

    modality: str
    out: Path
    frames: Path
    depth: Path
    split: SplitOrder
    settings: PretrainSettings
    stream: StreamSettings
    clip: ClipSettings
    device: str = "auto"
    rebuild: bool = False


def pretrain(session: Session, order: PretrainOrder) -> tuple[headers.CheckpointNotes, int] | None:
    """Bring one stream's checkpoint up to date. Returns what it notes, and how many base videos there are for it; None
    where a dry run cannot know what is to be done.

    Raises:
        UsageError: see `_refuse_pretraining`; no video of a base class.
        SettingsMismatch: the checkpoint is there by other settings or from other data.
    """
    _refuse_pretraining(order)
    ready = stream_with_split(session, order.modality, order.frames, order.depth, order.split)
    if ready is None:
        return None
    listed = ready.split.listed(ready.store.records())
    base = base_classes(ready.split, listed, ready.store.path)
    records = {video: record for video, record in listed.items() if record.class_name in base}
    header = _stream_header(session, order, records, base)
    files = TrainingRun(order.out, header)
    task = f"{order.modality} on {len(records)} videos for {order.settings.epochs} epochs"
    if is_due(session, files, order.rebuild, task):
        from amefu_cli.stages import pretrain as stage

        validation = [record for record in listed.values() if record.class_name in ready.split.validation]
        setup = stage.prepare(
            ready.store, [*records.values()], header, validation=validation, weights=order.stream.weights,
            device=order.device,
        )  # fmt: skip
        files.header = replace(header, notes=replace(header.notes, started_from=setup.provenance))
        if order.rebuild:
            files.start_over()
        session.say.note(
            f"pretrain: {len(setup.train)} videos of {len({label for _, label in setup.train})} base classes, "
            f"{_of_held_out(len(setup.held_out))}{files.resumption()}"
        )
        with session.say.progress("pretrain") as progress:
            stage.pretrain(setup, files, progress=progress)
        _say_of_probe(session, order.out)
    return notes_of(order.out), len(records)


def _of_held_out(count: int) -> str:
    """What chooses the epoch that is kept, and how finely."""
    if not count:
        return "the last epoch is kept"
    few = f", of which each counts {100 / count:.1f} points" if count < FEW_HELD_OUT else ""
    return f"the best epoch on {count} held out is kept{few}"


def _say_of_probe(session: Session, path: Path) -> None:
    """Compare a stream with the weights that it started from, and warn where it is worth no more than they are."""
    notes = notes_of(path)
    now, start = notes.probe, notes.probe_at_start
    if now is None or start is None:
        return
    whose = "that it was trained on" if now.trained_on else "of validation classes"
    figures = f"{now.accuracy:.0%} of {now.videos} videos {whose} by nearest prototype, {start.accuracy:.0%} before"
    faults = []
    if now.at_chance:
        faults.append(f"no better than chance among {now.classes} classes")
    elif now.accuracy <= start.accuracy:
        faults.append("no better than the weights that it started from")
    if now.constant > max(MOSTLY, start.constant):
        faults.append(f"{now.constant:.0%} of its features are the same in every frame")
    if not faults:
        session.say.note(f"pretrain: {figures}")
        return
    session.say.warn(
        f"{path}: {' and '.join(faults)} ({figures}); remove it to use the weights as they were, or train it again: "
        "--rebuild with a lower --backbone-rate or --classifier-rate"
    )


def base_classes(split: Split, records: Mapping[str, VideoRecord], store: Path) -> tuple[str, ...]:
    """The base classes that `records` are of. Raises UsageError where they are of none."""
    base = split.present("base", {record.class_name for record in records.values()})
    if not base:
        raise UsageError(f"{store}: holds no video of a base class; see `amefu status`")
    return base


def is_due(session: Session, files: TrainingRun[headers.Kind], rebuild: bool, task: str) -> bool:
    """Whether `task` is to be trained now; says where it is done, and in a dry run where it is not.

    Raises:
        SettingsMismatch: the checkpoint is there by other settings or from other data.
    """
    due = rebuild or not files.is_finished()
    if not due:
        session.say.note(f"{session.command}: {files.out} is up to date")
    elif session.dry_run:
        session.say.note(f"{session.command}: would train {task}")
    return due and not session.dry_run


def notes_of(path: Path) -> headers.CheckpointNotes:
    """What the checkpoint notes, if there is one."""
    header = checkpoint.read_header(path)
    return header.notes if header else headers.CheckpointNotes()


def _refuse_pretraining(order: PretrainOrder) -> None:
    """Raises UsageError for what can be refused before a video is decoded."""
    if order.modality not in STREAMS:
        raise UsageError(f"--modality {order.modality!r}: must be rgb or depth")
    check_device(order.device)
    if order.rebuild or not order.out.exists():
        require_writable(order.out.parent)
        check_backbone(order.stream.backbone, order.stream.weights)
    frames = header_of(order.frames, FramesHeader)
    if frames is not None:
        check_crop(VideoStore(order.frames, frames), [order.stream.crop])


def _stream_header(
    session: Session, order: PretrainOrder, records: Mapping[str, VideoRecord], classes: tuple[str, ...]
) -> headers.StreamHeader:
    """What the checkpoint will say of itself; `--precision auto` is as the training was started with."""
    started = None if order.rebuild else started_header(order.out)
    before = started.training if isinstance(started, headers.StreamHeader) else None
    recorded, stream = before.settings.precision if before else None, order.stream
    precision = settled_precision(order.settings.precision, recorded, order.device, training=True)
    return headers.StreamHeader(
        role=order.modality, backbone=stream.backbone, crop=stream.crop, depth_encoding=stream.depth_encoding,
        classes=classes, clip=order.clip,
        training=headers.StreamTraining(
            settings=replace(order.settings, precision=precision), weights=weights_identity(stream.weights),
            videos=len(records), data=fingerprint_of(records, classes),
        ),
        notes=headers.CheckpointNotes(**vars(session.chosen), weights=noted_weights(stream.weights, order.out)),
    )  # fmt: skip


def meta_train(
    session: Session, features: Path, split: SplitOrder, settings: MetaTrainSettings, out: Path, *, device: str,
    rebuild: bool,
) -> headers.CheckpointNotes | None:  # fmt: skip
    """Bring a fusion's checkpoint up to date; returns what it notes, or None where a dry run cannot know it.

    Raises:
        UsageError: an absent device, a place that may not be written to, too few videos for the episodes.
        SettingsMismatch: the checkpoint is there by other settings or from other data.
    """
    check_device(device)
    if rebuild or not out.exists():
        require_writable(out.parent)
    ready = features_with_split(
        session, FeaturesOrder(features, split), lambda videos, of: check_episodes(videos, of, settings)
    )
    if ready is None:
        return None
    files = TrainingRun(out, fusion_header(session, ready, settings))
    if is_due(session, files, rebuild, f"{settings.fusion} for {settings.epochs} × {settings.episodes} episodes"):
        tables = training_tables(session, ready, settings)
        if rebuild:
            files.start_over()
        train_fusion(session, ready, tables, files, device=device)
    return notes_of(out)


def check_episodes(videos: Videos, split: Split, settings: MetaTrainSettings) -> None:
    """Raises UsageError where the videos in a store are too few for the episodes of training or of validation."""
    records = split.listed(videos.records())
    validation = split.present("validation", {record.class_name for record in records.values()})
    shape = EpisodesSettings(settings.way, settings.shot, settings.queries)
    check_drawing(records, split.base, shape)
    if len(validation) > 1:
        check_drawing(records, validation, replace(shape, way=min(settings.way, len(validation))))


def learned_from(
    ready: Ready[FeaturesHeader], records: Mapping[str, VideoRecord]
) -> tuple[headers.FusionClasses, str, str]:
    """The base and validation classes that `records` are of, and hashes of the features of either."""
    base = base_classes(ready.split, records, ready.store.path)
    validation = ready.split.present("validation", {record.class_name for record in records.values()})
    classes = headers.FusionClasses(base, validation)
    return classes, fingerprint_of(records, base), fingerprint_of(records, validation)


def fusion_header(session: Session, ready: Ready[FeaturesHeader], settings: MetaTrainSettings) -> headers.FusionHeader:
    """What the checkpoint of a fusion that is trained on a feature store will say of itself."""
    store, records = ready.store, ready.split.listed(ready.store.records())
    return headers.FusionHeader(
        role="fusion", fusion=settings.fusion, dim=dim_of(store, records), clip=store.header.clip,
        streams={name: store.header.streams[name].fingerprint for name in STREAMS},
        training=headers.FusionTraining(settings, *learned_from(ready, records)),
        notes=headers.CheckpointNotes(**vars(session.chosen)),
    )  # fmt: skip


def training_tables(
    session: Session, ready: Ready[FeaturesHeader], settings: MetaTrainSettings, streams: Sequence[str] = STREAMS
) -> tuple[FeatureTable, FeatureTable | None]:
    """The features of the base classes, and of the validation classes or None where there are fewer than two."""
    store, split = ready.store, ready.split
    check_episodes(store, split, settings)  # of some frames features may have failed
    records, views = split.listed(store.records()), 1 + store.header.settings.views
    base = read_features(store, records, split.base, streams=streams, views=views)
    validation = read_features(store, records, split.validation, streams=streams, views=1)
    if len(validation.class_names) < 2:
        session.say.warn("fewer than two validation classes: the last epoch is kept, as there is nothing to choose by")
        return base, None
    return base, validation


def train_fusion(
    session: Session, ready: Ready[FeaturesHeader], tables: tuple[FeatureTable, FeatureTable | None],
    files: TrainingRun[headers.FusionHeader], *, device: str,
) -> None:  # fmt: skip
    """Train, or go on training, the fusion that the header of `files` describes."""
    from amefu_cli.stages.meta_train import MetaTraining, meta_train

    (base, validation), made = tables, ready.store.header
    assert files.header.training is not None
    settings = files.header.training.settings
    frames = made.settings.test_frames
    setup = MetaTraining.of(base, validation, settings, made.clip, test_frames=frames, device=device)
    session.say.note(
        f"meta-train: {len(base.ids)} videos of {len(base.class_names)} base classes, {settings.fusion}, "
        f"num_aug {settings.num_aug}{files.resumption()}"
    )
    with session.say.progress("meta-train") as progress:
        meta_train(setup, files, progress=progress)
    say_of_guessing(session, files.out, settings, validation)


def say_of_guessing(session: Session, path: Path, settings: MetaTrainSettings, validation: FeatureTable | None) -> None:
    """Warn where what was trained tells classes apart no better than guessing does."""
    notes = notes_of(path)
    if validation is None or notes.validation_accuracy is None:
        guess = math.log(settings.way)
        at_chance = notes.loss is not None and notes.loss >= guess * (1 - NEAR_CHANCE)
        what = f"its loss stayed at that of guessing ({notes.loss:.3f}; ln {settings.way} = {guess:.3f})"
    else:
        way = min(settings.way, len(validation.class_names))
        at_chance = notes.validation_accuracy <= 1 / way + NEAR_CHANCE
        what = f"on validation classes it guesses ({notes.validation_accuracy:.1%} in {way}-way episodes)"
    if at_chance:
        session.say.warn(
            f"{path}: {what}; look at what `amefu pretrain` says of the streams, and try another --learning-rate or "
            "--temperature"
        )
