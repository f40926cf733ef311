"""Figure: accuracy of pruned networks that are not trained, against the removed computation."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure, SubFigure

from prunebench.report.envelope import Line
from prunebench.report.figures.end_labels import End, label_ends
from prunebench.report.figures.figure_options import COLUMN_WIDTH, PAGE, Options
from prunebench.report.figures.series_panel import draw_band
from prunebench.report.figures.style import (
    SOFT,
    base_line,
    empty_figure,
    new_figure,
    styled,
)
from prunebench.report.headings import shortened
from prunebench.report.looks import highlights, look
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
def accuracy_without_training(frame: pd.DataFrame, options: Options = PAGE) -> Figure:
    """Draw accuracy over the removed MACs, for runs from a base network without training.

    One panel shows it right after the removal, the next one at the end, for runs that estimated the
    statistics of batch norm again. A line is the mean over seeds, a band in its color their range.
    At most eight methods are in color, the range of the others' means is grey. Networks are one
    below the other, with one or two rows per setting.
    """
    untrained = without_training(frame)
    words = f"{metric_of(frame).noun} without training"
    title = " · ".join(filter(None, [words, shortened(frame)]))
    parts = [
        Part(f"{architecture} · {dataset}", base_accuracy(runs), _by_setting(runs))
        for (dataset, architecture), runs in networks(untrained)
    ]
    if not parts:
        return empty_figure(title, "no run without training")
    columns = options.columns(2, most=2)
    heights = [len(part.rows) * 2 / columns * _ROW_HEIGHT + _HEAD_HEIGHT for part in parts]
    figure = new_figure(columns * COLUMN_WIDTH, sum(heights, _HEAD_HEIGHT), title)
    subfigures = figure.subfigures(len(parts), 1, squeeze=False, height_ratios=heights)
    ends = [
        end
        for subfigure, part in zip(subfigures.flat, parts, strict=True)
        for end in _draw(subfigure, part, columns, options.highlight)
    ]
    label_ends(figure, ends)
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


def _draw(
    figure: SubFigure, part: Part, columns: int, highlight: Sequence[str]
) -> Iterator[tuple[Axes, list[End]]]:
    """Draw two panels per setting; yield each with the ends of its lines."""
    figure.suptitle(part.title, x=0.01, ha="left", fontweight="bold")
    rows = len(part.rows) * 2 // columns
    grid = figure.subplots(rows, columns, squeeze=False, sharex=True, sharey=True)
    for (left, right), (label, runs) in zip(grid.reshape(-1, 2), part.rows, strict=True):
        methods = [str(name) for name in runs["method"].unique()]
        colored = [name for name in methods if name in (highlight or highlights(methods))]
        left.set_title(f"{label}\nright after removal", loc="left")
        right.set_title("\nwith new batch-norm statistics", loc="left")
        yield left, _panel(left, runs, _AFTER_REMOVAL, part.base, colored)
        yield right, _panel(right, runs[runs["recalibrated"]], _AT_THE_END, part.base, colored)
    for row in grid:
        row[0].set_ylabel(metric_of(part.rows[0][1]).axis)
    for axes in grid[-1]:
        axes.set_xlabel("Removed MACs (%)")


def _panel(
    axes: Axes, runs: pd.DataFrame, column: str, base: float, colored: Collection[str]
) -> list[End]:
    axes.set_xlim(0, 100)
    axes.set_ylim(0, 100)
    base_line(axes, base, at_right=True)
    if runs.empty:
        axes.text(0.5, 0.5, "no such run", transform=axes.transAxes, ha="center", color=SOFT)
    curves = {
        str(method): curve(own, column, base) for method, own in runs.groupby("method", sort=False)
    }
    rest = {method: points for method, points in curves.items() if method not in colored}
    ends = []
    if rest:
        draw_band(axes, [_line(points) for points in rest.values()])
        words = f"{len(rest)} other method{'s' if len(rest) > 1 else ''}"
        ends.append(_end(words, SOFT, pd.concat(rest.values())))
    for method, points in curves.items():
        if method in colored:
            ends.append(_draw_curve(axes, method, points))
    return ends


def _line(points: pd.DataFrame) -> Line:
    rising = points.sort_values("removed", kind="stable")
    return rising["removed"].to_numpy(dtype=float), rising["mean"].to_numpy(dtype=float)


def _draw_curve(axes: Axes, method: str, points: pd.DataFrame) -> End:
    style = look(method)
    is_control = style.group == "control"
    marker: dict[str, Any] = {
        "marker": style.marker,
        "markerfacecolor": style.fill,
        "markeredgecolor": style.color if is_control else "white",
        "markeredgewidth": 0.9 if is_control else 0.4,
        "markersize": 5.5,
    }
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
    axes.plot(
        points["removed"],
        points["mean"],
        color=style.color,
        linestyle=style.line,
        linewidth=0.8,
        markevery=range(1, len(points)),
        label=method,
        zorder=2 if is_control else 3,
        **marker,
    )
    return _end(method, style.color, points, marker)


def _end(
    label: str, color: str, points: pd.DataFrame, marker: Mapping[str, Any] | None = None
) -> End:
    """Return a label without a leader, at the height of the curve's mean.

    All curves end near the same accuracy, so that leaders from their ends would say nothing.
    """
    x, y = points["removed"].iloc[-1], points["mean"].mean()
    return End(label, color, float(x), float(y), marker or {}, leader=False)


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
