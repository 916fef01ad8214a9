"""Pure maths: indices and tensors in, tensors out. No path, no print, no default.

What can be chosen among stands in tables (backbones, depth estimators, fusions, heads). They load no torch: a row
names its module, which is imported when the row is used.
"""

from __future__ import annotations

import importlib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Row:
    """A row of a table: what people call it, and where it is: `module:name`, or `module`, below this package."""

    title: str
    where: str

    def load(self) -> Any:
        """What the row stands for, imported now."""
        module, _, name = self.where.partition(":")
        found = importlib.import_module(f"{__name__}.{module}")
        return getattr(found, name) if name else found


def either(rows: Mapping[str, Row]) -> str:
    """The titles of a table's rows, as a sentence says them: `a, b or c`."""
    *titles, last = (row.title for row in rows.values())
    return f"{', '.join(titles)} or {last}" if titles else last
