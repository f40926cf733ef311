"""Common style of all figures: font and line settings, sizes in millimeters, saving."""

from __future__ import annotations

import functools
import math
import textwrap
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, ParamSpec, TypeVar

from matplotlib import style
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.figure import Figure, SubFigure
from matplotlib.patheffects import withStroke

from prunebench.core.files import replacing
from prunebench.report.figures.figure_options import COLUMN_WIDTH, Options

DPI = 200
FONT_SIZE = 8.0  # typographic points, of all texts
LINE_HEIGHT = 3.6  # mm, of a line of text
LETTER = 1.45  # mm, the mean width of a letter
LEGEND_ROW = 4.2  # mm, a row of a legend below the panels
_EMPTY_HEIGHT, _TITLE_HEIGHT = 30.0, 8.0  # mm
_BOLD = 1.18  # width of a bold letter over that of a plain one
_DOT = " · "
_LABEL_ROOM = 0.08  # of an axis, the height of a line of text
INK = "#1b1f24"
SOFT = "#5b6672"
LINE = "#d5dbe1"
BAND = "#eef2f5"
REST, REST_EDGE = "#e3e7eb", "#c3cad1"  # of the lines that are not in color

RC: dict[str, object] = {
    "font.family": ["DejaVu Sans"],  # installed with matplotlib
    "font.size": FONT_SIZE,
    "axes.titlesize": FONT_SIZE,
    "axes.labelsize": FONT_SIZE,
    "xtick.labelsize": FONT_SIZE,
    "ytick.labelsize": FONT_SIZE,
    "legend.fontsize": FONT_SIZE,
    "figure.titlesize": FONT_SIZE,
    "figure.labelsize": FONT_SIZE,
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
    "pdf.fonttype": 42,  # TrueType, which journals ask for
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
    set_title(figure, title)
    return figure


def new_panels(
    count: int, height: float, title: str, ylabel: str, options: Options
) -> tuple[Figure, list[Axes]]:
    """Return a figure with panels as wide as a column and of a height in mm, two on a page."""
    columns = options.columns(count, most=2)
    rows = math.ceil(count / columns)
    figure = new_figure(columns * COLUMN_WIDTH, height * rows + _TITLE_HEIGHT, title)
    grid = figure.subplots(rows, columns, squeeze=False)
    for axes in grid.flat[count:]:
        axes.set_visible(False)
    for row in grid:
        row[0].set_ylabel(ylabel)
    return figure, list(grid.flat[:count])


def set_title(figure: Figure, title: str) -> None:
    """Set a figure's title; parts between dots that do not fit start new lines."""
    title = " ".join(title.split())
    figure.suptitle(wrapped(title, figure.get_figwidth() / MM, bold=True), x=0.01, ha="left")


def part_title(part: SubFigure, title: str) -> None:
    """Set the title of a part of a figure, left-aligned and not bold."""
    part.suptitle(title, x=0.01, ha="left", fontweight="normal")


def wrapped(text: str, width: float, *, bold: bool = False) -> str:
    r"""Return a text in lines that fit into a width in mm, broken at its dots if possible.

    >>> wrapped("resnet20 · digits · n = 2", width=28)
    'resnet20 · digits\nn = 2'
    """
    letters = int(width / (LETTER * (_BOLD if bold else 1.0)))
    lines: list[str] = []
    for line in text.split("\n"):
        start = len(lines)
        for part in line.split(_DOT):
            if len(lines) > start and len(lines[-1] + _DOT + part) <= letters:
                lines[-1] += _DOT + part
            else:
                lines += textwrap.wrap(part, letters)
    return "\n".join(lines)


def empty_figure(title: str, words: str) -> Figure:
    """Return a figure that says why nothing is drawn."""
    figure = new_figure(COLUMN_WIDTH, _EMPTY_HEIGHT, title)
    axes = figure.subplots()
    axes.set_axis_off()
    axes.text(0.5, 0.5, words, transform=axes.transAxes, ha="center")
    return figure


def base_line(axes: Axes, base: float, *, at_right: bool = False) -> None:
    """Draw the base network's accuracy (%) as a dashed line with a label at its left or right.

    The label is above the line if it fits there; the limits of the axis are set before.
    """
    axes.axhline(base, color=INK, linestyle=(0, (5, 3)), linewidth=0.9, label="_base", zorder=2.1)
    low, high = axes.get_ylim()
    is_below = base > high - _LABEL_ROOM * (high - low)
    axes.annotate(
        f"base {base:.2f}",
        (1 if at_right else 0, base),
        xycoords=axes.get_yaxis_transform(),
        xytext=(-2 if at_right else 3, -2 if is_below else 2),
        textcoords="offset points",
        ha="right" if at_right else "left",
        va="top" if is_below else "bottom",
        path_effects=[withStroke(linewidth=1.8, foreground="white")],
        zorder=4,
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


FORMATS: dict[str, dict[str, Any]] = {  # with the metadata to leave out
    ".svg": {"Date": None, "Creator": None},
    ".png": {"Software": None},
    ".pdf": {"CreationDate": None, "Creator": None, "Producer": None},
}


@styled
def save(figure: Figure, stem: Path, formats: Sequence[str] = tuple(FORMATS)) -> list[Path]:
    """Write `<stem>.svg`, `.png` and `.pdf` without dates or versions; return their paths."""
    paths = []
    # The layout takes longer than drawing: compute it once for all files.
    figure.draw_without_rendering()
    figure.set_layout_engine("none")
    for suffix in formats:
        path = stem.with_name(stem.name + suffix)
        with replacing(path) as temporary:
            figure.savefig(temporary, dpi=DPI, metadata=FORMATS[suffix])
        paths.append(path)
    return paths
