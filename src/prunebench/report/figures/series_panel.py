"""A panel of accuracy over some speedup: a line per series, the base network, the Pareto front."""

from __future__ import annotations

import functools
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.patches import Rectangle
from matplotlib.ticker import FixedLocator, MaxNLocator
from matplotlib.transforms import ScaledTranslation, Transform

from prunebench.report.envelope import Line, Stretch, envelope
from prunebench.report.figures.end_labels import End
from prunebench.report.figures.style import BAND, INK, REST, REST_EDGE, SOFT, base_line
from prunebench.report.looks import look
from prunebench.report.pareto import pareto_front
from prunebench.report.series import Series, in_color, others

_COLLAPSE = 10.0  # points of accuracy; a smaller loss always stays on the axis
_MOST_STRIP_ROWS = 4  # more collapsed lines share one row
_STRIP_ROW = 0.085  # of the axis
_APART = 1.3 / 72  # inches from one error bar to the next
_SAME_PLACE = 0.03  # of the x axis; points of other lines this near are one place of the band
_BAR_WIDTH = 5.0  # typographic points, of the band at a single place
_FRONT, _FRONT_BAND = "#7a6410", "#f8f1d6"


@dataclass(frozen=True)
class Panel:
    """The pruned cells of one network; those of `colored` are drawn in color."""

    base: float  # accuracy
    colored: Sequence[Series]
    rest: Sequence[Series]
    x: str  # column of the cells with the speedup
    also_shown: tuple[float, ...] = ()  # accuracies of points that are drawn elsewhere

    @classmethod
    def of(
        cls,
        base: float,
        series: Sequence[Series],
        chosen: Sequence[str],
        x: str,
    ) -> Panel:
        """Return the panel of some series, with at most eight in color."""
        return cls(base, *in_color(series, chosen), x)

    @functools.cached_property
    def cells(self) -> pd.DataFrame:
        """Return the cells of all series."""
        columns = [self.x, "n", "accuracy", "accuracy_std"]
        parts = [one.cells[columns] for one in (*self.colored, *self.rest)]
        return pd.concat(parts) if parts else pd.DataFrame(columns=columns, dtype=float)

    @functools.cached_property
    def floor(self) -> float:
        """Return the lowest accuracy on the axis; minus infinity without a pruned cell."""
        accuracy = self.cells["accuracy"].tolist()
        return lowest_shown(accuracy, self.base) if accuracy else -math.inf

    @property
    def speedups(self) -> tuple[float, float]:
        """Return the smallest and the largest speedup, counting 1 for the base network."""
        values = [1.0, *self.cells[self.x]]
        return min(values), max(values)


def seeds(cells: pd.DataFrame) -> str:
    """Return the number of seeds for a panel's title, and what error bars are."""
    low, high = cells["n"].min(), cells["n"].max()
    n = f"n = {low}" if low == high else f"n = {low}–{high}"
    return n if high == 1 else f"{n}, bars ± 1 std"


def draw_series(axes: Axes, panel: Panel) -> list[End]:
    """Draw accuracy over speedup, a line per series; return the ends of the lines, for labels.

    The logarithmic x axis and its limits are set before. Series that are not in color are a grey
    band from the lowest to the highest of them. Error bars are sample deviations; series with bars
    are moved sideways by a few points, so that no bar hides another. The Pareto front is that of
    all series. The accuracy axis fits the points that have not collapsed; the others are in a
    strip below, as a value at the place of their speedup.
    """
    rows = _strip_rows(panel)
    strip = _STRIP_ROW * len(rows)
    _accuracy_axis(axes, panel, strip)
    base_line(axes, panel.base)
    ends = [*_draw_front(axes, panel), *_draw_rest(axes, panel), *_draw_colored(axes, panel)]
    in_strip = {row.label for row in rows}
    if not ends and not panel.also_shown:
        axes.text(0.5, 0.5, "no pruned run", transform=axes.transAxes, ha="center", color=SOFT)
    _clip(axes, strip)
    _draw_strip(axes, rows, strip)
    return [end for end in ends if end.y > axes.get_ylim()[0] or end.label not in in_strip]


def upward(cells: pd.DataFrame) -> pd.Series:
    """Return the length of each error bar above its point; bars end at 100 %.

    >>> upward(pd.DataFrame({"accuracy": [99.5, 90.0], "accuracy_std": [1.0, 1.0]})).tolist()
    [0.5, 1.0]
    """
    return cells["accuracy_std"].clip(upper=100 - cells["accuracy"])


def lowest_shown(accuracy: Sequence[float], base: float) -> float:
    """Return the lowest accuracy on the axis; points below it have collapsed.

    A collapsed point lost more than ten points and more than four times the median loss.

    >>> lowest_shown([98.0, 97.0, 10.0], base=99.0), lowest_shown([60.0, 40.0], base=99.0)
    (97.0, 40.0)
    """
    median = base - float(np.median(accuracy))
    return min(value for value in accuracy if base - value <= max(_COLLAPSE, 4 * median))


def draw_band(axes: Axes, lines: Sequence[Line], *, log: bool = False) -> Stretch | None:
    """Draw the range of some lines over x as a grey band; return its last connected part.

    The scale and the limits of the x axis are set before.
    """
    forward, back = (np.log2, np.exp2) if log else (np.asarray, np.asarray)
    left, right = forward(axes.get_xlim())
    scaled = [(forward(x), y) for x, y in lines]
    stretches = [
        Stretch(back(x), low, high)
        for x, low, high in envelope(scaled, _SAME_PLACE * (right - left))
    ]
    for x, low, high in stretches:
        if len(x) == 1:
            axes.plot(
                [x[0], x[0]],
                [low[0], high[0]],
                color=REST,
                linewidth=_BAR_WIDTH,
                solid_capstyle="butt" if high[0] > low[0] else "projecting",
                label="_rest",
                zorder=1.2,
            )
        else:
            axes.fill_between(
                x, low, high, facecolor=REST, edgecolor=REST_EDGE, linewidth=0.4, zorder=1.1
            )
    return stretches[-1] if stretches else None


def dodged(axes: Axes, series: Sequence[Series], std: str = "accuracy_std") -> Iterator[Transform]:
    """Yield each series' coordinates; those with error bars are moved sideways."""
    figure = axes.get_figure(root=True)
    assert figure is not None
    barred = [one.label for one in series if one.cells[std].notna().any()]
    for one in series:
        steps = barred.index(one.label) - (len(barred) - 1) / 2 if one.label in barred else 0.0
        yield axes.transData + ScaledTranslation(steps * _APART, 0, figure.dpi_scale_trans)


def draw_line(
    axes: Axes,
    series: Series,
    columns: tuple[str, str],
    bars: tuple[pd.Series, pd.Series],
    shift: Transform,
) -> dict[str, Any]:
    """Draw a series in its method's look; return the properties of its markers.

    `bars` are the lengths of the error bars below and above the points, NaN for none. Variants of
    a method have hollow markers.
    """
    style, (x, y) = look(series.method), columns
    marker: dict[str, Any] = {
        "marker": style.marker,
        "markerfacecolor": style.fill if series.variant == 0 else "white",
    }
    axes.errorbar(
        series.cells[x],
        series.cells[y],
        yerr=None if bars[0].isna().all() else bars,
        color=style.color,
        linestyle=style.line,
        elinewidth=0.8,
        label=series.label,
        zorder=3 if style.group in ("paper", "plug_in") else 2.5,
        transform=shift,
        clip_on=False,
        **marker,
    )
    return marker


def _draw_colored(axes: Axes, panel: Panel) -> Iterator[End]:
    shifts = dodged(axes, panel.colored)
    for one, shift in zip(panel.colored, shifts, strict=True):
        bars = (one.cells["accuracy_std"], upward(one.cells))
        marker = draw_line(axes, one, (panel.x, "accuracy"), bars, shift)
        visible = one.cells[one.cells["accuracy"] >= panel.floor]
        last = (visible if len(visible) else one.cells).iloc[-1]
        height = max(float(last["accuracy"]), axes.get_ylim()[0])
        color = look(one.method).color
        yield End(one.label, color, float(last[panel.x]), height, marker, shift)


def _draw_rest(axes: Axes, panel: Panel) -> Iterator[End]:
    columns = [panel.x, "accuracy"]
    lines = [one.cells[columns].to_numpy(dtype=float).T for one in panel.rest]
    last = draw_band(axes, [(x, y) for x, y in lines], log=True)
    if last is not None:
        low, high = axes.get_ylim()
        middle = float(np.clip([last.low[-1], last.high[-1]], low, high).mean())
        yield End(others(panel.colored, panel.rest), SOFT, float(last.x[-1]), middle)


def _draw_front(axes: Axes, panel: Panel) -> Iterator[End]:
    """Draw the Pareto front as steps, and its interval as a band, if there are several cells."""
    start = axes.get_xlim()[0]
    front = pareto_front(panel.cells, panel.x, start)
    if len(panel.cells) < 2 or front.empty:
        return
    edges = [start, *front["until"]]
    is_shaded = bool(front["low"].notna().any())
    if is_shaded:
        axes.stairs(
            front["high"],
            edges,
            baseline=front["low"].to_numpy(),
            fill=True,
            color=_FRONT_BAND,
            label="_interval",
            zorder=1.3,
        )
    axes.stairs(
        front["accuracy"], edges, baseline=None, color=_FRONT, lw=0.7, label="_front", zorder=2.2
    )
    widths = np.diff(np.log2(edges))
    widest = int(np.argmax(np.where(front["accuracy"] >= panel.floor, widths, -1.0)))
    label = "Pareto front, 95 %" if is_shaded else "Pareto front"
    height = max(float(front["accuracy"].iloc[widest]), axes.get_ylim()[0])
    yield End(label, _FRONT, float(edges[widest + 1]), height)


def _accuracy_axis(axes: Axes, panel: Panel, strip: float) -> None:
    """Fit the limits to the points that have not collapsed, below 100 %, and to the strip."""
    shown = panel.cells[panel.cells["accuracy"] >= panel.floor]
    ends = [panel.base, *(shown["accuracy"] - shown["accuracy_std"].fillna(0))]
    ends += [*(shown["accuracy"] + upward(shown).fillna(0))]
    ends += [value for value in panel.also_shown if value >= panel.floor]
    low, high = min(ends), max(ends)
    pad = max(0.08 * (high - low), 0.1)
    low, high = max(low - pad, 0.0), min(max(high + pad, panel.base + 2 * pad), 100.0)
    axes.set_ylim(low - (high - low) * strip / (1 - strip), high)
    ticks = MaxNLocator(6, steps=[1, 2, 5, 10]).tick_values(low, high)
    axes.yaxis.set_major_locator(FixedLocator([tick for tick in ticks if low <= tick <= high]))
    if strip:
        axes.axhspan(low, axes.get_ylim()[0], color=BAND, linewidth=0, zorder=1.5)


def _clip(axes: Axes, strip: float) -> None:
    """Let no line cross the words of the strip; markers at the other edges stay whole."""
    bottom = strip or -0.1
    above = Rectangle((-0.1, bottom), 1.2, 1.1 - bottom, transform=axes.transAxes)
    drawn = [part for bars in axes.containers for part in bars.get_children()]
    drawn += [*axes.collections, *axes.lines]
    drawn += [patch for patch in axes.patches if patch.get_label() in ("_front", "_interval")]
    for artist in drawn:
        artist.set_clip_on(True)
        artist.set_clip_path(above)


class _Row(NamedTuple):
    """A row of the strip."""

    label: str
    words: str
    color: str
    x: float  # the largest speedup of its points


def _strip_rows(panel: Panel) -> list[_Row]:
    """Return a row for each series with collapsed points, or one row if there are many."""
    below = [
        (one.label, look(one.method).color, points)
        for one in panel.colored
        if len(points := one.cells[one.cells["accuracy"] < panel.floor])
    ]
    rest = [
        points
        for one in panel.rest
        if len(points := one.cells[one.cells["accuracy"] < panel.floor])
    ]
    if rest:
        below.append((f"{len(rest)} of the other lines", SOFT, pd.concat(rest)))
    if len(below) > _MOST_STRIP_ROWS:
        count = len(below) - bool(rest) + len(rest)
        below = [(f"{count} lines", INK, pd.concat([points for *_, points in below]))]
    rows = []
    for label, color, points in below:
        low, high = (f"{end:.1f}" for end in (points["accuracy"].min(), points["accuracy"].max()))
        values = low if low == high else f"{low}–{high}"
        rows.append(_Row(label, f"{label} {values} ↓", color, float(points[panel.x].max())))
    return rows


def _draw_strip(axes: Axes, rows: Sequence[_Row], strip: float) -> None:
    """Write each row at the place of its speedup, on the side where there is room."""
    for i, row in enumerate(rows):
        height = strip - _STRIP_ROW * (i + 0.5)
        place = axes.transAxes.inverted().transform(axes.transData.transform((row.x, 0)))[0]
        axes.annotate(
            row.words,
            (row.x, height),
            xycoords=axes.get_xaxis_transform(),
            xytext=(3, 0),
            textcoords="offset points",
            ha="right" if place > 0.5 else "left",
            va="center",
            color=row.color,
            zorder=4,
        )
