"""`amefu import` and `amefu export`: checkpoints of the paper's public code become ours, and ours become such."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from amefu_cli.artefacts.files.fingerprint import path_identity
from amefu_cli.artefacts.weights.checkpoint import Kind, Tensors, open_stream, read_header, write_checkpoint
from amefu_cli.artefacts.weights.training_run import TrainingRun
from amefu_cli.errors import SettingsMismatch, UsageError
from amefu_cli.flows.session import Session
from amefu_cli.flows.streams import pretrained_stream
from amefu_cli.flows.training import STREAMS
from amefu_cli.settings import EXPORTED, IMPORTED


@dataclass(frozen=True)
class PublicOrder:
    """A public file, what it is or is to be, and the checkpoints by role (rgb, depth, fusion) on our side; with
    `replace` what is there is replaced."""

    file: Path
    role: str
    checkpoints: Mapping[str, Path]
    replace: bool = False


def import_public(session: Session, order: PublicOrder) -> dict[str, str]:
    """Take over a file of the public code; returns what became of each checkpoint, by role.

    Raises:
        UsageError: an unknown role, a fusion without its streams, a file of another layout.
        SettingsMismatch: another checkpoint is there.
    """
    if order.role not in IMPORTED:
        raise UsageError(f"--role {order.role!r}: must be one of {', '.join(IMPORTED)}")
    parts, streams = IMPORTED[order.role], [order.checkpoints[name] for name in STREAMS]
    if order.role == "fusion" and (missing := [path for path in streams if not path.is_file()]):
        raise UsageError(f"{missing[0]}: no such checkpoint; a fusion goes with two streams, so import them first")
    from amefu_cli.stages.public import import_fusion, import_stream, read_public

    arrays = read_public(order.file, "full" if order.role == "fusion" else order.role)
    if not order.replace:
        refuse_others(order.file, [order.checkpoints[part] for part in parts])
    written = {}
    for part in parts:  # streams before the fusion that is bound to them
        path, tensors = order.checkpoints[part], arrays[part]
        if part == "fusion":
            written[part] = _write(path, tensors, import_fusion(order.file, tensors, _streams(order)))
        else:
            written[part] = _write(path, tensors, import_stream(order.file, part, tensors))
    session.say.note("next: amefu features" + (", then amefu evaluate" if "fusion" in parts else ""))
    return written


def export_public(order: PublicOrder) -> int:
    """Write checkpoints as a file of the public code; returns how many tensors it holds.

    Raises:
        UsageError: an unknown role; a file that is there; a checkpoint that is not, or of another network.
    """
    if order.role not in EXPORTED:
        raise UsageError(f"--role {order.role!r}: must be one of {', '.join(EXPORTED)}")
    if order.file.exists() and not order.replace:
        raise UsageError(f"{order.file}: is there already; replace it with --force")
    from amefu_cli.stages.public import write_public

    return write_public(order.checkpoints, order.role, order.file)


def refuse_others(file: Path, paths: Iterable[Path]) -> None:
    """Before anything is written: a checkpoint that is there and not from `file` is not replaced unasked."""
    for path in paths:
        found = read_header(path)
        if found is not None and not (found.imported and found.imported.file == path_identity(file)):
            raise SettingsMismatch(
                f"{path}: holds another checkpoint than {file} gives; replace it with `amefu import … --rebuild`, or "
                "write elsewhere with --rgb, --depth-stream and --fusion"
            )


def _streams(order: PublicOrder) -> dict[str, str]:
    """The fingerprints of the streams of features that both stream checkpoints give."""
    rows = {name: order.checkpoints[name] for name in STREAMS}
    return {name: pretrained_stream(name, path, open_stream(path, name)).row.fingerprint for name, path in rows.items()}


def _write(path: Path, arrays: Tensors, header: Kind) -> str:
    """Write one checkpoint; returns what became of it."""
    found = read_header(path)
    if found is not None and found.compared() == header.compared():
        return "is there already"
    TrainingRun(path, header).discard()
    write_checkpoint(path, arrays, header)
    return f"written, {header.notes.classes} training classes"
