"""How fair a comparison is, computed from what the runs recorded.

The levels are those of Wang et al., "Why is the State of Neural Network Pruning so Confusing?"
(arXiv 2301.05219), each of which includes the ones before it: S1 same data and network, S2 same
base network, S3.1 same number of fine-tuning epochs, S3.2 same fine-tuning recipe, S4.1 same
number of pruning epochs. S4.2, the same schedule while pruning, cannot be read off runs.csv and is
never claimed.
"""

from __future__ import annotations

import json
from dataclasses import dataclass

import pandas as pd

from prunebench.report.runs_csv import require
from prunebench.report.summary import UNPRUNED

_NEEDED = ("method", "seed", "start", "base_hash", "epochs", "fine_tune_epochs", "recipes")


@dataclass(frozen=True)
class Fairness:
    """The level that all methods share which start from the base network."""

    level: str
    reason: str  # what is the same, and what first differs
    fresh: tuple[str, ...]  # methods that start from fresh weights: comparable at S1 only

    def __str__(self) -> str:
        """Return the sentence that stands under a table's title."""
        apart = f"; from fresh weights, S1 only: {', '.join(self.fresh)}" if self.fresh else ""
        return f"fairness {self.level}: {self.reason}{apart}"


def fairness(frame: pd.DataFrame) -> Fairness:
    """Return the level of the runs of one network.

    Bases are compared seed by seed. Methods that start from fresh weights use no base network;
    they are listed apart and do not lower the others' level.
    """
    require(frame, _NEEDED)
    runs = frame[frame["method"] != UNPRUNED]
    fresh = tuple(str(name) for name in runs.loc[runs["start"] == "fresh", "method"].unique())
    runs = runs[runs["start"] == "base"]
    if runs["method"].nunique() < 2:
        return Fairness("S1", "same data and network; no two methods share a base", fresh)
    level, reason = "S1", "same data and network; bases differ"
    for next_level, same, words in (
        ("S2", _same_bases(runs), "same base; fine-tuning epochs differ"),
        (
            "S3.1",
            _same_fine_tuning_epochs(runs),
            "same base, same fine-tuning epochs; recipes differ",
        ),
        ("S3.2", _same_fine_tuning(runs), "same base, same fine-tuning; pruning epochs differ"),
        ("S4.1", _same_pruning_epochs(runs), "same base, same fine-tuning, same pruning epochs"),
    ):
        if not same:
            break
        level, reason = next_level, words
    return Fairness(level, reason, fresh)


def _same_bases(runs: pd.DataFrame) -> bool:
    """Whether all runs of a seed start from one base; an unknown one is never the same."""
    one_each = runs.groupby("seed")["base_hash"].nunique() == 1
    return bool(one_each.all() and runs["base_hash"].notna().all())


def _same_fine_tuning_epochs(runs: pd.DataFrame) -> bool:
    """Whether all fine-tune as long; a method without fine-tuning does so for 0 epochs."""
    return runs["fine_tune_epochs"].fillna(0).nunique() == 1


def _same_fine_tuning(runs: pd.DataFrame) -> bool:
    """Whether the recipes of the role `fine_tune` agree in all but their names."""
    return runs["recipes"].map(_fine_tuning).nunique() == 1


def _fine_tuning(recipes: str) -> str:
    recipe = json.loads(recipes).get("fine_tune", {})
    return json.dumps({k: v for k, v in recipe.items() if k != "name"}, sort_keys=True)


def _same_pruning_epochs(runs: pd.DataFrame) -> bool:
    """Whether all train as long before fine-tuning; lengths are compared to a thousandth."""
    pruning = runs["epochs"] - runs["fine_tune_epochs"].fillna(0)
    return pruning.round(3).nunique() == 1
