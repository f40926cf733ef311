"""A panel of accuracy over some quantity: a line per series, and the base network."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import replace

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from matplotlib.ticker import FixedLocator, MaxNLocator

from prunebench.report.figures.style import BAND, INK, LEGEND_ROW, SOFT, base_line, legend_below
from prunebench.report.looks import look
from prunebench.report.series import Series

_COLLAPSE = 10.0  # points of accuracy; a smaller loss always stays on the axis
_MOST_STRIP_ROWS = 4  # more collapsed lines share one row
_STRIP_ROW = 0.075  # of the axis


def seeds(cells: pd.DataFrame) -> str:
    """Return the number of seeds for a panel's title, and what error bars are."""
    low, high = cells["n"].min(), cells["n"].max()
    n = f"n = {low}" if low == high else f"n = {low}–{high}"
    return n if high == 1 else f"{n}, bars ± 1 std"


def draw_series(
    axes: Axes, series: Sequence[Series], base: float, *, x: str, base_at_right: bool = False
) -> None:
    """Draw the accuracy of series over the column `x` of their cells, and the base's accuracy.

    Error bars are sample deviations. The accuracy axis fits the points that have not collapsed;
    the others are below it, as an arrow and a value at its lower edge.
    """
    base_line(axes, base, at_right=base_at_right)
    for one in series:
        style = look(one.method)
        std = one.cells["accuracy_std"]
        axes.errorbar(
            one.cells[x],
            one.cells["accuracy"],
            yerr=None if std.isna().all() else [std, upward(one.cells)],
            color=style.color,
            linestyle=style.line,
            marker=style.marker,
            markerfacecolor=style.fill if one.variant == 0 else "white",
            elinewidth=0.8,
            label=one.label,
            zorder=3 if style.group in ("paper", "plug_in") else 2,
        )
    if not series:
        axes.text(0.5, 0.5, "no pruned run", transform=axes.transAxes, ha="center", color=SOFT)
    _accuracy_axis(axes, series, base, x)


def legend_of_series(figure: Figure, panels: Iterable[Axes]) -> None:
    """Add a legend of all series below the panels, and the height that it needs."""
    lines = {str(bars.get_label()): bars[0] for axes in panels for bars in axes.containers}
    rows = legend_below(figure, lines)
    figure.set_figheight(figure.get_figheight() + rows * LEGEND_ROW / 25.4)


def upward(cells: pd.DataFrame) -> pd.Series:
    """Return the length of each error bar above its point; bars end at 100 %.

    >>> upward(pd.DataFrame({"accuracy": [99.5, 90.0], "accuracy_std": [1.0, 1.0]})).tolist()
    [0.5, 1.0]
    """
    return cells["accuracy_std"].clip(upper=100 - cells["accuracy"])


def lowest_shown(accuracy: Sequence[float], base: float) -> float:
    """Return the lowest accuracy on the axis; points below it have collapsed.

    A collapsed point lost more than ten points and more than four times the median loss.

    >>> lowest_shown([98.0, 97.0, 10.0], base=99.0), lowest_shown([60.0, 40.0], base=99.0)
    (97.0, 40.0)
    """
    median = base - float(np.median(accuracy))
    return min(value for value in accuracy if base - value <= max(_COLLAPSE, 4 * median))


def collapsed(series: Sequence[Series], base: float) -> list[Series]:
    """Return the series that have collapsed points, with these points only."""
    if not series:
        return []
    floor = lowest_shown(pd.concat([one.cells["accuracy"] for one in series]).tolist(), base)
    below = [replace(one, cells=one.cells[one.cells["accuracy"] < floor]) for one in series]
    return [one for one in below if len(one.cells)]


def _accuracy_axis(axes: Axes, series: Sequence[Series], base: float, x: str) -> None:
    """Fit the limits to the points that have not collapsed; the others get a strip below."""
    below = collapsed(series, base)
    cut = max((one.cells["accuracy"].max() for one in below), default=-math.inf)
    ends = [base]
    for one in series:
        shown = one.cells[one.cells["accuracy"] > cut]
        ends += [*(shown["accuracy"] - shown["accuracy_std"].fillna(0))]
        ends += [*(shown["accuracy"] + upward(shown).fillna(0))]
    low, high = min(ends), max(ends)
    pad = max(0.08 * (high - low), 0.1)
    low, high = low - pad, max(high + pad, base + 2 * pad)
    rows = _strip_rows(below, x)
    strip = _STRIP_ROW * len(rows)
    axes.set_ylim(low - (high - low) * strip / (1 - strip), high)
    ticks = MaxNLocator(6, steps=[1, 2, 5, 10]).tick_values(low, high)
    axes.yaxis.set_major_locator(FixedLocator([tick for tick in ticks if tick >= low]))
    axes.axhspan(low, axes.get_ylim()[0], color=BAND, linewidth=0, zorder=1.5)
    above = Rectangle((0, strip), 1, 1 - strip, transform=axes.transAxes)
    for artist in (part for bars in axes.containers for part in bars.get_children()):
        artist.set_clip_path(above)  # no line crosses the words of the strip
    for i, (label, color, values) in enumerate(rows):
        height = strip - _STRIP_ROW * (i + 0.5)
        axes.text(0.02, height, label, transform=axes.transAxes, va="center", color=color, zorder=4)
        for position, value in values:
            axes.annotate(
                f"{value} ↓",
                (position, height),
                xycoords=axes.get_xaxis_transform(),
                xytext=(5, 0),
                textcoords="offset points",
                ha="right",
                va="center",
                color=color,
                zorder=4,
            )


def _strip_rows(below: Sequence[Series], x: str) -> list[tuple[str, str, list[tuple[float, str]]]]:
    """Return label, color and (x, value) of each line, or of many lines as a range."""
    if len(below) > _MOST_STRIP_ROWS:
        cells = pd.concat([one.cells for one in below])
        values = f"{cells['accuracy'].min():.1f}–{cells['accuracy'].max():.1f}"
        return [(f"{len(below)} lines", INK, [(cells[x].max(), values)])]
    rows = []
    for one in below:
        points = zip(one.cells[x], one.cells["accuracy"], strict=True)
        rows.append((one.label, look(one.method).color, [(at, f"{y:.1f}") for at, y in points]))
    return rows
