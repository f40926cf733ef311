"""Figure: accuracy of pruned networks that are not trained, against the removed computation."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import pandas as pd
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.figure import Figure, SubFigure

from prunebench.report.figures.style import (
    FULL_WIDTH,
    HALF_WIDTH,
    LEGEND_ROW,
    SOFT,
    base_line,
    legend_below,
    new_figure,
    styled,
)
from prunebench.report.headings import shortened
from prunebench.report.looks import GROUPS, look
from prunebench.report.runs_csv import UNPRUNED, json_cells, metric_of, networks
from prunebench.report.series import base_accuracy

_ROW_HEIGHT = 58.0  # mm
_HEAD_HEIGHT = 8.0
_AFTER_REMOVAL, _AT_THE_END = "accuracy_after_removal", "accuracy"
_KINDS = {
    "units_per_group": "the same share of every group",
    "units_global": "units of all groups ranked together",
}


@dataclass(frozen=True)
class Part:
    """The runs of one network without training, by setting and kind of ratio."""

    title: str
    base: float
    rows: Sequence[tuple[str, pd.DataFrame]]  # label, runs


@styled
def accuracy_without_training(frame: pd.DataFrame) -> Figure:
    """Draw accuracy over the removed MACs, for runs from a base network without training.

    The left panels show it right after the removal, the right ones at the end, for runs that
    estimated the statistics of batch norm again. A line is the mean over seeds, a band their range.
    Networks are one below the other, with a row per setting.
    """
    untrained = without_training(frame)
    parts = [
        Part(f"{architecture} · {dataset}", base_accuracy(runs), _by_setting(runs))
        for (dataset, architecture), runs in networks(untrained)
    ]
    heights = [len(part.rows) * _ROW_HEIGHT + _HEAD_HEIGHT for part in parts]
    figure = new_figure(
        FULL_WIDTH if parts else HALF_WIDTH,
        sum(heights, _HEAD_HEIGHT) if parts else _ROW_HEIGHT,
        " · ".join(filter(None, [f"{metric_of(frame).noun} without training", shortened(frame)])),
    )
    if not parts:
        axes = figure.subplots()
        axes.set_axis_off()
        axes.text(0.5, 0.5, "no run without training", transform=axes.transAxes, ha="center")
        return figure
    subfigures = figure.subfigures(len(parts), 1, squeeze=False, height_ratios=heights)
    lines: dict[str, Artist] = {}
    for subfigure, part in zip(subfigures.flat, parts, strict=True):
        lines |= _draw(subfigure, part)
    methods = sorted(lines, key=lambda method: GROUPS.index(look(method).group))
    rows = legend_below(figure, {method: lines[method] for method in methods})
    figure.set_figheight(figure.get_figheight() + rows * LEGEND_ROW / 25.4)
    return figure


def without_training(frame: pd.DataFrame) -> pd.DataFrame:
    """Return the pruned runs that start from a base network and are not trained.

    The column `recalibrated` says whether batch-norm statistics were estimated again at the end.
    """
    if _AFTER_REMOVAL not in frame:  # a table of an earlier version
        return frame.iloc[:0]
    chosen = (frame["method"] != UNPRUNED) & (frame["start"] == "base") & (frame["epochs"] == 0)
    runs = frame[chosen & frame[_AFTER_REMOVAL].notna()]
    if runs.empty:
        return runs
    events = [(cell or {}).get("event", []) for cell in json_cells(runs, "history")]
    ends = [bool(one) and one[-1] == "recalibrated" for one in events]
    return runs.assign(recalibrated=pd.Series(ends, index=runs.index, dtype=bool))


def _by_setting(runs: pd.DataFrame) -> list[tuple[str, pd.DataFrame]]:
    """Return a label and the runs of each setting and kind of ratio, in order of appearance."""
    return [
        (
            " · ".join(
                [*([str(name)] if name != "default" else []), _KINDS.get(str(kind), str(kind))]
            ),
            rows,
        )
        for (name, kind), rows in runs.groupby(["setting", "ratio_kind"], sort=False)
    ]


def _draw(figure: SubFigure, part: Part) -> dict[str, Artist]:
    """Draw a row of two panels per setting; return a line of each method."""
    figure.suptitle(part.title, x=0.01, ha="left", fontsize=8, fontweight="bold")
    grid = figure.subplots(len(part.rows), 2, squeeze=False, sharex=True, sharey=True)
    lines: dict[str, Artist] = {}
    for (left, right), (label, runs) in zip(grid, part.rows, strict=True):
        left.set_title(f"{label}\nright after removal", loc="left")
        right.set_title("\nwith new batch-norm statistics", loc="left")
        lines |= _panel(left, runs, _AFTER_REMOVAL, part.base)
        lines |= _panel(right, runs[runs["recalibrated"]], _AT_THE_END, part.base)
        left.set_ylabel(metric_of(runs).axis)
    for axes in grid[-1]:
        axes.set_xlabel("Removed MACs (%)")
    return lines


def _panel(axes: Axes, runs: pd.DataFrame, column: str, base: float) -> dict[str, Artist]:
    base_line(axes, base, at_right=True)
    axes.set_xlim(0, 100)
    axes.set_ylim(0, 100)
    if runs.empty:
        axes.text(0.5, 0.5, "no such run", transform=axes.transAxes, ha="center", color=SOFT)
    lines: dict[str, Artist] = {}
    for method, own in runs.groupby("method", sort=False):
        points = curve(own, column, base)
        style = look(str(method))
        is_control = style.group == "control"
        if (points["high"] > points["low"]).any():
            axes.fill_between(
                points["removed"],
                points["low"],
                points["high"],
                color=style.color,
                alpha=0.25,
                linewidth=0,
                zorder=1.5,
            )
        (line,) = axes.plot(
            points["removed"],
            points["mean"],
            color=style.color,
            linestyle=style.line,
            marker=style.marker,
            linewidth=0.8,
            markersize=5.5,
            markerfacecolor=style.fill,
            markeredgecolor=style.color if is_control else "white",
            markeredgewidth=0.9 if is_control else 0.4,
            markevery=range(1, len(points)),
            label=str(method),
            zorder=2 if is_control else 3,
        )
        lines[str(method)] = line
    return lines


def curve(runs: pd.DataFrame, column: str, base: float) -> pd.DataFrame:
    """Return a method's points by ratio: removed MACs in percent, and mean and range over seeds.

    The first point is the base network.

    >>> rows = {"ratio": [0.5, 0.5], "speedup_macs": [2.0, 2.0], "accuracy": [80.0, 90.0]}
    >>> curve(pd.DataFrame(rows), "accuracy", 95.0).to_dict("list")
    {'removed': [0.0, 50.0], 'mean': [95.0, 85.0], 'low': [95.0, 80.0], 'high': [95.0, 90.0]}
    """
    removed = runs.assign(removed=100 * (1 - 1 / runs["speedup_macs"]))
    points = removed.groupby("ratio").agg(
        removed=("removed", "mean"),
        mean=(column, "mean"),
        low=(column, "min"),
        high=(column, "max"),
    )
    first = pd.DataFrame([{"removed": 0.0, "mean": base, "low": base, "high": base}])
    return pd.concat([first, points], ignore_index=True)
