"""Labels of clips, or of stretches of them: as a table for other programs, and as subtitles over the video (WebVTT)."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple

from amefu_cli.errors import shown

NONE = "none of these"


class Label(NamedTuple):
    """A class, and how likely it is."""

    label: str
    probability: float


class Labelled(NamedTuple):
    """A clip and its likeliest classes; `label` is None where it is none of them. Of a stretch of a long one also when
    it begins and ends, in seconds."""

    clip: str
    label: str | None
    labels: Sequence[Label]
    begin: float | None = None
    end: float | None = None

    @property
    def said(self) -> str:
        """The label in words."""
        return NONE if self.label is None else self.label

    @property
    def times(self) -> list[str]:
        """When it begins and ends, as a clock shows it; empty of a whole clip."""
        return [clock(time) for time in (self.begin, self.end) if time is not None]


def as_csv(labelled: Iterable[Labelled], failed: Mapping[str, str], *, top: int) -> bytes:
    """A line for each, then one for each clip that failed, with the reason. Names that are not UTF-8 stay what they
    are."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    ranked = [f"{name}_{rank}" for rank in range(1, top + 1) for name in ("class", "probability")]
    writer.writerow(["clip", "begin", "end", "label", *ranked, "error"])
    for of in labelled:
        times = ("" if time is None else f"{time:.3f}" for time in (of.begin, of.end))
        ranked = [cell for label in of.labels for cell in (label.label, f"{label.probability:.6f}")]
        writer.writerow([of.clip, *times, of.label or "", *ranked, *[""] * (2 * top - len(ranked)), ""])
    for clip, message in failed.items():
        writer.writerow([clip, *[""] * (3 + 2 * top), message])
    return text.getvalue().encode("utf-8", "surrogateescape")


def as_vtt(labelled: Iterable[Labelled]) -> bytes:
    """A subtitle for each stretch."""
    cues = ["WEBVTT"]
    for of in labelled:
        text = shown(of.said).replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
        cues.append(f"{' --> '.join(of.times)}\n{text} {of.labels[0].probability:.0%}")
    return ("\n\n".join(cues) + "\n").encode()


def clock(seconds: float) -> str:
    """Hours, minutes, seconds and thousandths.

    >>> clock(3723.5)
    '01:02:03.500'
    """
    whole = round(seconds * 1000)
    return f"{whole // 3_600_000:02}:{whole // 60_000 % 60:02}:{whole // 1000 % 60:02}.{whole % 1000:03}"
