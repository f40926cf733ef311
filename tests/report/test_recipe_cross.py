"""Methods under two recipes: pairs within a recipe, and orders that change with it."""

from __future__ import annotations

from typing import Any

import pandas as pd

from prunebench.report.fairness import fairness
from prunebench.report.recipe_cross import DEPENDS, second_recipes
from prunebench.report.seed_statistics import summarize
from prunebench.report.summary_table import summary_table
from tests.report.conftest import few_runs

LONG = {"setting": "default_with_long", "recipes": '{"fine_tune":{"name":"long","lr":0.1}}'}


def crossed(**accuracies: tuple[float, float]) -> list[dict[str, Any]]:
    """Return a run of each method under the recipe `short`, and one under the recipe `long`."""
    return [
        {"method": method, "accuracy": accuracy, **how}
        for method, pair in accuracies.items()
        for accuracy, how in zip(pair, ({}, LONG), strict=True)
    ]


def by_row(summary: pd.DataFrame, column: str) -> dict[str, Any]:
    names = summary["method"] + "/" + summary["setting"]
    return dict(zip(names, summary[column], strict=True))


def test_the_setting_s_name_and_the_recipe_must_agree() -> None:
    other = {"setting": "sum_with_long"}  # a name by chance: trained with `short`
    alone = {**LONG, "method": "sfp"}  # no run under the first recipe
    frame = few_runs({}, LONG, {"setting": "sum"}, other, alone)
    assert second_recipes(frame).tolist() == ["", "long", "", "", ""]
    short = LONG | {"recipes": '{"fine_tune":{"name":"long_x0_1"}}'}  # shortened by an override
    assert second_recipes(few_runs({}, short)).tolist() == ["", "long"]


def test_differences_pair_runs_under_one_recipe() -> None:
    summary = summarize(few_runs(*crossed(l1=(90.0, 95.0), greg_1=(91.0, 95.5))))
    found = by_row(summary, "difference")
    assert (found["greg_1/default"], found["greg_1/default_with_long"]) == (1.0, 0.5)
    assert "verdict" not in summary


def test_a_winner_that_flips_is_not_ranked() -> None:
    rows = crossed(l1=(90.0, 95.0), greg_1=(91.0, 94.0), sfp=(80.0, 80.0))
    summary = summarize(few_runs(*rows))
    verdicts = by_row(summary, "verdict")
    assert verdicts["greg_1/default"] == verdicts["greg_1/default_with_long"] == DEPENDS
    assert verdicts["sfp/default"] == ""  # below l1 under both
    groups = by_row(summary, "group")
    assert groups["l1/default"] == groups["greg_1/default_with_long"] == DEPENDS
    assert groups["sfp/default"] == groups["sfp/default_with_long"] == ""


def test_a_winner_that_stays_keeps_its_letters() -> None:
    rows = [
        run | {"seed": seed, "accuracy": run["accuracy"] + step * (1 + seed)}
        for seed in range(3)
        for step, pair in ((0.1, {"l1": (90.0, 91.0)}), (0.11, {"greg_1": (95.0, 96.0)}))
        for run in crossed(**pair)
    ]
    summary = summarize(few_runs(*rows))
    assert by_row(summary, "group") == {
        "l1/default": "b",
        "l1/default_with_long": "b",
        "greg_1/default": "a",
        "greg_1/default_with_long": "a",
    }
    assert set(by_row(summary, "verdict").values()) == {"", "higher"}


def test_a_note_names_the_second_recipe_and_what_changes() -> None:
    frame = few_runs(*crossed(l1=(90.0, 95.0), greg_1=(91.0, 94.0)))
    (note,) = [one for one in summary_table(frame).sections[0].notes if "second recipe" in one]
    assert "(long)" in note
    assert note.endswith("the order of these methods changes with it, so they are not ranked.")


def test_fairness_is_that_of_the_rows_under_one_recipe() -> None:
    frame = few_runs(*crossed(l1=(90.0, 95.0), greg_1=(91.0, 94.0)))
    assert fairness(frame).level == "S4.2"
