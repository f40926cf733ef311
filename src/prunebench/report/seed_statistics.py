"""Mean and sample standard deviation over the seeds of each cell, in the order of tables."""

from __future__ import annotations

import pandas as pd

from prunebench.report.other_code import by_other_code
from prunebench.report.runs_csv import CELL, LATENCY_SPEEDUP, NETWORK, UNPRUNED, require

_NEEDED = ("base_top1", "top1", "drop", "speedup_macs", "params_reduction_pct")
# of networks that keep pruned weights as zeros
_MASKED = ("top1_masked", "speedup_theoretical", "sparsity_pct")
_AFTER_LATENCY = ("selection_seconds", "magnitude_ratio")


def quantities(frame: pd.DataFrame) -> list[str]:
    """Return the columns to average over seeds, as far as the frame has them."""
    latencies = [name for name in frame.columns if name.startswith(LATENCY_SPEEDUP)]
    names = [*_NEEDED, *_MASKED, *latencies, *_AFTER_LATENCY]
    return [name for name in names if name in frame.columns]


def summarize(frame: pd.DataFrame) -> pd.DataFrame:
    """Return a row per cell: n, and the mean and sample deviation of each quantity.

    The deviation is the column `<quantity>_std` and NaN for n = 1. Networks keep the frame's order.
    The unpruned network comes first, then ascending ratios, each with its methods in the frame's
    order, and last the cells without a ratio. The column `code` marks cells with a run that other
    code has made, if there are any.
    """
    names = quantities(frame)
    require(frame, [*CELL, *_NEEDED, "seed"])
    groups = frame.groupby(CELL, sort=False, dropna=False)
    summary = pd.DataFrame({"n": groups["seed"].nunique()})
    for name in names:
        summary[name] = groups[name].mean()
        summary[f"{name}_std"] = groups[name].std(ddof=1)
    if len(by_other_code(frame)):
        summary["code"] = groups["code"].first().fillna("")
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
