"""Figure: accuracy vs. speedup in multiply-accumulates, a panel per network."""

from __future__ import annotations

import pandas as pd
from matplotlib.figure import Figure

from prunebench.report.figures.end_labels import label_ends
from prunebench.report.figures.figure_options import COLUMN_WIDTH, PAGE, Options
from prunebench.report.figures.series_panel import Panel, draw_series, seeds
from prunebench.report.figures.speedup_axis import logarithmic_speedups
from prunebench.report.figures.style import (
    new_panels,
    styled,
    wrapped,
)
from prunebench.report.headings import shortened, size_of_test_set
from prunebench.report.runs_csv import metric_of
from prunebench.report.series import base_accuracy, per_network, series_of

_PANEL_HEIGHT = 68.0  # mm
_SHORTEST = 2.0  # speedup that the axis always reaches


@styled
def accuracy_speedup(frame: pd.DataFrame, options: Options = PAGE) -> Figure:
    """Draw accuracy (mean ± sample deviation over seeds) over base MACs / MACs.

    Pruned weights that stay as zeros count as saved; the labels of such lines say so. At most eight
    lines are in color, the others are a grey band. The Pareto front of all of them has a band from
    the front of the lower to that of the upper bounds of 95 % t intervals, from three seeds on.
    """
    networks = per_network(frame)
    metric = metric_of(frame)
    title = " · ".join(filter(None, [f"{metric.noun} vs. speedup", shortened(frame)]))
    figure, grid = new_panels(len(networks), _PANEL_HEIGHT, title, metric.axis, options)
    labeled = []
    for axes, (name, runs, cells) in zip(grid, networks, strict=True):
        words = [f"{name} · {seeds(cells)}", size_of_test_set(runs)]
        axes.set_title(wrapped("\n".join(filter(None, words)), COLUMN_WIDTH - 12), loc="left")
        series = series_of(cells)
        panel = Panel.of(base_accuracy(runs), series, options.highlight, "speedup")
        speedups = [_SHORTEST, *panel.speedups]
        logarithmic_speedups(axes, speedups, "MACs speedup (×)")
        labeled.append((axes, draw_series(axes, panel)))
    label_ends(figure, labeled)
    return figure
