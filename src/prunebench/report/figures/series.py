"""The cells of a summary as figures need them: as lines over ratios, or at one ratio."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd

from prunebench.experiments.spec import ratio_slug
from prunebench.report.figures.style import GROUPS, look
from prunebench.report.runs_csv import CELL, NETWORK, networks
from prunebench.report.summary import UNPRUNED, summarize


def per_network(frame: pd.DataFrame) -> list[tuple[str, pd.DataFrame, pd.DataFrame]]:
    """Return title, runs and the summary's cells of each network."""
    summary = summarize(frame)
    return [
        (
            f"{architecture} · {dataset}",
            runs,
            summary[(summary[NETWORK] == [dataset, architecture]).all(axis=1)],
        )
        for (dataset, architecture), runs in networks(frame)
    ]


def base_accuracy(runs: pd.DataFrame, column: str = "base_top1") -> float:
    """Return the mean over seeds of the base networks' accuracy."""
    return float(runs.drop_duplicates("seed")[column].mean())


@dataclass(frozen=True)
class Series:
    """What one method does on one network with one setting, by rising speedup.

    A method that decides by a knob of its own has no ratio; its settings are the points of one
    series. `cells` has a column `speedup`, in multiply-accumulates: zeros that a method leaves in
    place count as saved there, and its label says so.
    """

    method: str
    label: str
    variant: int  # 0 for the first series of its method, then 1, ...
    cells: pd.DataFrame


def series_of(cells: pd.DataFrame) -> list[Series]:
    """Return the series among the summary's cells of one network, in the order of legends."""
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


_ZEROS_FROM = 1.01  # times the speedup by what was removed: from there zeros are worth a word


def with_speedup(cells: pd.DataFrame) -> pd.DataFrame:
    """Return cells with the column `speedup`, the larger of both speedups."""
    names = [name for name in ("speedup_macs", "speedup_theoretical") if name in cells]
    return cells.assign(speedup=cells[names].max(axis=1))


@dataclass(frozen=True)
class Pick:
    """One cell of a series."""

    method: str
    label: str
    cell: pd.Series

    def runs(self, frame: pd.DataFrame) -> pd.DataFrame:
        """Return the cell's runs, one per seed."""
        same = [
            frame[name].isna() if pd.isna(self.cell[name]) else frame[name] == self.cell[name]
            for name in CELL
        ]
        return frame[np.logical_and.reduce(same)]


def at_one_ratio(cells: pd.DataFrame) -> tuple[str, list[Pick]]:
    """Pick one cell from each series of a network, and say in words at which ratio.

    It is the ratio that most series have, the middle one of several. A series without it gives
    the cell whose speedup is nearest to the others'.
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
        picks.append(Pick(one.method, _picked_label(one, cell), cell))
    return words + (" or the nearest in MACs" if nearest else ""), picks


def _picked_label(series: Series, cell: pd.Series) -> str:
    if pd.isna(cell["ratio"]) and cell["setting"] != "default":
        return f"{series.label} {cell['setting']}"
    return series.label
