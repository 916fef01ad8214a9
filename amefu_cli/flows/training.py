"""`amefu pretrain` and `amefu meta-train`: what a checkpoint will be, whether it is there, and how it is made or
gone on with."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from amefu_cli.artefacts.files.atomic import require_writable
from amefu_cli.artefacts.files.split import Split
from amefu_cli.artefacts.files.workspace import noted_weights, weights_identity
from amefu_cli.artefacts.stores.features import FeatureTable, dim_of, fingerprint_of, read_features
from amefu_cli.artefacts.stores.header import DepthHeader, FeaturesHeader, FramesHeader, VideoRecord, header_of
from amefu_cli.artefacts.stores.store import VideoStore
from amefu_cli.artefacts.weights.checkpoint import (
    CheckpointNotes,
    FusionClasses,
    FusionHeader,
    FusionTraining,
    StreamHeader,
    StreamTraining,
    read_header,
)
from amefu_cli.artefacts.weights.training_run import TrainingRun, started_header
from amefu_cli.errors import UsageError
from amefu_cli.flows.chain import Ready, depth_with_split, features_with_split, frames_with_split
from amefu_cli.flows.depth import DepthOrder
from amefu_cli.flows.episodes import Videos, check_drawing
from amefu_cli.flows.features import FeaturesOrder
from amefu_cli.flows.frames import FramesOrder
from amefu_cli.flows.session import Session
from amefu_cli.flows.splits import SplitOrder
from amefu_cli.flows.work import check_backbone, check_crop, check_device, settled_precision
from amefu_cli.settings import ClipSettings, EpisodesSettings, MetaTrainSettings, PretrainSettings, StreamSettings

STREAMS = ("rgb", "depth")  # what a fusion fuses


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


@dataclass(frozen=True)
class MetaTrainOrder:
    """Which fusion is trained, on which features."""

    out: Path
    features: Path
    split: SplitOrder
    settings: MetaTrainSettings
    device: str = "auto"
    rebuild: bool = False


@dataclass(frozen=True)
class Pretrained:
    """What a stream's checkpoint notes, and how many base videos there are for it."""

    notes: CheckpointNotes
    videos: int


def pretrain(session: Session, order: PretrainOrder) -> Pretrained | None:
    """Bring one stream's checkpoint up to date; None where a dry run cannot know what is to be done.

    Raises:
        UsageError: see `_refuse_pretraining`; no video of a base class.
        SettingsMismatch: the checkpoint is there by other settings or from other data.
    """
    _refuse_pretraining(order)
    frames = FramesOrder(order.frames)
    ready: Ready[FramesHeader] | Ready[DepthHeader] | None
    if order.modality == "rgb":
        ready = frames_with_split(session, frames, order.split)
    else:
        ready = depth_with_split(session, DepthOrder(order.depth, frames), order.split)
    if ready is None:
        return None
    records = _base_records(ready.store, ready.split)
    files = TrainingRun(order.out, _stream_header(session, order, records))
    if not order.rebuild and files.is_finished():
        session.say.note(f"pretrain: {order.out} is up to date")
    elif session.dry_run:
        session.say.note(
            f"pretrain: would train {order.modality} on {len(records)} videos for {order.settings.epochs} epochs"
        )
    else:
        _train_stream(session, order, ready.store, records, files)
    return Pretrained(_notes(order.out), len(records))


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


def _base_records(store: VideoStore[FramesHeader] | VideoStore[DepthHeader], split: Split) -> list[VideoRecord]:
    records = [record for record in store.records().values() if split.lists(record.id)]
    base = [record for record in records if split.part_of(record.class_name) == "base"]
    if not base:
        raise UsageError(f"{store.path}: holds no video of a base class; see `amefu status`")
    return base


def _stream_header(session: Session, order: PretrainOrder, records: Sequence[VideoRecord]) -> StreamHeader:
    """What the checkpoint will say of itself; `--precision auto` is as the training was started with."""
    started = None if order.rebuild else started_header(order.out)
    before = started.training if isinstance(started, StreamHeader) else None
    precision = settled_precision(
        order.settings.precision, before.settings.precision if before else None, order.device, training=True
    )
    classes = tuple(sorted({record.class_name for record in records}))
    chosen, stream = session.chosen, order.stream
    return StreamHeader(
        role=order.modality, backbone=stream.backbone, crop=stream.crop, depth_encoding=stream.depth_encoding,
        classes=classes, clip=order.clip,
        training=StreamTraining(
            settings=replace(order.settings, precision=precision), weights=weights_identity(stream.weights),
            videos=len(records), data=fingerprint_of({record.id: record for record in records}, classes),
        ),
        notes=CheckpointNotes(
            preset=chosen.preset, recipe=chosen.recipe, weights=noted_weights(stream.weights, order.out)
        ),
    )  # fmt: skip


def _train_stream(
    session: Session,
    order: PretrainOrder,
    store: VideoStore[FramesHeader] | VideoStore[DepthHeader],
    records: Sequence[VideoRecord],
    files: TrainingRun[StreamHeader],
) -> None:
    from amefu_cli.stages.pretrain import prepare, pretrain

    setup = prepare(store, records, files.header, weights=order.stream.weights, device=order.device)
    if order.rebuild:
        files.start_over()
    session.say.note(
        f"pretrain: {len(setup.train)} videos of {len({label for _, label in setup.train})} base classes, "
        f"{len(setup.held_out)} held out{files.resumption()}"
    )
    with session.say.progress("pretrain") as progress:
        pretrain(setup, files, progress=progress)


def meta_train(session: Session, order: MetaTrainOrder) -> CheckpointNotes | None:
    """Bring a fusion's checkpoint up to date; returns what it notes, or None where a dry run cannot know it.

    Raises:
        UsageError: an absent device, a place that may not be written to, too few videos for the episodes.
        SettingsMismatch: the checkpoint is there by other settings or from other data.
    """
    check_device(order.device)
    if order.rebuild or not order.out.exists():
        require_writable(order.out.parent)
    settings = order.settings
    of_features = FeaturesOrder(order.features, order.split)
    ready = features_with_split(session, of_features, lambda videos, split: check_episodes(videos, split, settings))
    if ready is None:
        return None
    files = TrainingRun(order.out, fusion_header(session, ready, settings))
    if not order.rebuild and files.is_finished():
        session.say.note(f"meta-train: {order.out} is up to date")
    elif session.dry_run:
        many = f"{settings.epochs} × {settings.episodes} episodes"
        session.say.note(f"meta-train: would train {settings.fusion} for {many}")
    else:
        tables = training_tables(session, ready, settings)
        if order.rebuild:
            files.start_over()
        train_fusion(session, ready, tables, files, device=order.device)
    return _notes(order.out)


def check_episodes(videos: Videos, split: Split, settings: MetaTrainSettings) -> None:
    """Raises UsageError where the videos in a store are too few for the episodes of training or of validation."""
    records = split.listed(videos.records())
    validation = split.present("validation", {record.class_name for record in records.values()})
    shape = EpisodesSettings(settings.way, settings.shot, settings.queries)
    check_drawing(records, split.base, shape)
    if len(validation) > 1:
        check_drawing(records, validation, replace(shape, way=min(settings.way, len(validation))))


def fusion_header(session: Session, ready: Ready[FeaturesHeader], settings: MetaTrainSettings) -> FusionHeader:
    """What the checkpoint of a fusion that is trained on a feature store will say of itself."""
    store, split = ready.store, ready.split
    records = split.listed(store.records())
    there = {record.class_name for record in records.values()}
    base, validation = split.present("base", there), split.present("validation", there)
    if not base:
        raise UsageError(f"{store.path}: holds no video of a base class; see `amefu status`")
    training = FusionTraining(
        settings, FusionClasses(base, validation), fingerprint_of(records, base), fingerprint_of(records, validation)
    )
    return FusionHeader(
        role="fusion", fusion=settings.fusion, dim=dim_of(store, records), streams=fused_streams(store.header),
        clip=store.header.clip, training=training,
        notes=CheckpointNotes(preset=session.chosen.preset, recipe=session.chosen.recipe),
    )  # fmt: skip


def fused_streams(header: FeaturesHeader) -> dict[str, str]:
    """The streams that a fusion is bound to, by fingerprint."""
    return {name: header.streams[name].fingerprint for name in STREAMS}


def training_tables(
    session: Session, ready: Ready[FeaturesHeader], settings: MetaTrainSettings
) -> tuple[FeatureTable, FeatureTable | None]:
    """The features of the base classes, and of the validation classes or None where there are fewer than two."""
    store, split = ready.store, ready.split
    check_episodes(store, split, settings)  # of some frames features may have failed
    records, views = split.listed(store.records()), 1 + store.header.settings.views
    base = read_features(store, records, split.base, streams=STREAMS, views=views)
    validation = read_features(store, records, split.validation, streams=STREAMS, views=1)
    if len(validation.class_names) < 2:
        session.say.warn("fewer than two validation classes: the last epoch is kept, as there is nothing to choose by")
        return base, None
    return base, validation


def train_fusion(
    session: Session,
    ready: Ready[FeaturesHeader],
    tables: tuple[FeatureTable, FeatureTable | None],
    files: TrainingRun[FusionHeader],
    *,
    device: str,
) -> None:
    """Train, or go on training, the fusion that the header of `files` describes."""
    from amefu_cli.stages.meta_train import MetaTraining, meta_train
    from amefu_cli.stages.networks import choose_device

    (base, validation), made = tables, ready.store.header
    assert files.header.training is not None
    settings = files.header.training.settings
    setup = MetaTraining(base, validation, settings, made.clip, made.settings.test_frames, choose_device(device))
    session.say.note(
        f"meta-train: {len(base.ids)} videos of {len(base.class_names)} base classes, {settings.fusion}, "
        f"num_aug {settings.num_aug}{files.resumption()}"
    )
    with session.say.progress("meta-train") as progress:
        meta_train(setup, files, progress=progress)


def _notes(path: Path) -> CheckpointNotes:
    """What the checkpoint notes, if there is one."""
    header = read_header(path)
    return header.notes if header else CheckpointNotes()
