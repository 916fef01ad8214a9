"""`amefu import FILE --role full|rgb|depth|fusion`: a checkpoint of the paper's public code becomes ours."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from amefu_cli.commands.console import note, show
from amefu_cli.commands.options import Session, command
from amefu_cli.errors import SettingsMismatch, UsageError

PARTS = {"full": ("rgb", "depth", "fusion"), "rgb": ("rgb",), "depth": ("depth",), "fusion": ("fusion",)}


@command
def import_(
    session: Session,
    file: Annotated[Path, typer.Argument(help="model_full_*.pkl or *_submodel.pkl of the public code")],
    role: Annotated[
        str, typer.Option(metavar="|".join(PARTS), help="what FILE is; fusion: a full one, only its DGAdaIN is taken")
    ],
    rgb: Annotated[Path | None, typer.Option(help="RGB stream [WORKSPACE/rgb.safetensors]")] = None,
    depth_stream: Annotated[Path | None, typer.Option(help="depth stream [WORKSPACE/depth.safetensors]")] = None,
    fusion: Annotated[Path | None, typer.Option(help="fusion [WORKSPACE/fusion.safetensors]")] = None,
    rebuild: Annotated[bool, typer.Option("--rebuild", help="replace checkpoints that are there")] = False,
) -> None:
    """Take over a checkpoint of the paper's public code; `features` and `evaluate` use it at once.

    A full file gives both streams and the fusion. The streams read 224 pixels and magma colours.

    Example: amefu import model_full_kinetics.pkl --role full
    """
    from amefu_cli.stages.public import read_public

    if role not in PARTS:
        raise UsageError(f"--role {role!r}: must be one of {', '.join(PARTS)}")
    paths = {
        "rgb": rgb or session.workspace.stream("rgb"),
        "depth": depth_stream or session.workspace.stream("depth"),
        "fusion": fusion or session.workspace.fusion,
    }
    if role == "fusion" and (missing := [path for path in (paths["rgb"], paths["depth"]) if not path.is_file()]):
        raise UsageError(f"{missing[0]}: no such checkpoint; a fusion goes with two streams, so import them first")
    parts = read_public(file, "full" if role == "fusion" else role)
    if not rebuild:
        _refuse_others(file, [paths[part] for part in PARTS[role]])
    rows = [["checkpoint", "state"]]
    rows += [[str(paths[part]), _write(part, parts[part], file, paths)] for part in PARTS[role]]
    document = {"imported": str(file), "role": role, "checkpoints": {part: str(paths[part]) for part in PARTS[role]}}
    note("next: amefu features, then amefu evaluate" if len(rows) > 2 or role == "fusion" else "next: amefu features")
    show(document, as_json=session.json, title=f"import of {file.name}", rows=rows)


def _refuse_others(file: Path, paths: list[Path]) -> None:
    """Before anything is written: a checkpoint that is there and not from FILE is not replaced unasked."""
    from amefu_cli.artefacts.weights.checkpoint import read_header
    from amefu_cli.artefacts.weights.identity import path_identity

    for path in paths:
        found = read_header(path)
        if found is not None and found.data.get("imported") != path_identity(file):
            raise SettingsMismatch(
                f"{path}: holds another checkpoint than {file} gives; replace it with `amefu import … --rebuild`, or "
                "write elsewhere with --rgb, --depth-stream and --fusion"
            )


def _write(part: str, arrays: dict[str, Any], file: Path, paths: dict[str, Path]) -> str:
    """Write one checkpoint, streams before the fusion that is bound to them; returns what became of it."""
    from amefu_cli.artefacts.weights.checkpoint import read_header, write_checkpoint
    from amefu_cli.artefacts.weights.identity import stream_identity
    from amefu_cli.artefacts.weights.training_run import TrainingRun
    from amefu_cli.stages.public import fusion_header, stream_header

    path = paths[part]
    if part == "fusion":
        streams = {modality: stream_identity(paths[modality], {}) for modality in ("rgb", "depth")}
        header = fusion_header(file, arrays, streams)
    else:
        header = stream_header(file, part, arrays)
    found = read_header(path)
    if found is not None and found.compared() == header.compared():
        return "is there already"
    TrainingRun(path, header).discard()
    write_checkpoint(path, arrays, header)
    return f"written, {header.notes['classes']} training classes"
