"""Compare the rows of a printed table with our cells, by their drops in accuracy.

The experiment's key `published` assigns printed rows to cells; runs.csv holds the assignment in
`paper`, `table` and `printed`, so that the comparison needs no other file. A cell is comparable
with a row only if it has the row's speedup; the printed ratio is never compared.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from typing import Any, Literal

import pandas as pd
from scipy.special import stdtrit

from prunebench.core.errors import ResultError
from prunebench.experiments.phases import RatioKind
from prunebench.papers.published import PublishedRow
from prunebench.report.headings import shortened
from prunebench.report.runs_csv import CELL, UNPRUNED, json_cells, require

Verdict = Literal["agrees", "differs", "undecided", "not comparable", "not run", "control", "base"]

SPEEDUP_TOLERANCE = 0.04  # relative; GReg divides rounded counts: 15.195 is printed as 14.76
WIDEST_INTERVAL = 1.0  # points on either side; almost anything agrees with a wider one
BASELINE = "baseline"  # the method slug of the unpruned network in the published tables
_KINDS = {  # our ratio_kind -> the papers' for the same fraction
    "units_per_group": ("filters_per_layer",),
    "units_global": ("filters_global",),
    "weights": ("weights",),
    "params": ("params",),
    "macs": ("flops", "speedup"),
}


@dataclass(frozen=True)
class Ours:
    """One of our cells, averaged over seeds; accuracies in percent, drops in points."""

    dataset: str
    architecture: str
    method: str
    setting: str
    ratio: float  # NaN: the method decides
    ratio_kind: RatioKind
    n: int
    accuracy: float
    accuracy_std: float  # NaN for n = 1, like all deviations
    drop: float
    drop_std: float
    base_accuracy: float
    speedup: float  # in multiply-accumulates without products with zeroed weights
    params_reduction_pct: float
    shortened: str = ""  # how a shortened experiment differs


_NAN = float("nan")
_SEVEN = (_NAN, _NAN, _NAN, _NAN, _NAN, _NAN, _NAN)
NOTHING = Ours("", "", "", "", _NAN, "auto", 0, *_SEVEN)  # for a row without runs


@dataclass(frozen=True)
class Compared:
    """A printed row, our cell, or both; None if missing."""

    printed: PublishedRow | None
    ours: Ours | None
    verdict: Verdict
    reason: str = ""
    printed_drop: float | None = None  # points
    printed_base: float | None = None  # percent
    difference: float | None = None  # our drop minus the printed one, points
    interval: float | None = None  # half the 95 % interval of the difference


def compare(frame: pd.DataFrame, published: Sequence[PublishedRow]) -> list[Compared]:
    """Return the printed rows of the runs' table in order, then our cells without a printed row.

    Raises ResultError if runs.csv names no table, several, or one that is not in `published`.
    """
    needed = ("paper", "table", "printed", "seed", "accuracy", "drop", "base_accuracy")
    require(frame, [*CELL, *needed])
    paper, table = _only(frame, "paper"), _only(frame, "table")
    rows = [r for r in published if (r.paper, r.table) == (paper, table)]
    if not rows:
        raise ResultError(f"runs.csv: no published rows of {paper!r}, table {table!r}")
    cells = list(_cells(frame))
    named = {name["architecture"] for _, name in cells if name is not None}
    rows = [row for row in rows if row.architecture in named]
    found: dict[int, Ours] = {}
    alone: list[Compared] = []
    for ours, name in cells:
        fitting = [] if name is None else [i for i, r in enumerate(rows) if _fits(r, ours, name)]
        if ours.method == UNPRUNED and not fitting:
            continue  # the subtitle has its accuracy
        if name is not None and not fitting:
            reason = "the table has no such row"
            alone.append(Compared(None, ours, "not comparable", reason))
        elif name is None:
            alone.append(Compared(None, ours, "control"))
        found |= dict.fromkeys(_nearest_data(fitting, rows, ours), ours)
    return [_judged(row, rows, found.get(i)) for i, row in enumerate(rows)] + alone


def _only(frame: pd.DataFrame, column: str) -> str:
    values = frame[column].dropna().unique()
    if len(values) != 1:
        known = ", ".join(map(str, values)) or "none"
        raise ResultError(f"runs.csv: a comparison needs one {column}, found {known}")
    return str(values[0])


def _cells(frame: pd.DataFrame) -> Iterator[tuple[Ours, Mapping[str, Any] | None]]:
    """Yield each cell and the name of its printed row, None if it has none."""
    names = dict(zip(frame.index, json_cells(frame, "printed"), strict=True))
    for _, runs in frame.groupby(CELL, sort=False, dropna=False):
        first = runs.iloc[0]
        ours = Ours(
            dataset=first["dataset"],
            architecture=first["architecture"],
            method=first["method"],
            setting=first["setting"],
            ratio=float(first["ratio"]),
            ratio_kind=first["ratio_kind"],
            n=runs["seed"].nunique(),
            accuracy=float(runs["accuracy"].mean()),
            accuracy_std=float(runs["accuracy"].std(ddof=1)),
            drop=float(runs["drop"].mean()),
            drop_std=float(runs["drop"].std(ddof=1)),
            base_accuracy=float(runs["base_accuracy"].mean()),
            speedup=float(runs["speedup_theoretical"].mean()),
            params_reduction_pct=float(runs["params_reduction_pct"].mean()),
            shortened=shortened(runs),
        )
        yield ours, names[runs.index[0]]


def _fits(row: PublishedRow, ours: Ours, name: Mapping[str, Any]) -> bool:
    """Whether a cell's `printed` name means this row."""
    if row.architecture != name["architecture"]:
        return False
    if not row.is_named(name["method"], name["setting"], name["ratio"]):
        return False
    return name["ratio"] is not None or same_ratio(row, ours.ratio, ours.ratio_kind)


def same_ratio(row: PublishedRow, ratio: float, kind: str) -> bool:
    """Whether the printed ratio equals ours; a row without one fits ratio 0 and no ratio."""
    if row.ratio_printed is None:
        return math.isnan(ratio) or ratio == 0
    if math.isnan(ratio) or row.ratio_kind_printed not in _KINDS.get(kind, ()):
        return False
    if row.ratio_kind_printed == "speedup":
        digits = -int(row.ratio_printed.as_tuple().exponent)
        return round(1 / (1 - ratio), digits) == float(row.ratio_printed)
    return math.isclose(100 * ratio, float(row.ratio_printed), abs_tol=1e-6)


def _nearest_data(fitting: list[int], rows: Sequence[PublishedRow], ours: Ours) -> list[int]:
    """Return the rows on our dataset, or all if there are none: the experiment was moved."""
    return [i for i in fitting if rows[i].dataset == ours.dataset] or fitting


def _judged(row: PublishedRow, rows: Sequence[PublishedRow], ours: Ours | None) -> Compared:
    base = _printed_base(row, rows)
    drop = None if base is None or row.accuracy is None else base - float(row.accuracy)
    if row.method == BASELINE:
        return Compared(row, ours, "base", "", drop, base)
    if ours is None:
        return Compared(row, None, "not run", "", drop, base)
    if reason := _incomparable(row, rows, ours, drop):
        return Compared(row, ours, "not comparable", reason, drop, base)
    assert drop is not None
    difference = ours.drop - drop
    if ours.n < 2:
        return Compared(row, ours, "undecided", "n = 1", drop, base, difference)
    interval = half_interval(ours.drop_std, ours.n, float(row.accuracy_std or 0))
    verdict: Verdict = "agrees" if abs(difference) <= interval else "differs"
    reason = ""
    if verdict == "agrees" and interval > WIDEST_INTERVAL:
        verdict, reason = "undecided", f"the interval is ± {interval:.1f} points"
    return Compared(row, ours, verdict, reason, drop, base, difference, interval)


def half_interval(std: float, n: int, printed_std: float) -> float:
    """Return half the 95 % interval of a difference of drops, in points.

    Student's t with n - 1 degrees of freedom, times the root of the squared standard error of our
    mean plus the squared printed deviation. The latter is not divided by a number of runs, since
    papers seldom state it.

    >>> round(half_interval(0.1, 3, 0.0), 3)
    0.248
    """
    error = math.hypot(std / math.sqrt(n), printed_std)
    return float(stdtrit(n - 1, 0.975)) * error


def _printed_base(row: PublishedRow, rows: Sequence[PublishedRow]) -> float | None:
    """Return a row's base accuracy: its own, or the table's unpruned network's."""
    if row.base_accuracy is not None:
        return float(row.base_accuracy)
    bases = [float(r.accuracy) for r in _baselines(row, rows) if r.accuracy is not None]
    return bases[0] if bases else None


def _baselines(row: PublishedRow, rows: Sequence[PublishedRow]) -> list[PublishedRow]:
    """Return the rows of the same network without pruning."""
    place = (row.dataset, row.architecture)
    return [r for r in rows if (r.dataset, r.architecture) == place and r.method == BASELINE]


def speedup_by_flops(row: PublishedRow, rows: Sequence[PublishedRow]) -> tuple[float, float] | None:
    """Return the bounds of the speedup that follow from the printed FLOPs of a row and its base.

    The last digit of a count that is not 0 is assumed to be rounded: 90 means 85 to 95.
    """
    base = next((r.flops_m for r in _baselines(row, rows) if r.flops_m is not None), None)
    if base is None or row.flops_m is None:
        return None
    (least, most), (low, high) = _rounded_from(base), _rounded_from(row.flops_m)
    return least / high, most / low


def _rounded_from(number: Decimal) -> tuple[float, float]:
    half = Decimal(5).scaleb(int(number.normalize().as_tuple().exponent) - 1)
    return float(number - half), float(number + half)


def _incomparable(
    row: PublishedRow, rows: Sequence[PublishedRow], ours: Ours, drop: float | None
) -> str:
    if row.dataset != ours.dataset:
        return f"{ours.dataset} instead of {row.dataset}"
    if ours.shortened:
        return ours.shortened
    if row.accuracy is None:
        return "no accuracy is printed"
    if drop is None:
        return "no base accuracy is printed"
    printed = row.speedup_theoretical
    if printed is not None and abs(ours.speedup / float(printed) - 1) > SPEEDUP_TOLERANCE:
        return f"speedup {ours.speedup:.2f}× instead of {printed}×"
    bounds = speedup_by_flops(row, rows) if printed is None else None
    if bounds is not None:
        low, high = bounds[0] * (1 - SPEEDUP_TOLERANCE), bounds[1] * (1 + SPEEDUP_TOLERANCE)
        if not low <= ours.speedup <= high:
            named = f"{bounds[0]:.2f} to {bounds[1]:.2f}×"
            return f"speedup {ours.speedup:.2f}× instead of {named} by the printed FLOPs"
    return ""
