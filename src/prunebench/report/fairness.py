"""The fairness level of a comparison, computed from the runs' specifications.

The levels are those of Wang et al., "Why is the State of Neural Network Pruning so Confusing?"
(arXiv 2301.05219); each includes the previous ones: S1 same data and network, S2 same base
network, S3.1 same number of fine-tuning epochs, S3.2 same fine-tuning recipe, S4.1 same number of
pruning epochs. SX-A, same base network and same total number of epochs, is a level beside S3.1: the
methods divide their epochs differently into pruning and fine-tuning. S4.2, the same schedule
during pruning, does not follow from runs.csv and is never claimed.
"""

from __future__ import annotations

import json
from dataclasses import dataclass

import pandas as pd

from prunebench.report.runs_csv import UNPRUNED, require

_NEEDED = ("method", "seed", "start", "base_hash", "epochs", "fine_tune_epochs", "recipes")


@dataclass(frozen=True)
class Fairness:
    """The level shared by all methods that start from the base network."""

    level: str
    shared: str
    differing: str  # the first difference; empty if there is none
    fresh: tuple[str, ...]  # methods that start from fresh weights: comparable at S1 only

    def __str__(self) -> str:
        """Return the note below a table."""
        note = f"Fairness level {self.level} (arXiv 2301.05219): the methods share {self.shared}"
        note += f"; their {self.differing} differ." if self.differing else "."
        if self.fresh:
            note += (
                " Methods that train from fresh weights share only data and network with the "
                f"others (level S1): {', '.join(self.fresh)}."
            )
        return note


def fairness(frame: pd.DataFrame) -> Fairness:
    """Return the level of the runs of one network.

    Bases are compared seed by seed. Methods that start from fresh weights use no base network;
    they are listed separately and do not lower the level of the others.
    """
    require(frame, _NEEDED)
    runs = frame[frame["method"] != UNPRUNED]
    fresh = tuple(str(name) for name in runs.loc[runs["start"] == "fresh", "method"].unique())
    runs = runs[runs["start"] == "base"]
    if runs["method"].nunique() < 2:
        return Fairness("S1", "only data and network", "", fresh)
    reached = ("S1", "data and network", "base networks")
    for holds, level, shared, differing in (
        (_same_bases, "S2", "the base network", "numbers of fine-tuning epochs"),
        (
            _same_fine_tuning_epochs,
            "S3.1",
            "the base network and the number of fine-tuning epochs",
            "fine-tuning recipes",
        ),
        (
            _same_fine_tuning,
            "S3.2",
            "the base network and the fine-tuning recipe",
            "numbers of pruning epochs",
        ),
        (
            _same_pruning_epochs,
            "S4.1",
            "the base network, the fine-tuning recipe and the number of pruning epochs",
            "",
        ),
    ):
        if not holds(runs):
            if level == "S3.1" and _same_epochs(runs):
                shared = "the base network and the total number of epochs"
                reached = ("SX-A", shared, "numbers of pruning and of fine-tuning epochs")
            break
        reached = (level, shared, differing)
    return Fairness(*reached, fresh)


def _same_bases(runs: pd.DataFrame) -> bool:
    """Whether all runs of a seed start from one known base."""
    one_each = runs.groupby("seed")["base_hash"].nunique() == 1
    return bool(one_each.all() and runs["base_hash"].notna().all())


def _same_fine_tuning_epochs(runs: pd.DataFrame) -> bool:
    """Whether the fine-tuning epochs are equal; a method without fine-tuning has 0."""
    return runs["fine_tune_epochs"].fillna(0).nunique() == 1


def _same_epochs(runs: pd.DataFrame) -> bool:
    """Whether the epochs of all phases together are equal to a hundredth."""
    return bool(runs["epochs"].max() - runs["epochs"].min() < 0.01)


def _same_fine_tuning(runs: pd.DataFrame) -> bool:
    """Whether the `fine_tune` recipes are equal except for their names."""
    return runs["recipes"].map(_fine_tuning).nunique() == 1


def _fine_tuning(recipes: str) -> str:
    recipe = json.loads(recipes).get("fine_tune", {})
    return json.dumps({k: v for k, v in recipe.items() if k != "name"}, sort_keys=True)


def _same_pruning_epochs(runs: pd.DataFrame) -> bool:
    """Whether the epochs before fine-tuning are equal to a thousandth."""
    pruning = runs["epochs"] - runs["fine_tune_epochs"].fillna(0)
    return pruning.round(3).nunique() == 1
