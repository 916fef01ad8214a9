"""Libraries that only some rows of a table need, and that `pip install amefu` alone does not bring."""

from __future__ import annotations

import importlib
from typing import Any

from amefu_cli.errors import UsageError


def import_extra(module: str, *, extra: str, needed_by: str) -> Any:
    """The module, or a UsageError with the line that installs it."""
    try:
        return importlib.import_module(module)
    except ImportError as error:
        raise UsageError(
            f"{needed_by} needs {module}, which is not installed: `pip install 'amefu[{extra}]'`"
        ) from error
