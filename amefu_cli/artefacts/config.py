"""`amefu.toml`: options of any command, one table per command; the command line wins over it."""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from amefu_cli.errors import UsageError

SETS = ("preset", "recipe")


def read_config(path: Path) -> dict[str, Any]:
    """The tables of an `amefu.toml`; empty where there is none.

    Raises:
        UsageError: the file cannot be read, is not TOML, or holds something else than tables, `preset` and `recipe`.
    """
    try:
        document = tomllib.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return {}
    except OSError as error:  # the workspace is a file, say
        raise UsageError(f"{path}: cannot be read: {error.strerror}; choose another --workspace") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError, RecursionError) as error:
        raise UsageError(f"{path}: not TOML: {error}") from error
    for name, value in document.items():
        if not isinstance(value, Mapping) and not (name in SETS and isinstance(value, str)):
            raise UsageError(f"{path}: {name!r} stands outside of a table; write it below [COMMAND]")
    return document
