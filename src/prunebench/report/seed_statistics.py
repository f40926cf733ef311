"""Statistics over the seeds of each cell, in the order of tables.

They are the mean and the sample standard deviation of each quantity, the difference in accuracy to
a reference method, paired by seed, and the groups of methods that cannot be told apart.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from itertools import combinations
from typing import Any

import numpy as np
import pandas as pd

from prunebench.core.errors import ResultError
from prunebench.report.origins import reused_rows
from prunebench.report.other_code import by_other_code
from prunebench.report.recipe_cross import (
    DEPENDS,
    changed_signs,
    changed_winners,
    crossed_cells,
    second_recipes,
)
from prunebench.report.runs_csv import (
    CELL,
    NETWORK,
    UNPRUNED,
    is_speedup,
    metric_of,
    require,
    timed,
)
from prunebench.report.significance import (
    FEWEST_PAIRS,
    SIGNIFICANCE,
    Floats,
    holm,
    letters,
    margin,
    p_value,
    paired_p,
    standard_error,
    verdict,
)

_NEEDED = ("base_accuracy", "accuracy", "drop", "speedup_macs", "params_reduction_pct")
# of networks that keep pruned weights as zeros
_MASKED = ("accuracy_masked", "speedup_theoretical", "sparsity_pct")
_AFTER_LATENCY = ("selection_seconds", "magnitude_ratio")

REFERENCE = "l1"  # method to which differences are paired
DIFFERENCE = ("difference", "difference_low", "difference_high")
VERDICT = ("p_holm", "verdict")
GROUP = "group"


def quantities(frame: pd.DataFrame) -> list[str]:
    """Return the columns to average over seeds, as far as the frame has them."""
    latencies = [name for name in frame.columns if is_speedup(str(name))]
    names = [*_NEEDED, *metric_of(frame).parts, *_MASKED, *latencies, *_AFTER_LATENCY]
    return [name for name in names if name in frame.columns]


def averages(frame: pd.DataFrame, more: Sequence[str] = ()) -> pd.DataFrame:
    """Return a row per cell: n, and the mean and sample deviation of each quantity.

    The quantities are those of tables, and the columns `more`.

    The deviation is the column `<quantity>_std` and NaN for n = 1. A speedup in latency that is
    unstable in one of the runs has no mean and no deviation, only a range over all of them, in the
    columns of `runs_csv.stability_columns`. Networks keep the frame's order.
    The unpruned network comes first, then ascending ratios, each with its methods in the frame's
    order, and last the cells without a ratio. The column `code` marks cells with a run that other
    code has made, and `reused` is the number of reused runs, if there are any.
    """
    names = [*quantities(frame), *more]
    require(frame, [*CELL, *_NEEDED, "seed"])
    groups = frame.groupby(CELL, sort=False, dropna=False)
    columns: dict[str, pd.Series] = {"n": groups["seed"].nunique()}
    for name in names:
        columns[name] = groups[name].mean()
        columns[f"{name}_std"] = groups[name].std(ddof=1)
        if is_speedup(name):
            columns |= _stability(groups, name, columns)
    summary = pd.DataFrame(columns)
    if len(by_other_code(frame)):
        summary["code"] = groups["code"].first().fillna("")
    if len(reused_rows(frame)):
        summary["reused"] = groups["reused"].count()
    return _in_reading_order(summary.reset_index())


def summarize(frame: pd.DataFrame, reference: str | None = None) -> pd.DataFrame:
    """Return the averages of each cell, compared with each other and with a reference.

    The columns of `differences` are there if a cell has a difference to `REFERENCE` or to
    `reference`, and the column `GROUP` if two cells have enough common seeds.
    """
    summary = averages(frame)
    if len(found := differences(frame, reference)):
        summary = summary.join(found, on=CELL)
    if len(letters_of := groups_of_cells(frame)):
        summary = summary.join(letters_of.rename(GROUP), on=CELL)
    words = summary.columns.intersection([GROUP, *map(_verdict_of, references(reference))])
    summary[words] = summary[words].fillna("")
    crossed = crossed_cells(frame)
    return summary if crossed.empty else _with_changes(summary, crossed)


def _with_changes(summary: pd.DataFrame, crossed: pd.DataFrame) -> pd.DataFrame:
    """Mark the verdicts and letters that depend on the recipe."""
    for name in references_in(summary.columns):
        difference, verdicts = columns_to(name, DIFFERENCE)[0], _verdict_of(name)
        changed = changed_signs(summary, crossed, difference)
        if changed.any():
            before = summary.get(verdicts, "")
            summary[verdicts] = np.where(changed, DEPENDS, before)
    wins, beside = changed_winners(summary, crossed)
    if wins.any():
        before = summary.get(GROUP, "")
        summary[GROUP] = np.where(wins, DEPENDS, np.where(beside, "", before))
    return summary


def _stability(groups: Any, speedup: str, columns: Mapping[str, pd.Series]) -> dict[str, pd.Series]:
    """Return range and instability of a speedup by cell, and its mean and deviation where stable.

    Cells of unknown stability count as stable. Columns that the runs lack are left out.
    """
    names = [name for name in timed(speedup).stability if name in groups.obj]
    over_seeds = dict(zip(timed(speedup).stability, ("min", "max", "max"), strict=True))
    found = {name: groups[name].agg(over_seeds[name]) for name in names}
    unstable = found.get(timed(speedup).stability[2])
    if unstable is None:
        return found
    own = (speedup, f"{speedup}_std")
    return {name: columns[name].mask(unstable == 1) for name in own} | found


def references(other: str | None) -> list[str]:
    """Return the methods to which differences are formed.

    >>> references(None), references("greg_1")
    (['l1'], ['l1', 'greg_1'])
    """
    return [REFERENCE] if other in (None, REFERENCE) else [REFERENCE, str(other)]


def columns_to(reference: str, names: Sequence[str]) -> list[str]:
    """Return the columns about the difference to a method; those of `REFERENCE` are plain.

    >>> columns_to("greg_1", DIFFERENCE[:2])
    ['difference_to_greg_1', 'difference_low_to_greg_1']
    """
    return list(names) if reference == REFERENCE else [f"{name}_to_{reference}" for name in names]


def references_in(columns: Iterable[str]) -> list[str]:
    """Return the methods to which there are differences, by the columns of a summary or a table.

    >>> references_in(["drop", *DIFFERENCE, *columns_to("greg_1", DIFFERENCE)])
    ['l1', 'greg_1']
    """
    start = f"{DIFFERENCE[0]}_to_"
    return [
        name.removeprefix(start) if name.startswith(start) else REFERENCE
        for name in columns
        if name == DIFFERENCE[0] or name.startswith(start)
    ]


def _verdict_of(reference: str) -> str:
    return columns_to(reference, VERDICT)[1]


def differences(frame: pd.DataFrame, reference: str | None = None) -> pd.DataFrame:
    """Return the differences to `REFERENCE` and to `reference`, as columns named by `columns_to`.

    The columns `VERDICT` are there if a difference could be tested: its p value after Holm's
    correction over all differences of the result, and higher, lower or unclear. A reference
    without a pair has no columns. ResultError if `reference` is not among the methods.
    """
    if reference is not None and reference not in set(frame["method"]):
        known = ", ".join(str(name) for name in frame["method"].unique())
        raise ResultError(f"runs.csv: no run of the reference {reference!r}, only of {known}")
    found = {name: paired_differences(frame, name) for name in references(reference)}
    found = {name: rows for name, rows in found.items() if len(rows)}
    if not found:
        return pd.DataFrame()
    adjusted = iter(holm([p for rows in found.values() for p in rows["p"]]))
    parts = []
    for name, rows in found.items():
        p_values = [next(adjusted) for _ in range(len(rows))]
        columns = rows[list(DIFFERENCE)]
        if not all(map(math.isnan, p_values)):
            words = [verdict(*pair) for pair in zip(rows[DIFFERENCE[0]], p_values, strict=True)]
            columns = columns.assign(p_holm=p_values, verdict=words)
        parts.append(columns.set_axis(columns_to(name, list(columns.columns)), axis=1))
    return pd.concat(parts, axis=1)


def paired_differences(frame: pd.DataFrame, reference: str = REFERENCE) -> pd.DataFrame:
    """Return each cell's difference in accuracy to the method `reference`, in points.

    A run is paired with the run of the same network, ratio, seed and second recipe, of the
    reference's first setting. The result is indexed by cell and has no row for a cell without a
    pair. Its columns are `DIFFERENCE`, the mean over pairs and the bounds of its two-sided 95 % t
    interval, and p, of the t test that the mean is zero. Bounds and p are NaN where
    `standard_error` is.
    """
    pair = [*NETWORK, "ratio_kind", "ratio", "seed", "second_recipe"]
    ranked = _comparable(frame)[frame["ratio"].notna()]
    theirs = ranked[ranked["method"] == reference].drop_duplicates(pair)[[*pair, "accuracy"]]
    ours = ranked[ranked["method"] != reference]
    both = ours.merge(theirs, on=pair, suffixes=("", "_reference"))
    both["difference"] = both["accuracy"] - both["accuracy_reference"]
    cells = both.groupby(CELL, sort=False)
    groups = cells["difference"]
    n, mean = groups.count(), groups.mean()
    error = standard_error(groups.std(ddof=1), n, cells["step"].max())
    half = margin(error, n)
    values = (mean, mean - half, mean + half)
    return pd.DataFrame(dict(zip(DIFFERENCE, values, strict=True))).assign(
        p=p_value(mean, error, n)
    )


def _comparable(frame: pd.DataFrame) -> pd.DataFrame:
    """Return the runs with the columns `step` (of `image_steps`) and `second_recipe`."""
    return frame.assign(step=image_steps(frame), second_recipe=second_recipes(frame))


def image_steps(frame: pd.DataFrame) -> Floats:
    """Return the accuracy of one test image of each run, in points.

    It is 0 if unknown or if AP is measured.
    """
    if "test_images" not in frame or not metric_of(frame).counts_images:
        return np.zeros(len(frame))
    return np.nan_to_num(100 / frame["test_images"].to_numpy(dtype=float))


def groups_of_cells(frame: pd.DataFrame) -> pd.Series:
    """Return letters by cell: cells of one ratio that share a letter cannot be told apart.

    All pairs of cells of the same network, ratio and second recipe that share `FEWEST_PAIRS` seeds
    are compared by a paired t test, with Holm's correction over all of these pairs. The letter a
    belongs to the highest mean. Cells that are in no tested pair are left out.
    """
    pruned = frame["ratio"].notna() & (frame["method"] != UNPRUNED)
    same = [*NETWORK, "ratio_kind", "ratio", "second_recipe"]
    blocks = [
        _tested_block(runs) for _, runs in _comparable(frame)[pruned].groupby(same, sort=False)
    ]
    adjusted = iter(holm([p for _, pairs in blocks for p in pairs.values()]))
    found: dict[tuple[object, ...], str] = {}
    for cells, pairs in blocks:
        different = [pair for pair, p in zip(pairs, adjusted, strict=False) if p <= SIGNIFICANCE]
        found |= zip(cells, letters(len(cells), different), strict=True)
    index = pd.MultiIndex.from_tuples(found, names=CELL) if found else None
    return pd.Series(list(found.values()), index, dtype=object)


_Pairs = dict[tuple[int, int], float]


def _tested_block(runs: pd.DataFrame) -> tuple[list[tuple[object, ...]], _Pairs]:
    """Return the cells of one network and ratio by descending mean, and the p of their pairs.

    Pairs are pairs of places. Only cells with a tested pair are returned.
    """
    by_seed = runs.pivot_table("accuracy", CELL, "seed", sort=False)
    by_seed = by_seed[by_seed.count(axis=1) >= FEWEST_PAIRS]
    rows, step = by_seed.to_numpy(), float(runs["step"].max())
    tests = {
        frozenset((i, j)): p
        for i, j in combinations(range(len(rows)), 2)
        if not math.isnan(p := paired_p(rows[i], rows[j], step))
    }
    tested = set().union(*tests)
    order = sorted(tested, key=lambda i: -np.nanmean(rows[i]))
    pairs = combinations(range(len(order)), 2)
    p_values = {(i, j): tests.get(frozenset((order[i], order[j])), math.nan) for i, j in pairs}
    return [by_seed.index[i] for i in order], p_values


def _in_reading_order(summary: pd.DataFrame) -> pd.DataFrame:
    """Sort by network, unpruned first, ratio kind, ratio (none last), method and setting."""
    keys = pd.DataFrame(
        {
            "network": pd.factorize(summary[NETWORK].apply(tuple, axis=1))[0],
            "pruned": summary["method"] != UNPRUNED,
            "no_ratio": summary["ratio"].isna(),
            "kind": pd.factorize(summary["ratio_kind"])[0],
            "ratio": summary["ratio"].fillna(0.0),
            "method": pd.factorize(summary["method"])[0],
            "setting": pd.factorize(summary["setting"])[0],
        }
    )
    order = keys.sort_values(list(keys.columns), kind="stable").index
    return summary.loc[order].reset_index(drop=True)
