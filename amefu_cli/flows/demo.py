"""`amefu demo`: a rendered world of actions, then the ordinary commands over it, each as its shell line."""

from __future__ import annotations

import shlex
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

from amefu_cli.artefacts.files.results import Result, open_result
from amefu_cli.demo.clips import World, render_world
from amefu_cli.engines.workers import usable_cores
from amefu_cli.errors import AmefuError, UsageError
from amefu_cli.flows.session import Session
from amefu_cli.settings import DemoSettings, FramesSettings, preset_defaults

MODELS = {"rgb": "RGB stream", "depth": "depth stream", "amefu": "AMeFu-Net"}
PRESET, RECIPE = "tiny", "tuned"  # where none is asked for


@dataclass(frozen=True)
class Demonstration:
    """What the demonstration ends with: results by model, its picture, and what it took."""

    results: Mapping[str, Result]
    recipe: str
    picture: Path
    page: Path | None  # the report, where Jinja2 is installed
    seconds: float


def demonstrate(session: Session, settings: DemoSettings, folder: Path) -> Demonstration:
    """Render the world into `folder`/videos, and type the commands with `folder`/workspace."""
    from amefu_cli.demo.picture import picture_of_stores

    started = time.monotonic()
    if folder.exists() and not folder.is_dir():
        raise UsageError(f"{folder}: is there, but is not a folder; choose another one")
    preset, recipe, workspace = session.preset or PRESET, session.recipe or RECIPE, folder / "workspace"
    _render(session, settings, folder, preset)
    stands = f"what it sets beside the paper's numbers stands in `amefu init --recipe {recipe}`"
    session.say.note(f"recipe {recipe}: {stands}")
    common = ["--workspace", str(workspace), "--preset", preset, "--recipe", recipe]
    split = ["--split", str(folder / "split.toml")]
    _type(session, "depth", str(folder / "videos"), *common)
    for modality in ("rgb", "depth"):
        _type(session, "pretrain", "--modality", modality, *split, *common)
    _type(session, "meta-train", *split, *common)
    results = {model: workspace / "results" / f"{model}.json" for model in MODELS}
    task = ["--way", "5", "--shot", "1", *split, *common]
    for model, out in results.items():
        _type(session, "evaluate", "--model", model, *task, "--out", str(out))
    picture = folder / "clips.png"
    picture_of_stores(workspace / "frames.zarr", workspace / "depth.zarr", picture)
    found = {model: open_result(path) for model, path in results.items()}
    page = report_of(session, folder / "report.html", common)
    return Demonstration(found, recipe, picture, page, time.monotonic() - started)


def report_of(session: Session, page: Path, common: Sequence[str]) -> Path | None:
    """Type `amefu report`; where Jinja2 is not installed, say the line that installs it."""
    words = ["report", *common, "--out", str(page)]
    if find_spec("jinja2") is None:
        session.say.note(f"for a page of all this: pip install 'amefu[report]', then {shlex.join(['amefu', *words])}")
        return None
    _type(session, *words)
    return page


def _render(session: Session, settings: DemoSettings, folder: Path, preset: str) -> None:
    size = preset_defaults(preset, "frames").get("size", FramesSettings().size)
    world = World(settings.seed, settings.length, int(size), settings.fps)
    with session.say.progress("render") as progress:
        rendered = render_world(
            world, folder / "videos", folder / "split.toml", clips_per_class=settings.clips, jobs=usable_cores(),
            progress=progress,
        )  # fmt: skip
    session.say.note(
        f"rendered {len(rendered.done)} clips into {folder / 'videos'} in {rendered.seconds:.1f} s "
        f"({rendered.kept} were there)"
    )


def _type(session: Session, *words: str) -> None:
    """Run one amefu command as a user would, after printing it as the line that it is."""
    line = shlex.join(["amefu", *words])
    session.say.note(f"$ {line}")
    ended = subprocess.run([sys.executable, "-m", "amefu_cli", *words], stdout=subprocess.DEVNULL, check=False)
    if ended.returncode:
        raise AmefuError(f"`{line}` ended with exit code {ended.returncode}")
