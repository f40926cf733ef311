"""Figure: accuracy vs. measured latency, a panel per network, device, part and batch size.

Latencies are shown as speedups: a pruned network is timed in turns with its base, so their ratio
does not depend on how busy the machine was, as the milliseconds do.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from prunebench.report.figures.series_panel import draw_series, legend_of_series, seeds
from prunebench.report.figures.style import FULL_WIDTH, HALF_WIDTH, INK, new_figure, styled
from prunebench.report.headings import shortened
from prunebench.report.runs_csv import is_latency, metric_of, timed
from prunebench.report.series import Series, base_accuracy, per_network, series_of
from prunebench.report.table import significant

_COLUMNS, _PANEL_HEIGHT, _HEAD_HEIGHT, _EMPTY_HEIGHT = 2, 62.0, 8.0, 30.0  # mm


@dataclass(frozen=True)
class Panel:
    """The timed cells of one network at one batch size."""

    title: str
    series: Sequence[Series]
    base: float  # accuracy


@styled
def accuracy_latency(frame: pd.DataFrame) -> Figure:
    """Draw accuracy (mean ± sample deviation over seeds) over base latency / latency.

    A cross is the base network, whose milliseconds are in the panel's title. Networks whose pruned
    weights stay as zeros are not timed, and not shown. Points whose accuracy collapsed are below
    the axis.
    """
    metric, panels = metric_of(frame), panels_of(frame)
    words = " · ".join(filter(None, [f"{metric.noun} vs. latency", shortened(frame)]))
    if not panels:
        figure = new_figure(HALF_WIDTH, _EMPTY_HEIGHT, words)
        axes = figure.subplots()
        axes.set_axis_off()
        axes.text(0.5, 0.5, "no latency was measured", transform=axes.transAxes, ha="center")
        return figure
    columns = min(_COLUMNS, len(panels))
    rows = math.ceil(len(panels) / columns)
    width = FULL_WIDTH if columns == _COLUMNS else HALF_WIDTH
    figure = new_figure(width, _PANEL_HEIGHT * rows + _HEAD_HEIGHT, words)
    grid = figure.subplots(rows, columns, squeeze=False)
    for axes, panel in zip(grid.flat, panels, strict=False):
        _draw(axes, panel)
    for axes in grid.flat[len(panels) :]:
        axes.set_visible(False)
    for row in grid:
        row[0].set_ylabel(metric.axis)
    legend_of_series(figure, grid.flat)
    return figure


def panels_of(frame: pd.DataFrame) -> list[Panel]:
    """Return the panels with a timed network, by network, device, part and batch size."""
    kinds = sorted({timed(str(name)) for name in frame.columns if is_latency(str(name))})
    found = []
    for title, runs, cells in per_network(frame):
        for kind in kinds:
            _, base_ms, speedup = kind.columns
            series = [
                replace(one, cells=one.cells.assign(latency_speedup=one.cells[speedup]))
                for one in series_of(cells[cells[speedup].notna()])
            ]
            if series:
                base = significant(float(runs[base_ms].median()))
                words = f"{title} · {seeds(cells)}\n{kind.words} · base {base} ms"
                found.append(Panel(words, series, base_accuracy(runs)))
    return found


def _draw(axes: Axes, panel: Panel) -> None:
    axes.set_title(panel.title, loc="left")
    draw_series(axes, panel.series, panel.base, x="latency_speedup", base_at_right=True)
    axes.plot(1.0, panel.base, color=INK, marker="+", markersize=7, label="_base")
    speedups = [1.0, *(x for one in panel.series for x in one.cells["latency_speedup"])]
    pad = max(0.06 * (max(speedups) - min(speedups)), 0.02)
    axes.set_xlim(min(speedups) - pad, max(speedups) + pad)
    axes.xaxis.set_major_locator(MaxNLocator(6, steps=[1, 2, 5, 10]))
    axes.set_xlabel("Latency speedup (×)")
