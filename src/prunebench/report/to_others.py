"""One method beside the stored rows of an experiment: its differences to every other method."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import pandas as pd

from prunebench.core.errors import ResultError
from prunebench.report.collect import write_rows
from prunebench.report.runs_csv import CELL, NETWORK, UNPRUNED, RunRow, read_rows
from prunebench.report.seed_statistics import paired_differences
from prunebench.report.significance import holm

DIFFERENCES = "differences.csv"
COLUMNS = ("difference", "low", "high", "p")
_PAIR = [*NETWORK, "ratio_kind", "ratio", "seed"]


def beside(stored: Path, new: Path, method: str, out: Path) -> Iterator[str]:
    """Write the rows of a method below the stored rows of other methods, as one experiment.

    Stored rows of the method itself give way. Yield a line about base networks that differ.
    ResultError if the rows are of different data.
    """
    others = [row for row in read_rows(stored) if row.method != method]
    if not others:
        raise ResultError(f"{stored}: it has no rows of other methods")
    name = others[0].experiment
    own = [replace(row, experiment=name) for row in read_rows(new) if row.method == method]
    data = {(row.dataset, row.data_hash) for row in others}
    for row in own:
        if (row.dataset, row.data_hash) not in data:
            raise ResultError(
                f"{new}: the rows of {row.method} have the data {row.data_hash:.12} of "
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


def differences_to_others(frame: pd.DataFrame, method: str) -> pd.DataFrame:
    """Return the differences in accuracy of a method's cells to every other method, in points.

    Runs are paired by network, ratio and seed, with the first setting of the other method. A row
    is a cell and another method (`to`), with the number of pairs n, the mean difference, the bounds
    of its 95 % interval, and p after Holm's correction over all rows; NaN below three pairs.
    """
    own = frame[frame["method"] == method]
    found = []
    for other in frame["method"].unique():
        if other in (method, UNPRUNED):
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


def lines_of(differences: pd.DataFrame) -> Iterator[str]:
    """Yield the differences as text, a block per cell."""
    for cell, rows in differences.groupby(CELL, sort=False):
        dataset, architecture, method, setting, ratio, kind = cell
        yield f"{method} · {setting} · {dataset} · {architecture} · ratio {kind} {ratio:g}"
        yield f"  {'minus':<20} {'n':>3} {'points':>8} {'95 % interval':>18} {'p':>7}"
        for row in rows.sort_values("difference").to_dict("records"):
            interval = p = "–"
            if not math.isnan(row["p"]):
                interval, p = f"[{row['low']:+.2f}, {row['high']:+.2f}]", f"{row['p']:.3f}"
            to, n, mean = row["to"], row["n"], row["difference"]
            yield f"  {to:<20} {n:>3} {mean:>+8.2f} {interval:>18} {p:>7}"
