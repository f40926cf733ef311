"""New methods beside the stored rows of an experiment: a short table, differences to the others."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pandas as pd

from prunebench.core.errors import ResultError
from prunebench.report.collect import write_rows
from prunebench.report.runs_csv import CELL, NETWORK, UNPRUNED, RunRow, metric_of, read_rows
from prunebench.report.seed_statistics import averages, paired_differences
from prunebench.report.significance import FEWEST_PAIRS, holm
from prunebench.report.summary_table import base_words, ratio_of
from prunebench.report.table import number_cell

DIFFERENCES = "differences.csv"
COLUMNS = ("difference", "low", "high", "p")
WIDTH = 100  # characters of a printed line
_PLACE = [*NETWORK, "ratio_kind", "ratio"]
_PAIR = [*_PLACE, "seed"]


def beside(stored: Path, new: Mapping[str, Path], out: Path) -> Iterator[str]:
    """Write the rows of new methods below the stored rows of other methods, as one experiment.

    `new` has the runs.csv of each method; its stored rows give way. Yield a line about base
    networks that differ. ResultError if the rows are of different data.
    """
    others = [row for row in read_rows(stored) if row.method not in new]
    if not others:
        raise ResultError(f"{stored}: it has no rows of other methods")
    name = others[0].experiment
    own = [
        replace(row, experiment=name)
        for method, file in new.items()
        for row in read_rows(file)
        if row.method == method
    ]
    data = {(row.dataset, row.data_hash) for row in others}
    for row in own:
        if (row.dataset, row.data_hash) not in data:
            raise ResultError(
                f"{new[row.method]}: the rows of {row.method} have the data {row.data_hash:.12} of "
                f"{row.dataset}, which no row of {stored} has"
            )
    write_rows(out, [*others, *own])
    differing = _other_bases(others, own)
    if differing:
        yield (
            f"{differing} of {len(own)} runs start from another base network than the stored rows "
            "of their seed, trained on another kind of processor: differences include that of the "
            "base networks"
        )


def _other_bases(others: Sequence[RunRow], own: Sequence[RunRow]) -> int:
    """Return how many rows have a base network that no stored row of their network and seed has."""
    known: dict[tuple[str, str, int], set[str | None]] = {}
    for row in others:
        known.setdefault((row.dataset, row.architecture, row.seed), set()).add(row.base_hash)
    bases = (known.get((row.dataset, row.architecture, row.seed)) for row in own)
    return sum(
        found is not None and row.base_hash is not None and row.base_hash not in found
        for row, found in zip(own, bases, strict=True)
    )


def differences_to_others(frame: pd.DataFrame, methods: Sequence[str]) -> pd.DataFrame:
    """Return the differences in accuracy of methods' cells to every other method, in points.

    Runs are paired by network, ratio and seed, with the first setting of the other method. A row
    is a cell and another method (`to`), with the number of pairs n, the mean difference, the bounds
    of its 95 % interval, and p after Holm's correction over all rows; NaN below three pairs.
    """
    found = []
    for i, method in enumerate(methods):
        own = frame[frame["method"] == method]
        for other in frame["method"].unique():
            if other in (*methods[: i + 1], UNPRUNED):  # two new methods are compared once
                continue
            theirs = frame[frame["method"] == other]
            rows = paired_differences(pd.concat([own, theirs]), str(other))
            rows = rows.set_axis(list(COLUMNS), axis=1).reset_index()
            pairs = own.merge(theirs[_PAIR].drop_duplicates(), on=_PAIR)
            counts = pairs.groupby(CELL, sort=False).size().rename("n").reset_index()
            found.append(rows.merge(counts, on=CELL).assign(to=other))
    if not found:
        return pd.DataFrame(columns=[*CELL, "to", "n", *COLUMNS])
    together = pd.concat(found, ignore_index=True)
    together["p"] = holm(together["p"])
    return together[[*CELL, "to", "n", *COLUMNS]]


def ranked(frame: pd.DataFrame, methods: Sequence[str]) -> Iterator[str]:
    """Yield a table for each network and ratio of some methods, highest accuracy first.

    It has the rows of all methods at that ratio, those of `methods` marked by >, and no line has
    more than 100 characters.
    """
    cells, metric = averages(frame), metric_of(frame)
    own = cells[cells["method"].isin(methods)]
    for place, _ in own.groupby(_PLACE, sort=False, dropna=False):
        is_base, network = cells["method"] == UNPRUNED, list(place[:2])
        unpruned = cells[is_base & (cells[NETWORK] == network).all(axis=1)]
        here = cells[~is_base & _is_at(cells, place)]
        here = here.sort_values("accuracy", ascending=False, kind="stable")
        runs = frame[(frame[NETWORK] == network).all(axis=1)]
        first = here.iloc[0]
        words = [*map(str, place[:2]), f"ratio {ratio_of(first)}", base_words(runs)]
        yield _cut(" · ".join(words), WIDTH)
        yield _line("", "method", "setting", "n", f"{metric.short} (%)", "drop (points)", "MACs")
        for row in [*unpruned.to_dict("records"), *here.to_dict("records")]:
            yield _line(
                ">" if row["method"] in methods else "",
                row["method"],
                row["setting"],
                row["n"],
                number_cell(row["accuracy"], "points", row["accuracy_std"]),
                number_cell(row["drop"], "points", row["drop_std"]),
                number_cell(row["speedup_macs"], "speedup"),
            )


def _is_at(frame: pd.DataFrame, place: Sequence[Any]) -> pd.Series:
    """Whether rows are of the network and the ratio of a place; NaN is the ratio auto."""
    same = pd.Series(True, index=frame.index)
    for name, value in zip(_PLACE, place, strict=True):
        same &= frame[name].isna() if pd.isna(value) else frame[name] == value
    return same


def _line(mark: str, method: str, setting: str, *numbers: object) -> str:
    n, accuracy, drop, speedup = map(str, numbers)
    return (
        f"{mark:>1} {_cut(method, 26):<26} {_cut(setting, 20):<20} {n:>3} {accuracy:>15} "
        f"{drop:>15} {speedup:>8}"
    )


def _cut(text: str, width: int) -> str:
    """Return a text of at most `width` characters.

    >>> _cut("orthoreg", 5), _cut("l1", 5)
    ('orth…', 'l1')
    """
    return text if len(text) <= width else f"{text[: width - 1]}…"


def shown_methods(frame: pd.DataFrame, methods: Sequence[str]) -> tuple[str, ...]:
    """Return the methods that a figure shows by name: the new ones, the best other, l1 and random.

    The best has the highest mean accuracy at the networks and ratios of the new methods, among
    those that have all of them. At most eight are returned, five of them new.
    """
    places = frame.loc[frame["method"].isin(methods), _PLACE].drop_duplicates()
    others = frame[~frame["method"].isin([*methods, UNPRUNED])].merge(places, on=_PLACE)
    cells = others.groupby(["method", *_PLACE], dropna=False)["accuracy"].mean()
    by_method = cells.groupby("method").agg(["mean", "size"])
    whole = by_method[by_method["size"] == len(places)]["mean"]
    best = [str(whole.idxmax())] if len(whole) else []
    references = [name for name in ("l1", "random") if name in set(frame["method"])]
    return tuple(dict.fromkeys([*methods[:5], *best, *references]))


def few_seeds(differences: pd.DataFrame) -> Iterator[str]:
    """Yield a line if there are too few pairs of seeds for an interval."""
    n = int(differences["n"].max()) if len(differences) else 0
    if n < FEWEST_PAIRS:
        yield (
            f"{n} seed{'' if n == 1 else 's'} in common: no interval and no test is possible below "
            f"{FEWEST_PAIRS}, and differences may be chance"
        )


def lines_of(differences: pd.DataFrame) -> Iterator[str]:
    """Yield the differences as text, a block per cell."""
    for cell, rows in differences.groupby(CELL, sort=False, dropna=False):
        dataset, architecture, method, setting, ratio, kind = cell
        place = kind if kind == "auto" else f"{kind} {ratio:g}"
        words = f"{method} · {setting} · {dataset} · {architecture} · ratio {place}"
        yield _cut(words, WIDTH)
        yield f"  {'minus':<26} {'n':>3} {'points':>8} {'95 % interval':>18} {'p':>7}"
        for row in rows.sort_values("difference").to_dict("records"):
            interval = p = "–"
            if not math.isnan(row["p"]):
                interval, p = f"[{row['low']:+.2f}, {row['high']:+.2f}]", f"{row['p']:.3f}"
            to, n, mean = _cut(row["to"], 26), row["n"], row["difference"]
            yield f"  {to:<26} {n:>3} {mean:>+8.2f} {interval:>18} {p:>7}"
