"""Methods that run under two recipes: whether their order depends on the recipe.

The fine-tuning recipe can decide more than the criterion (Wang et al., "Why is the State of Neural
Network Pruning so Confusing?", arXiv 2301.05219). Where an experiment has `recipe_cross`, methods
are compared under each recipe separately, and an order that changes is not ranked.
"""

from __future__ import annotations

import json

import numpy as np
import pandas as pd

from prunebench.experiments.spec import crossed_from
from prunebench.report.runs_csv import CELL, NETWORK, UNPRUNED

DEPENDS = "depends on the recipe"  # instead of a verdict or of letters
_RATIO = [*NETWORK, "ratio_kind", "ratio"]


def second_recipes(frame: pd.DataFrame) -> pd.Series:
    """Return the second recipe that each run is under; "" for the experiment's own recipes.

    A setting is under a second recipe if its name says so, the run has trained with it, and its
    method also has the plain setting.
    """
    names = {setting: crossed_from(setting) for setting in frame["setting"].unique()}
    if not any(recipe for _, recipe in names.values()):
        return pd.Series("", frame.index, dtype=object)
    plain = set(zip(frame["method"], frame["setting"], strict=True))
    rows = zip(frame["method"], frame["setting"], frame["recipes"], strict=True)
    found = [
        names[setting][1]
        if (method, names[setting][0]) in plain and _trains_with(recipes, names[setting][1])
        else ""
        for method, setting, recipes in rows
    ]
    return pd.Series(found, frame.index, dtype=object)


def _trains_with(recipes: str, name: str) -> bool:
    """Whether a run's recipes have the name, or the name with the suffix of an override."""
    used = [str(recipe["name"]) for recipe in json.loads(recipes).values()]
    return name != "" and any(own == name or own.startswith(f"{name}_") for own in used)


def crossed_cells(frame: pd.DataFrame) -> pd.DataFrame:
    """Return the second recipe and the plain setting of each cell, indexed by cell.

    Empty if no run is under a second recipe.
    """
    second = second_recipes(frame)
    if not (second != "").any():
        return pd.DataFrame()
    cells = frame.assign(second_recipe=second).drop_duplicates(CELL)
    own = [crossed_from(s)[0] if r else s for s, r in cells[["setting", "second_recipe"]].values]
    return cells.assign(own_setting=own).set_index(CELL)[["second_recipe", "own_setting"]]


def changed_signs(summary: pd.DataFrame, cells: pd.DataFrame, difference: str) -> pd.Series:
    """Return which rows of a summary are above a reference under one recipe and below by another.

    `difference` is the column of the differences, and `cells` are those of `crossed_cells`.
    """
    own = summary.join(cells, on=CELL)
    signs = np.sign(own[difference]).where(own[difference].abs() > 0)
    same = [own[name] for name in [*NETWORK, "method", "own_setting", "ratio_kind", "ratio"]]
    changed: pd.Series = signs.groupby(same, dropna=False).transform("nunique") > 1
    return changed


def changed_winners(summary: pd.DataFrame, cells: pd.DataFrame) -> tuple[pd.Series, pd.Series]:
    """Return which rows of a summary win under one recipe alone, and which are beside such a row.

    At each ratio, the settings that ran under every recipe are compared by their mean accuracy.
    """
    own = summary.join(cells, on=CELL)
    own["name"] = own["method"] + "/" + own["own_setting"]
    wins = pd.Series(False, summary.index)
    beside = pd.Series(False, summary.index)
    pruned = own[(own["method"] != UNPRUNED) & own["ratio"].notna()]
    for _, rows in pruned.groupby(_RATIO, sort=False):
        by_recipe = rows.pivot_table("accuracy", "name", "second_recipe").dropna()
        winners = {str(name) for name in by_recipe.idxmax()} if by_recipe.shape[1] > 1 else set()
        if len(winners) > 1:
            wins |= own.index.isin(rows.index[rows["name"].isin(winners)])
            beside |= own.index.isin(rows.index)
    return wins, beside
