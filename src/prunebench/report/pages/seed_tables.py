"""The tables of a cell's page about its seeds: their results, their origin, and their costs."""

from __future__ import annotations

import math
from collections.abc import Callable, Hashable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import pandas as pd

from prunebench.report.headings import number_ranges
from prunebench.report.middle_half import MOST_LINES
from prunebench.report.origins import SHOWN_VERSIONS
from prunebench.report.pages.plain_table import PlainTable
from prunebench.report.runs_csv import is_latency, json_cells, metric_of, timed
from prunebench.report.table import DASH, format_number, significant

Record = Mapping[Hashable, Any]  # a row of a frame

_Write = Callable[[Any], str]


class _Quantity(NamedTuple):
    """A quantity of each seed."""

    words: str
    values: list[Any]  # NaN or None: unknown
    write: _Write

    @property
    def texts(self) -> list[str]:
        return [DASH if pd.isna(value) else self.write(value) for value in self.values]


def seed_table(runs: pd.DataFrame) -> PlainTable:
    """Return the results and the origin of each of a few seeds, which have a column each."""
    seeds = [f"seed {seed}" for seed in runs["seed"]]
    rows = [(one.words, *one.texts) for one in [*_numbers(runs), *_origins(runs)]]
    return PlainTable(("", *seeds), tuple(rows), ids=("", *map(_id, runs["seed"])))


def spread_table(runs: pd.DataFrame) -> PlainTable:
    """Return the range and the quartiles of many seeds' results."""
    rows = []
    for one in _numbers(runs):
        known = [value for value in one.values if not pd.isna(value)]
        spread = np.quantile(known, (0, 0.25, 0.5, 0.75, 1))
        rows.append((one.words, str(len(known)), *(one.write(value) for value in spread)))
    head = ("", "seeds", "lowest", "lower quartile", "median", "upper quartile", "highest")
    return PlainTable(head, tuple(rows))


def shared_origin(runs: pd.DataFrame) -> PlainTable:
    """Return what is known of the origin of many seeds and the same for all of them."""
    rows = [(one.words, one.texts[0]) for one in _origins(runs) if len(set(one.texts)) == 1]
    return PlainTable(("the same for all seeds", ""), tuple(rows), frozenset({0, 1}))


def row_per_seed(runs: pd.DataFrame) -> PlainTable:
    """Return the results and the origin of each of many seeds, which have a row each."""
    origins = [one for one in _origins(runs) if len(set(one.texts)) > 1]
    shown = [*_numbers(runs), *origins]
    seeds = [str(seed) for seed in runs["seed"]]
    rows = tuple(zip(seeds, *(one.texts for one in shown), strict=True))
    head = ("seed", *(one.words for one in shown))
    return PlainTable(head, rows, row_ids=tuple(map(_id, runs["seed"])))


def _id(seed: int) -> str:
    return f"seed{seed}"


def _numbers(runs: pd.DataFrame) -> list[_Quantity]:
    """Return the numbers of each seed; those without a value are left out."""
    metric = metric_of(runs)
    points = {
        "accuracy": metric.short,
        "base_accuracy": f"{metric.short} unpruned",
        "drop": "drop",
        "val_accuracy": f"{metric.short} validation",
        "accuracy_best_val": f"{metric.short} at best validation",
        "accuracy_best_test": f"best test {metric.short}",
        "accuracy_after_removal": f"{metric.short} after removal",
        "accuracy_masked": f"{metric.short} masked",
    }
    others = {
        "epochs": "epochs",
        "training_seconds": "training s",
        "selection_seconds": "selection s",
    }
    return [*_known(runs, points, _points), *_known(runs, others, significant)]


def _origins(runs: pd.DataFrame) -> list[_Quantity]:
    """Return where and by what each seed was computed."""
    texts = {
        "device": "device",
        "processor": "processor",
        "date": "date",
        "commit": "commit",
        "spec_hash": "specification",
        "base_hash": "base network",
    }
    versions = [version or {} for version in json_cells(runs, "versions")]
    used = [_Quantity(name, [own.get(name) for own in versions], str) for name in SHOWN_VERSIONS]
    return [*_known(runs, texts, _hash), *used]


def _known(runs: pd.DataFrame, names: Mapping[str, str], write: _Write) -> list[_Quantity]:
    return [
        _Quantity(words, runs[name].tolist(), write)
        for name, words in names.items()
        if name in runs and runs[name].notna().any()
    ]


def _points(value: float) -> str:
    return format_number(value, "points")


def _hash(text: str) -> str:
    return text[:16]


class _Cost(NamedTuple):
    """A cost of one seed before and after pruning, and their ratio or difference."""

    before: float | None
    after: float
    change: float | None
    write: _Write
    write_change: _Write

    @property
    def texts(self) -> tuple[str, str, str]:
        return _between([self])


def cost_table(records: Sequence[Record]) -> PlainTable:
    """Return costs before and after pruning.

    Seeds with equal values share a row, and so do all seeds if they would need more than five.
    """
    found: dict[str, list[tuple[int, _Cost]]] = {}
    for run in records:
        for name, cost in _costs(run):
            found.setdefault(name, []).append((run["seed"], cost))
    rows = []
    for name, costs in found.items():
        same: dict[tuple[str, str, str], list[int]] = {}
        for seed, cost in costs:
            same.setdefault(cost.texts, []).append(seed)
        if len(same) > MOST_LINES:
            same = {_between([cost for _, cost in costs]): [seed for seed, _ in costs]}
        rows += [(name, number_ranges(seeds), *texts) for texts, seeds in same.items()]
    head = ("cost", "seed", "unpruned", "pruned", "change")
    return PlainTable(head, tuple(rows), frozenset({0, 1}))


def _between(costs: Sequence[_Cost]) -> tuple[str, str, str]:
    """Return the texts of some seeds' costs, from the smallest to the largest."""
    write, write_change = costs[0].write, costs[0].write_change
    return (
        _range([cost.before for cost in costs], write),
        _range([cost.after for cost in costs], write),
        _range([cost.change for cost in costs], write_change),
    )


def _range(values: Sequence[float | None], write: _Write) -> str:
    known = [value for value in values if value is not None]
    if not known:
        return DASH
    low, high = write(min(known)), write(max(known))
    return low if low == high else f"{low} to {high}"


def _costs(run: Record) -> Iterator[tuple[str, _Cost]]:
    macs, base_macs = run["macs"], run["base_macs"]
    yield "MACs", _Cost(base_macs, macs, base_macs / macs, _count, _speedup)
    if (theoretical := run["macs_theoretical"]) != macs:
        cost = _Cost(base_macs, theoretical, base_macs / theoretical, _count, _speedup)
        yield "MACs without zeroed weights", cost
    removed = run["params_reduction_pct"]
    yield "parameters", _Cost(run["base_params"], run["params"], removed, _count, _removed)
    yield "elements of activations", _Cost(None, run["activations"], None, _count, _count)
    for kind in sorted({timed(str(name)) for name in run if is_latency(str(name))}):
        now, base, speedup = (run[name] for name in kind.columns)
        if not math.isnan(now):
            cost = _Cost(base, now, speedup, significant, _speedup)
            yield f"latency in ms, {kind.words}", cost


def _count(value: float) -> str:
    return f"{value:,}"


def _speedup(value: float) -> str:
    return format_number(value, "speedup")


def _removed(percent: float) -> str:
    return f"{format_number(percent, 'percent')} % removed"
