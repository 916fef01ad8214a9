"""`amefu evaluate --way 5 --shot 1`: few-shot episodes of the novel classes."""

from __future__ import annotations

import functools
from pathlib import Path
from typing import Annotated, Any

import typer

from amefu_cli.commands.checks import check_device
from amefu_cli.commands.console import note, show
from amefu_cli.commands.episodes import episodes_of, given_episodes
from amefu_cli.commands.features import update_features, warn_of_other_switches
from amefu_cli.commands.options import Session, command
from amefu_cli.commands.splits import SplitOption, refuse_seen, resolve_split
from amefu_cli.errors import SettingsMismatch
from amefu_cli.method.heads import MODELS
from amefu_cli.settings import ClipSettings, DeviceRun, EvaluateSettings, SplitSettings


@command
def evaluate(
    session: Session,
    recipe: EvaluateSettings,
    split_recipe: SplitSettings,
    run: DeviceRun,
    split: SplitOption = None,
    features: Annotated[Path | None, typer.Option(help="store to read [WORKSPACE/features.zarr]")] = None,
    fusion: Annotated[Path | None, typer.Option(help="fusion of --model amefu [WORKSPACE/fusion.safetensors]")] = None,
    out: Annotated[Path | None, typer.Option(help="results file to write [one in WORKSPACE/results]")] = None,
    by_class: Annotated[
        bool, typer.Option("--by-class", help="also the interval over novel classes, which a few of them widen")
    ] = False,
) -> None:
    """Classify few-shot episodes of the novel classes; the result is printed and kept as JSON.

    Example: amefu evaluate --way 5 --shot 1
    """
    from amefu_cli.artefacts.files.results import read_result, result_name, write_result
    from amefu_cli.artefacts.stores.store import open_store
    from amefu_cli.stages.compare import interval_by_class

    features_path, checkpoint = features or session.workspace.features, fusion or session.workspace.fusion
    if session.upstream:
        check_before(recipe, checkpoint, run)
        update_features(
            session, features_path, split=split, split_recipe=split_recipe, basenet=reads_imagenet(recipe.model),
            check=functools.partial(check_frames, recipe=recipe, checkpoint=checkpoint),
        )  # fmt: skip
        split_recipe = SplitSettings()
    store = open_store(features_path, "features", fix="amefu features")
    warn_of_other_switches(session, store)
    classes = resolve_split(session, split, split_recipe, store, checked=session.upstream)
    drawn = episodes_of(store, classes, recipe)
    asked = settings_of_result(store, classes, novel_data(store, classes), recipe, drawn, checkpoint)
    path = out or session.workspace.results / result_name(asked)
    result = read_result(path)
    if is_result_of(result, asked):
        note(f"evaluate: {path} is up to date")
    else:
        table = novel_table(store, classes, imagenet=reads_imagenet(recipe.model))
        vectors = vectors_of(store, table, recipe.model, checkpoint, run)
        result = asked | evaluated(vectors, drawn, asked, store)
        write_result(path, result)
    assert result is not None
    interval = interval_by_class(result, path) if by_class else None
    _show(result, path, interval, session.json)


def check_before(recipe: EvaluateSettings, checkpoint: Path, run: DeviceRun) -> None:
    """Raises UsageError for what can be refused without a look at any video: episodes, fusion, device."""
    from amefu_cli.artefacts.weights.checkpoint import open_header

    given_episodes(recipe)
    if recipe.model == "amefu":
        open_header(checkpoint, role="fusion", fix="amefu meta-train")
    check_device(run.device)


def check_frames(frames: Any, classes: Any, *, recipe: EvaluateSettings, checkpoint: Path) -> None:
    """Raises UsageError for what frames and split tell before any network runs: episodes, a fusion of other classes."""
    episodes_of(frames, classes, recipe)
    if recipe.model == "amefu":
        _fusion_header(checkpoint, classes)


def reads_imagenet(model: str) -> bool:
    """Whether a model is one of the basenets."""
    return "imagenet" in MODELS[model].streams


def novel_data(store: Any, classes: Any) -> dict[str, Any]:
    """Which novel videos there are: the fingerprint of their features, and how much of the split is missing."""
    from amefu_cli.artefacts.stores.features import fingerprint_of

    records = store.records()
    there = {record.class_name for record in records.values()}
    return {
        "features": fingerprint_of(classes.listed(records), classes.novel),
        "missing_videos": len(classes.missing("novel", records)),
        "missing_classes": sorted(set(classes.novel) - there),
    }


def settings_of_result(
    store: Any, classes: Any, novel: dict[str, Any], recipe: EvaluateSettings, drawn: Any, checkpoint: Path
) -> dict[str, Any]:
    """What a result is the result of: settings, how store and fusion were made, and fingerprints; `novel` is
    `novel_data`.

    The check of the fusion against the store and the split is here.
    """
    model = MODELS[recipe.model]
    fingerprints = {"features": novel["features"]}
    made_by = {"features": store.notes.get("recipe")}
    switches = {name: store.settings["features"][name] for name in ("flip", "test_frames")}
    switches["geometry"] = store.notes.get("geometry")
    fused_by = {}
    if recipe.model == "amefu":
        header = _checked_fusion(store, classes, checkpoint)
        trained = header.settings["meta-train"]
        fingerprints["fusion"] = header.fingerprint
        made_by["fusion"] = header.notes.get("recipe")
        switches |= {name: trained.get(name) for name in ("loss", "temperature", "learning_rate")}
        fused_by = {"fusion": header.architecture["fusion"], "num_aug": trained.get("num_aug")}
    return {
        "model": recipe.model,
        **fused_by,
        "classifier": recipe.classifier or model.classifier,
        "test_frames": model.test_frames or store.settings["features"]["test_frames"],
        **drawn.shape,
        "seed": drawn.notes["seed"] if recipe.episodes_to_draw() else None,
        "episodes_fingerprint": drawn.fingerprint,
        "recipe": made_by,
        "switches": switches,
        "missing_videos": novel["missing_videos"],
        "missing_classes": novel["missing_classes"],
        "fingerprints": fingerprints,
    }


def _checked_fusion(store: Any, classes: Any, checkpoint: Path) -> Any:
    from amefu_cli.artefacts.files.fingerprint import differences

    header = _fusion_header(checkpoint, classes)
    if header.data["streams"] != store.made_from:
        lines = "; ".join(differences(header.data["streams"], store.made_from))
        raise SettingsMismatch(
            f"{checkpoint}: learned from features of other streams than those of {store.path} ({lines}); "
            "train it again with `amefu meta-train --rebuild`"
        )
    return header


def _fusion_header(checkpoint: Path, classes: Any) -> Any:
    from amefu_cli.artefacts.weights.checkpoint import open_header

    header = open_header(checkpoint, role="fusion", fix="amefu meta-train")
    trained_on = [name for names in header.data.get("classes", {}).values() for name in names]
    refuse_seen(classes, trained_on, str(checkpoint), "amefu meta-train --rebuild")
    return header


def is_result_of(result: dict[str, Any] | None, asked: dict[str, Any]) -> bool:
    """Whether a result that was read is the one that is asked for."""
    return result is not None and all(result.get(name) == value for name, value in asked.items())


def novel_table(store: Any, classes: Any, *, imagenet: bool) -> Any:
    """The features of the novel classes."""
    from amefu_cli.artefacts.stores.features import read_features

    return read_features(store, classes.listed(store.records()), classes.novel, views=1, imagenet=imagenet)


def vectors_of(store: Any, table: Any, model: str, checkpoint: Path, run: DeviceRun) -> Any:
    """The vectors of the novel videos by one model; `checkpoint` is the fusion of `amefu`."""
    from amefu_cli.artefacts.weights.checkpoint import open_header, read_checkpoint
    from amefu_cli.stages.evaluate import load_fusion, model_vectors
    from amefu_cli.stages.networks import choose_device

    device = choose_device(run.device)
    module = None
    if model == "amefu":
        header = open_header(checkpoint, role="fusion", fix="amefu meta-train")
        module = load_fusion(header, read_checkpoint(checkpoint), device)
    return model_vectors(
        table, model=model, clip=ClipSettings.recorded(store.settings["clip"], store.path),
        test_frames=store.settings["features"]["test_frames"], fusion=module, device=device,
    )  # fmt: skip


def evaluated(vectors: Any, drawn: Any, asked: dict[str, Any], store: Any) -> dict[str, Any]:
    """What classifying the episodes found."""
    from amefu_cli.stages.evaluate import evaluate as classify

    found: dict[str, Any] = classify(vectors, drawn, classifier=asked["classifier"], source=str(store.path))
    return found


def _show(result: dict[str, Any], path: Path, by_class: Any, as_json: bool) -> None:
    rows = [["", "accuracy"]]
    rows.append(["all episodes", f"{result['accuracy']:.2%} ± {result['half_width_95']:.2%}"])
    if by_class is not None:
        rows.append([f"  over {len(result['by_class'])} classes too", f"{by_class.low:.2%} to {by_class.high:.2%}"])
    for what in ("videos", "classes"):
        if missing := result[f"missing_{what}"]:
            rows.append(
                [f"novel {what} of the split that are missing", str(missing if what == "videos" else len(missing))]
            )
    rows += [[f"  {name}", f"{accuracy:.2%}"] for name, accuracy in result["by_class"].items()]
    title = (
        f"{result['model']}: {result['way']}-way {result['shot']}-shot, {result['episodes']} episodes "
        f"({result['seconds']:.1f} s)"
    )
    document = {name: value for name, value in result.items() if name not in ("right", "outcomes")}  # in the file
    document["file"] = str(path)
    if by_class is not None:
        document["interval_95_by_class"] = [by_class.low, by_class.high]
    show(document, as_json=as_json, title=title, rows=rows)
