"""Figure: the MACs that EPruner keeps against its beta, beside the printed ones."""

from __future__ import annotations

import math
import re
from pathlib import Path

import pandas as pd
from matplotlib.artist import Artist
from matplotlib.figure import Figure

from prunebench.papers.published import read_published
from prunebench.report.figures.figure_options import COLUMN_WIDTH, PAGE, Options
from prunebench.report.figures.style import (
    INK,
    legend_below,
    new_figure,
    save,
    styled,
)
from prunebench.report.looks import look
from prunebench.report.runs_csv import networks, read_runs

NAME, METHOD = "macs_of_beta", "epruner"
_SETTING = re.compile(r"beta([\d.]+)_init_centroids")
_FEWEST = 3  # values of beta that make a curve
_ROW_HEIGHT, _HEAD_HEIGHT = 55.0, 14.0  # mm
_ALL = "all filters"
_NONZERO = "without filters of negligible norm"
_PRINTED = "printed, another base network"


def write_macs_of_beta(runs_csv: Path, out: Path, options: Options = PAGE) -> list[Path]:
    """Write macs_of_beta.svg, .png and .pdf if the runs try beta; return their paths."""
    curves = beta_runs(read_runs(runs_csv))
    return [] if curves.empty else save(macs_of_beta(curves, options), out / NAME)


def beta_runs(frame: pd.DataFrame) -> pd.DataFrame:
    """Return EPruner's runs without a target on networks that were pruned with several betas."""
    if "beta" not in frame:
        return frame.iloc[:0]
    runs = frame[(frame["method"] == METHOD) & frame["ratio"].isna() & frame["beta"].notna()]
    if "filters_negligible" not in runs:
        runs = runs.assign(filters_negligible=math.nan)
    tried = runs.groupby(["dataset", "architecture"])["beta"].transform("nunique")
    return runs[tried >= _FEWEST]


def printed_points(dataset: str, architecture: str) -> list[tuple[float, float]]:
    """Return beta and the percentage of MACs kept of each printed row of a network."""
    found = []
    for row in read_published():
        match = _SETTING.fullmatch(row.setting)
        own = (row.method, row.dataset, row.architecture) == (METHOD, dataset, architecture)
        if own and match and row.flops_reduction_pct is not None:
            found.append((float(match[1]), 100 - float(row.flops_reduction_pct)))
    return found


@styled
def macs_of_beta(runs: pd.DataFrame, options: Options = PAGE) -> Figure:
    """Draw the share of the MACs that is kept over beta, a panel per network.

    `runs` are those of `beta_runs`. Runs that remove filters of negligible norm first have a line
    of their own. Crosses are printed for networks of that name, with base networks of their own.
    """
    panels = networks(runs)
    columns = options.columns(len(panels), most=2)
    rows = math.ceil(len(panels) / columns)
    height = rows * _ROW_HEIGHT + _HEAD_HEIGHT
    figure = new_figure(columns * COLUMN_WIDTH, height, "MACs kept vs. EPruner's beta")
    grid = figure.subplots(rows, columns, squeeze=False, sharex=True, sharey=True)
    artists: dict[str, Artist] = {}
    for axes, ((dataset, architecture), own) in zip(grid.flat, panels, strict=False):
        is_plain = own["filters_negligible"].isna()
        for label, some, fill in ((_ALL, own[is_plain], None), (_NONZERO, own[~is_plain], "white")):
            kept = (100 * some["macs"] / some["base_macs"]).groupby(some["beta"]).mean()
            if len(kept):
                (artists[label],) = axes.plot(
                    kept.index,
                    kept,
                    color=look(METHOD).color,
                    marker=look(METHOD).marker,
                    markerfacecolor=fill or look(METHOD).color,
                    linestyle="--" if fill else "-",
                )
        points = printed_points(dataset, architecture)
        if points:
            (artists[_PRINTED],) = axes.plot(
                *zip(*points, strict=True), color=INK, marker="x", linestyle="", markersize=6
            )
        axes.set_title(f"{architecture} · {dataset}", loc="left")
        axes.set_ylim(0, 100)
    for axes in grid.flat[len(panels) :]:
        axes.set_visible(False)
    for axes in grid[-1]:
        axes.set_xlabel("beta")
    for row in grid:
        row[0].set_ylabel("MACs kept (%)")
    legend_below(figure, artists)
    return figure
