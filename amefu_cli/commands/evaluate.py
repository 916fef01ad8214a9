"""`amefu evaluate --way 5 --shot 1`: few-shot episodes of the novel classes."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from amefu_cli.commands.console import note, show
from amefu_cli.commands.features import update_features
from amefu_cli.commands.options import Session, command
from amefu_cli.commands.splits import resolve_split
from amefu_cli.errors import RecipeMismatch
from amefu_cli.recipes import ClipRecipe, DeviceRun, EvaluateRecipe, SplitRecipe


@command
def evaluate(
    session: Session,
    recipe: EvaluateRecipe,
    split_recipe: SplitRecipe,
    run: DeviceRun,
    split: Annotated[
        Path | None, typer.Option(help="file of class names, train/val/test [WORKSPACE/split.json]")
    ] = None,
    features: Annotated[Path | None, typer.Option(help="store to read [WORKSPACE/features.zarr]")] = None,
    fusion: Annotated[
        Path | None, typer.Option(help="fusion of --model amefu [WORKSPACE/fusion.safetensors]")
    ] = None,
    out: Annotated[Path | None, typer.Option(help="results file to write [one in WORKSPACE/results]")] = None,
) -> None:
    """Classify few-shot episodes of the novel classes; the result is printed and kept as JSON.

    Example: amefu evaluate --way 5 --shot 1
    """
    from amefu_cli.artefacts.results import read_result, result_name, write_result
    from amefu_cli.artefacts.video_store import open_store
    from amefu_cli.stages.pending import class_names

    features_path = features or session.workspace.features
    if session.upstream:
        update_features(session, features_path, split=split, split_recipe=split_recipe)
        split_recipe = SplitRecipe()
    store = open_store(features_path, "features", mend="amefu features")
    classes = resolve_split(session, split, split_recipe, class_names(store))
    checkpoint = fusion or session.workspace.fusion
    asked = _asked(store, classes, recipe, checkpoint)
    path = out or session.workspace.results / result_name(asked)
    result = read_result(path)
    if result is not None and all(result.get(name) == value for name, value in asked.items()):
        note(f"evaluate: {path} is up to date")
    else:
        result = asked | _run(store, classes, recipe, checkpoint, run)
        write_result(path, result)
    _show(result, path, session.json)


def _asked(store: Any, classes: Any, recipe: EvaluateRecipe, checkpoint: Path) -> dict[str, Any]:
    """What a result is the result of: settings and fingerprints. The check of the fusion against the store is here."""
    from amefu_cli.artefacts.checkpoint import open_header
    from amefu_cli.artefacts.feature_store import fingerprint_of
    from amefu_cli.artefacts.fingerprint import differences

    fingerprints = {"features": fingerprint_of(store.records(), classes.novel)}
    if recipe.model == "amefu":
        header = open_header(checkpoint, role="fusion", mend="amefu meta-train")
        if header.data["streams"] != store.made_from:
            lines = "; ".join(differences(header.data["streams"], store.made_from))
            raise RecipeMismatch(
                f"{checkpoint}: learned from features of other streams than those of {store.path} ({lines}); "
                "train it again with `amefu meta-train --rebuild`"
            )
        fingerprints["fusion"] = header.fingerprint
    settings = recipe.as_dict()
    settings["test_frames"] = store.recipe["features"]["test_frames"]
    return {**settings, "fingerprints": fingerprints}


def _run(
    store: Any, classes: Any, recipe: EvaluateRecipe, checkpoint: Path, run: DeviceRun
) -> dict[str, Any]:
    from amefu_cli.artefacts.checkpoint import open_header, read_checkpoint
    from amefu_cli.artefacts.feature_store import read_features
    from amefu_cli.stages.devices import choose_device
    from amefu_cli.stages.evaluate import evaluate, load_fusion

    device = choose_device(run.device)
    table = read_features(store, store.records(), classes.novel, views=1)
    module = None
    recipes = {"features": store.notes.get("recipe")}
    if recipe.model == "amefu":
        header = open_header(checkpoint, role="fusion", mend="amefu meta-train")
        recipes["fusion"] = header.notes.get("recipe")
        module = load_fusion(header, read_checkpoint(checkpoint), device)
    found = evaluate(
        table, recipe=recipe, clip=ClipRecipe(**store.recipe["clip"]),
        test_frames=store.recipe["features"]["test_frames"], fusion=module, device=device,
    )  # fmt: skip
    return {
        "accuracy": found.accuracy,
        "half_width_95": found.half_width,
        "by_class": dict(found.by_class),
        "videos": found.videos,
        "recipes": recipes,
        "episodes_fingerprint": found.episodes_fingerprint,
        "right": list(found.right),
        "seconds": round(found.seconds, 3),
    }


def _show(result: dict[str, Any], path: Path, as_json: bool) -> None:
    rows = [["", "accuracy"]]
    rows.append(["all episodes", f"{result['accuracy']:.2%} ± {result['half_width_95']:.2%}"])
    rows += [[f"  {name}", f"{accuracy:.2%}"] for name, accuracy in result["by_class"].items()]
    title = (
        f"{result['model']}: {result['way']}-way {result['shot']}-shot, {result['episodes']} episodes "
        f"({result['seconds']:.1f} s)"
    )
    show({**result, "file": str(path)}, as_json=as_json, title=title, rows=rows)
