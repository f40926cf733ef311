"""Common style of all figures: font and line settings, sizes in millimeters, legends, saving."""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import ParamSpec, TypeVar

from matplotlib import style
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from prunebench.core.files import replacing

HALF_WIDTH = 90.0  # mm, a column of a paper
FULL_WIDTH = 180.0  # mm, a page of it
DPI = 200
LEGEND_ROW = 4.2  # mm, a row of a legend below the panels
INK = "#1b1f24"
SOFT = "#5b6672"
LINE = "#d5dbe1"
BAND = "#eef2f5"

RC: dict[str, object] = {
    "font.family": ["DejaVu Sans"],  # installed with matplotlib
    "font.size": 8,
    "axes.titlesize": 8,
    "axes.labelsize": 8,
    "xtick.labelsize": 8,
    "ytick.labelsize": 8,
    "legend.fontsize": 8,
    "figure.titlesize": 9,
    "figure.titleweight": "bold",
    "figure.dpi": DPI,
    "savefig.dpi": DPI,
    "text.color": INK,
    "text.parse_math": False,  # a name may hold a dollar
    "axes.labelcolor": INK,
    "axes.edgecolor": SOFT,
    "axes.linewidth": 0.6,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.axisbelow": True,
    "axes.grid": True,
    "grid.color": LINE,
    "grid.linewidth": 0.5,
    "xtick.color": SOFT,
    "ytick.color": SOFT,
    "xtick.labelcolor": INK,
    "ytick.labelcolor": INK,
    "xtick.major.size": 2.5,
    "ytick.major.size": 2.5,
    "xtick.major.width": 0.6,
    "ytick.major.width": 0.6,
    "xtick.minor.size": 0,
    "ytick.minor.size": 0,
    "lines.linewidth": 1.2,
    "lines.markersize": 4.5,
    "legend.frameon": False,
    "svg.fonttype": "path",  # looks the same without the font
    "svg.hashsalt": "prunebench",  # the same ids from the same data
}


P = ParamSpec("P")
R = TypeVar("R")
MM = 1 / 25.4  # inches


def styled(draw: Callable[P, R]) -> Callable[P, R]:
    """Apply our settings on top of matplotlib's defaults, and ignore the user's settings."""

    @functools.wraps(draw)
    def with_style(*args: P.args, **kwargs: P.kwargs) -> R:
        with style.context(["default", RC]):
            return draw(*args, **kwargs)

    return with_style


def new_figure(width: float, height: float, title: str) -> Figure:
    """Return an empty figure of a size in mm, with a left-aligned title."""
    figure = Figure(figsize=(width * MM, height * MM), layout="constrained")
    figure.suptitle(title, x=0.01, ha="left")
    return figure


def base_line(axes: Axes, base: float, *, at_right: bool = False) -> None:
    """Draw the base network's accuracy (%) as a dashed line with a label at its left or right."""
    axes.axhline(base, color=INK, linestyle=(0, (5, 3)), linewidth=0.9, label="_base", zorder=1)
    axes.annotate(
        f"base {base:.2f}",
        (1 if at_right else 0, base),
        xycoords=axes.get_yaxis_transform(),
        xytext=(-2 if at_right else 3, 2),
        textcoords="offset points",
        ha="right" if at_right else "left",
    )


def legend_below(figure: Figure, lines: Mapping[str, Artist]) -> int:
    """Add a legend of label -> artist below all panels; return its number of rows."""
    if not lines:
        return 0
    room = figure.get_figwidth() * 72  # typographic points
    widths = [34 + 4.5 * len(label) for label in lines]  # handle and gaps, letters of 8 pt
    rows = 1 if sum(widths) < room else math.ceil(len(lines) / max(1, int(room / max(widths))))
    figure.legend(
        list(lines.values()),
        list(lines),
        loc="outside lower center",
        ncols=math.ceil(len(lines) / rows),
        columnspacing=1.4,
        handlelength=2.2,
        handletextpad=0.5,
    )
    return rows


@styled
def save(figure: Figure, stem: Path) -> list[Path]:
    """Write `<stem>.svg` and `<stem>.png` without dates or versions; return their paths."""
    metadata = {".svg": {"Date": None, "Creator": None}, ".png": {"Software": None}}
    paths = []
    # The layout takes longer than drawing: compute it once for both files.
    figure.draw_without_rendering()
    figure.set_layout_engine("none")
    for suffix, nothing in metadata.items():
        path = stem.with_name(stem.name + suffix)
        with replacing(path) as temporary:
            figure.savefig(temporary, dpi=DPI, metadata=nothing)
        paths.append(path)
    return paths
