"""`amefu export FILE --role full|rgb|depth`: our checkpoints as one that the paper's public code reads."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from amefu_cli.commands.console import show
from amefu_cli.commands.options import Session, command
from amefu_cli.errors import UsageError

ROLES = ("full", "rgb", "depth")


@command
def export(
    session: Session,
    file: Annotated[Path, typer.Argument(help="file to write: .pkl as the public code does, or .safetensors")],
    role: Annotated[str, typer.Option(metavar="|".join(ROLES), help="a full model, or one stream")],
    rgb: Annotated[Path | None, typer.Option(help="RGB stream [WORKSPACE/rgb.safetensors]")] = None,
    depth_stream: Annotated[Path | None, typer.Option(help="depth stream [WORKSPACE/depth.safetensors]")] = None,
    fusion: Annotated[Path | None, typer.Option(help="fusion [WORKSPACE/fusion.safetensors]")] = None,
    force: Annotated[bool, typer.Option("--force", help="replace a FILE that is there")] = False,
) -> None:
    """Write streams and fusion in the layout of the paper's public code; what was imported comes back exactly.

    Only ResNet-50 streams and the fusion dgadain have a place there.

    Example: amefu export model_full.pkl --role full
    """
    from amefu_cli.stages.public import export_public

    if role not in ROLES:
        raise UsageError(f"--role {role!r}: must be one of {', '.join(ROLES)}")
    if file.exists() and not force:
        raise UsageError(f"{file}: is there already; replace it with --force")
    checkpoints = {
        "rgb": rgb or session.workspace.stream("rgb"),
        "depth": depth_stream or session.workspace.stream("depth"),
        "fusion": fusion or session.workspace.fusion,
    }
    count = export_public(checkpoints, role, file)
    document = {"exported": str(file), "role": role, "tensors": count}
    show(document, as_json=session.json, title="export", rows=[["file", "tensors"], [str(file), str(count)]])
