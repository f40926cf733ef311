"""Panels of measured latencies: one per network, device, part and batch size."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np
import pandas as pd
from matplotlib.axes import Axes

from prunebench.report.figures.end_labels import End
from prunebench.report.figures.series_panel import seeds
from prunebench.report.runs_csv import CELL, LATENCY, LATENCY_SPEEDUP, Timed, timed
from prunebench.report.series import Series, base_accuracy, per_network, series_of
from prunebench.report.table import significant

PANEL_HEIGHT = 64.0  # mm
MEASURED = "latency_speedup"  # column of the cells
_PARTS = {"forward": "", "whole": ", with post-processing"}
_UNSTABLE = "#7b858f"
_RANGE = ("latency_low", "latency_high")


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
            _, base_ms, speedup = kind.columns
            marked = _with_range(cells[cells[speedup].notna()], runs, speedup)
            is_unstable = marked["is_unstable"]
            series = [
                replace(one, cells=one.cells[~one.cells["is_unstable"]])
                for one in series_of(marked)
                if not one.cells["is_unstable"].all()
            ]
            if series or is_unstable.any():
                base = significant(float(runs[base_ms].median()))
                words = f"{title} · {seeds(cells)}\n{words_of(kind)} · base {base} ms"
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


def words_of(kind: Timed) -> str:
    """Return what was timed, in words.

    >>> words_of(Timed("cpu", "whole", 1)), words_of(Timed("cuda", "forward", 64))
    ('CPU, one image, with post-processing', 'CUDA, batch of 64')
    """
    batch = "one image" if kind.batch_size == 1 else f"batch of {kind.batch_size}"
    return f"{kind.device_kind.upper()}, {batch}{_PARTS[kind.part]}"


def _with_range(cells: pd.DataFrame, runs: pd.DataFrame, speedup: str) -> pd.DataFrame:
    """Add `MEASURED`, the range over all seeds, and `is_unstable`: whether any seed is unstable."""
    where = speedup.removeprefix(LATENCY_SPEEDUP)
    names = [f"{LATENCY_SPEEDUP}low_{where}", f"{LATENCY_SPEEDUP}high_{where}"]
    names.append(f"latency_unstable_{where}")
    known = runs.reindex(columns=[*runs.columns, *(n for n in names if n not in runs)])
    low, high, unstable = names
    groups = known.groupby(CELL, sort=False, dropna=False)
    ranges = pd.DataFrame(
        dict(zip(_RANGE, (groups[low].min(), groups[high].max()), strict=True))
        | {"is_unstable": groups[unstable].max() > 0}
    )
    joined = cells.drop(columns=names, errors="ignore").merge(
        ranges.reset_index(), on=CELL, how="left"
    )
    measured = joined[speedup]
    return joined.assign(
        **{MEASURED: measured, f"{MEASURED}_std": joined[f"{speedup}_std"]},
        latency_low=np.fmin(joined["latency_low"], measured),
        latency_high=np.fmax(joined["latency_high"], measured),
    )
