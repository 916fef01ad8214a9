"""`amefu features`: per-frame features of both frozen streams into features.zarr."""

from __future__ import annotations

import functools
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from amefu_cli.artefacts.workspace import located, noted
from amefu_cli.commands.checks import check_backbone, check_crop, check_device
from amefu_cli.commands.console import progress, warn
from amefu_cli.commands.depth import update_depth
from amefu_cli.commands.options import Session, command
from amefu_cli.commands.splits import SplitOption, resolve_split
from amefu_cli.commands.work import WHOLE, Work, announce, begun_by, finish, report, unknown_yet
from amefu_cli.recipes import (
    RECIPES,
    ClipRecipe,
    FallbackRecipe,
    FeaturesRecipe,
    FramesRecipe,
    NetworkRun,
    SplitRecipe,
    StreamRecipe,
    WorkRun,
)
from amefu_cli.stages import Outcome

if TYPE_CHECKING:
    from amefu_cli.artefacts.video_store import VideoStore

CHECKPOINTS = {"rgb": "rgb", "depth": "depth_stream"}  # which of the inputs holds the stream of which modality
BASENET = "basenet"  # a note in the store's header, and a field of what its novel videos are made from


@command
def features(
    session: Session,
    recipe: FeaturesRecipe,
    fallback: FallbackRecipe,
    clip: ClipRecipe,
    split_recipe: SplitRecipe,
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
    rebuild: Annotated[bool, typer.Option("--rebuild", help="throw the store away and make it anew")] = False,
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
    split_recipe: SplitRecipe,
    inputs: dict[str, Path] | None = None,
    recipes: tuple[FeaturesRecipe, FallbackRecipe, ClipRecipe] | None = None,
    run: NetworkRun | None = None,
    work: WorkRun = WHOLE,
    basenet: bool = False,
    rebuild: bool = False,
    dry_run: bool = False,
    check: Callable[[Any, Any], None] | None = None,
) -> Outcome:
    """Bring features.zarr up to date with both stores and both streams; `inputs` and `recipes` default to the
    ones that the store was begun with. What `basenet` once added stays up to date from then on.

    `check` is given the frames and the split before any network runs, to refuse what they are too few for.
    """
    from amefu_cli.artefacts.identity import noted_weights
    from amefu_cli.artefacts.store_headers import header_of, read_header
    from amefu_cli.artefacts.video_store import open_store, prepare_store
    from amefu_cli.stages.pending import pending_features

    header = None if rebuild else header_of(path, "features")
    inputs = inputs or _recorded_inputs(session, path, header)
    recipe, fallback, clip = recipes or _recorded_recipes(session, path, header)
    run = run or session.recipe(NetworkRun, "features")
    check_device(run.device)
    stream = fallback.settled(_only_pretrained(inputs) or StreamRecipe())
    if header is None:
        check_backbone(stream.backbone, stream.weights)
    seen, made_from = _streams(inputs, stream)

    @functools.cache
    def settled_split() -> Any:
        """The split: once the frames are there, and before any network runs."""
        frames = open_store(inputs["frames"], "frames", mend="amefu frames VIDEOS")
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
    frames = open_store(inputs["frames"], "frames", mend="amefu frames VIDEOS")
    depth = open_store(inputs["depth"], "depth", mend="amefu depth")
    wanted = basenet or (header is not None and BASENET in header["notes"])
    network = _basenet(inputs, stream) if wanted else None
    begun = (
        begun_by(session, header) | {"geometry": frames.recipe["geometry"]} | ({BASENET: network} if network else {})
    )
    begun["weights"] = noted_weights(stream.weights, path)
    plan = Work("features", work, path.parent)
    header_recipe = {"features": recipe.as_dict(), "clip": clip.as_dict(), "streams": seen}
    store = prepare_store(
        path, "features", recipe=header_recipe, made_from=made_from,
        notes={name: noted(where, path) for name, where in inputs.items()} | begun, rebuild=rebuild,
    )  # fmt: skip
    jobs, kept = pending_features(
        frames, depth, store, split=classes, recipe=recipe, clip=clip, takes=plan.takes, anew=plan.anew,
        basenet=network,
    )  # fmt: skip
    jobs = plan.choose(jobs, store)
    announce("features", len(jobs), kept, path)
    if jobs and recipe.flip > 0 and recipe.views == 0:
        warn(f"--flip {recipe.flip} mirrors random crops alone, and --views 0 makes none: no feature is mirrored")
    outcome = Outcome(planned=dry_run and (before.planned or bool(jobs)))
    if not dry_run:
        networks = seen | {"fallback": stream.as_dict()}
        networks |= {BASENET: {**network, "weights": stream.weights}} if network else {}
        stores = (frames, depth, store)
        extract = _extraction(jobs, stores, inputs, networks, recipe, run, plan.failed) if jobs else Outcome
        with store:
            outcome = extract()
    outcome = finish(outcome, kept, plan, path)
    outcome.failed = before.failed | outcome.failed
    return outcome


def warn_of_other_switches(session: Session, store: VideoStore) -> None:
    """Say where `--recipe` asks for other frames or features than those that `store` was made with."""
    if session.recipe_name is None:
        return
    asked = {**vars(session.recipe(FramesRecipe, "frames")), **vars(session.recipe(FeaturesRecipe, "features"))}
    switches = {
        name for defaults in RECIPES.values() for kind in ("frames", "features") for name in defaults.get(kind, {})
    }
    held = {"geometry": store.notes.get("geometry", asked["geometry"]), **store.recipe["features"]}
    other = [f"{name} {held[name]} (not {asked[name]})" for name in sorted(switches) if held[name] != asked[name]]
    if other:
        warn(
            f"--recipe {session.recipe_name} is not what {store.path} was made by: it has {', '.join(other)}; "
            "give --recipe to every line of another --workspace"
        )


def _recorded_inputs(session: Session, path: Path, header: dict[str, Any] | None) -> dict[str, Path]:
    workspace = session.workspace
    defaults = {
        "frames": workspace.frames, "depth": workspace.depth, "rgb": workspace.stream("rgb"),
        "depth_stream": workspace.stream("depth"),
    }  # fmt: skip
    return {name: located(header["notes"], name, path) if header else default for name, default in defaults.items()}


def _recorded_recipes(
    session: Session, path: Path, header: dict[str, Any] | None
) -> tuple[FeaturesRecipe, FallbackRecipe, ClipRecipe]:
    from amefu_cli.artefacts.identity import located_weights

    if header is None:
        kinds = (FeaturesRecipe, FallbackRecipe, ClipRecipe)
        return tuple(session.recipe(kind, "features") for kind in kinds)  # type: ignore[return-value]
    recorded = header["recipe"]
    return (
        FeaturesRecipe.recorded(recorded["features"], path),
        replace(
            FallbackRecipe.recorded(recorded["streams"]["fallback"], path),
            weights=located_weights(header["notes"], path),
        ),
        ClipRecipe.recorded(recorded["clip"], path),
    )


def _only_pretrained(inputs: dict[str, Path]) -> StreamRecipe | None:
    """The network of the stream that was pretrained, where the other one was not."""
    from amefu_cli.artefacts.checkpoint import open_header

    pretrained = [modality for modality, name in CHECKPOINTS.items() if inputs[name].is_file()]
    if len(pretrained) != 1:
        return None
    (modality,) = pretrained
    path = inputs[CHECKPOINTS[modality]]
    header = open_header(path, role=modality, mend=f"amefu pretrain --modality {modality}")
    return StreamRecipe.recorded(header.recipe["stream"], path)


def _streams(inputs: dict[str, Path], fallback: StreamRecipe) -> tuple[dict[str, Any], dict[str, Any]]:
    """What each stream sees (its crop and encoding) and was trained on, and what identifies its weights."""
    from amefu_cli.artefacts.checkpoint import open_header
    from amefu_cli.artefacts.identity import stream_identity, without_weights

    seen: dict[str, Any] = {"fallback": without_weights(fallback.as_dict())}
    made_from = {}
    for modality, name in CHECKPOINTS.items():
        checkpoint = inputs[name]
        if checkpoint.is_file():
            header = open_header(checkpoint, role=modality, mend=f"amefu pretrain --modality {modality}")
            seen[modality] = {key: header.recipe["stream"][key] for key in ("crop", "depth_encoding")}
            seen[modality]["trained_on"] = header.architecture["classes"]  # None: imported, and not known
        else:
            warn(
                f"the {modality} stream was never pretrained ({checkpoint} is not there): "
                f"{fallback.backbone} is used with weights {fallback.weights!r}"
            )
            seen[modality] = {"crop": fallback.crop, "depth_encoding": fallback.depth_encoding, "trained_on": []}
        made_from[modality] = stream_identity(checkpoint, fallback.as_dict())
    return seen, made_from


def _basenet(inputs: dict[str, Path], fallback: StreamRecipe) -> dict[str, Any]:
    """What identifies the network that the basenets use: the RGB stream's, with the weights that it started from."""
    from amefu_cli.artefacts.checkpoint import open_header
    from amefu_cli.artefacts.identity import weights_identity

    backbone = fallback.backbone
    if inputs["rgb"].is_file():
        header = open_header(inputs["rgb"], role="rgb", mend="amefu pretrain --modality rgb")
        backbone = header.architecture["backbone"]
    return {"backbone": backbone, "weights": weights_identity(fallback.weights)}


def _extraction(
    jobs: Any,
    stores: Any,
    inputs: dict[str, Path],
    seen: dict[str, Any],
    recipe: FeaturesRecipe,
    run: NetworkRun,
    failed: Any,
) -> Callable[[], Outcome]:
    """What computes the features: all that can be refused is, before the store is begun or replaced."""
    import torch

    from amefu_cli.artefacts.identity import note_provenance
    from amefu_cli.stages.devices import choose_device, choose_precision
    from amefu_cli.stages.features import Extraction, extract_features, load_streams

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
