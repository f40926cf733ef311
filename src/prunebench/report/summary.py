"""From runs to cells: mean and spread over seeds, in the order in which tables are read."""

from __future__ import annotations

import pandas as pd

from prunebench.report.runs_csv import CELL, LATENCY_SPEEDUP, NETWORK, require

UNPRUNED = "unpruned"
_NEEDED = ("base_top1", "top1", "drop", "speedup_macs", "params_reduction_pct")
# of networks with zeros left in place
_MASKED = ("top1_masked", "speedup_theoretical", "sparsity_pct")
_AFTER_LATENCY = ("selection_seconds", "magnitude_ratio")


def quantities(frame: pd.DataFrame) -> list[str]:
    """Return the columns that are averaged over seeds, those that the frame has."""
    latencies = [name for name in frame.columns if name.startswith(LATENCY_SPEEDUP)]
    names = [*_NEEDED, *_MASKED, *latencies, *_AFTER_LATENCY]
    return [name for name in names if name in frame.columns]


def summarize(frame: pd.DataFrame) -> pd.DataFrame:
    """Return a row per cell with n and, for each quantity, its mean and sample deviation.

    The deviation stands in the column `<quantity>_std` and is NaN for n = 1. Networks keep the
    order of the frame; the unpruned network comes first, then ascending ratios, each with its
    methods in the frame's order, and at last what has no ratio.
    """
    names = quantities(frame)
    require(frame, [*CELL, *_NEEDED, "seed"])
    groups = frame.groupby(CELL, sort=False, dropna=False)
    summary = pd.DataFrame({"n": groups["seed"].nunique()})
    for name in names:
        summary[name] = groups[name].mean()
        summary[f"{name}_std"] = groups[name].std(ddof=1)
    return _in_reading_order(summary.reset_index())


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
