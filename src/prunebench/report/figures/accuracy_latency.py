"""Figure: accuracy vs. measured latency, a panel per network, device, part and batch size.

Latencies are shown as speedups: a pruned network is timed in turns with its base, so their ratio
does not depend on how busy the machine was, as the milliseconds do.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from prunebench.report.figures.end_labels import End, label_ends
from prunebench.report.figures.figure_options import COLUMN_WIDTH, PAGE, Options
from prunebench.report.figures.series_panel import Panel, draw_series
from prunebench.report.figures.speedup_axis import logarithmic_speedups
from prunebench.report.figures.style import (
    INK,
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
from prunebench.report.headings import shortened
from prunebench.report.runs_csv import metric_of


@styled
def accuracy_latency(frame: pd.DataFrame, options: Options = PAGE) -> Figure:
    """Draw accuracy (mean ± sample deviation over seeds) over base latency / latency.

    A cross is the base network, whose milliseconds are in the panel's title. Networks whose pruned
    weights stay as zeros are not timed, and not shown. Unstable latencies are grey with their
    range, on no line and not on the Pareto front.
    """
    metric, panels = metric_of(frame), timed_panels(frame)
    words = " · ".join(filter(None, [f"{metric.noun} vs. latency", shortened(frame)]))
    if not panels:
        return empty_figure(words, "no latency was measured")
    figure, grid = new_panels(len(panels), PANEL_HEIGHT, words, metric.axis, options)
    ends = [
        (axes, _draw(axes, panel, options.highlight))
        for axes, panel in zip(grid, panels, strict=True)
    ]
    label_ends(figure, ends)
    return figure


def _draw(axes: Axes, timed: TimedPanel, highlight: Sequence[str]) -> list[End]:
    axes.set_title(wrapped(timed.title, COLUMN_WIDTH - 12), loc="left")
    panel = Panel.of(timed.base, timed.series, highlight, MEASURED)
    panel = replace(panel, also_shown=tuple(timed.unstable["accuracy"]))
    logarithmic_speedups(axes, timed.widened(*panel.speedups), "Latency speedup (×)")
    ends = draw_series(axes, panel)
    axes.plot(1.0, panel.base, color=INK, marker="+", markersize=7, label="_base", clip_on=False)
    return [*ends, *draw_unstable(axes, timed.unstable, x=MEASURED, y="accuracy")]
