"""The figures of a report as SVG in the page's own colour of writing, for light and dark."""

from __future__ import annotations

import io
import re
import warnings
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator, PercentFormatter
from numpy.typing import NDArray
from sklearn.decomposition import PCA  # type: ignore[import-untyped]
from sklearn.manifold import TSNE  # type: ignore[import-untyped]
from threadpoolctl import threadpool_limits  # type: ignore[import-untyped]  # scikit-learn brings it

from amefu_cli.errors import shown
from amefu_cli.method.comparison import Interval

INK = "#010203"  # becomes the page's own colour
COLOURS = ("#3f87cf", "#e0762f", "#34a06a", "#c0589e", "#b8901d", "#7a74d8", "#d2504c", "#2aa3ab", "#8a8f3a", "#9a7a5c")
SIGNS = {"o": "●", "s": "■", "^": "▲", "D": "◆", "v": "▼", "P": "✚", "X": "✖", "*": "★"}  # matplotlib's, the page's
STYLE: dict[Any, Any] = {
    "svg.fonttype": "none", "svg.hashsalt": "amefu", "text.parse_math": False, "font.family": "DejaVu Sans",
    "font.size": 9.0, "axes.titlesize": 9.0, "axes.linewidth": 0.6, "axes.grid": True, "axes.axisbelow": True,
    "axes.spines.top": False, "axes.spines.right": False, "axes.facecolor": "none", "figure.facecolor": "none",
    "legend.frameon": False, "text.color": INK, "axes.edgecolor": INK, "axes.labelcolor": INK, "xtick.color": INK,
    "ytick.color": INK, "grid.color": INK, "grid.alpha": 0.15,
}  # fmt: skip
TSNE_SEED, TSNE_DIM, TSNE_ITERATIONS, PERPLEXITY = 0, 50, 500, 30.0
Point = tuple[float, float, float]
"""A value with the bounds of its interval."""


class Drawing:
    """One figure of width × height inches; `svg` is what was drawn on it."""

    def __init__(self, width: float, height: float) -> None:
        self.figure, self.svg = Figure((width, height), layout="constrained"), ""


@contextmanager
def drawing(width: float, height: float) -> Iterator[Drawing]:
    """A figure in our style; its SVG is there once the context is left."""
    with mpl.rc_context(STYLE), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # a letter that this font lacks: the browser has it
        drawn = Drawing(width, height)
        yield drawn
        stream = io.StringIO()
        nothing = dict.fromkeys(("Date", "Creator", "Format", "Type"))
        drawn.figure.savefig(stream, format="svg", transparent=True, metadata=nothing)
    text = stream.getvalue()
    text = re.sub(r"<g id=\"[^\"]*\">", "<g>", text[text.index("<svg") :])
    text = re.sub(r' height="[^"]*"', "", text.replace(INK, "currentColor"), count=1)
    drawn.svg = re.sub(r' width="([^"]*)"', r' style="max-width: \1; min-width: min(22rem, \1)"', text, count=1)


def curves(epochs: Sequence[Mapping[str, float]], accuracies: Sequence[str], chosen: int | None) -> str:
    """Loss and accuracies (0..1) by epoch, from 0 as in the metrics, with a line at the `chosen` one."""
    with drawing(4.6, 1.9) as drawn:
        left, right = drawn.figure.subplots(1, 2)
        for axes, names in ((left, ("loss",)), (right, accuracies)):
            for colour, name in zip(COLOURS, names, strict=False):
                known = [(number, row.get(name)) for number, row in enumerate(epochs)]
                points = [(number, value) for number, value in known if value is not None]
                axes.plot(*zip(*points, strict=True) if points else ((), ()), "o-", color=colour, ms=3, lw=1.3)
            if chosen is not None:
                axes.axvline(chosen, color=INK, lw=0.8, ls="--", alpha=0.7)
            axes.set_xlabel("epoch")
            axes.set_xlim(-0.4, len(epochs) - 0.6)
            axes.set_title(", ".join(name.replace("_", " ") for name in names), loc="left")
            axes.xaxis.set_major_locator(MaxNLocator("auto", integer=True, min_n_ticks=1))
        right.yaxis.set_major_formatter(PercentFormatter(1.0))
    return drawn.svg


def histogram(values: NDArray[np.float64], what: str) -> str:
    """How many videos are how long."""
    with drawing(4.8, 1.9) as drawn:
        axes = drawn.figure.subplots()
        axes.hist(values, bins=min(40, max(5, len(values) // 4)), color=COLOURS[0])
        axes.set_xlabel(what)
        axes.set_ylabel("videos")
        axes.yaxis.set_major_locator(MaxNLocator("auto", integer=True))
    return drawn.svg


def intervals(
    names: Sequence[str], series: Mapping[str, Sequence[Point | None]], what: str, *, zero: bool = False
) -> str:
    """A row for each name, and in it for each of `series` a point with its interval, in % or points; `zero` marks 0."""
    wide = any(low < high for points in series.values() for _, low, high in filter(None, points))
    apart = 0.24 if wide else 0.0  # points without intervals hide nothing
    with drawing(4.8, 0.9 + len(names) * (0.16 + 0.13 * len(series) if wide else 0.22)) as drawn:
        axes = drawn.figure.subplots()
        for number, (title, points) in enumerate(series.items()):
            rows = [(row, point) for row, point in enumerate(points) if point is not None]
            if not rows:
                continue
            middle, low, high = 100 * np.array([point for _, point in rows]).T
            shift = (number - (len(series) - 1) / 2) * apart
            axes.errorbar(
                middle, [row + shift for row, _ in rows], xerr=np.abs([middle - low, high - middle]),
                label=short(title), color=COLOURS[number % len(COLOURS)], fmt="os^Dv"[number % 5], ms=4, lw=1.5,
                capsize=2,
            )  # fmt: skip
        if zero:
            axes.axvline(0, color=INK, lw=0.8)
        _rows(axes, names)
        axes.set_xlabel(what)
        if len(series) > 1:
            drawn.figure.legend(loc="outside upper left", ncols=2)
    return drawn.svg


def _rows(axes: Axes, names: Sequence[str]) -> None:
    axes.set_yticks(range(len(names)), [short(name) for name in names])
    axes.set_ylim(len(names) - 0.4, -0.6)
    axes.grid(axis="y", visible=False)


def by_shot(lines: Mapping[str, Sequence[tuple[int, float, float]]]) -> str:
    """Accuracy (0..1) with half its interval by number of shots, a line a model."""
    with drawing(4.8, 2.8) as drawn:
        axes = drawn.figure.subplots()
        for number, (name, points) in enumerate(lines.items()):
            shots, values, halves = zip(*sorted(points), strict=True)
            axes.errorbar(
                shots, values, yerr=halves, label=short(name), color=COLOURS[number % len(COLOURS)],
                marker=[*SIGNS][number % len(SIGNS)], ms=4, lw=1.3, capsize=2,
            )  # fmt: skip
        axes.set_xticks(sorted({point[0] for points in lines.values() for point in points}))
        axes.set_xlabel("shots")
        axes.yaxis.set_major_formatter(PercentFormatter(1.0, decimals=0))
        drawn.figure.legend(loc="outside upper left", ncols=2)
    return drawn.svg


def matrix(names: Sequence[str], shares: NDArray[np.float64]) -> str:
    """Shares (classes, classes), 0..1, NaN where two classes never met: rows are true, columns are what was said."""
    few, labels = len(names) <= 30, [short(name) for name in names]
    size = 8 if few else 5
    side = max(2.0, 0.3 * min(len(names), 40)) + 0.4 + 0.009 * size * max(map(len, labels))
    with drawing(side + 0.7, side) as drawn:
        axes = drawn.figure.subplots()
        axes.grid(visible=False)
        image = axes.imshow(shares, cmap="viridis", vmin=0, vmax=1, interpolation="none")
        bar = drawn.figure.colorbar(image, ax=axes, shrink=0.7, format=PercentFormatter(1.0, decimals=0))
        bar.outline.set_linewidth(0)
        axes.set_xticks(range(len(names)), labels, rotation=90, fontsize=size)
        axes.set_yticks(range(len(names)), labels, fontsize=size)
        axes.set_xlabel("taken for")
        axes.set_ylabel("true")
        for (row, column), share in np.ndenumerate(shares) if few else ():
            if not np.isnan(share):
                colour = "#ffffff" if share < 0.6 else "#101010"
                figure = f"{100 * share:.0f}"
                text = axes.text(column, row, figure, ha="center", va="center", fontsize=7, color=colour)
                text.set_in_layout(False)  # which takes seconds for hundreds of them
    return drawn.svg


def looks(count: int) -> list[tuple[str, str]]:
    """A colour and a sign of matplotlib's for each of `count` classes."""
    return [(COLOURS[n % len(COLOURS)], [*SIGNS][n // len(COLOURS) % len(SIGNS)]) for n in range(count)]


def flattened(vectors: NDArray[np.float32]) -> NDArray[np.float64]:
    """t-SNE of vectors (videos, dim), (videos, 2); the same vectors give the same picture."""
    pca = PCA(min(TSNE_DIM, *vectors.shape), svd_solver="randomized", iterated_power=2, random_state=TSNE_SEED)
    perplexity = min(PERPLEXITY, (len(vectors) - 1) / 3)
    tsne = TSNE(
        init="pca", perplexity=perplexity, max_iter=TSNE_ITERATIONS, random_state=TSNE_SEED, learning_rate="auto"
    )
    with threadpool_limits(1):  # several wait for one another at each of thousands of steps
        return np.asarray(tsne.fit_transform(pca.fit_transform(vectors)), np.float64)


def scatter(places: NDArray[np.float64], labels: NDArray[np.int64], count: int) -> str:
    """Points (videos, 2) in the colour and sign of their class."""
    with drawing(4.2, 4.0) as drawn:
        axes = drawn.figure.subplots()
        axes.set_axis_off()
        for label, (colour, sign) in enumerate(looks(count)):
            some = places[labels == label].round(2)
            axes.plot(some[:, 0], some[:, 1], sign, color=colour, ms=4, mew=0, alpha=0.85)
    return drawn.svg


def short(name: str) -> str:
    """A name fit for an axis."""
    name = shown(name)
    return name if len(name) <= 30 else f"{name[:18]}…{name[-11:]}"


def point_of(interval: Interval | None) -> Point | None:
    """An interval as a point of `intervals`."""
    return (interval.value, interval.low, interval.high) if interval else None


def described(names: Iterable[str], values: Iterable[str]) -> str:
    """What a figure shows, in words: `wave 66%, sit 68%`."""
    return ", ".join(f"{name} {value}" for name, value in zip(names, values, strict=True))
