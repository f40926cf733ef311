"""Cells grouped by method: as a series over ratios, or one cell of each at a common ratio."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeVar

import numpy as np
import pandas as pd

from prunebench.experiments.spec import ratio_slug
from prunebench.report.looks import GROUPS, MOST_IN_COLOR, highlights, look
from prunebench.report.runs_csv import CELL, NETWORK, UNPRUNED, networks
from prunebench.report.seed_statistics import averages


def per_network(frame: pd.DataFrame) -> list[tuple[str, pd.DataFrame, pd.DataFrame]]:
    """Return the title, the runs and the summary's cells of each network."""
    summary = averages(frame)
    return [
        (
            f"{architecture} · {dataset}",
            runs,
            summary[(summary[NETWORK] == [dataset, architecture]).all(axis=1)],
        )
        for (dataset, architecture), runs in networks(frame)
    ]


def base_accuracy(runs: pd.DataFrame, column: str = "base_accuracy") -> float:
    """Return the base networks' mean accuracy over seeds."""
    return float(runs.drop_duplicates("seed")[column].mean())


@dataclass(frozen=True)
class Series:
    """The cells of one method with one setting on one network, by ascending speedup.

    A method without a ratio (`auto`) forms one series over its settings. `cells` has a column
    `speedup` in multiply-accumulates; it counts pruned weights that stay as zeros as saved, and
    the label of such a series ends in "(zeros)".
    """

    method: str
    label: str
    variant: int  # 0 for the first series of its method, then 1, ...
    cells: pd.DataFrame


def series_of(cells: pd.DataFrame) -> list[Series]:
    """Return the series of one network's cells, in the order of legends."""
    pruned = with_speedup(cells[cells["method"] != UNPRUNED])
    setting = pruned["setting"].mask(pruned["ratio"].isna(), "")
    found: list[Series] = []
    for (method, name, kind), rows in pruned.groupby(["method", setting, "ratio_kind"], sort=False):
        own = (pruned["method"] == method) & (setting == name)
        words = [str(method)]
        if name not in ("", "default"):
            words.append(str(name))
        if kind != "auto" and pruned.loc[own, "ratio_kind"].nunique() > 1:
            words.append(f"({kind})")
        if (rows["speedup"] > _ZEROS_FROM * rows["speedup_macs"]).any():
            words.append("(zeros)")
        variant = sum(other.method == method for other in found)
        by_speedup = rows.sort_values("speedup", kind="stable")
        found.append(Series(str(method), " ".join(words), variant, by_speedup))
    return sorted(found, key=lambda series: GROUPS.index(look(series.method).group))


_ZEROS_FROM = 1.01  # speedup with zeros over the speedup without, from which a label says so


def with_speedup(cells: pd.DataFrame) -> pd.DataFrame:
    """Add the column `speedup`, the larger of the physical and the theoretical speedup."""
    names = [name for name in ("speedup_macs", "speedup_theoretical") if name in cells]
    return cells.assign(speedup=cells[names].max(axis=1))


@dataclass(frozen=True)
class Pick:
    """One cell of a series."""

    method: str
    label: str
    variant: int  # of its series
    cell: pd.Series

    def runs(self, frame: pd.DataFrame) -> pd.DataFrame:
        """Return the cell's runs, one per seed."""
        same = [
            frame[name].isna() if pd.isna(self.cell[name]) else frame[name] == self.cell[name]
            for name in CELL
        ]
        return frame[np.logical_and.reduce(same)]


D = TypeVar("D", Series, Pick)


def in_color(series: Sequence[D], chosen: Sequence[str] = ()) -> tuple[list[D], list[D]]:
    """Split the series or picks of a network into at most eight to draw in color, and the rest.

    The methods in color are `chosen`, or by default `highlights`. Every method's first series comes
    before the second series of any. Both parts keep the order of the series.
    """
    ranks = {name: i for i, name in enumerate(chosen or highlights(one.method for one in series))}
    candidates = [i for i, one in enumerate(series) if one.method in ranks]
    candidates.sort(key=lambda i: (series[i].variant, ranks[series[i].method]))
    colored = set(candidates[:MOST_IN_COLOR])
    parts: tuple[list[D], list[D]] = ([], [])
    for i, one in enumerate(series):
        parts[i not in colored].append(one)
    return parts


def others(colored: Sequence[D], rest: Sequence[D]) -> str:
    """Return how many methods, or lines of methods with several, are not in color."""
    methods = {one.method for one in rest}
    is_whole = len(methods) == len(rest) and not methods & {one.method for one in colored}
    word = "method" if is_whole else "line"
    return f"{len(rest)} other {word}{'s' if len(rest) > 1 else ''}"


def at_one_ratio(cells: pd.DataFrame) -> tuple[str, list[Pick]]:
    """Pick one cell from each series of a network; return the ratio in words, and the picks.

    It is the ratio that most series have, the middle one if there are several. From a series
    without it, the cell with the nearest speedup is picked.
    """
    series = series_of(cells)
    if not series:
        return "nothing pruned", []
    pruned = pd.concat([one.cells for one in series])
    ratios = pruned.dropna(subset="ratio").groupby(["ratio_kind", "ratio"]).size()
    if ratios.empty:
        kind, ratio, there = None, None, pruned
        words = f"near {pruned['speedup'].median():.1f}× fewer MACs"
    else:
        common = ratios.index[ratios == ratios.max()]
        kind, ratio = common[(len(common) - 1) // 2]
        there = pruned[(pruned["ratio_kind"] == kind) & (pruned["ratio"] == ratio)]
        words = f"ratio {ratio_slug(ratio, kind)}"
    target = there["speedup"].median()
    picks = []
    nearest = False
    for one in series:
        exact = one.cells[(one.cells["ratio_kind"] == kind) & (one.cells["ratio"] == ratio)]
        if exact.empty:
            distance = np.log(one.cells["speedup"] / target).abs()
            cell = one.cells.loc[distance.idxmin()]
            nearest = nearest or ratio is not None
        else:
            cell = exact.iloc[0]
        picks.append(Pick(one.method, _picked_label(one, cell), one.variant, cell))
    return words + (" or the nearest in MACs" if nearest else ""), picks


def _picked_label(series: Series, cell: pd.Series) -> str:
    if pd.isna(cell["ratio"]) and cell["setting"] != "default":
        return f"{series.label} {cell['setting']}"
    return series.label
