"""Figure: accuracy vs. speedup in multiply-accumulates, a panel per network."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from matplotlib.ticker import FixedLocator, FuncFormatter, MaxNLocator, NullLocator

from prunebench.report.figures.style import (
    BAND,
    DPI,
    FULL_WIDTH,
    HALF_WIDTH,
    INK,
    LEGEND_ROW,
    SOFT,
    base_line,
    legend_below,
    new_figure,
    styled,
)
from prunebench.report.headings import shortened, size_of_test_set
from prunebench.report.looks import look
from prunebench.report.runs_csv import metric_of
from prunebench.report.series import Series, base_accuracy, per_network, series_of

_PANEL_HEIGHT = 68.0  # mm
_MOST_LABELS = 7  # lines labeled at their ends; more get a legend
_LABEL_GAP = 10.0  # typographic points from label to label
_COLLAPSE = 10.0  # points of accuracy; a smaller loss always stays on the axis
_MOST_STRIP_ROWS = 4  # more collapsed lines share one row
_STRIP_ROW = 0.075  # of the axis


@styled
def accuracy_speedup(frame: pd.DataFrame) -> Figure:
    """Draw accuracy (mean ± sample deviation over seeds) over base MACs / MACs.

    Pruned weights that stay as zeros count as saved; the legend marks such lines. Points whose
    accuracy collapsed are below the axis, as an arrow and a value at its lower edge. Lines are
    labeled at their ends if these are few and all at the right, otherwise in a legend.
    """
    networks = per_network(frame)
    panels = [(series_of(cells), base_accuracy(runs)) for _, runs, cells in networks]
    columns = min(2, len(panels))
    rows = math.ceil(len(panels) / columns)
    figure = new_figure(
        FULL_WIDTH if columns == 2 else HALF_WIDTH,
        _PANEL_HEIGHT * rows + 8,
        " · ".join(filter(None, [f"{metric_of(frame).noun} vs. speedup", shortened(frame)])),
    )
    grid = figure.subplots(rows, columns, squeeze=False)
    for axes, (series, base), (name, runs, cells) in zip(grid.flat, panels, networks, strict=False):
        words = [f"{name} · {_seeds(cells)}", size_of_test_set(runs)]
        axes.set_title("\n".join(filter(None, words)), loc="left")
        _panel(axes, series, base)
    for axes in grid.flat[len(panels) :]:
        axes.set_visible(False)
    for row in grid:
        row[0].set_ylabel(metric_of(frame).axis)
    if all(_ends_fit(series, base) for series, base in panels):
        figure.draw_without_rendering()
        for axes, (series, _) in zip(grid.flat, panels, strict=False):
            _label_ends(axes, series)
    else:
        lines = {bars.get_label(): bars[0] for axes in grid.flat for bars in axes.containers}
        rows_below = legend_below(figure, lines)
        figure.set_figheight(figure.get_figheight() + rows_below * LEGEND_ROW / 25.4)
    return figure


def _seeds(cells: pd.DataFrame) -> str:
    low, high = cells["n"].min(), cells["n"].max()
    n = f"n = {low}" if low == high else f"n = {low}–{high}"
    return n if high == 1 else f"{n}, bars ± 1 std"


def _panel(axes: Axes, series: Sequence[Series], base: float) -> None:
    base_line(axes, base)
    for one in series:
        style = look(one.method)
        std = one.cells["accuracy_std"]
        axes.errorbar(
            one.cells["speedup"],
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
    _accuracy_axis(axes, series, base)
    _speedup_axis(axes, max((one.cells["speedup"].max() for one in series), default=2.0))


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


def _accuracy_axis(axes: Axes, series: Sequence[Series], base: float) -> None:
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
    rows = _strip_rows(below)
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
        for x, value in values:
            axes.annotate(
                f"{value} ↓",
                (x, height),
                xycoords=axes.get_xaxis_transform(),
                xytext=(5, 0),
                textcoords="offset points",
                ha="right",
                va="center",
                color=color,
                zorder=4,
            )


def _strip_rows(below: Sequence[Series]) -> list[tuple[str, str, list[tuple[float, str]]]]:
    """Return label, color and (speedup, value) of each line, or of many lines as a range."""
    if len(below) > _MOST_STRIP_ROWS:
        cells = pd.concat([one.cells for one in below])
        values = f"{cells['accuracy'].min():.1f}–{cells['accuracy'].max():.1f}"
        return [(f"{len(below)} lines", INK, [(cells["speedup"].max(), values)])]
    rows = []
    for one in below:
        points = zip(one.cells["speedup"], one.cells["accuracy"], strict=True)
        rows.append((one.label, look(one.method).color, [(x, f"{y:.1f}") for x, y in points]))
    return rows


def _speedup_axis(axes: Axes, fastest: float) -> None:
    """Set a logarithmic axis from 1 with a tick at each power of two."""
    axes.set_xscale("log")
    axes.set_xlim(0.93, max(2.0, fastest) * 1.12)
    ticks = [2.0**i for i in range(math.ceil(math.log2(axes.get_xlim()[1])))]
    axes.xaxis.set_major_locator(FixedLocator(ticks))
    axes.xaxis.set_minor_locator(NullLocator())
    axes.xaxis.set_major_formatter(FuncFormatter(lambda x, _: f"{x:g}"))
    axes.set_xlabel("MACs speedup (×)")


def _ends_fit(series: Sequence[Series], base: float) -> bool:
    """Whether the line ends are few, all at the right, and on the axis."""
    ends = [one.cells["speedup"].iloc[-1] for one in series]
    few = len(series) <= _MOST_LABELS and not collapsed(series, base)
    return few and (not ends or min(ends) * 1.3 >= max(ends))


def _label_ends(axes: Axes, series: Sequence[Series]) -> None:
    """Write each line's name beside its end, moved apart, in the line's color."""
    low, high = axes.get_ylim()
    points = axes.get_window_extent().height * 72 / DPI
    ends = sorted(series, key=lambda one: float(one.cells["accuracy"].iloc[-1]))
    heights = [(one.cells["accuracy"].iloc[-1] - low) / (high - low) * points for one in ends]
    for one, height in zip(ends, spread_apart(heights, _LABEL_GAP), strict=True):
        color = look(one.method).color
        axes.annotate(
            one.label,
            (one.cells["speedup"].iloc[-1], one.cells["accuracy"].iloc[-1]),
            xytext=(1.04, height / points),
            textcoords=axes.transAxes,
            va="center",
            color=color,
            arrowprops={"arrowstyle": "-", "color": color, "linewidth": 0.4, "shrinkB": 3},
        )


def spread_apart(positions: Sequence[float], gap: float) -> list[float]:
    """Move rising positions as little as needed so that each is `gap` above the one before.

    >>> spread_apart([0, 1, 30], 10)
    [-4.5, 5.5, 30.0]
    """
    blocks: list[tuple[float, int]] = []  # center of labels that touch, their number
    for position in positions:
        center, count = float(position), 1
        while blocks and center - gap * (count - 1) / 2 < (
            blocks[-1][0] + gap * (blocks[-1][1] - 1) / 2 + gap
        ):
            below, more = blocks.pop()
            center = (center * count + below * more) / (count + more)
            count += more
        blocks.append((center, count))
    return [center + gap * (i - (count - 1) / 2) for center, count in blocks for i in range(count)]
