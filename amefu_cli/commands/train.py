"""`amefu pretrain`, `meta-train`, `import`, `export`: checkpoints, trained here or taken over."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from amefu_cli import settings as groups
from amefu_cli.commands import options
from amefu_cli.commands.console import Answer
from amefu_cli.commands.options import command
from amefu_cli.flows.session import Session


@command
def pretrain(
    session: options.DryRun, answer: Answer, modality: options.Modality, settings: groups.PretrainSettings,
    stream: groups.StreamSettings, clip: groups.ClipSettings, split_settings: groups.SplitSettings,
    run: groups.DeviceRun, frames: options.FramesPath, depth: options.DepthPath, split: options.SplitOption = None,
    out: Annotated[Path | None, "checkpoint to write [WORKSPACE/MODALITY.safetensors]"] = None,
    rebuild: options.Rebuild = False,
) -> None:  # fmt: skip
    """Fine-tune one stream on the base classes; the same command resumes a training that was interrupted.

    Example: amefu pretrain --modality rgb
    """
    from amefu_cli.flows.training import PretrainOrder, SplitOrder, pretrain

    place, asked_split = out or session.workspace.stream(modality), SplitOrder(split, split_settings)
    trained = pretrain(session, PretrainOrder(
        modality, place, frames, depth, asked_split, settings, stream, clip, run.device, rebuild,
    ))  # fmt: skip
    if trained is not None:
        notes, videos = trained
        document = {
            "checkpoint": str(place), "best_epoch": "-" if notes.epoch is None else notes.epoch,
            "held_out_accuracy": notes.held_out_accuracy, "videos": videos,
        }  # fmt: skip
        answer.show(document, title=f"pretrain {modality}")


@command
def meta_train(
    session: options.DryRun, answer: Answer, settings: groups.HeadTrainSettings, split_settings: groups.SplitSettings,
    run: groups.DeviceRun, features: options.FeaturesPath,
    fusion_weights: Annotated[
        Path, options.Place("with --head: the fusion whose frames it reads", lambda workspace: workspace.fusion)
    ],
    head: options.LearnedHead = None, split: options.SplitOption = None,
    out: Annotated[
        Path | None, "checkpoint to write [WORKSPACE/fusion.safetensors, of a head WORKSPACE/MODEL-HEAD.safetensors]"
    ] = None,
    rebuild: options.Rebuild = False,
) -> None:  # fmt: skip
    """Meta-train the fusion, or a head, on features.zarr alone; the same command resumes one that was interrupted.

    Example: amefu meta-train --num-aug 2
    """
    from amefu_cli.flows.head_training import HeadOrder, SplitOrder, train_fusion_or_head

    place = out or session.workspace.stream(f"{settings.model}-{head}" if head else "fusion")
    asked_split = SplitOrder(split, split_settings)
    order = HeadOrder(head, features, fusion_weights, asked_split, settings, place, run.device, rebuild)
    notes = train_fusion_or_head(session, order)
    if notes is not None:
        of_fusion = {name: getattr(settings, name) for name in ("fusion", "num_aug", "depth_of")}
        document = {
            "checkpoint": str(place), **({"head": head, "model": settings.model} if head else of_fusion),
            "best_epoch": "-" if notes.epoch is None else notes.epoch, "validation_accuracy": notes.validation_accuracy,
        }  # fmt: skip
        answer.show(document, title="meta-train")


@command
def import_(
    session: Session, answer: Answer,
    file: Annotated[Path, typer.Argument(help="model_full_*.pkl or *_submodel.pkl of the public code")],
    role: Annotated[str, typer.Option(
        metavar="|".join(groups.IMPORTED), help="what FILE is; fusion: of a full one, its DGAdaIN alone",
    )],
    rgb: options.RgbPath, depth_stream: options.DepthStreamPath, fusion: options.FusionPath,
    rebuild: Annotated[bool, "replace checkpoints that are there"] = False,
) -> None:  # fmt: skip
    """Take over a checkpoint of the paper's public code; `features` and `evaluate` use it at once.

    A full file gives both streams and the fusion. The streams read 224 pixels and magma colours; frames and features
    that are made for them are of height 240, tested at the start of each part, flipped by half, unless told otherwise.

    Example: amefu import model_full_kinetics.pkl --role full
    """
    from amefu_cli.flows.public import import_public

    checkpoints = {"rgb": rgb, "depth": depth_stream, "fusion": fusion}
    states = import_public(session, file, role, checkpoints, replace=rebuild)
    document = {"imported": str(file), "role": role, "checkpoints": {part: str(checkpoints[part]) for part in states}}
    rows = [["checkpoint", "state"], *([str(checkpoints[part]), state] for part, state in states.items())]
    answer.show(document, title=f"import of {file.name}", rows=rows)


@command
def export(
    session: Session, answer: Answer,
    file: Annotated[Path, typer.Argument(help="file to write: .pkl as the public code does, or .safetensors")],
    role: Annotated[str, typer.Option(metavar="|".join(groups.EXPORTED), help="a full model, or one stream")],
    rgb: options.RgbPath, depth_stream: options.DepthStreamPath, fusion: options.FusionPath,
    force: Annotated[bool, "replace a FILE that is there"] = False,
) -> None:  # fmt: skip
    """Write streams and fusion in the layout of the paper's public code; what was imported comes back exactly.

    Only ResNet-50 streams and the fusion dgadain have a place there.

    Example: amefu export model_full.pkl --role full
    """
    from amefu_cli.flows.public import export_public

    checkpoints = {"rgb": rgb, "depth": depth_stream, "fusion": fusion}
    count = export_public(file, role, checkpoints, replace=force)
    answer.show({"exported": str(file), "role": role, "tensors": count}, title="export")
