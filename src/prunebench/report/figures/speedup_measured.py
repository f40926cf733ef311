"""Figure: measured vs. theoretical speedup, a panel per network, device, part and batch size."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from prunebench.report.figures.end_labels import End, label_ends
from prunebench.report.figures.figure_options import COLUMN_WIDTH, PAGE, Options
from prunebench.report.figures.series_panel import dodged, draw_band, draw_line
from prunebench.report.figures.speedup_axis import logarithmic_speedups
from prunebench.report.figures.style import (
    INK,
    SOFT,
    empty_figure,
    new_panels,
    styled,
    wrapped,
)
from prunebench.report.figures.timed_panels import (
    MEASURED,
    PANEL_HEIGHT,
    TimedPanel,
    draw_unstable,
    timed_panels,
)
from prunebench.report.looks import look
from prunebench.report.series import in_color, others

_THEORETICAL = "speedup_macs"
_LEFT_PART = 0.25  # of the x axis, where a label fits only right of the diagonal
_MEASURED_LABEL = "Latency speedup (×)"
_TITLE = "Measured vs. theoretical speedup"


@styled
def speedup_measured(frame: pd.DataFrame, options: Options = PAGE) -> Figure:
    """Draw base latency / latency (mean ± sample deviation over seeds) over base MACs / MACs.

    On the dashed diagonal, a network is as much faster as it has fewer multiply-accumulates. At
    most eight lines are in color, the others are a grey band. Unstable latencies are grey with
    their range, on no line. Networks whose pruned weights stay as zeros are not timed.
    """
    panels = timed_panels(frame)
    if not panels:
        return empty_figure(_TITLE, "no latency was measured")
    figure, grid = new_panels(len(panels), PANEL_HEIGHT, _TITLE, _MEASURED_LABEL, options)
    ends = [
        (axes, list(_draw(axes, panel, options.highlight)))
        for axes, panel in zip(grid, panels, strict=True)
    ]
    label_ends(figure, ends)
    return figure


def _draw(axes: Axes, panel: TimedPanel, highlight: Sequence[str]) -> Iterator[End]:
    axes.set_title(wrapped(panel.title, COLUMN_WIDTH - 12), loc="left")
    colored, rest = in_color(panel.series, highlight)
    cells = [one.cells for one in panel.series]
    theoretical = [x for one in (*cells, panel.unstable) for x in one[_THEORETICAL]]
    logarithmic_speedups(axes, theoretical, "MACs speedup (×)")
    measured = [x for one in cells for sign in (-1, 1) for x in _ends_of_bars(one, sign)]
    limits = panel.widened(min(measured, default=1.0), max(measured, default=1.0))
    logarithmic_speedups(axes, limits, which="y")
    _draw_diagonal(axes)
    columns = [_THEORETICAL, MEASURED]
    lines = [one.cells[columns].to_numpy(dtype=float).T for one in rest]
    last = draw_band(axes, [(x, y) for x, y in lines], log=True)
    if last is not None:
        middle = float(np.sqrt(last.low[-1] * last.high[-1]))
        yield End(others(colored, rest), SOFT, float(last.x[-1]), middle)
    for one, shift in zip(colored, dodged(axes, colored, f"{MEASURED}_std"), strict=True):
        std = one.cells[f"{MEASURED}_std"]
        marker = draw_line(axes, one, (_THEORETICAL, MEASURED), (std, std), shift)
        x, y = one.cells[columns].to_numpy(dtype=float)[-1]
        yield End(one.label, look(one.method).color, x, y, marker, shift)
    yield from draw_unstable(axes, panel.unstable, x=_THEORETICAL, y=MEASURED)


def _ends_of_bars(cells: pd.DataFrame, sign: int) -> pd.Series:
    return cells[MEASURED] + sign * cells[f"{MEASURED}_std"].fillna(0.0)


def _draw_diagonal(axes: Axes) -> None:
    """Draw where both speedups are equal, with a label at its upper end within the panel."""
    low = max(axes.get_xlim()[0], axes.get_ylim()[0])
    high = min(axes.get_xlim()[1], axes.get_ylim()[1])
    axes.plot([low, high], [low, high], color=INK, linestyle=(0, (5, 3)), lw=0.9, label="_equal")
    is_left = math.log(high) < _LEFT_PART * math.log(axes.get_xlim()[1])
    axes.annotate(
        "equal",
        (high, high),
        xytext=(4 if is_left else -6, -1),
        textcoords="offset points",
        ha="left" if is_left else "right",
        va="top",
    )
