"""Figure: accuracy over the epochs of a run, before and after pruning, at one ratio."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import pandas as pd
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.figure import Figure, SubFigure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch
from matplotlib.ticker import FixedLocator, FuncFormatter, NullLocator

from prunebench.report.figures.style import (
    BAND,
    FULL_WIDTH,
    INK,
    SOFT,
    legend_below,
    new_figure,
    styled,
)
from prunebench.report.headings import shortened, size_of_test_set
from prunebench.report.looks import look
from prunebench.report.runs_csv import histories, metric_of
from prunebench.report.series import Pick, at_one_ratio, base_accuracy, per_network

Values = npt.NDArray[np.float64]
Split = Literal["test_accuracy", "val_accuracy"]
BASE: dict[Split, str] = {"test_accuracy": "base_accuracy", "val_accuracy": "base_val_accuracy"}
NAMES: dict[Split, str] = {
    "test_accuracy": "Test {metric} (%)",
    "val_accuracy": "Validation {metric} (%)",
}

_ROW_HEIGHT = 34.0  # mm
_HEAD_HEIGHT = 8.0
_BEHIND = "#d0d6dc"
_DASHES = (0, (5, 3))
_TICKS = (99.9, 99.8, 99.5, 99, 98, 95, 90, 80, 70, 60, 50, 40, 20, 0)  # percent
_SMALLEST_ERROR = 0.05  # percent; 100 % has no logarithm


@dataclass(frozen=True)
class Trajectory:
    """The accuracies of one run in percent, NaN where none was measured."""

    epochs: tuple[int, ...]
    accuracy: tuple[float, ...]
    pruned: tuple[int, ...]  # indices of the points measured right after a removal
    phases: tuple[tuple[str, int, int], ...]  # name, first and last epoch


@dataclass(frozen=True)
class _Line:
    """One panel: a cell and its runs."""

    pick: Pick
    runs: list[Trajectory]


@styled
def accuracy_epochs(frame: pd.DataFrame) -> Figure:
    """Draw accuracy over the epochs of all phases: a panel per method, a line per seed.

    The accuracy is of the test split if that was evaluated during training, else of the
    validation split. The distance to 100 % is logarithmic, so that both a network right after
    pruning and a fully trained one are visible. The other methods are grey in the background.
    """
    metric, parts = metric_of(frame), []
    for name, runs, cells in per_network(frame):
        words, picks = at_one_ratio(cells)
        split = split_shown(runs)
        lines = [_Line(pick, read_trajectories(pick.runs(runs), split)) for pick in picks]
        lines = [line for line in lines if any(run.phases for run in line.runs)]
        base = base_accuracy(runs, BASE[split])
        size = size_of_test_set(runs) if split == "test_accuracy" else ""
        parts.append((" · ".join(filter(None, [name, words, size])), split, base, lines))
    columns = max(1, min(4, max(len(lines) for *_, lines in parts)))
    rows = [max(1, math.ceil(len(lines) / columns)) for *_, lines in parts]
    heights = [n * _ROW_HEIGHT + _HEAD_HEIGHT for n in rows]
    title = " · ".join(filter(None, [f"{metric.noun} over epochs", shortened(frame)]))
    figure = new_figure(FULL_WIDTH, sum(heights) + 14, title)
    subfigures = figure.subfigures(len(parts), 1, squeeze=False, height_ratios=heights)
    for subfigure, (title, split, base, lines), n in zip(subfigures.flat, parts, rows, strict=True):
        subfigure.suptitle(title, x=0.01, ha="left", fontsize=8, fontweight="normal")
        _draw(subfigure, lines, (n, columns), base, NAMES[split].format(metric=metric.words))
    legend_below(figure, _legend([line for *_, lines in parts for line in lines]))
    return figure


def split_shown(runs: pd.DataFrame) -> Split:
    """Return the test split if any run was evaluated on it during training, else validation."""
    stored = [history for history in histories(runs) if history]
    tested = any(value is not None for one in stored for value in one["test_accuracy"])
    return "test_accuracy" if tested else "val_accuracy"


def read_trajectories(runs: pd.DataFrame, split: Split) -> list[Trajectory]:
    """Return the trajectories of a cell's runs."""
    stored = histories(runs)
    bases = runs[BASE[split]].where(runs["start"] == "base")
    return [
        trajectory(history, split, None if math.isnan(base) else base)
        for history, base in zip(stored, bases, strict=True)
    ]


def trajectory(
    history: Mapping[str, Sequence[Any]] | None, split: Split, start: float | None
) -> Trajectory:
    """Return a run's trajectory; each row without an event is one epoch, counted over all phases.

    `start` is the base's accuracy, for a run that starts from a base.
    """
    epochs, accuracy = ([], []) if start is None else ([0], [start])
    pruned = []
    phases: list[tuple[str, int, int]] = []
    now = 0
    rows = history or {"phase": (), "event": (), split: ()}
    for phase, event, value in zip(rows["phase"], rows["event"], rows[split], strict=True):
        if not event:
            now += 1
            first = phases.pop()[1] if phases and phases[-1][0] == phase else now - 1
            phases.append((phase, first, now))
        elif event == "pruned":
            pruned.append(len(epochs))
        epochs.append(now)
        accuracy.append(math.nan if value is None else float(value))
    return Trajectory(tuple(epochs), tuple(accuracy), tuple(pruned), tuple(phases))


def _draw(
    figure: SubFigure, lines: Sequence[_Line], shape: tuple[int, int], base: float, name: str
) -> None:
    grid = figure.subplots(*shape, squeeze=False, sharex=True, sharey=True)
    for axes in grid.flat[max(1, len(lines)) :]:
        axes.set_visible(False)
    for axes in grid.flat:
        axes.tick_params(labelbottom=True)
    if not lines:
        grid[0, 0].text(0.5, 0.5, "no epochs", transform=grid[0, 0].transAxes, ha="center")
    for axes, line in zip(grid.flat, lines, strict=False):
        for other in lines:
            if other is not line:
                run = other.runs[0]
                axes.plot(run.epochs, run.accuracy, color=_BEHIND, linewidth=0.6, label="_other")
        _panel(axes, line, base)
    shown = [y for line in lines for run in line.runs for y in run.accuracy if not math.isnan(y)]
    _accuracy_axis(grid[0, 0], [*shown, base])
    figure.supylabel(name, fontsize=8)
    figure.supxlabel("Epoch", fontsize=8)


def _panel(axes: Axes, line: _Line, base: float) -> None:
    color = look(line.pick.method).color
    axes.axhline(base, color=INK, linestyle=_DASHES, linewidth=0.7, label="_base")
    for run in line.runs:
        axes.plot(run.epochs, run.accuracy, color=color, linewidth=1.0, label=line.pick.label)
        axes.plot(
            [run.epochs[i] for i in run.pruned],
            [run.accuracy[i] for i in run.pruned],
            linestyle="",
            marker="v",
            markersize=4.5,
            markerfacecolor="white",
            markeredgecolor=color,
            label="pruned",
        )
    axes.set_title(line.pick.label, loc="left", pad=10)  # room for the phases below
    phases = line.runs[0].phases
    if all(run.phases == phases for run in line.runs):
        for _, start, end in phases[1::2]:
            axes.axvspan(start, end, color=BAND, linewidth=0, zorder=0)
    names = list(dict.fromkeys(name for name, *_ in phases))
    axes.text(
        0, 1.03, ", ".join(names), transform=axes.transAxes, ha="left", color=SOFT, fontsize=6.5
    )


def _legend(lines: Sequence[_Line]) -> dict[str, Artist]:
    """Return the legend of the lines and marks that occur in some panel."""
    meanings: dict[str, Artist] = {
        "base": Line2D([], [], color=INK, linestyle=_DASHES, linewidth=0.7),
        "one seed": Line2D([], [], color=SOFT, linewidth=1.0),
    }
    if any(run.pruned for line in lines for run in line.runs):
        meanings["right after pruning"] = Line2D(
            [], [], color=SOFT, linestyle="", marker="v", markerfacecolor="white"
        )
    if len(lines) > 1:
        meanings["other methods"] = Line2D([], [], color=_BEHIND, linewidth=0.6)
    if any(len(run.phases) > 1 for line in lines for run in line.runs):
        meanings["every second phase"] = Patch(color=BAND)
    return meanings


def _accuracy_axis(axes: Axes, shown: Sequence[float]) -> None:
    """Make the distance to 100 % logarithmic, with as many ticks as there is room for."""
    axes.set_yscale("function", functions=(_height, _accuracy))
    low, high = (float(_height(np.array(end))) for end in (min(shown), max(shown)))
    pad = 0.1 * (high - low) + 0.01
    low, high = low - pad, high + pad
    axes.set_ylim(max(0.0, float(_accuracy(np.array(low)))), float(_accuracy(np.array(high))))
    ticks: list[float] = []
    for tick in _TICKS:
        height = float(_height(np.array(tick)))
        apart = not ticks or float(_height(np.array(ticks[-1]))) - height > (high - low) / 7
        if low <= height <= high and apart:
            ticks.append(tick)
    axes.yaxis.set_major_locator(FixedLocator(ticks))
    axes.yaxis.set_minor_locator(NullLocator())
    axes.yaxis.set_major_formatter(FuncFormatter(lambda y, _: f"{y:g}"))


def _height(accuracy: Values) -> Values:
    return -np.log10(np.maximum(100 - accuracy, _SMALLEST_ERROR))


def _accuracy(height: Values) -> Values:
    return 100 - np.power(10.0, -height)
