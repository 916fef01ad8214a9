"""What `amefu features` reads: by the command line, or as the store was started with; and what each stream is."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

from amefu_cli.artefacts.files.workspace import located
from amefu_cli.commands.console import warn
from amefu_cli.commands.options import Session
from amefu_cli.settings import ClipSettings, FallbackSettings, FeaturesSettings, StreamSettings

CHECKPOINTS = {"rgb": "rgb", "depth": "depth_stream"}  # which of the inputs holds the stream of which modality
BASENET = "basenet"  # a note in the store's header, and a field of what its novel videos are made from


def recorded_inputs(session: Session, path: Path, header: dict[str, Any] | None) -> dict[str, Path]:
    workspace = session.workspace
    defaults = {
        "frames": workspace.frames, "depth": workspace.depth, "rgb": workspace.stream("rgb"),
        "depth_stream": workspace.stream("depth"),
    }  # fmt: skip
    return {name: located(header["notes"], name, path) if header else default for name, default in defaults.items()}


def recorded_recipes(
    session: Session, path: Path, header: dict[str, Any] | None
) -> tuple[FeaturesSettings, FallbackSettings, ClipSettings]:
    from amefu_cli.artefacts.weights.identity import located_weights

    if header is None:
        kinds = (FeaturesSettings, FallbackSettings, ClipSettings)
        return tuple(session.settings(kind, "features") for kind in kinds)  # type: ignore[return-value]
    recorded = header["settings"]
    return (
        FeaturesSettings.recorded(recorded["features"], path),
        replace(
            FallbackSettings.recorded(recorded["streams"]["fallback"], path),
            weights=located_weights(header["notes"], path),
        ),
        ClipSettings.recorded(recorded["clip"], path),
    )


def only_pretrained(inputs: dict[str, Path]) -> StreamSettings | None:
    """The network of the stream that was pretrained, where the other one was not."""
    from amefu_cli.artefacts.weights.checkpoint import open_header

    pretrained = [modality for modality, name in CHECKPOINTS.items() if inputs[name].is_file()]
    if len(pretrained) != 1:
        return None
    (modality,) = pretrained
    path = inputs[CHECKPOINTS[modality]]
    header = open_header(path, role=modality, fix=f"amefu pretrain --modality {modality}")
    return StreamSettings.recorded(header.settings["stream"], path)


def streams_of(inputs: dict[str, Path], fallback: StreamSettings) -> tuple[dict[str, Any], dict[str, Any]]:
    """What each stream sees (its crop and encoding) and was trained on, and what identifies its weights."""
    from amefu_cli.artefacts.weights.checkpoint import open_header
    from amefu_cli.artefacts.weights.identity import stream_identity, without_weights

    seen: dict[str, Any] = {"fallback": without_weights(fallback.as_dict())}
    made_from = {}
    for modality, name in CHECKPOINTS.items():
        checkpoint = inputs[name]
        if checkpoint.is_file():
            header = open_header(checkpoint, role=modality, fix=f"amefu pretrain --modality {modality}")
            seen[modality] = {key: header.settings["stream"][key] for key in ("crop", "depth_encoding")}
            seen[modality]["trained_on"] = header.architecture["classes"]  # None: imported, and not known
        else:
            warn(
                f"the {modality} stream was never pretrained ({checkpoint} is not there): "
                f"{fallback.backbone} is used with weights {fallback.weights!r}"
            )
            seen[modality] = {"crop": fallback.crop, "depth_encoding": fallback.depth_encoding, "trained_on": []}
        made_from[modality] = stream_identity(checkpoint, fallback.as_dict())
    return seen, made_from


def basenet_of(inputs: dict[str, Path], fallback: StreamSettings) -> dict[str, Any]:
    """What identifies the network that the basenets use: the RGB stream's, with the weights that it started from."""
    from amefu_cli.artefacts.weights.checkpoint import open_header
    from amefu_cli.artefacts.weights.identity import weights_identity

    backbone = fallback.backbone
    if inputs["rgb"].is_file():
        header = open_header(inputs["rgb"], role="rgb", fix="amefu pretrain --modality rgb")
        backbone = header.architecture["backbone"]
    return {"backbone": backbone, "weights": weights_identity(fallback.weights)}
