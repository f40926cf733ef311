"""The fairness level of a comparison, computed from the runs' specifications.

The levels are those of Wang et al., "Why is the State of Neural Network Pruning so Confusing?"
(arXiv 2301.05219); each includes the previous ones: S1 same data and network, S2 same base
network, S3.1 same number of fine-tuning epochs, S3.2 same fine-tuning recipe, S4.1 same number of
pruning epochs, S4.2 same recipes while pruning. Two levels stand beside S3.1, since the methods
divide their training differently into pruning and fine-tuning: SX-A, same base network and same
total number of epochs, and SX-B, same base network and same total training cost
(multiply-accumulates × samples).

Methods that train from fresh weights have no base network. Among themselves they reach SX-A or
SX-B by their totals; with the others they share data and network alone.
"""

from __future__ import annotations

import json
import math
from collections.abc import Hashable, Iterable, Sequence
from dataclasses import dataclass
from itertools import combinations

import pandas as pd

from prunebench.report.recipe_cross import second_recipes
from prunebench.report.runs_csv import CELL, UNPRUNED, require
from prunebench.report.training_cost import training_costs

_NEEDED = (*CELL, "seed", "start", "base_hash", "epochs", "fine_tune_epochs", "recipes")
_NEEDED += ("speedup_macs",)
_EPOCHS_WITHIN = 0.01
_EPOCHS_SHARE = 0.002  # a phase that ends within an epoch ends with a whole step
_COST_WITHIN = 0.01  # as a share: whole epochs can not meet a cost exactly
_WARNED = ("S1", "S2", "S3.1")


@dataclass(frozen=True)
class Fairness:
    """The level of some rows."""

    level: str  # empty for less than two rows
    shared: str
    differing: str  # the first difference; empty if there is none
    fresh: tuple[str, ...] = ()  # methods that start from fresh weights: comparable at S1 only

    @property
    def is_low(self) -> bool:
        """Whether a difference in accuracy may come from the training."""
        return self.level in _WARNED

    def __str__(self) -> str:
        """Return the note below a table."""
        if not self.level:
            return ""
        note = f"Fairness level {self.level} (arXiv 2301.05219): the methods share {self.shared}"
        note += f"; their {self.differing} differ." if self.differing else "."
        if self.is_low:
            note += (
                " This is below S3.2: a difference in accuracy may come from the training instead "
                "of the pruning."
            )
        if self.fresh:
            note += (
                " Methods that train from fresh weights share only data and network with the "
                f"others (level S1): {', '.join(self.fresh)}."
            )
        return note


@dataclass(frozen=True)
class Training:
    """How the runs of one row were trained; a set has one element if the runs agree."""

    fresh: bool
    bases: frozenset[tuple[int, str]]  # seed and hash; "" if it is unknown
    fine_tune_epochs: frozenset[float]
    fine_tune_recipes: frozenset[str]
    pruning_epochs: frozenset[float]
    pruning_recipes: frozenset[str]
    epochs: tuple[float, float]  # smallest and largest
    cost: tuple[float, float]  # in epochs of the unpruned network; NaN if unknown


def fairness(frame: pd.DataFrame) -> Fairness:
    """Return the level of the runs of one network, the lowest of all pairs of rows.

    Bases are compared seed by seed. Runs under a second recipe are compared among themselves only,
    so they are left out. Methods that start from fresh weights use no base network; they are listed
    separately and do not lower the level of the others.
    """
    found = trainings(frame[second_recipes(frame) == ""])
    based = [one for one in found.values() if not one.fresh]
    fresh = tuple(dict.fromkeys(str(cell[0]) for cell, one in found.items() if one.fresh))
    if len(found) < 2:
        return Fairness("", "", "")
    if not based:
        return level_of(list(found.values()))
    if len(based) == 1:
        return Fairness("S1", "only data and network", "", fresh)
    level = level_of(based)
    return Fairness(level.level, level.shared, level.differing, fresh)


Row = tuple[Hashable, ...]  # method, setting, ratio and its kind


def trainings(frame: pd.DataFrame) -> dict[Row, Training]:
    """Return the training of each row of one network, without the unpruned network."""
    require(frame, _NEEDED)
    runs = frame[frame["method"] != UNPRUNED]
    fine_tune_epochs = runs["fine_tune_epochs"].fillna(0.0)
    recipes = {text: json.loads(text) for text in runs["recipes"].unique()}  # seeds share them
    fine_tune = {text: _words(own, ["fine_tune"]) for text, own in recipes.items()}
    pruning = {text: _words(own, own.keys() - {"fine_tune"}) for text, own in recipes.items()}
    runs = runs.assign(
        fine_tune_epochs=fine_tune_epochs,
        pruning_epochs=(runs["epochs"] - fine_tune_epochs).round(3),
        fine_tune_recipes=runs["recipes"].map(fine_tune),
        pruning_recipes=runs["recipes"].map(pruning),
        cost=training_costs(runs),
        base_hash=runs["base_hash"].astype(object).fillna(""),
    )
    names = CELL[2:]
    return {cell: _training(rows) for cell, rows in runs.groupby(names, sort=False, dropna=False)}


def _training(rows: pd.DataFrame) -> Training:
    sets = ("fine_tune_epochs", "fine_tune_recipes", "pruning_epochs", "pruning_recipes")
    return Training(
        fresh=bool((rows["start"] == "fresh").any()),
        bases=frozenset(zip(rows["seed"], rows["base_hash"], strict=True)),
        epochs=(rows["epochs"].min(), rows["epochs"].max()),
        cost=(rows["cost"].min(skipna=False), rows["cost"].max(skipna=False)),
        **{name: frozenset(rows[name]) for name in sets},
    )


def _words(recipes: dict[str, dict[str, object]], roles: Iterable[str]) -> str:
    """Return the recipes of some roles as text, without their names."""
    own = {role: recipes.get(role, {}) for role in roles}
    return json.dumps(
        {role: {k: v for k, v in recipe.items() if k != "name"} for role, recipe in own.items()},
        sort_keys=True,
    )


def level_of(rows: Sequence[Training]) -> Fairness:
    """Return the level that each pair of some rows reaches."""
    rows = list(dict.fromkeys(rows))
    if any(row.fresh for row in rows):
        return _level_of_fresh(rows)
    reached = Fairness("S1", "only data and network", "base networks")
    for holds, level in _STEPS:
        if not holds(rows):
            break
        reached = level
    if reached.level != "S2" or not (totals := _totals(rows)):
        return reached
    differing = "numbers of pruning and of fine-tuning epochs"
    return Fairness(totals[0], f"the base network and {totals[1]}", differing)


def _level_of_fresh(rows: Sequence[Training]) -> Fairness:
    if not all(row.fresh for row in rows):
        return Fairness("S1", "only data and network", "starting points")
    if not (totals := _totals(rows)):
        return Fairness("S1", "only data and network", "total numbers of epochs")
    return Fairness(totals[0], f"data, network and {totals[1]}", "")


def _totals(rows: Sequence[Training]) -> tuple[str, str] | None:
    """Return the level of equal totals and its words; None if the totals differ."""
    if _within([row.epochs for row in rows], _EPOCHS_WITHIN, _EPOCHS_SHARE):
        return "SX-A", "the total number of epochs"
    if _within([row.cost for row in rows], 0.0, _COST_WITHIN):
        return "SX-B", "the total training cost (multiply-accumulates × samples)"
    return None


def _within(ranges: Sequence[tuple[float, float]], absolute: float, relative: float) -> bool:
    """Whether values are equal up to a difference; False if one is NaN."""
    low, high = (min(low for low, _ in ranges), max(high for _, high in ranges))
    if any(math.isnan(value) for pair in ranges for value in pair):
        return False
    return high - low <= absolute + relative * high


def _same_bases(rows: Sequence[Training]) -> bool:
    """Whether all rows start from one known base, seed by seed if they share seeds."""
    if any(not name for row in rows for _, name in row.bases):
        return False
    return all(_same_base(dict(a.bases), dict(b.bases)) for a, b in combinations(rows, 2))


def _same_base(one: dict[int, str], other: dict[int, str]) -> bool:
    if common := one.keys() & other.keys():
        return all(one[seed] == other[seed] for seed in common)
    return set(one.values()) == set(other.values())


def _same_fine_tuning_epochs(rows: Sequence[Training]) -> bool:
    """Whether the fine-tuning epochs are equal; a method without fine-tuning has 0."""
    return len(set().union(*(row.fine_tune_epochs for row in rows))) == 1


def _same_fine_tuning(rows: Sequence[Training]) -> bool:
    return len(set().union(*(row.fine_tune_recipes for row in rows))) == 1


def _same_pruning_epochs(rows: Sequence[Training]) -> bool:
    """Whether the epochs before fine-tuning are equal to a thousandth."""
    return len(set().union(*(row.pruning_epochs for row in rows))) == 1


def _same_pruning(rows: Sequence[Training]) -> bool:
    """Whether nothing is trained before fine-tuning, or with the same recipes in the same roles."""
    if all(row.pruning_epochs == {0.0} for row in rows):
        return True
    return len(set().union(*(row.pruning_recipes for row in rows))) == 1


_STEPS = (
    (_same_bases, Fairness("S2", "the base network", "numbers of fine-tuning epochs")),
    (
        _same_fine_tuning_epochs,
        Fairness(
            "S3.1",
            "the base network and the number of fine-tuning epochs",
            "fine-tuning recipes",
        ),
    ),
    (
        _same_fine_tuning,
        Fairness(
            "S3.2", "the base network and the fine-tuning recipe", "numbers of pruning epochs"
        ),
    ),
    (
        _same_pruning_epochs,
        Fairness(
            "S4.1",
            "the base network, the fine-tuning recipe and the number of pruning epochs",
            "recipes while pruning",
        ),
    ),
    (
        _same_pruning,
        Fairness(
            "S4.2",
            "the base network, the fine-tuning recipe and the training while pruning",
            "",
        ),
    ),
)
