"""Figure: accuracy over the epochs of a run, before and after pruning, at one ratio."""

from __future__ import annotations

import math
import textwrap
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
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

from prunebench.report.envelope import Line
from prunebench.report.figures.figure_options import PAGE, Options
from prunebench.report.figures.series_panel import draw_band
from prunebench.report.figures.style import (
    INK,
    LETTER,
    LINE_HEIGHT,
    MM,
    REST,
    REST_EDGE,
    SOFT,
    legend_below,
    new_figure,
    part_title,
    styled,
    wrapped,
)
from prunebench.report.headings import shortened, size_of_test_set
from prunebench.report.looks import look
from prunebench.report.middle_half import MOST_LINES, Place, Quartiles, middle_half, places
from prunebench.report.runs_csv import histories, metric_of
from prunebench.report.series import Pick, at_one_ratio, base_accuracy, in_color, per_network

Values = npt.NDArray[np.float64]
Split = Literal["test_accuracy", "val_accuracy"]
BASE: dict[Split, str] = {"test_accuracy": "base_accuracy", "val_accuracy": "base_val_accuracy"}
NAMES: dict[Split, str] = {
    "test_accuracy": "Test {metric} (%)",
    "val_accuracy": "Validation {metric} (%)",
}

_ROW_HEIGHT = {"page": 36.0, "column": 31.0}  # mm
_HEAD_HEIGHT = 8.0
_LINE_POINTS = 10.5  # typographic points, the height of a line of text
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

    @cached_property
    def places(self) -> list[Place]:
        """Return the place of each point."""
        return places(self.epochs)

    @cached_property
    def measured(self) -> dict[Place, float]:
        """Return the measured accuracies by place."""
        points = zip(self.places, self.accuracy, strict=True)
        return {place: accuracy for place, accuracy in points if not math.isnan(accuracy)}


@dataclass(frozen=True)
class _Line:
    """One panel: a cell and its runs."""

    pick: Pick
    runs: list[Trajectory]

    @property
    def is_band(self) -> bool:
        """Whether the runs are too many for a line each."""
        return len(self.runs) > MOST_LINES

    @cached_property
    def middle_half(self) -> dict[Place, Quartiles]:
        """Return the quartiles of the accuracy over the runs, by place."""
        return middle_half([run.measured for run in self.runs])

    @property
    def drawn(self) -> list[float]:
        """Return all accuracies that are drawn."""
        if self.is_band:
            return [accuracy for place in self.middle_half.values() for accuracy in place]
        return [accuracy for run in self.runs for accuracy in run.measured.values()]

    @property
    def one_line(self) -> Line:
        """Return epochs and accuracies of the median, or of the first of a few seeds."""
        medians = {place: own.middle for place, own in self.middle_half.items()}
        accuracy = medians if self.is_band else self.runs[0].measured
        epochs = [epoch for epoch, _ in accuracy]
        return np.array(epochs, dtype=float), np.array(list(accuracy.values()))


@dataclass(frozen=True)
class _Part:
    """The panels of a network: a line each of `shown`, before the range of all others."""

    title: str
    split: Split
    base: float
    lines: list[_Line]
    shown: list[_Line]


@styled
def accuracy_epochs(frame: pd.DataFrame, options: Options = PAGE) -> Figure:
    """Draw accuracy over the epochs of all phases: a panel per method, a line per seed.

    More than five seeds are the median with a band, between the quartiles, instead.

    The accuracy is of the test split if that was evaluated during training, else of the
    validation split. The distance to 100 % is logarithmic, so that both a network right after
    pruning and a fully trained one are visible. At most eight series have panels, those that other
    figures draw in color. The range of all other methods' medians, or first seeds, is grey.
    """
    metric, parts = metric_of(frame), []
    for name, runs, cells in per_network(frame):
        words, picks = at_one_ratio(cells)
        split = split_shown(runs)
        lines = [_Line(pick, read_trajectories(pick.runs(runs), split)) for pick in picks]
        lines = [line for line in lines if any(run.phases for run in line.runs)]
        colored, _ = in_color([line.pick for line in lines], options.highlight)
        labels = {pick.label for pick in colored}
        shown = [line for line in lines if line.pick.label in labels]
        size = size_of_test_set(runs) if split == "test_accuracy" else ""
        title = wrapped(" · ".join(filter(None, [name, words, size])), options.width)
        parts.append(_Part(title, split, base_accuracy(runs, BASE[split]), lines, shown))
    columns = options.columns(max(len(part.shown) for part in parts), most=4)
    rows = [max(1, math.ceil(len(part.shown) / columns)) for part in parts]
    heights = [
        n * _ROW_HEIGHT[options.style] + _HEAD_HEIGHT + part.title.count("\n") * LINE_HEIGHT
        for n, part in zip(rows, parts, strict=True)
    ]
    title = " · ".join(filter(None, [f"{metric.noun} over epochs", shortened(frame)]))
    figure = new_figure(options.width, sum(heights) + 14, title)
    subfigures = figure.subfigures(len(parts), 1, squeeze=False, height_ratios=heights)
    for subfigure, part, n in zip(subfigures.flat, parts, rows, strict=True):
        part_title(subfigure, part.title)
        _draw(subfigure, part, (n, columns), NAMES[part.split].format(metric=metric.words))
    legend_below(figure, _legend(parts))
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


def _draw(figure: SubFigure, part: _Part, shape: tuple[int, int], name: str) -> None:
    grid = figure.subplots(*shape, squeeze=False, sharex=True, sharey=True)
    for axes in grid.flat[max(1, len(part.shown)) :]:
        axes.set_visible(False)
    for axes in grid.flat:
        axes.tick_params(labelbottom=True)
    if not part.shown:
        grid[0, 0].text(0.5, 0.5, "no epochs", transform=grid[0, 0].transAxes, ha="center")
    runs = [run for line in part.lines for run in line.runs]
    grid[0, 0].set_xlim(0, max((run.epochs[-1] for run in runs), default=1))
    letters = int(figure.bbox.width / figure.dpi / MM / LETTER / shape[1])
    phases = [_phases(line, letters) for line in part.shown]
    for i, (axes, line, words) in enumerate(zip(grid.flat, part.shown, phases, strict=False)):
        start = i - i % shape[1]  # the panels of a row leave the same room
        lines = max(own.count("\n") + 1 for own in phases[start : start + shape[1]])
        pad = _LINE_POINTS * lines
        draw_band(axes, [other.one_line for other in part.lines if other is not line])
        axes.set_title(line.pick.label, loc="left", pad=pad + 3)  # room for the phases below
        axes.annotate(
            words,
            (0, 1),
            xycoords="axes fraction",
            xytext=(0, pad + 1),
            textcoords="offset points",
            va="top",
            color=SOFT,
            linespacing=1.0,
        )
        _panel(axes, line, part.base)
    shown = [accuracy for line in part.lines for accuracy in line.drawn]
    _accuracy_axis(grid[0, 0], [*shown, part.base])
    figure.supylabel(name)
    figure.supxlabel("Epoch")


def _phases(line: _Line, letters: int) -> str:
    """Return the names of a line's phases, in lines of so many letters."""
    names = dict.fromkeys(name for name, *_ in line.runs[0].phases)
    return textwrap.fill(", ".join(names), letters)


def _panel(axes: Axes, line: _Line, base: float) -> None:
    color = look(line.pick.method).color
    axes.axhline(base, color=INK, linestyle=_DASHES, linewidth=0.7, label="_base")
    if line.is_band:
        _draw_middle_half(axes, line, color)
    for run in () if line.is_band else line.runs:
        axes.plot(run.epochs, run.accuracy, color=color, linewidth=1.0, label=line.pick.label)
        _mark(axes, [(run.epochs[i], run.accuracy[i]) for i in run.pruned], color)
    phases = line.runs[0].phases
    if all(run.phases == phases for run in line.runs):
        for _, start, _ in phases[1:]:
            axes.axvline(start, color=SOFT, linewidth=0.7, linestyle=":", label="_phase", zorder=1)


def _draw_middle_half(axes: Axes, line: _Line, color: str) -> None:
    """Draw the median over the seeds, in a band between the quartiles."""
    places = line.middle_half
    epochs = [epoch for epoch, _ in places]
    low, middle, high = zip(*places.values(), strict=True)
    axes.fill_between(epochs, low, high, color=color, alpha=0.25, linewidth=0, label="_half")
    axes.plot(epochs, middle, color=color, linewidth=1.0, label=line.pick.label)
    pruned = {run.places[i] for run in line.runs for i in run.pruned}
    _mark(axes, [(place[0], own.middle) for place, own in places.items() if place in pruned], color)


def _mark(axes: Axes, points: Sequence[tuple[int, float]], color: str) -> None:
    """Mark the points right after pruning."""
    axes.plot(
        [epoch for epoch, _ in points],
        [accuracy for _, accuracy in points],
        linestyle="",
        marker="v",
        markersize=4.5,
        markerfacecolor="white",
        markeredgecolor=color,
        label="pruned",
    )


def _legend(parts: Sequence[_Part]) -> dict[str, Artist]:
    """Return the legend of the lines and marks that occur in some panel."""
    lines = [line for part in parts for line in part.shown]
    meanings: dict[str, Artist] = {
        "base": Line2D([], [], color=INK, linestyle=_DASHES, linewidth=0.7),
    }
    if not lines or not all(line.is_band for line in lines):
        meanings["one seed"] = Line2D([], [], color=SOFT, linewidth=1.0)
    if any(line.is_band for line in lines):
        meanings["median of the seeds"] = Line2D([], [], color=SOFT, linewidth=1.0)
        meanings["middle half of the seeds"] = Patch(facecolor=SOFT, alpha=0.25, linewidth=0)
    if any(run.pruned for line in lines for run in line.runs):
        meanings["right after pruning"] = Line2D(
            [], [], color=SOFT, linestyle="", marker="v", markerfacecolor="white"
        )
    if any(len(part.lines) > 1 for part in parts):
        meanings["range of all others"] = Patch(facecolor=REST, edgecolor=REST_EDGE, linewidth=0.4)
    if any(len(run.phases) > 1 for line in lines for run in line.runs):
        meanings["next phase"] = Line2D([], [], color=SOFT, linewidth=0.7, linestyle=":")
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
