"""Pure maths: indices and tensors in, tensors out. No path, no print, no default.

What can be chosen among stands in tables (backbones, depth estimators, fusions, heads). They load no torch: a row
names its module, which is imported when the row is used.
"""

from __future__ import annotations

import pkgutil
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Row:
    """A row of a table: what people call it, and `module:name` below this package of what it stands for."""

    title: str
    where: str

    def load(self) -> Any:
        """What the row stands for, imported now."""
        return pkgutil.resolve_name(f"{__name__}.{self.where}")
