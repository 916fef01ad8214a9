"""The JSON of a header, in which a name that is not there is damage, and is told as such."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from amefu_cli.errors import DamagedFile


class Fields(dict[str, Any]):
    """A JSON object of the header of the file `where`. Raises DamagedFile where a name that is asked for is missing."""

    where: Path | None = None

    def __missing__(self, name: str) -> Any:
        raise DamagedFile(f"{self.where}: its header has no {name!r}; make it anew with --rebuild")


def as_fields(value: Any, where: Path) -> Any:
    """Parsed JSON with every object in it as Fields."""
    if isinstance(value, list):
        return [as_fields(item, where) for item in value]
    if not isinstance(value, dict):
        return value
    fields = Fields((name, as_fields(item, where)) for name, item in value.items())
    fields.where = where
    return fields
