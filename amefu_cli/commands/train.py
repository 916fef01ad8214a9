"""`amefu pretrain`, `meta-train`, `import`, `export`: checkpoints, trained here or taken over."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Annotated

import typer

from amefu_cli.commands.console import Answer, percent
from amefu_cli.commands.options import (
    DepthPath,
    DepthStreamPath,
    DryRun,
    FeaturesPath,
    FramesPath,
    FusionPath,
    Rebuild,
    RgbPath,
    SplitOption,
    command,
    variant_option,
)
from amefu_cli.flows.session import Session
from amefu_cli.settings import (
    EXPORTED,
    IMPORTED,
    ClipSettings,
    DeviceRun,
    MetaTrainSettings,
    PretrainSettings,
    SplitSettings,
    StreamSettings,
)


@command
def pretrain(
    session: Session,
    answer: Answer,
    modality: Annotated[str, variant_option("the stream to train: rgb or depth")],
    settings: PretrainSettings,
    stream: StreamSettings,
    clip: ClipSettings,
    split_settings: SplitSettings,
    run: DeviceRun,
    split: SplitOption = None,
    frames: FramesPath = None,
    depth: DepthPath = None,
    out: Annotated[Path | None, typer.Option(help="checkpoint to write [WORKSPACE/MODALITY.safetensors]")] = None,
    rebuild: Rebuild = False,
    dry_run: DryRun = False,
) -> None:
    """Fine-tune one stream on the base classes; the same command resumes a training that was interrupted.

    Example: amefu pretrain --modality rgb
    """
    from amefu_cli.flows.training import PretrainOrder, SplitOrder, pretrain

    workspace = session.workspace
    order = PretrainOrder(
        modality, out or workspace.stream(modality), frames or workspace.frames, depth or workspace.depth,
        SplitOrder(split, split_settings), settings, stream, clip, run.device, rebuild,
    )  # fmt: skip
    trained = pretrain(replace(session, dry_run=dry_run), order)
    if trained is None:
        return
    epoch, held_out = "-" if trained.notes.epoch is None else trained.notes.epoch, trained.notes.held_out_accuracy
    document = {
        "checkpoint": str(order.out), "best_epoch": epoch, "held_out_accuracy": held_out, "videos": trained.videos,
    }  # fmt: skip
    rows = [["checkpoint", "best epoch", "held-out accuracy"], [str(order.out), str(epoch), percent(held_out)]]
    answer.show(document, title=f"pretrain {modality}", rows=rows)


@command
def meta_train(
    session: Session,
    answer: Answer,
    settings: MetaTrainSettings,
    split_settings: SplitSettings,
    run: DeviceRun,
    split: SplitOption = None,
    features: FeaturesPath = None,
    out: Annotated[Path | None, typer.Option(help="checkpoint to write [WORKSPACE/fusion.safetensors]")] = None,
    rebuild: Rebuild = False,
    dry_run: DryRun = False,
) -> None:
    """Meta-train the fusion on features.zarr alone; the same command resumes one that was interrupted.

    Example: amefu meta-train --num-aug 2
    """
    from amefu_cli.flows.training import MetaTrainOrder, SplitOrder, meta_train

    workspace = session.workspace
    order = MetaTrainOrder(
        out or workspace.fusion, features or workspace.features, SplitOrder(split, split_settings), settings,
        run.device, rebuild,
    )  # fmt: skip
    notes = meta_train(replace(session, dry_run=dry_run), order)
    if notes is None:
        return
    epoch, validation = "-" if notes.epoch is None else notes.epoch, notes.validation_accuracy
    document = {
        "checkpoint": str(order.out), "fusion": settings.fusion, "num_aug": settings.num_aug, "best_epoch": epoch,
        "validation_accuracy": validation,
    }  # fmt: skip
    row = [str(order.out), settings.fusion, str(settings.num_aug), str(epoch), percent(validation)]
    rows = [["checkpoint", "fusion", "num_aug", "best epoch", "validation accuracy"], row]
    answer.show(document, title="meta-train", rows=rows)


@command
def import_(
    session: Session,
    answer: Answer,
    file: Annotated[Path, typer.Argument(help="model_full_*.pkl or *_submodel.pkl of the public code")],
    role: Annotated[
        str,
        typer.Option(metavar="|".join(IMPORTED), help="what FILE is; fusion: of a full one, its DGAdaIN alone"),
    ],
    rgb: RgbPath = None,
    depth_stream: DepthStreamPath = None,
    fusion: FusionPath = None,
    rebuild: Annotated[bool, typer.Option("--rebuild", help="replace checkpoints that are there")] = False,
) -> None:
    """Take over a checkpoint of the paper's public code; `features` and `evaluate` use it at once.

    A full file gives both streams and the fusion. The streams read 224 pixels and magma colours.

    Example: amefu import model_full_kinetics.pkl --role full
    """
    from amefu_cli.flows.public import PublicOrder, import_public

    checkpoints = _checkpoints(session, rgb, depth_stream, fusion)
    states = import_public(session, PublicOrder(file, role, checkpoints, replace=rebuild))
    document = {"imported": str(file), "role": role, "checkpoints": {part: str(checkpoints[part]) for part in states}}
    rows = [["checkpoint", "state"], *([str(checkpoints[part]), state] for part, state in states.items())]
    answer.show(document, title=f"import of {file.name}", rows=rows)


@command
def export(
    session: Session,
    answer: Answer,
    file: Annotated[Path, typer.Argument(help="file to write: .pkl as the public code does, or .safetensors")],
    role: Annotated[str, typer.Option(metavar="|".join(EXPORTED), help="a full model, or one stream")],
    rgb: RgbPath = None,
    depth_stream: DepthStreamPath = None,
    fusion: FusionPath = None,
    force: Annotated[bool, typer.Option("--force", help="replace a FILE that is there")] = False,
) -> None:
    """Write streams and fusion in the layout of the paper's public code; what was imported comes back exactly.

    Only ResNet-50 streams and the fusion dgadain have a place there.

    Example: amefu export model_full.pkl --role full
    """
    from amefu_cli.flows.public import PublicOrder, export_public

    count = export_public(PublicOrder(file, role, _checkpoints(session, rgb, depth_stream, fusion), replace=force))
    document = {"exported": str(file), "role": role, "tensors": count}
    answer.show(document, title="export", rows=[["file", "tensors"], [str(file), str(count)]])


def _checkpoints(session: Session, rgb: Path | None, depth_stream: Path | None, fusion: Path | None) -> dict[str, Path]:
    """Our side of an import or export, by role."""
    workspace = session.workspace
    return {
        "rgb": rgb or workspace.stream("rgb"),
        "depth": depth_stream or workspace.stream("depth"),
        "fusion": fusion or workspace.fusion,
    }
