"""`amefu meta-train`: learn the fusion of both streams from episodes of the base classes."""

from __future__ import annotations

import functools
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any

import typer

from amefu_cli.artefacts.files.atomic import require_writable
from amefu_cli.commands.checks import check_device
from amefu_cli.commands.console import note, percent, progress, show, warn
from amefu_cli.commands.features import update_features, warn_of_other_switches
from amefu_cli.commands.options import Session, command
from amefu_cli.commands.splits import SplitOption, resolve_split
from amefu_cli.commands.work import unknown_yet
from amefu_cli.errors import UsageError
from amefu_cli.settings import ClipSettings, DeviceRun, EpisodesSettings, MetaTrainSettings, SplitSettings


@command
def meta_train(
    session: Session,
    recipe: MetaTrainSettings,
    split_recipe: SplitSettings,
    run: DeviceRun,
    split: SplitOption = None,
    features: Annotated[Path | None, typer.Option(help="store to read [WORKSPACE/features.zarr]")] = None,
    out: Annotated[Path | None, typer.Option(help="checkpoint to write [WORKSPACE/fusion.safetensors]")] = None,
    rebuild: Annotated[bool, typer.Option("--rebuild", help="throw the checkpoint away and train again")] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="only say what would be done")] = False,
) -> None:
    """Meta-train the fusion on features.zarr alone; the same command resumes one that was interrupted.

    Example: amefu meta-train --num-aug 2
    """
    from amefu_cli.artefacts.stores.store import open_store
    from amefu_cli.artefacts.weights.checkpoint import read_header
    from amefu_cli.artefacts.weights.training_run import TrainingRun

    features_path, path = features or session.workspace.features, out or session.workspace.fusion
    check_device(run.device)
    if rebuild or not path.exists():
        require_writable(path.parent)
    if session.upstream:
        before = update_features(
            session, features_path, split=split, split_recipe=split_recipe, dry_run=dry_run,
            check=functools.partial(check_episodes, recipe=recipe),
        )  # fmt: skip
        if before.planned:
            unknown_yet("meta-train", features_path)
            return
        split_recipe = split_recipe if dry_run else SplitSettings()  # a dry run has written no split
    store = open_store(features_path, "features", fix="amefu features")
    warn_of_other_switches(session, store)
    classes = resolve_split(session, split, split_recipe, store, checked=session.upstream, dry_run=dry_run)
    header = replace(fusion_header(store, classes, recipe), notes=session.chosen)
    if not rebuild and TrainingRun(path, header).is_finished(fix="amefu meta-train"):
        note(f"meta-train: {path} is up to date")
    elif dry_run:
        note(f"meta-train: would train {recipe.fusion} for {recipe.epochs} × {recipe.episodes} episodes")
    else:
        train_fusion(store, training_tables(store, classes, recipe), path, header, run, rebuild=rebuild)
    finished = read_header(path)
    notes: Mapping[str, Any] = finished.notes if finished else {"epoch": "-", "validation_accuracy": None}
    document = {
        "checkpoint": str(path), "fusion": recipe.fusion, "num_aug": recipe.num_aug, "best_epoch": notes["epoch"],
        "validation_accuracy": notes["validation_accuracy"],
    }  # fmt: skip
    rows = [["checkpoint", "fusion", "num_aug", "best epoch", "validation accuracy"]]
    rows.append(
        [
            str(path),
            recipe.fusion,
            str(recipe.num_aug),
            str(notes["epoch"]),
            percent(notes["validation_accuracy"]),
        ]
    )
    show(document, as_json=session.json, title="meta-train", rows=rows)


def fusion_header(store: Any, classes: Any, recipe: MetaTrainSettings) -> Any:
    """What the header of a fusion that `recipe` trains on a feature store says."""
    from amefu_cli.artefacts.stores.features import dim_of, fingerprint_of
    from amefu_cli.artefacts.weights.checkpoint import CheckpointHeader

    records = classes.listed(store.records())
    parts = {
        part: classes.present(part, {record.class_name for record in records.values()})
        for part in ("base", "validation")
    }
    if not parts["base"]:
        raise UsageError(f"{store.path}: holds no video of a base class; see `amefu status`")
    return CheckpointHeader(
        role="fusion",
        architecture={"fusion": recipe.fusion, "dim": dim_of(store, records)},
        settings={"meta-train": recipe.as_dict(), "clip": store.settings["clip"]},
        data={
            "streams": store.made_from,
            **{part: fingerprint_of(records, names) for part, names in parts.items()},
            "classes": {part: list(names) for part, names in parts.items()},
        },
        notes={},
    )


def check_episodes(store: Any, classes: Any, recipe: MetaTrainSettings) -> None:
    """Raises UsageError where the videos in a store are too few for the episodes of training or of validation."""
    from amefu_cli.stages.episodes import draw

    records = classes.listed(store.records())
    validation = classes.present("validation", {record.class_name for record in records.values()})
    shape = EpisodesSettings(recipe.way, recipe.shot, recipe.queries, count=2)
    draw(records, classes.base, shape, {})
    if len(validation) > 1:
        draw(records, validation, replace(shape, way=min(recipe.way, len(validation))), {})


def training_tables(store: Any, classes: Any, recipe: MetaTrainSettings) -> tuple[Any, Any]:
    """The features of the base classes, and of the validation classes or None where there are fewer than two."""
    from amefu_cli.artefacts.stores.features import read_features

    check_episodes(store, classes, recipe)
    records = classes.listed(store.records())
    base = read_features(store, records, classes.base, views=1 + store.settings["features"]["views"])
    validation = read_features(store, records, classes.validation, views=1)
    if len(validation.class_names) < 2:
        warn("fewer than two validation classes: the last epoch is kept, as there is nothing to choose by")
        return base, None
    return base, validation


def train_fusion(
    store: Any, tables: tuple[Any, Any], path: Path, header: Any, run: DeviceRun, *, rebuild: bool = False
) -> None:
    """Train, or go on training, the fusion that `header` describes."""
    from amefu_cli.artefacts.weights.training_run import TrainingRun
    from amefu_cli.stages.meta_train import MetaTraining, meta_train
    from amefu_cli.stages.networks import choose_device

    base, validation = tables
    recipe = MetaTrainSettings.recorded(header.settings["meta-train"], path)
    device = choose_device(run.device)
    files = TrainingRun(path, header)
    if rebuild:
        files.start_over()
    note(
        f"meta-train: {len(base.ids)} videos of {len(base.class_names)} base classes, {recipe.fusion}, "
        f"num_aug {recipe.num_aug}{files.resumption()}"
    )
    setup = MetaTraining(
        base=base,
        validation=validation,
        settings=recipe,
        clip=ClipSettings.recorded(store.settings["clip"], store.path),
        test_frames=store.settings["features"]["test_frames"],
        device=device,
    )
    with progress("meta-train") as report_progress:
        meta_train(setup, path, header, progress=report_progress)
