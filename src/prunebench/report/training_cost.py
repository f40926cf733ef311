"""The cost of a run's training: multiply-accumulates × samples, from the columns of runs.csv."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import pandas as pd

from prunebench.report.runs_csv import histories

PRUNED = "pruned"  # the event of a removal in a history


def training_costs(runs: pd.DataFrame) -> pd.Series:
    """Return the cost of each run's training, in epochs of the unpruned network.

    An epoch of the pruned network costs 1 / speedup_macs. Scoring and the training of the base
    network are not counted. NaN if the history is missing or does not say how many
    multiply-accumulates the network had, between several removals.
    """
    if runs.empty or "history" not in runs:
        return pd.Series(math.nan, runs.index)
    columns = ("epochs", "fine_tune_epochs", "speedup_macs")
    values = zip(*(runs[name] for name in columns), histories(runs), strict=True)
    return pd.Series([_cost(*run) for run in values], runs.index, dtype=float)


def _cost(
    epochs: float, fine_tune_epochs: float, speedup: float, history: dict[str, list[Any]] | None
) -> float:
    if history is None:
        return math.nan
    after = _epochs_after_removal(epochs, fine_tune_epochs, history["phase"], history["event"])
    if after is None:
        return epochs if speedup == 1 else math.nan
    return epochs - after + after / speedup


def _epochs_after_removal(
    epochs: float, fine_tune_epochs: float, phases: Sequence[str], events: Sequence[str]
) -> float | None:
    """Return the epochs after the only removal; None if there is none, or epochs between several.

    The history has a row per epoch and event. A last epoch that is not full counts as one, except
    for fine-tuning, whose length is known.
    """
    removals = [i for i, event in enumerate(events) if event == PRUNED]
    trained = [i for i, event in enumerate(events) if not event]
    if not removals or any(removals[0] < i < removals[-1] for i in trained):
        return None
    after = [phases[i] for i in trained if i > removals[-1]]
    if len(after) == len(trained):
        return epochs
    if set(after) == {"fine_tune"} and not math.isnan(fine_tune_epochs):
        return fine_tune_epochs
    return float(len(after))
