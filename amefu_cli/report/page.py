"""One HTML page of sections: text, tables, figures, pictures. Whatever a name holds, the page shows it as text.

Jinja2 escapes every value, `shown` writes out what cannot be seen or turns the writing around, and the page's policy
(Content-Security-Policy) runs no script but ours and loads nothing from anywhere.
"""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.resources import files
from typing import ClassVar

from amefu_cli.errors import import_extra, shown


@dataclass(frozen=True)
class Cell:
    """A cell of a table that is sorted by a number in place of its text."""

    text: str
    number: float


@dataclass(frozen=True)
class Table:
    """Rows under their columns, which sort by a click."""

    kind: ClassVar[str] = "table"
    columns: Sequence[str]
    rows: Sequence[Sequence[str | Cell]]
    caption: str = ""


@dataclass(frozen=True)
class Figure:
    """A figure as the SVG of `figures`, and what it shows in words."""

    kind: ClassVar[str] = "figure"
    svg: str
    alt: str
    caption: str = ""
    abreast: int = 1  # how many of its kind stand side by side, to 3


@dataclass(frozen=True)
class Picture:
    """A frame of a video: its bytes as a data URI (empty: there is none), what it shows, and a line below it; `mark` is
    right, wrong, or empty."""

    uri: str
    alt: str
    note: str = ""
    mark: str = ""


@dataclass(frozen=True)
class Pictures:
    """Groups of pictures side by side, each under its name."""

    kind: ClassVar[str] = "pictures"
    caption: str
    groups: Sequence[tuple[str, Sequence[Picture]]]


@dataclass(frozen=True)
class Key:
    """What the colours and signs of figures stand for: (colour, sign, name)."""

    kind: ClassVar[str] = "key"
    entries: Sequence[tuple[str, str, str]]


@dataclass(frozen=True)
class Commands:
    """Lines to type."""

    kind: ClassVar[str] = "commands"
    lines: Sequence[str]


@dataclass(frozen=True)
class Text:
    """A paragraph, or a heading of what follows."""

    kind: ClassVar[str] = "text"
    text: str
    heading: bool = False


Block = Table | Figure | Pictures | Key | Commands | Text


@dataclass(frozen=True)
class Section:
    """A numbered section: how to read it, and what stands in it; where something is missing, why, and which command
    makes it."""

    title: str
    reading: str
    blocks: Sequence[Block]
    missing: Sequence[str] = ()


def render(title: str, facts: Sequence[tuple[str, str]], sections: Sequence[Section]) -> str:
    """The page. Raises UsageError where Jinja2 is not installed."""
    jinja2 = import_extra("jinja2", extra="report", needed_by="amefu report")
    source, script, style = (
        (files("amefu_cli.report") / name).read_text(encoding="utf-8")
        for name in ("page.html", "page.js", "page.css")
    )  # fmt: skip
    environment = jinja2.Environment(
        autoescape=True, trim_blocks=True, lstrip_blocks=True, undefined=jinja2.StrictUndefined, finalize=_shown
    )
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode("ascii")
    page: str = environment.from_string(source).render(
        title=title, facts=facts, sections=sections, script=script, digest=digest, style=style
    )
    return page


def _shown(value: object) -> object:
    """A name without characters that cannot be seen; ours (`| safe`) as it is."""
    return shown(value) if type(value) is str else value


def jpeg_uri(content: bytes) -> str:
    """A JPEG file inside the page."""
    return f"data:image/jpeg;base64,{base64.b64encode(content).decode('ascii')}"
