"""Figure: accuracy vs. speedup in multiply-accumulates, a panel per network."""

from __future__ import annotations

import math
from collections.abc import Sequence

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FixedLocator, FuncFormatter, NullLocator

from prunebench.report.figures.series_panel import collapsed, draw_series, legend_of_series, seeds
from prunebench.report.figures.style import DPI, FULL_WIDTH, HALF_WIDTH, new_figure, styled
from prunebench.report.headings import shortened, size_of_test_set
from prunebench.report.looks import look
from prunebench.report.runs_csv import metric_of
from prunebench.report.series import Series, base_accuracy, per_network, series_of

_PANEL_HEIGHT = 68.0  # mm
_MOST_LABELS = 7  # lines labeled at their ends; more get a legend
_LABEL_GAP = 10.0  # typographic points from label to label


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
        words = [f"{name} · {seeds(cells)}", size_of_test_set(runs)]
        axes.set_title("\n".join(filter(None, words)), loc="left")
        draw_series(axes, series, base, x="speedup")
        _speedup_axis(axes, max((one.cells["speedup"].max() for one in series), default=2.0))
    for axes in grid.flat[len(panels) :]:
        axes.set_visible(False)
    for row in grid:
        row[0].set_ylabel(metric_of(frame).axis)
    if all(_ends_fit(series, base) for series, base in panels):
        figure.draw_without_rendering()
        for axes, (series, _) in zip(grid.flat, panels, strict=False):
            _label_ends(axes, series)
    else:
        legend_of_series(figure, grid.flat)
    return figure


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
