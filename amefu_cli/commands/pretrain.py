"""`amefu pretrain --modality rgb|depth`: fine-tune one stream on the base classes."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any

import typer

from amefu_cli.artefacts.files.atomic import require_writable
from amefu_cli.commands.checks import check_backbone, check_crop, check_device
from amefu_cli.commands.console import note, percent, progress, show
from amefu_cli.commands.depth import update_depth
from amefu_cli.commands.frames import update_frames
from amefu_cli.commands.options import Session, command, variant_option
from amefu_cli.commands.precision import settled_precision
from amefu_cli.commands.splits import SplitOption, resolve_split
from amefu_cli.commands.work import unknown_yet
from amefu_cli.errors import UsageError
from amefu_cli.settings import ClipSettings, DeviceRun, PretrainSettings, SplitSettings, StreamSettings


@command
def pretrain(
    session: Session,
    modality: Annotated[str, variant_option("the stream to train: rgb or depth")],
    recipe: PretrainSettings,
    stream: StreamSettings,
    clip: ClipSettings,
    split_recipe: SplitSettings,
    run: DeviceRun,
    split: SplitOption = None,
    frames: Annotated[
        Path | None, typer.Option("--frames", "--frames-store", help="store to read [WORKSPACE/frames.zarr]")
    ] = None,
    depth: Annotated[
        Path | None, typer.Option("--depth", "--depth-store", help="store to read [WORKSPACE/depth.zarr]")
    ] = None,
    out: Annotated[Path | None, typer.Option(help="checkpoint to write [WORKSPACE/MODALITY.safetensors]")] = None,
    rebuild: Annotated[bool, typer.Option("--rebuild", help="throw the checkpoint away and train again")] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="only say what would be done")] = False,
) -> None:
    """Fine-tune one stream on the base classes; the same command resumes a training that was interrupted.

    Example: amefu pretrain --modality rgb
    """
    if modality not in ("rgb", "depth"):
        raise UsageError(f"--modality {modality!r}: must be rgb or depth")
    frames_path, depth_path = frames or session.workspace.frames, depth or session.workspace.depth
    path = out or session.workspace.stream(modality)
    check_device(run.device)
    if rebuild or not path.exists():
        require_writable(path.parent)
        check_backbone(stream.backbone, stream.weights)
    source = (
        (frames_path, "frames", "amefu frames VIDEOS") if modality == "rgb" else (depth_path, "depth", "amefu depth")
    )
    if session.upstream:
        if modality == "rgb":
            before = update_frames(session, frames_path, videos=None, dry_run=dry_run)
        else:
            before = update_depth(session, frames_path, depth_path, dry_run=dry_run)
        if before.planned:
            unknown_yet("pretrain", source[0])
            return
    check_crop(frames_path, stream.crop)
    document = _train(
        session, modality, source, path, (recipe, stream, clip), run, split, split_recipe, rebuild, dry_run
    )
    rows = [["checkpoint", "best epoch", "held-out accuracy"]]
    rows.append([str(path), str(document["best_epoch"]), percent(document["held_out_accuracy"])])
    show(document, as_json=session.json, title=f"pretrain {modality}", rows=rows)


def _train(
    session: Session,
    modality: str,
    source: tuple[Path, str, str],
    path: Path,
    recipes: tuple[PretrainSettings, StreamSettings, ClipSettings],
    run: DeviceRun,
    split: Path | None,
    split_recipe: SplitSettings,
    rebuild: bool,
    dry_run: bool,
) -> dict[str, Any]:
    from amefu_cli.artefacts.stores.store import open_store
    from amefu_cli.artefacts.weights.checkpoint import read_header
    from amefu_cli.artefacts.weights.identity import noted_weights, weights_identity
    from amefu_cli.artefacts.weights.training_run import TrainingRun, started_header

    store = open_store(source[0], source[1], fix=source[2])
    classes = resolve_split(session, split, split_recipe, store, dry_run=dry_run)
    there = classes.listed(store.records()).values()
    records = [record for record in there if classes.part_of(record.class_name) == "base"]
    if not records:
        raise UsageError(f"{store.path}: holds no video of a base class; see `amefu status`")
    started = None if rebuild else started_header(path)
    header = _header(modality, recipes, records, weights_identity(recipes[1].weights), started, run.device)
    header = replace(header, notes={**session.chosen, "weights": noted_weights(recipes[1].weights, path)})
    if not rebuild and TrainingRun(path, header).is_finished(fix=f"amefu pretrain --modality {modality}"):
        note(f"pretrain: {path} is up to date")
    elif dry_run:
        note(f"pretrain: would train {modality} on {len(records)} videos for {recipes[0].epochs} epochs")
    else:
        _run(store, records, path, header, recipes, run, rebuild)
    finished = read_header(path)
    notes = finished.notes if finished else {"epoch": "-", "held_out_accuracy": None}
    return {
        "checkpoint": str(path),
        "best_epoch": notes["epoch"],
        "held_out_accuracy": notes["held_out_accuracy"],
        "videos": len(records),
    }


def _header(modality: str, recipes: Any, records: Any, weights: str, started: Any, device: str) -> Any:
    from amefu_cli.artefacts.files.fingerprint import fingerprint
    from amefu_cli.artefacts.weights.checkpoint import CheckpointHeader
    from amefu_cli.artefacts.weights.identity import without_weights

    recipe, stream, clip = recipes
    recipe = replace(recipe, precision=settled_precision(recipe.precision, started, device, training=True))
    names = sorted({record.class_name for record in records})
    return CheckpointHeader(
        role=modality,
        architecture={"backbone": stream.backbone, "classes": names},
        settings={"pretrain": recipe.as_dict(), "stream": without_weights(stream.as_dict()), "clip": clip.as_dict()},
        data={
            "videos": len(records),
            "fingerprint": fingerprint([[record.id, record.fingerprint] for record in records]),
            "weights": weights,
        },
        notes={},
    )


def _run(store: Any, records: Any, path: Path, header: Any, recipes: Any, run: DeviceRun, rebuild: bool) -> None:
    import torch

    from amefu_cli.artefacts.weights.training_run import TrainingRun
    from amefu_cli.stages.networks import choose_device, choose_precision, load_backbone
    from amefu_cli.stages.pretrain import Pretraining, pretrain, split_held_out

    recipe, stream, clip = recipes
    device = choose_device(run.device)
    train, held_out = split_held_out(records, share=recipe.held_out, seed=recipe.seed)
    torch.manual_seed(recipe.seed)
    setup = Pretraining(
        store, train, held_out, recipe, stream, clip, device,
        choose_precision(header.settings["pretrain"]["precision"], device),
    )  # fmt: skip
    backbone, _ = load_backbone(stream.backbone, stream.weights)
    files = TrainingRun(path, header)
    if rebuild:
        files.start_over()
    note(
        f"pretrain: {len(train.records)} videos of {len(set(train.labels))} base classes, "
        f"{len(held_out.records)} held out{files.resumption()}"
    )
    with progress("pretrain") as report_progress:
        pretrain(setup, backbone, path, header, progress=report_progress)
