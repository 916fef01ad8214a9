"""`amefu import` and `amefu export`: checkpoints of the paper's public code become ours, and ours become such."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path

from amefu_cli.artefacts.files.fingerprint import path_identity
from amefu_cli.artefacts.weights.checkpoint import Tensors, open_stream, read_header, write_checkpoint
from amefu_cli.artefacts.weights.headers import HeadHeader, Kind
from amefu_cli.artefacts.weights.training_run import TrainingRun
from amefu_cli.errors import SettingsMismatch, UsageError
from amefu_cli.flows.session import Session
from amefu_cli.flows.streams import pretrained_stream
from amefu_cli.flows.training import STREAMS
from amefu_cli.settings import EXPORTED, IMPORTED

Checkpoints = Mapping[str, Path]
"""Where the checkpoints of our side lie, by role: rgb, depth, fusion."""


def import_public(
    session: Session, file: Path, role: str, checkpoints: Checkpoints, *, replace: bool
) -> dict[str, str]:
    """Take over a file of the public code, with `replace` also over what is there; returns what became of each
    checkpoint, by role.

    Raises:
        UsageError: an unknown role, a fusion without its streams, a file of another layout.
        SettingsMismatch: another checkpoint is there.
    """
    _require_role(role, [*IMPORTED])
    missing = [checkpoints[name] for name in STREAMS if not checkpoints[name].is_file()]
    if role == "fusion" and missing:
        raise UsageError(f"{missing[0]}: no such checkpoint; a fusion goes with two streams, so import them first")
    from amefu_cli.stages.public import import_fusion, import_stream, read_public

    arrays = read_public(file, "full" if role == "fusion" else role)
    if not replace:
        refuse_others(file, [checkpoints[part] for part in IMPORTED[role]])
    written = {}
    for part in IMPORTED[role]:  # streams before the fusion that is bound to them
        path, tensors = checkpoints[part], arrays[part]
        if part == "fusion":
            of_fusion = import_fusion(file, tensors, _streams(checkpoints))
            written[part] = _write(path, tensors, of_fusion, replace=replace)
        else:
            written[part] = _write(path, tensors, import_stream(file, part, tensors), replace=replace)
    session.say.note("next: amefu features" + (", then amefu evaluate" if "fusion" in written else ""))
    return written


def export_public(file: Path, role: str, checkpoints: Checkpoints, *, replace: bool) -> int:
    """Write checkpoints as a file of the public code; returns how many tensors it holds.

    Raises:
        UsageError: an unknown role; a file that is there; a checkpoint that is not, or of another network.
    """
    _require_role(role, EXPORTED)
    if file.exists() and not replace:
        raise UsageError(f"{file}: is there already; replace it with --force")
    from amefu_cli.stages.public import write_public

    return write_public(checkpoints, role, file)


def _require_role(role: str, known: Iterable[str]) -> None:
    if role not in known:
        raise UsageError(f"--role {role!r}: must be one of {', '.join(known)}")


def refuse_others(file: Path, paths: Iterable[Path]) -> None:
    """Before anything is written: a checkpoint that is there and not from `file` is not replaced unasked."""
    for path in paths:
        found = read_header(path)
        imported = None if found is None or isinstance(found, HeadHeader) else found.imported
        if found is not None and not (imported and imported.file == path_identity(file)):
            raise SettingsMismatch(
                f"{path}: holds another checkpoint than {file} gives; replace it with `amefu import … --rebuild`, or "
                "write elsewhere with --rgb, --depth-stream and --fusion"
            )


def _streams(checkpoints: Checkpoints) -> dict[str, str]:
    """The fingerprints of the streams of features that both stream checkpoints give."""
    rows = {name: checkpoints[name] for name in STREAMS}
    return {name: pretrained_stream(name, path, open_stream(path, name)).row.fingerprint for name, path in rows.items()}


def _write(path: Path, arrays: Tensors, header: Kind, *, replace: bool) -> str:
    """Write one checkpoint, with `replace` whatever is there; returns what became of it."""
    found = None if replace else read_header(path)
    if found is not None and found.compared() == header.compared():
        return "is there already"
    TrainingRun(path, header).discard()
    write_checkpoint(path, arrays, header)
    return f"written, {header.notes.classes} training classes"
