"""`amefu episodes --way 5 --shot 1`: draw episodes once, for every model and store to be evaluated on."""

from __future__ import annotations

import functools
from pathlib import Path
from typing import Annotated, Any

import typer

from amefu_cli.commands.console import note, show
from amefu_cli.commands.features import update_features
from amefu_cli.commands.options import Session, command
from amefu_cli.commands.splits import SplitOption, resolve_split
from amefu_cli.errors import UsageError
from amefu_cli.settings import EpisodesSettings, EvaluateSettings, SplitSettings


@command
def episodes(
    session: Session,
    recipe: EpisodesSettings,
    split_recipe: SplitSettings,
    split: SplitOption = None,
    features: Annotated[Path | None, typer.Option(help="store to draw from [WORKSPACE/features.zarr]")] = None,
    out: Annotated[Path | None, typer.Option(help="file to write [one in WORKSPACE/episodes]")] = None,
) -> None:
    """Draw episodes of the novel classes and write them as video ids, for `amefu evaluate --episodes FILE`.

    Example: amefu episodes --way 5 --shot 1 --count 10000 --seed 0
    """
    from amefu_cli.artefacts.files.episodes import read_episodes, write_episodes
    from amefu_cli.artefacts.stores.store import open_store

    features_path = features or session.workspace.features
    if session.upstream:
        check = functools.partial(draw_from, recipe=recipe)
        update_features(session, features_path, split=split, split_recipe=split_recipe, check=check)
        split_recipe = SplitSettings()
    store = open_store(features_path, "features", fix="amefu features")
    classes = resolve_split(session, split, split_recipe, store, checked=session.upstream)
    drawn = draw_from(store, classes, recipe)
    name = f"{recipe.way}way-{recipe.shot}shot-{recipe.queries}query-{recipe.count}-seed{recipe.seed}.safetensors"
    path = out or session.workspace.folder / "episodes" / name
    if not path.exists():
        write_episodes(path, drawn)
    elif read_episodes(path).fingerprint == drawn.fingerprint:
        note(f"episodes: {path} is up to date")
    else:
        raise UsageError(f"{path}: holds other episodes; remove it, or choose another --out")
    document = {"file": str(path), **drawn.shape, "videos": len(drawn.ids), "fingerprint": drawn.fingerprint}
    rows = [[*document], [str(value) for value in document.values()]]
    show(document, as_json=session.json, title="episodes", rows=rows)


def draw_from(store: Any, classes: Any, recipe: EpisodesSettings) -> Any:
    """Episodes of the novel videos of a feature store."""
    from amefu_cli.artefacts.stores.features import fingerprint_of
    from amefu_cli.stages.episodes import draw

    records = classes.listed(store.records())
    return draw(records, classes.novel, recipe, {"features": fingerprint_of(records, classes.novel)})


def episodes_of(store: Any, classes: Any, recipe: EvaluateSettings) -> Any:
    """The episodes that `--episodes` asks for: a number of new ones, or those of a file.

    Raises:
        UsageError: too few videos to draw from; a file that cannot be used, or of classes that are not novel ones.
    """
    to_draw = recipe.episodes_to_draw()
    if to_draw is not None:
        return draw_from(store, classes, to_draw)
    drawn = given_episodes(recipe)
    seen = sorted(set(drawn.class_names) - set(classes.novel))
    if seen:
        raise UsageError(
            f"{recipe.episodes}: has episodes of {', '.join(seen)}, which the split does not name as novel classes"
        )
    return drawn


def given_episodes(recipe: EvaluateSettings) -> Any:
    """The episodes of the file that `--episodes` names; None where it is a number of new ones.

    Raises:
        UsageError: no such number and no such file; options that the file contradicts.
    """
    from amefu_cli.artefacts.files.episodes import read_episodes

    if recipe.episodes_to_draw() is not None:
        return None
    path = Path(recipe.episodes)
    drawn = read_episodes(path)
    for name, asked in recipe.given.items():
        held = drawn.notes.get("seed") if name == "seed" else drawn.shape[name]
        if asked != held:
            raise UsageError(f"--{name} {asked}: the episodes of {path} have {name} {held}; leave the option out")
    return drawn
