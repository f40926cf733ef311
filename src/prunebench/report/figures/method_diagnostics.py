"""Figure: the diagnostics that methods log while they prune, at one ratio."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import pandas as pd
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.figure import Figure, SubFigure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch
from matplotlib.ticker import FuncFormatter, MaxNLocator, NullFormatter

from prunebench.report.figures.figure_options import PAGE, Options
from prunebench.report.figures.style import (
    BAND,
    SOFT,
    legend_below,
    new_figure,
    part_title,
    styled,
    wrapped,
)
from prunebench.report.looks import look
from prunebench.report.runs_csv import json_cells
from prunebench.report.series import Pick, at_one_ratio, in_color, per_network

_ROW_HEIGHT = 33.0  # mm
_HEAD_HEIGHT = 8.0
_COLUMNS = 4
_FACTOR_OF_A_LOG_AXIS = 50  # largest over smallest value


@dataclass(frozen=True)
class _Panel:
    """One quantity of one method."""

    pick: Pick
    quantity: str
    lists: Mapping[str, Sequence[Any]]


@styled
def method_diagnostics(frame: pd.DataFrame, options: Options = PAGE) -> Figure:
    """Draw the logged quantities of the first network and seed, a panel each.

    A quantity logged over time is drawn as the layers' median, with a band from the smallest to
    the largest layer; a quantity logged once is drawn over the layers in network order. An axis
    is logarithmic if its values span a factor of more than 50. Constant quantities are omitted.
    With more than eight series, only those that other figures draw in color are shown.
    """
    name, runs, cells = per_network(frame)[0]
    words, picks = at_one_ratio(cells)
    logged = {pick.label: _panels(pick, runs) for pick in picks}
    colored, _ = in_color([pick for pick in picks if logged[pick.label]], options.highlight)
    panels = [panel for pick in colored for panel in logged[pick.label]]
    columns = options.columns(len(panels), most=_COLUMNS)
    rows = max(1, math.ceil(len(panels) / columns))
    height = rows * _ROW_HEIGHT + 2 * _HEAD_HEIGHT + 6
    figure = new_figure(options.width, height, "Method diagnostics")
    part = figure.subfigures(1, 1, squeeze=False)[0, 0]
    seeds = runs["seed"].unique()
    of_many = f"seed {seeds[0]} only" if len(seeds) > 1 else ""
    title = " · ".join(filter(None, [name, words, of_many]))
    part_title(part, wrapped(title, options.width))
    _draw(part, panels, (rows, columns))
    legend_below(figure, _legend(panels))
    return figure


def _panels(pick: Pick, runs: pd.DataFrame) -> list[_Panel]:
    diagnostics = json_cells(pick.runs(runs).head(1), "insides")[0] or {}
    panels = [_Panel(pick, quantity, lists) for quantity, lists in diagnostics.items()]
    return [panel for panel in panels if len(set(_values(panel))) > 1]


def _values(panel: _Panel) -> list[float]:
    lists = panel.lists
    return [*lists["low"], *lists["high"]] if "step" in lists else list(lists["value"])


def _draw(figure: SubFigure, panels: Sequence[_Panel], shape: tuple[int, int]) -> None:
    grid = figure.subplots(*shape, squeeze=False)
    for axes in grid.flat[max(1, len(panels)) :]:
        axes.set_visible(False)
    if not panels:
        grid[0, 0].set_axis_off()
        grid[0, 0].text(0, 0.5, "no method logged anything", ha="left", color=SOFT)
    for axes, panel in zip(grid.flat, panels, strict=False):
        _panel(axes, panel)


def _panel(axes: Axes, panel: _Panel) -> None:
    color, lists = look(panel.pick.method).color, panel.lists
    if "step" in lists:
        axes.fill_between(lists["step"], lists["low"], lists["high"], color=color, alpha=0.18, lw=0)
        axes.plot(lists["step"], lists["middle"], color=color)
        axes.set_xlabel("Optimizer steps")
    else:
        values = lists["value"]
        axes.bar(range(1, len(values) + 1), values, color=color, width=0.8)
        axes.set_xlabel("Layer")
        axes.xaxis.set_major_locator(MaxNLocator(4, integer=True))
    values = _values(panel)
    if min(values) > 0 and max(values) > _FACTOR_OF_A_LOG_AXIS * min(values):
        axes.set_yscale("log")
        axes.yaxis.set_major_formatter(FuncFormatter(lambda y, _: f"{y:g}"))
        axes.yaxis.set_minor_formatter(NullFormatter())
    axes.set_title(panel.pick.label, loc="left", pad=14)
    axes.annotate(
        panel.quantity.replace("_", " "),
        (0, 1),
        xycoords="axes fraction",
        xytext=(0, 3.5),
        textcoords="offset points",
        color=SOFT,
    )


def _legend(panels: Sequence[_Panel]) -> dict[str, Artist]:
    if not any("step" in panel.lists for panel in panels):
        return {}
    return {
        "median over layers": Line2D([], [], color=SOFT),
        "smallest to largest layer": Patch(color=BAND, ec=SOFT, lw=0.4),
    }
