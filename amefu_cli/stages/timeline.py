"""What a long video shows when: its labels as coloured stretches below frames of it, as a PNG."""

from __future__ import annotations

import io
import warnings
from collections.abc import Sequence

import numpy as np
from matplotlib import colormaps
from matplotlib.figure import Figure

from amefu_cli.artefacts.files.labels import NONE, Labelled
from amefu_cli.artefacts.stores.header import FramesHeader, VideoRecord
from amefu_cli.artefacts.stores.pictures import read_frames
from amefu_cli.artefacts.stores.store import VideoStore
from amefu_cli.errors import shown

SHOWN = 10  # frames of the video
COLOURS, GRAY = "tab20", "0.85"
WIDE, HIGH, ROW = 12.0, 2.2, 0.25  # inches: of all, of frames and stretches, of a row of the legend


def picture_of(frames: VideoStore[FramesHeader], record: VideoRecord, labelled: Sequence[Labelled]) -> bytes:
    """A PNG of the stretches of one video; `labelled` begin and end in seconds, and are its whole length."""
    seconds = labelled[-1].end or 0.0
    names = sorted({of.label for of in labelled if of.label is not None})
    colour = {name: colormaps[COLOURS](number % 20) for number, name in enumerate(names)} | {None: GRAY}
    rows = -(-(len(names) + 1) // 4)
    figure = Figure((WIDE, HIGH + ROW * rows), dpi=100, layout="constrained")
    above, below = figure.subplots(2, 1, height_ratios=(2, 1))
    stored = frames.read(record.id)
    for place, number in enumerate(np.linspace(0, record.frames - 1, SHOWN).round().astype(np.int64)):
        above.imshow(read_frames(stored, [int(number)])[0], extent=(place + 0.02, place + 0.98, 0, 1), aspect="auto")
    above.set(xlim=(0, SHOWN), ylim=(0, 1))
    above.axis("off")
    for of in labelled:
        below.axvspan(of.begin or 0.0, of.end or 0.0, color=colour[of.label], lw=0)
    below.set(xlim=(0, seconds), yticks=[], xlabel="seconds")
    there = [name for name in (*names, None) if name in {of.label for of in labelled}]
    patches = [below.axvspan(0, 0, color=colour[name], label=shown(name or NONE).replace("$", r"\$")) for name in there]
    figure.legend(handles=patches, loc="outside lower center", ncols=4, frameon=False)
    content = io.BytesIO()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of characters that the font lacks, which it draws as boxes
        figure.savefig(content, format="png")
    return content.getvalue()
