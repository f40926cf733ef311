from __future__ import annotations

import json
import math
from typing import Any

import pandas as pd
import pytest

from prunebench.report.fairness import fairness

from .conftest import few_runs, history

OTHER_RECIPE = '{"fine_tune":{"name":"short","lr":0.1}}'
OTHER_NAME = '{"fine_tune":{"name":"same_under_another_name","lr":0.01}}'
FRESH = {"start": "fresh", "base_hash": math.nan, "recipes": "{}", "fine_tune_epochs": math.nan}


def recipes(**rates: float) -> str:
    return json.dumps({role: {"name": role, "lr": lr} for role, lr in rates.items()})


REGULARIZED = {"epochs": 20.0, "recipes": recipes(regularize=0.01, fine_tune=0.01)}
# the cost of a run that prunes at the end of 6 epochs and fine-tunes for 12 is 6 + 12 / 2 = 12
LATE = {"epochs": 18.0, "history": history(["prune"] * 6, ["fine_tune"] * 12)}


@pytest.mark.parametrize(
    ("one", "other", "level", "differing"),
    [
        ({}, {"base_hash": "b1"}, "S1", "base networks"),
        ({}, {"start": "fresh"}, "S1", ""),
        ({}, {"fine_tune_epochs": 6.0, "epochs": 6.0}, "S2", "numbers of fine-tuning epochs"),
        ({}, {"fine_tune_epochs": 6.0}, "SX-A", "numbers of pruning and of fine-tuning epochs"),
        (
            {"epochs": 15.0, "fine_tune_epochs": 15.0},
            {"epochs": 15.0146, "fine_tune_epochs": 12.1},  # its pruning ended within an epoch
            "SX-A",
            "numbers of pruning and of fine-tuning epochs",
        ),
        (
            LATE,
            {"epochs": 24.0, "fine_tune_epochs": 24.0, "history": history([], ["fine_tune"] * 24)},
            "SX-B",
            "numbers of pruning and of fine-tuning epochs",
        ),
        (
            LATE,
            {"epochs": 26.0, "fine_tune_epochs": 26.0, "history": history([], ["fine_tune"] * 26)},
            "S2",
            "numbers of fine-tuning epochs",
        ),
        ({}, {"recipes": OTHER_RECIPE}, "S3.1", "fine-tuning recipes"),
        ({}, {"epochs": 20.0}, "S3.2", "numbers of pruning epochs"),
        (
            REGULARIZED,
            REGULARIZED | {"recipes": recipes(regularize=0.5, fine_tune=0.01)},
            "S4.1",
            "recipes while pruning",
        ),
        (REGULARIZED, REGULARIZED, "S4.2", ""),
        ({}, {"recipes": OTHER_NAME}, "S4.2", ""),
    ],
)
def test_level_ends_where_two_methods_first_differ(
    one: dict[str, Any], other: dict[str, Any], level: str, differing: str
) -> None:
    found = fairness(few_runs(one, {"method": "greg_1"} | other))
    assert (found.level, found.differing) == (level, differing)


def test_the_level_of_a_table_is_that_of_its_worst_pair() -> None:
    same, unfair = {"method": "greg_1"}, {"method": "x", "recipes": OTHER_RECIPE}
    assert fairness(few_runs({}, same)).level == "S4.2"
    assert fairness(few_runs({}, same, unfair)).level == "S3.1"


@pytest.mark.parametrize(
    ("other", "warned"),
    [
        ({"base_hash": "b1"}, True),
        ({"fine_tune_epochs": 6.0, "epochs": 6.0}, True),
        ({"recipes": OTHER_RECIPE}, True),
        ({"fine_tune_epochs": 6.0}, False),
        ({"epochs": 20.0}, False),
        ({}, False),
    ],
)
def test_a_level_below_s3_2_is_a_warning(other: dict[str, Any], warned: bool) -> None:
    note = str(fairness(few_runs({}, {"method": "greg_1"} | other)))
    assert note.endswith("may come from the training instead of the pruning.") is warned


def test_methods_from_fresh_weights_are_compared_by_their_totals() -> None:
    long = FRESH | {"method": "sfp", "epochs": 40.0}
    found = fairness(few_runs(FRESH, FRESH | {"method": "asfp"}))
    assert str(found).endswith(
        "SX-A (arXiv 2301.05219): the methods share data, network and the total number of epochs."
    )
    assert fairness(few_runs(FRESH, long)).level == "S1"
    # 24 epochs of half the multiply-accumulates cost as much as 12 of all
    half = FRESH | {"epochs": 24.0, "history": history([], ["train"] * 24)}
    full = FRESH | {"method": "sfp", "history": history(["train"] * 12, [])}
    assert fairness(few_runs(half, full)).level == "SX-B"


def test_settings_and_ratios_of_one_method_are_rows() -> None:
    assert fairness(few_runs({}, {"ratio": 0.75})).level == "S4.2"
    assert fairness(few_runs({}, {"setting": "x", "recipes": OTHER_RECIPE})).level == "S3.1"


def test_rows_without_a_common_seed_need_one_base() -> None:
    other = {"method": "x", "seed": 1}
    assert fairness(few_runs({}, other)).level == "S4.2"
    assert fairness(few_runs({}, other | {"base_hash": "b1"})).level == "S1"


def test_note_is_a_sentence() -> None:
    assert str(fairness(few_runs({}, {"method": "greg_1", "epochs": 20.0}))) == (
        "Fairness level S3.2 (arXiv 2301.05219): the methods share the base network and the "
        "fine-tuning recipe; their numbers of pruning epochs differ."
    )


def test_different_bases_end_the_level_at_s1() -> None:
    both = {"method": "greg_1", "base_hash": "b1", "fine_tune_epochs": 6.0}
    assert fairness(few_runs({}, both)).level == "S1"


def test_seeds_have_bases_of_their_own() -> None:
    second = {"seed": 1, "base_hash": "b1"}
    greg = {"method": "greg_1"}
    assert fairness(few_runs({}, second, greg, greg | second)).level == "S4.2"


def test_unknown_bases_are_not_the_same() -> None:
    unknown = {"base_hash": math.nan}
    assert fairness(few_runs(unknown, {"method": "greg_1"} | unknown)).level == "S1"


def test_methods_from_fresh_weights_stand_apart() -> None:
    found = fairness(few_runs({}, {"method": "greg_1"}, {"method": "sfp"} | FRESH))
    assert (found.level, found.fresh) == ("S4.2", ("sfp",))
    assert str(found).endswith("share only data and network with the others (level S1): sfp.")


def test_one_row_alone_has_no_level() -> None:
    assert str(fairness(few_runs({}, {"method": "unpruned", "epochs": 0.0}))) == ""


def test_methods_without_fine_tuning_fine_tune_for_no_epochs() -> None:
    none = {"recipes": "{}", "fine_tune_epochs": math.nan, "epochs": 3.0}
    assert fairness(few_runs(none, {"method": "x"} | none)).level == "S4.2"


def test_pruning_epochs_separate_regularization_from_one_shot(runs: pd.DataFrame) -> None:
    found = fairness(runs[runs["architecture"] == "resnet20"])
    assert found.level == "S3.2"
    assert found.fresh == ("sfp", "asfp", "srfp", "asrfp", "scratch_e", "scratch_b")
