"""`amefu ablate`: train and evaluate every row of the paper's tables on one feature store and the same episodes."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any

import typer

from amefu_cli.commands.compare import as_document
from amefu_cli.commands.console import note, show
from amefu_cli.commands.episodes import draw_from
from amefu_cli.commands.evaluate import (
    evaluated,
    is_result_of,
    novel_data,
    novel_table,
    reads_imagenet,
    settings_of_result,
    vectors_of,
)
from amefu_cli.commands.features import update_features, warn_of_other_switches
from amefu_cli.commands.meta_train import check_episodes, fusion_header, train_fusion, training_tables
from amefu_cli.commands.options import Session, command
from amefu_cli.commands.splits import SplitOption, data_set_of, resolve_split
from amefu_cli.commands.work import unknown_yet
from amefu_cli.settings import (
    AblateSettings,
    DeviceRun,
    EpisodesSettings,
    EvaluateSettings,
    MetaTrainSettings,
    SplitSettings,
    parse_numbers,
)


@command
def ablate(
    session: Session,
    recipe: AblateSettings,
    split_recipe: SplitSettings,
    run: DeviceRun,
    split: SplitOption = None,
    features: Annotated[Path | None, typer.Option(help="store to read [WORKSPACE/features.zarr]")] = None,
    out: Annotated[
        Path | None, typer.Option(help="folder of checkpoints, results and tables [WORKSPACE/ablation]")
    ] = None,
    by_class: Annotated[
        bool, typer.Option("--by-class", help="let intervals of differences account for the novel classes too")
    ] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="only say what would be trained")] = False,
) -> None:
    """Make the paper's tables: train the fusions that are missing, evaluate every row on the same episodes.

    Fusions are trained as `amefu meta-train` would train them; the same command goes on where it was stopped. Where
    the novel classes are those of the paper, its figures stand beside ours.

    Example: amefu ablate --tables 3 --shots 1,5
    """
    from amefu_cli.artefacts.stores.store import open_store
    from amefu_cli.stages.ablate import plan_tables

    training = session.settings(MetaTrainSettings, "meta-train")
    tables = parse_numbers(recipe.tables, "--tables", minimum=1, maximum=3)
    num_augs = parse_numbers(recipe.num_aug, "--num-aug", minimum=0, maximum=64)
    shots = parse_numbers(recipe.shots, "--shots", minimum=1, maximum=1000)
    plan = plan_tables(tables, num_augs=num_augs, num_aug=training.num_aug)
    path, imagenet = features or session.workspace.features, any(reads_imagenet(row.model) for row in plan.rows)

    def draw(videos: Any, split: Any) -> dict[int, Any]:  # before any training, since a class may hold too few videos
        asked = EpisodesSettings(way=recipe.way, queries=recipe.queries, count=recipe.episodes, seed=recipe.seed)
        return {shot: draw_from(videos, split, replace(asked, shot=shot)) for shot in shots}

    def check(frames: Any, split: Any) -> None:
        draw(frames, split)
        check_episodes(frames, split, training)

    if session.upstream:
        before = update_features(
            session, path, split=split, split_recipe=split_recipe, basenet=imagenet, dry_run=dry_run, check=check
        )
        if before.planned:
            unknown_yet("ablate", path)
            return
        split_recipe = split_recipe if dry_run else SplitSettings()  # a dry run has written no split
    store = open_store(path, "features", fix="amefu features")
    warn_of_other_switches(session, store)
    classes = resolve_split(session, split, split_recipe, store, checked=session.upstream, dry_run=dry_run)
    drawn = draw(store, classes)
    folder = out or session.workspace.folder / "ablation"
    checkpoints, missing = _checkpoints(session, store, classes, plan.rows, training, folder)
    if dry_run:
        note(f"ablate: would train {', '.join(path.stem for path in missing) or 'nothing'} into {folder}")
        return
    if missing:
        base_and_validation = training_tables(store, classes, training)
        for checkpoint, header in missing.items():
            train_fusion(store, base_and_validation, checkpoint, header, run)
    results = _results(store, classes, plan.rows, drawn, checkpoints, folder, run, imagenet)
    document = {
        "preset": session.chosen["preset"],
        "recipe": {"features": store.notes.get("recipe"), "fusion": session.chosen["recipe"]},
        **_document(plan, results, recipe, data_set_of(classes), by_class),
    }
    _write(document, folder)
    _show(document, folder, session.json)


def _checkpoints(
    session: Session, store: Any, classes: Any, rows: Any, training: MetaTrainSettings, folder: Path
) -> tuple[dict[str, Path], dict[Path, Any]]:
    """The checkpoint of every fused row by its name, and the headers of those that are still to be trained.

    Each has the fingerprint of its settings and data in its name, so that other settings never meet an old file. What
    `amefu meta-train` has trained already is not trained again.
    """
    from amefu_cli.artefacts.weights.checkpoint import read_header

    checkpoints: dict[str, Path] = {}
    missing: dict[Path, Any] = {}
    for row in rows:
        if row.fusion is None:
            continue
        header = fusion_header(store, classes, replace(training, fusion=row.fusion, num_aug=row.num_aug))
        path = folder / f"{row.fusion}-{row.num_aug}aug-{header.fingerprint[:8]}.safetensors"
        for place in (path, session.workspace.fusion):
            found = read_header(place)
            if found is not None and found.fingerprint == header.fingerprint:
                checkpoints[row.name] = place
                break
        else:
            checkpoints[row.name] = path
            missing[path] = replace(header, notes=session.chosen)
    return checkpoints, missing


def _results(
    store: Any, classes: Any, rows: Any, drawn: Any, checkpoints: Any, folder: Path, run: DeviceRun, imagenet: bool
) -> dict[tuple[str, int], tuple[Path, dict[str, Any]]]:
    """Path and content of the result of every row and shot; vectors are computed once a row, if at all."""
    from amefu_cli.artefacts.files.results import read_result, result_name, write_result

    results, table = {}, None
    novel = novel_data(store, classes)
    for row in rows:
        vectors, checkpoint = None, checkpoints.get(row.name, folder)
        for shot, episodes in drawn.items():
            recipe = EvaluateSettings(model=row.model)
            asked = settings_of_result(store, classes, novel, recipe, episodes, checkpoint)
            path = folder / "results" / f"{row.name}-{result_name(asked)}"
            result = read_result(path)
            if not is_result_of(result, asked):
                table = table or novel_table(store, classes, imagenet=imagenet)
                vectors = vectors or vectors_of(store, table, row.model, checkpoint, run)
                result = asked | evaluated(vectors, episodes, asked, store)
                write_result(path, result)
            assert result is not None
            results[row.name, shot] = path, result
        note(f"ablate: {row.title}: " + ", ".join(f"{results[row.name, shot][1]['accuracy']:.2%}" for shot in drawn))
    return results


def _document(plan: Any, results: Any, recipe: AblateSettings, data_set: str | None, by_class: bool) -> dict[str, Any]:
    """The tables as plain values."""
    from amefu_cli.stages.ablate import paper_figure
    from amefu_cli.stages.compare import compare

    shots = sorted({shot for _, shot in results})

    def cell(row: Any, shot: int) -> dict[str, Any]:
        (path, result), (before, reference) = results[row.name, shot], results[plan.reference.name, shot]
        found = compare(reference, result, paths=(before, path), by_class=by_class)
        return {
            "accuracy": result["accuracy"], "half_width_95": result["half_width_95"],
            "paper": paper_figure(data_set, row, shot, way=recipe.way), **as_document(found, path),
        }  # fmt: skip

    _, any_result = next(iter(results.values()))
    return {
        "missing_videos": any_result["missing_videos"], "missing_classes": any_result["missing_classes"],
        "data_set": data_set, "way": recipe.way, "queries": recipe.queries, "episodes": recipe.episodes,
        "seed": recipe.seed, "reference": plan.reference.title,
        "interval_over": "episodes and novel classes" if by_class else "episodes",
        "tables": [
            {
                "title": title,
                "rows": [
                    {
                        "name": row.name, "title": row.title, "model": row.model, "fusion": row.fusion,
                        "num_aug": row.num_aug, "shots": {str(shot): cell(row, shot) for shot in shots},
                    }
                    for row in rows
                ],
            }
            for title, rows in plan.tables.items()
        ],
    }  # fmt: skip


def _write(document: dict[str, Any], folder: Path) -> None:
    from amefu_cli.artefacts.files.atomic import to_json, write_atomic
    from amefu_cli.stages.ablate import to_markdown

    write_atomic(folder / "tables.json", to_json(document))
    write_atomic(folder / "tables.md", to_markdown(document).encode())


def _show(document: dict[str, Any], folder: Path, as_json: bool) -> None:
    from amefu_cli.stages.ablate import to_markdown

    if as_json:
        show({**document, "folder": str(folder)}, as_json=True, title="", rows=[])
    else:
        typer.echo(to_markdown(document), nl=False)
    note(f"ablate: {folder / 'tables.md'} and tables.json hold these tables")
