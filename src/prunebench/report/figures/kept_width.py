"""Figure: the share of each layer's units that a method keeps, at one ratio."""

from __future__ import annotations

import itertools
import math
import textwrap
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure, SubFigure

from prunebench.core.errors import ResultError
from prunebench.report.figures.figure_options import PAGE, Options
from prunebench.report.figures.style import (
    BAND,
    LETTER,
    LINE_HEIGHT,
    SOFT,
    new_figure,
    part_title,
    styled,
    wrapped,
)
from prunebench.report.looks import look
from prunebench.report.runs_csv import json_cells
from prunebench.report.series import Pick, at_one_ratio, in_color, others, per_network

_ROW_HEIGHT = 29.0  # mm
_HEAD_HEIGHT = 14.0
_SHARED_COLOR = SOFT


@dataclass(frozen=True)
class Profile:
    """The widths of one network, one entry per layer in network order."""

    labels: tuple[str, ...]  # of all series with these widths
    color: str
    kept_pct: tuple[float, ...]  # mean over seeds
    std_pct: tuple[float, ...]  # NaN for one seed
    full: tuple[int, ...]
    stages: tuple[int | None, ...]


@styled
def kept_width(frame: pd.DataFrame, options: Options = PAGE) -> Figure:
    """Draw kept units in percent (mean ± sample deviation over seeds) as bars over the layers.

    Series with the same widths share one panel. With more than eight series, only panels of those
    that other figures draw in color are shown.
    """
    parts = []
    for name, runs, cells in per_network(frame):
        words, picks = at_one_ratio(cells)
        colored, rest = in_color(picks, options.highlight)
        profiles = merge([read_profile(pick, pick.runs(runs)) for pick in picks])
        labels = {pick.label for pick in colored}
        shown = [one for one in profiles if labels & set(one.labels)]
        missing = [pick for pick in rest if not any(pick.label in one.labels for one in shown)]
        left_out = f"{others(colored, missing)} not shown" if missing else ""
        title = " · ".join(filter(None, [name, words, left_out]))
        parts.append((wrapped(title, options.width), shown))
    columns = columns_for([profiles for _, profiles in parts], options)
    rows = [max(1, math.ceil(len(profiles) / columns)) for _, profiles in parts]
    heights = [
        n * _ROW_HEIGHT + _HEAD_HEIGHT + title.count("\n") * LINE_HEIGHT
        for n, (title, _) in zip(rows, parts, strict=True)
    ]
    figure = new_figure(options.width, sum(heights) + 8, "Kept width per layer")
    subfigures = figure.subfigures(len(parts), 1, squeeze=False, height_ratios=heights)
    for subfigure, (title, profiles), n in zip(subfigures.flat, parts, rows, strict=True):
        part_title(subfigure, title)
        _draw(subfigure, profiles, n, columns, options)
    return figure


def read_profile(pick: Pick, runs: pd.DataFrame) -> Profile:
    """Return the widths of a cell's runs; ResultError if their layers differ."""
    widths = [cell or {} for cell in json_cells(runs, "widths")]
    stages = json_cells(runs, "stages")[0] or []
    if any(list(run) != list(widths[0]) or len(run) != len(stages) for run in widths):
        raise ResultError(f"runs.csv: the runs of {pick.label} list different layers")
    kept = np.array([[100 * kept / full for kept, full in run.values()] for run in widths])
    spread = kept.std(axis=0, ddof=1) if len(kept) > 1 else np.full(kept.shape[1], np.nan)
    return Profile(
        (pick.label,),
        look(pick.method).color,
        tuple(kept.mean(axis=0).tolist()),
        tuple(spread.tolist()),
        tuple(full for _, full in widths[0].values()),
        tuple(stages),
    )


def merge(profiles: Sequence[Profile]) -> list[Profile]:
    """Join profiles with equal widths, in order of first appearance; joined ones are grey."""
    merged: dict[tuple[float, ...], Profile] = {}
    for profile in profiles:
        known = merged.get(profile.kept_pct)
        merged[profile.kept_pct] = (
            profile
            if known is None
            else replace(known, labels=known.labels + profile.labels, color=_SHARED_COLOR)
        )
    return list(merged.values())


def columns_for(parts: Sequence[Sequence[Profile]], options: Options) -> int:
    """Return the number of panels side by side: up to 4, fewer for networks with many layers."""
    panels = max((len(profiles) for profiles in parts), default=1)
    layers = max((len(one.full) for profiles in parts for one in profiles), default=1)
    return options.columns(panels, most=4 if layers <= 40 else 2 if layers <= 100 else 1)


def _draw(
    figure: SubFigure, profiles: Sequence[Profile], rows: int, columns: int, options: Options
) -> None:
    grid = figure.subplots(rows, columns, squeeze=False, sharey=True)
    for axes in grid.flat[max(1, len(profiles)) :]:
        axes.set_visible(False)
    if not profiles:
        grid[0, 0].text(0.5, 0.5, "no pruned run", transform=grid[0, 0].transAxes, ha="center")
    for axes, profile in zip(grid.flat, profiles, strict=False):
        _panel(axes, profile, int(options.width / LETTER / columns))
    figure.supylabel("Kept units (%)")
    figure.supxlabel("Layers in network order (numbers: full widths)")


def _panel(axes: Axes, profile: Profile, letters: int) -> None:
    """Draw a panel with room for so many letters."""
    layers = range(len(profile.full))
    spread = None if np.nan_to_num(profile.std_pct).max() == 0 else profile.std_pct
    axes.bar(
        layers,
        profile.kept_pct,
        width=0.8,
        color=profile.color,
        yerr=spread,
        error_kw={"elinewidth": 0.6, "ecolor": SOFT},
        label=", ".join(profile.labels),
    )
    axes.set_title(short_title(profile.labels, letters), loc="left")
    axes.set_ylim(0, 100)
    axes.set_yticks([0, 50, 100])
    axes.set_xlim(-0.6, len(profile.full) - 0.4)
    axes.grid(axis="x", visible=False)
    _shade_stages(axes, profile, letters / len(profile.full))


def short_title(labels: Sequence[str], letters: int) -> str:
    """Join labels in two lines of about so many letters, ending in "and n more" if needed.

    >>> short_title(["l1", "greg_1", "srfp", "asrfp", "increg"], 12).splitlines()
    ['l1, greg_1', 'and 3 more']
    """
    lines = textwrap.wrap(", ".join(labels), letters)
    if len(lines) <= 2:
        return "\n".join(lines)
    shown = lines[0].rstrip(",")
    return f"{shown}\nand {len(labels) - shown.count(',') - 1} more"


def _shade_stages(axes: Axes, profile: Profile, letters: float) -> None:
    """Shade every second stage and label each stage with its full widths.

    `letters` is the room per layer, in letters; a label that would touch the previous one is
    omitted.
    """
    ticks, texts = [], []
    end, free = 0, -math.inf
    for i, (_, stretch) in enumerate(itertools.groupby(profile.stages)):
        start, end = end, end + len(list(stretch))
        widths = profile.full[start:end]
        if i % 2:
            axes.axvspan(start - 0.5, end - 0.5, color=BAND, linewidth=0, zorder=0)
        low, high = min(widths), max(widths)
        text = f"{low}" if low == high else f"{low}–{high}"
        tick, half = (start + end - 1) / 2, (len(text) + 1) / letters / 2
        if tick - half >= free:
            ticks.append(tick)
            texts.append(text)
            free = tick + half
    axes.set_xticks(ticks, texts)
    axes.tick_params(axis="x", length=0)
