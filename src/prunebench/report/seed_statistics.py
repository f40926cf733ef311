"""Statistics over the seeds of each cell, in the order of tables.

They are the mean and the sample standard deviation of each quantity, and the difference in
accuracy to a reference method, paired by seed.
"""

from __future__ import annotations

from collections.abc import Sequence

import pandas as pd
from scipy.special import stdtrit

from prunebench.report.origins import reused_rows
from prunebench.report.other_code import by_other_code
from prunebench.report.runs_csv import (
    CELL,
    LATENCY_SPEEDUP,
    NETWORK,
    UNPRUNED,
    metric_of,
    require,
)

_NEEDED = ("base_accuracy", "accuracy", "drop", "speedup_macs", "params_reduction_pct")
# of networks that keep pruned weights as zeros
_MASKED = ("accuracy_masked", "speedup_theoretical", "sparsity_pct")
_AFTER_LATENCY = ("selection_seconds", "magnitude_ratio")

REFERENCE = "l1"  # method to which differences are paired
CONFIDENCE = 0.95
FEWEST_PAIRS = 3  # of an interval
DIFFERENCE = ("difference", "difference_low", "difference_high")


def quantities(frame: pd.DataFrame) -> list[str]:
    """Return the columns to average over seeds, as far as the frame has them."""
    latencies = [name for name in frame.columns if name.startswith(LATENCY_SPEEDUP)]
    names = [*_NEEDED, *metric_of(frame).parts, *_MASKED, *latencies, *_AFTER_LATENCY]
    return [name for name in names if name in frame.columns]


def summarize(frame: pd.DataFrame, more: Sequence[str] = ()) -> pd.DataFrame:
    """Return a row per cell: n, and the mean and sample deviation of each quantity.

    The quantities are those of tables, and the columns `more`.

    The deviation is the column `<quantity>_std` and NaN for n = 1. Networks keep the frame's order.
    The unpruned network comes first, then ascending ratios, each with its methods in the frame's
    order, and last the cells without a ratio. The column `code` marks cells with a run that other
    code has made, and `reused` is the number of reused runs, if there are any. The columns of
    `paired_differences` are there if a cell has a difference to `REFERENCE`.
    """
    names = [*quantities(frame), *more]
    require(frame, [*CELL, *_NEEDED, "seed"])
    groups = frame.groupby(CELL, sort=False, dropna=False)
    columns: dict[str, pd.Series] = {"n": groups["seed"].nunique()}
    for name in names:
        columns[name] = groups[name].mean()
        columns[f"{name}_std"] = groups[name].std(ddof=1)
    summary = pd.DataFrame(columns)
    if len(by_other_code(frame)):
        summary["code"] = groups["code"].first().fillna("")
    if len(reused_rows(frame)):
        summary["reused"] = groups["reused"].count()
    differences = paired_differences(frame)
    if len(differences):
        summary = summary.join(differences)
    return _in_reading_order(summary.reset_index())


def paired_differences(frame: pd.DataFrame, reference: str = REFERENCE) -> pd.DataFrame:
    """Return each cell's difference in accuracy to the method `reference`, in points.

    A run is paired with the run of the same network, ratio and seed, of the reference's first
    setting. The result is indexed by cell and has no row for a cell without a pair. Its columns
    are `DIFFERENCE`: the mean over pairs, and the bounds of its two-sided t interval at
    `CONFIDENCE`, NaN for fewer than `FEWEST_PAIRS` pairs.
    """
    pair = [*NETWORK, "ratio_kind", "ratio", "seed"]
    ranked = frame[frame["ratio"].notna()]
    theirs = ranked[ranked["method"] == reference].drop_duplicates(pair)[[*pair, "accuracy"]]
    ours = ranked[ranked["method"] != reference]
    both = ours.merge(theirs, on=pair, suffixes=("", "_reference"))
    both["difference"] = both["accuracy"] - both["accuracy_reference"]
    groups = both.groupby(CELL, sort=False)["difference"]
    n, mean = groups.count(), groups.mean()
    quantile = pd.Series(stdtrit(n - 1, (1 + CONFIDENCE) / 2), n.index)
    margin = (quantile * groups.std(ddof=1) / n**0.5).where(n >= FEWEST_PAIRS)
    return pd.DataFrame(dict(zip(DIFFERENCE, (mean, mean - margin, mean + margin), strict=True)))


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
