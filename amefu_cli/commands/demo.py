"""`amefu demo [DIR]`: a rendered world of actions, then the ordinary commands over it, each as its shell line."""

from __future__ import annotations

import shlex
import subprocess
import sys
import time
from pathlib import Path
from typing import Annotated, Any

import typer

from amefu_cli.commands.console import note, progress, show
from amefu_cli.commands.options import Session, command
from amefu_cli.errors import AmefuError, UsageError
from amefu_cli.settings import DemoSettings, FramesSettings

MODELS = ("rgb", "depth", "amefu")


@command
def demo(
    session: Session,
    recipe: DemoSettings,
    folder: Annotated[Path, typer.Argument(metavar="[DIR]", help="folder of the world and of its workspace")] = Path(
        "amefu-demo"
    ),
) -> None:
    """Render a small world of actions and run the whole pipeline on it, in a few minutes on two cores.

    Needs the extra: pip install 'amefu[timm]'

    Example: amefu demo ./amefu-demo
    """
    from amefu_cli.demo.clips import World, render_world
    from amefu_cli.engines.workers import usable_cores

    started = time.monotonic()
    if folder.exists() and not folder.is_dir():
        raise UsageError(f"{folder}: is there, but is not a folder; choose another one")
    preset, workspace = session.preset or "tiny", folder / "workspace"
    recipe_name = session.recipe_name or "tuned"
    size = _frame_size(preset)
    with progress("render") as report:
        world = render_world(
            World(recipe.seed, recipe.length, size, recipe.fps), folder / "videos", folder / "split.toml",
            clips_per_class=recipe.clips, jobs=usable_cores(), progress=report,
        )  # fmt: skip
    note(
        f"rendered {len(world.done)} clips into {folder / 'videos'} in {world.seconds:.1f} s ({world.kept} were there)"
    )
    note(f"recipe {recipe_name}: what it sets beside the paper's numbers stands in `amefu init --recipe {recipe_name}`")
    common = ["--workspace", str(workspace), "--preset", preset, "--recipe", recipe_name]
    split = ["--split", str(folder / "split.toml")]
    _type("depth", str(folder / "videos"), *common)
    _type("pretrain", "--modality", "rgb", *split, *common)
    _type("pretrain", "--modality", "depth", *split, *common)
    _type("meta-train", *split, *common)
    for model in MODELS:
        out = ["--out", str(workspace / "results" / f"{model}.json")]
        _type("evaluate", "--model", model, "--way", "5", "--shot", "1", *split, *common, *out)
    _picture(workspace, folder / "clips.png")
    _table(workspace, folder / "clips.png", time.monotonic() - started, recipe_name, session.json)


def _frame_size(preset: str) -> int:
    from amefu_cli.settings import preset_defaults

    return int(preset_defaults(preset, "frames").get("size", FramesSettings().size))


def _type(*words: str) -> None:
    """Run one amefu command as a user would, after printing it as the line that it is."""
    note(f"$ {shlex.join(['amefu', *words])}")
    ended = subprocess.run([sys.executable, "-m", "amefu_cli", *words], stdout=subprocess.DEVNULL, check=False)
    if ended.returncode:
        raise AmefuError(f"`{shlex.join(['amefu', *words])}` ended with exit code {ended.returncode}")


def _picture(workspace: Path, path: Path) -> None:
    from amefu_cli.demo.picture import picture_of_stores

    picture_of_stores(workspace / "frames.zarr", workspace / "depth.zarr", path)


def _table(workspace: Path, picture: Path, seconds: float, recipe: str, as_json: bool) -> None:
    from amefu_cli.artefacts.files.results import read_result

    names = {"rgb": "RGB stream", "depth": "depth stream", "amefu": "AMeFu-Net"}
    results: dict[str, Any] = {model: read_result(workspace / "results" / f"{model}.json") for model in MODELS}
    rows = [["", "5-way 1-shot accuracy", "episodes"]]
    for model, result in results.items():
        rows.append(
            [
                names[model],
                f"{result['accuracy']:.2%} ± {result['half_width_95']:.2%}",
                str(result["episodes"]),
            ]
        )
    document = {
        **{
            model: {key: result[key] for key in ("accuracy", "half_width_95", "episodes")}
            for model, result in results.items()
        },
        "recipe": recipe,
        "picture": str(picture),
        "seconds": round(seconds, 1),
    }
    show(
        document,
        as_json=as_json,
        title=f"novel actions of the rendered world, recipe {recipe}, the same episodes (chance: 20%)",
        rows=rows,
    )
    note(f"clips beside their depth: {picture}; the whole took {seconds:.0f} s")
