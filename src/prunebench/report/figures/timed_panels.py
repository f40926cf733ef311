"""Panels of measured latencies: one per network, device, part and batch size."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np
import pandas as pd
from matplotlib.axes import Axes

from prunebench.report.figures.end_labels import End
from prunebench.report.figures.series_panel import seeds
from prunebench.report.runs_csv import CELL, LATENCY, Timed, timed
from prunebench.report.series import Series, base_accuracy, per_network, series_of
from prunebench.report.table import significant

PANEL_HEIGHT = 64.0  # mm
MEASURED = "latency_speedup"  # column of the cells
_UNSTABLE = "#7b858f"


@dataclass(frozen=True)
class TimedPanel:
    """The timed cells of one network, on one device and at one batch size.

    The cells have the measured speedup in the column `MEASURED`. Cells with an unstable latency
    are in `unstable` alone, with the columns accuracy, speedup_macs, `MEASURED`, latency_low and
    latency_high: the range of the measured speedup over all seeds.
    """

    title: str
    series: Sequence[Series]
    base: float  # accuracy
    unstable: pd.DataFrame

    def widened(self, low: float, high: float) -> tuple[float, float]:
        """Return limits of measured speedups that also hold the ranges of the unstable ones."""
        lows, highs = self.unstable["latency_low"], self.unstable["latency_high"]
        return min([low, *lows]), max([high, *highs])


def timed_panels(frame: pd.DataFrame) -> list[TimedPanel]:
    """Return the panels with a timed network, by network, device, part and batch size.

    Files without the columns about stability have no unstable cells.
    """
    kinds = sorted({timed(str(name)) for name in frame.columns if str(name).startswith(LATENCY)})
    found = []
    for title, runs, cells in per_network(frame):
        for kind in kinds:
            base_ms = kind.columns[1]
            marked = _timed_cells(cells, runs, kind)
            is_unstable = marked["is_unstable"]
            series = [
                replace(one, cells=one.cells[~one.cells["is_unstable"]])
                for one in series_of(marked)
                if not one.cells["is_unstable"].all()
            ]
            if series or is_unstable.any():
                base = significant(float(runs[base_ms].median()))
                words = f"{title} · {seeds(cells)}\n{kind.words} · base {base} ms"
                found.append(TimedPanel(words, series, base_accuracy(runs), marked[is_unstable]))
    return found


def draw_unstable(axes: Axes, cells: pd.DataFrame, *, x: str, y: str) -> Iterator[End]:
    """Draw unstable cells in grey, with the range of their measured speedup; yield their label."""
    if cells.empty:
        return
    measured = cells[MEASURED]
    span = [measured - cells["latency_low"], cells["latency_high"] - measured]
    axes.errorbar(
        cells[x],
        cells[y],
        xerr=span if x == MEASURED else None,
        yerr=span if y == MEASURED else None,
        color=_UNSTABLE,
        linestyle="",
        marker="o",
        markersize=3,
        markerfacecolor="white",
        elinewidth=0.8,
        label="_unstable",
        zorder=2,
    )
    last_x, last_y = cells.sort_values(x, kind="stable")[[x, y]].to_numpy(dtype=float)[-1]
    yield End(f"unstable ({len(cells)})", _UNSTABLE, last_x, last_y)


def _timed_cells(cells: pd.DataFrame, runs: pd.DataFrame, kind: Timed) -> pd.DataFrame:
    """Return the timed cells with `MEASURED`, its range over all seeds, and `is_unstable`.

    Averages leave out the speedup of an unstable cell; here it is the mean of what was measured.
    """
    speedup = kind.columns[2]
    low, high, unstable = kind.stability
    missing = [name for name in kind.stability if name not in cells]
    means = runs.groupby(CELL, sort=False, dropna=False)[speedup].mean().rename(MEASURED)
    joined = cells.reindex(columns=[*cells.columns, *missing]).join(means, on=CELL)
    joined = joined[joined[MEASURED].notna()]
    return joined.assign(
        **{f"{MEASURED}_std": joined[f"{speedup}_std"]},
        is_unstable=joined[unstable] == 1,
        latency_low=np.fmin(joined[low], joined[MEASURED]),
        latency_high=np.fmax(joined[high], joined[MEASURED]),
    )
