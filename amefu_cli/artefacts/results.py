"""results/*.json: one evaluation each, with every episode's outcome, so that two can be compared in pairs."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from amefu_cli.artefacts.atomic import write_atomic
from amefu_cli.artefacts.fingerprint import fingerprint
from amefu_cli.errors import DamagedFile


def result_name(asked: Mapping[str, Any]) -> str:
    """A file name that tells the main settings, and differs where any setting or fingerprint does."""
    return f"{asked['model']}-{asked['way']}way-{asked['shot']}shot-{fingerprint(asked)[:8]}.json"


def write_result(path: Path, result: Mapping[str, Any]) -> None:
    """Write one result; the outcomes of the episodes stand on one line."""
    write_atomic(path, (json.dumps(result, allow_nan=False) + "\n").encode("ascii"))


def read_result(path: Path) -> dict[str, Any] | None:
    """One result, or None where there is no such file; raises DamagedFile where it is something else."""
    try:
        document = json.loads(path.read_bytes())
    except FileNotFoundError:
        return None
    except (ValueError, RecursionError) as error:
        raise DamagedFile(f"{path}: not a result of amefu's ({error}); remove it") from error
    if not isinstance(document, dict) or not isinstance(document.get("fingerprints"), dict):
        raise DamagedFile(f"{path}: not a result of amefu's; choose another --out")
    return document
