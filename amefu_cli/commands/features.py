"""`amefu features`: per-frame features of both frozen streams into features.zarr."""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from amefu_cli.artefacts.files.workspace import noted
from amefu_cli.commands.checks import check_backbone, check_crop, check_device
from amefu_cli.commands.console import progress, warn
from amefu_cli.commands.depth import update_depth
from amefu_cli.commands.feature_inputs import (
    BASENET,
    basenet_of,
    only_pretrained,
    recorded_inputs,
    recorded_recipes,
    streams_of,
)
from amefu_cli.commands.options import Session, command
from amefu_cli.commands.splits import SplitOption, refuse_to_draw, resolve_split
from amefu_cli.commands.work import WHOLE, Work, report, started_by, unknown_yet
from amefu_cli.engines.shares import parse_shard
from amefu_cli.errors import AmefuError
from amefu_cli.settings import (
    RECIPES,
    ClipSettings,
    FallbackSettings,
    FeaturesSettings,
    FramesSettings,
    NetworkRun,
    SplitSettings,
    StreamSettings,
    WorkRun,
)
from amefu_cli.stages import Outcome

if TYPE_CHECKING:
    from amefu_cli.artefacts.files.split import Split
    from amefu_cli.artefacts.stores.store import VideoStore
    from amefu_cli.stages.pending import VideoJob


@command
def features(
    session: Session,
    recipe: FeaturesSettings,
    fallback: FallbackSettings,
    clip: ClipSettings,
    split_recipe: SplitSettings,
    run: NetworkRun,
    work: WorkRun,
    split: SplitOption = None,
    frames_store: Annotated[Path | None, typer.Option(help="store to read [WORKSPACE/frames.zarr]")] = None,
    depth: Annotated[
        Path | None, typer.Option("--depth", "--depth-store", help="store to read [WORKSPACE/depth.zarr]")
    ] = None,
    rgb: Annotated[Path | None, typer.Option(help="pretrained RGB stream [WORKSPACE/rgb.safetensors]")] = None,
    depth_stream: Annotated[
        Path | None, typer.Option(help="pretrained depth stream [WORKSPACE/depth.safetensors]")
    ] = None,
    out: Annotated[Path | None, typer.Option(help="store to write [WORKSPACE/features.zarr]")] = None,
    basenet: Annotated[
        bool,
        typer.Option("--basenet", help="add what rgb-basenet and rgb-basenet++ read: novel videos before pretraining"),
    ] = False,
    rebuild: Annotated[bool, typer.Option("--rebuild", help="throw the store away and make it again")] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="only say what would be done")] = False,
) -> None:
    """Compute the features of both frozen streams once, for every later experiment.

    A stream that was never pretrained is used with the weights of --backbone and --weights; what is not said is taken
    from the other stream, where that was pretrained.

    Example: amefu features --stride 2 --views 1
    """
    workspace = session.workspace
    inputs = {
        "frames": frames_store or workspace.frames,
        "depth": depth or workspace.depth,
        "rgb": rgb or workspace.stream("rgb"),
        "depth_stream": depth_stream or workspace.stream("depth"),
    }
    path = out or workspace.features
    outcome = update_features(
        session, path, inputs=inputs, recipes=(recipe, fallback, clip), split=split, split_recipe=split_recipe,
        run=run, work=work, basenet=basenet, rebuild=rebuild, dry_run=dry_run,
    )  # fmt: skip
    report("features", outcome, path, as_json=session.json)


def update_features(
    session: Session,
    path: Path,
    *,
    split: Path | None,
    split_recipe: SplitSettings,
    inputs: dict[str, Path] | None = None,
    recipes: tuple[FeaturesSettings, FallbackSettings, ClipSettings] | None = None,
    run: NetworkRun | None = None,
    work: WorkRun = WHOLE,
    basenet: bool = False,
    rebuild: bool = False,
    dry_run: bool = False,
    check: Callable[[Any, Any], None] | None = None,
) -> Outcome:
    """Bring features.zarr up to date with both stores and both streams; `inputs` and `recipes` default to the
    ones that the store was started with. What `basenet` once added stays up to date from then on.

    `check` is given the frames and the split before any network runs, to refuse what they are too few for.
    """
    from amefu_cli.artefacts.stores.header import header_of, read_header
    from amefu_cli.artefacts.stores.store import open_store, prepare_store
    from amefu_cli.artefacts.weights.identity import noted_weights
    from amefu_cli.stages.pending import pending_features

    header = None if rebuild else header_of(path, "features")
    inputs = inputs or recorded_inputs(session, path, header)
    recipe, fallback, clip = recipes or recorded_recipes(session, path, header)
    run = run or session.settings(NetworkRun, "features")
    check_device(run.device)
    stream = fallback.settled(only_pretrained(inputs) or StreamSettings())
    if header is None:
        check_backbone(stream.backbone, stream.weights)
    seen, made_from = streams_of(inputs, stream)
    if parse_shard(work.shard) != parse_shard("none"):
        refuse_to_draw(session, split, split_recipe)

    @functools.cache
    def settled_split() -> Split:
        """The split: once the frames are there, and before any network runs."""
        frames = open_store(inputs["frames"], "frames", fix="amefu frames VIDEOS")
        check_crop(frames.path, *(seen[modality]["crop"] for modality in made_from))
        classes = resolve_split(session, split, split_recipe, frames, streams=seen, dry_run=dry_run)
        if check is not None and not dry_run:  # which may not have all frames yet
            check(frames, classes)
        return classes

    before = Outcome()
    if session.upstream:
        before = update_depth(
            session, inputs["frames"], inputs["depth"], work=WorkRun(shard=work.shard), dry_run=dry_run,
            check=settled_split,
        )  # fmt: skip
        if before.planned:
            unknown_yet("features", inputs["depth"])
        if dry_run and any(read_header(inputs[name]) is None for name in ("frames", "depth")):
            return before
    classes = settled_split()
    frames = open_store(inputs["frames"], "frames", fix="amefu frames VIDEOS")
    depth = open_store(inputs["depth"], "depth", fix="amefu depth")
    wanted = basenet or (header is not None and BASENET in header["notes"])
    network = basenet_of(inputs, stream) if wanted else None
    started = (
        started_by(session, header)
        | {"geometry": frames.settings["geometry"]}
        | ({BASENET: network} if network else {})
    )
    started["weights"] = noted_weights(stream.weights, path)
    plan = Work("features", work, path.parent)
    header_recipe = {"features": recipe.as_dict(), "clip": clip.as_dict(), "streams": seen}
    store = prepare_store(
        path, "features", settings=header_recipe, made_from=made_from,
        notes={name: noted(where, path) for name, where in inputs.items()} | started, rebuild=rebuild,
    )  # fmt: skip
    jobs, kept = pending_features(
        frames, depth, store, split=classes, settings=recipe, clip=clip, takes=plan.takes, again=plan.again,
        basenet=network,
    )  # fmt: skip
    jobs = plan.choose(jobs, store)
    if jobs and recipe.flip > 0 and recipe.views == 0:
        warn(f"--flip {recipe.flip} mirrors random crops alone, and --views 0 makes none: no feature is mirrored")
    networks = seen | {"fallback": stream.as_dict()}
    networks |= {BASENET: {**network, "weights": stream.weights}} if network else {}
    prepare = functools.partial(_extraction, (frames, depth, store), inputs, networks, recipe, run, plan.failed)
    return plan.carry_out(store, jobs, kept, prepare, before=before, dry_run=dry_run)


def warn_of_other_switches(session: Session, store: VideoStore) -> None:
    """Say where `--recipe` asks for other frames or features than those that `store` was made with."""
    if session.recipe_name is None:
        return
    asked = {**vars(session.settings(FramesSettings, "frames")), **vars(session.settings(FeaturesSettings, "features"))}
    switches = {
        name for defaults in RECIPES.values() for kind in ("frames", "features") for name in defaults.get(kind, {})
    }
    held = {"geometry": store.notes.get("geometry", asked["geometry"]), **store.settings["features"]}
    other = [f"{name} {held[name]} (not {asked[name]})" for name in sorted(switches) if held[name] != asked[name]]
    if other:
        warn(
            f"--recipe {session.recipe_name} is not what {store.path} was made by: it has {', '.join(other)}; "
            "give --recipe to every line of another --workspace"
        )


def _extraction(
    stores: tuple[VideoStore, VideoStore, VideoStore],
    inputs: dict[str, Path],
    seen: dict[str, Any],
    recipe: FeaturesSettings,
    run: NetworkRun,
    failed: Callable[[str, AmefuError], None],
    jobs: Sequence[VideoJob],
) -> Callable[[], Outcome]:
    """What computes the features: all that can be refused is, before the store is started or replaced."""
    if not jobs:  # which is known before torch is loaded
        return Outcome
    import torch

    from amefu_cli.artefacts.weights.identity import note_provenance
    from amefu_cli.stages.features import Extraction, extract_features, load_streams
    from amefu_cli.stages.networks import choose_device, choose_precision

    device = choose_device(run.device)
    precision = choose_precision(recipe.precision, device)
    checkpoints = {"rgb": inputs["rgb"], "depth": inputs["depth_stream"]}
    torch.manual_seed(recipe.seed)  # a backbone with --weights none is the same in every run
    streams = load_streams(checkpoints, seen, device=device, precision=precision, basenet=seen.get(BASENET))
    frames, depth, features = stores
    setup = Extraction(
        frames=frames, depth=depth, features=features, streams=streams, device=device, precision=precision,
        batch=run.batch, seed=recipe.seed, flip=recipe.flip,
    )  # fmt: skip

    def extract() -> Outcome:
        note_provenance(features, {name: stream.provenance for name, stream in streams.items() if stream.provenance})
        with progress("features") as report_progress:
            return extract_features(setup, jobs, failed=failed, progress=report_progress)

    return extract
