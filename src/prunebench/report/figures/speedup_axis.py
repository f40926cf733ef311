"""Axes of speedups: logarithmic, and never below what exists."""

from __future__ import annotations

import math
from collections.abc import Iterable

from matplotlib.axes import Axes
from matplotlib.axis import Axis
from matplotlib.ticker import FixedLocator, FuncFormatter, MaxNLocator, NullLocator

_ROOM = 1.06  # of the largest speedup, beyond it
_OCTAVES = 3.0  # ratio of the limits from which ticks are powers of two
_MOST_TICKS = 8


def logarithmic_speedups(
    axes: Axes, values: Iterable[float], label: str | None = None, *, which: str = "x"
) -> None:
    """Set a logarithmic axis from the smallest speedup, at most 1, to beyond the largest one.

    It has a tick at each power of two, or of four, ... if it is long, or at round numbers if it is
    short.
    """
    values = [1.0, *values]
    low, high = min(values), max(values) * _ROOM
    axis = axes.xaxis if which == "x" else axes.yaxis
    if which == "x":
        axes.set_xscale("log")
        axes.set_xlim(low, high)
    else:
        axes.set_yscale("log")
        axes.set_ylim(low, high)
    _set_ticks(axis, low, high)
    if label is not None:
        axis.set_label_text(label)


def _set_ticks(axis: Axis, low: float, high: float) -> None:
    if high / low < _OCTAVES:
        ticks = [float(tick) for tick in MaxNLocator(5, steps=[1, 2, 5, 10]).tick_values(low, high)]
    else:
        first, last = math.ceil(math.log2(low)), math.floor(math.log2(high))
        step = math.ceil((last - first + 1) / _MOST_TICKS)
        ticks = [2.0**i for i in range(first, last + 1) if i % step == 0]
    axis.set_major_locator(FixedLocator([tick for tick in ticks if low <= tick <= high]))
    axis.set_minor_locator(NullLocator())
    axis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:.4g}"))
