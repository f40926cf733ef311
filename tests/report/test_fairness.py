from __future__ import annotations

import math
from typing import Any

import pandas as pd
import pytest

from prunebench.report.fairness import fairness

from .conftest import few_runs

OTHER_RECIPE = '{"fine_tune":{"name":"short","lr":0.1}}'
OTHER_NAME = '{"fine_tune":{"name":"same_under_another_name","lr":0.01}}'
FRESH = {"start": "fresh", "base_hash": math.nan, "recipes": "{}", "fine_tune_epochs": math.nan}


@pytest.mark.parametrize(
    ("other", "level", "differing"),
    [
        ({"base_hash": "b1"}, "S1", "base networks"),
        ({"fine_tune_epochs": 6.0, "epochs": 6.0}, "S2", "numbers of fine-tuning epochs"),
        ({"fine_tune_epochs": 6.0}, "SX-A", "numbers of pruning and of fine-tuning epochs"),
        ({"recipes": OTHER_RECIPE}, "S3.1", "fine-tuning recipes"),
        ({"epochs": 20.0}, "S3.2", "numbers of pruning epochs"),
        ({"recipes": OTHER_NAME}, "S4.1", ""),
    ],
)
def test_level_ends_where_two_methods_first_differ(
    other: dict[str, Any], level: str, differing: str
) -> None:
    found = fairness(few_runs({}, {"method": "greg_1"} | other))
    assert (found.level, found.differing) == (level, differing)


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
    assert fairness(few_runs({}, second, greg, greg | second)).level == "S4.1"


def test_unknown_bases_are_not_the_same() -> None:
    unknown = {"base_hash": math.nan}
    assert fairness(few_runs(unknown, {"method": "greg_1"} | unknown)).level == "S1"


def test_methods_from_fresh_weights_stand_apart() -> None:
    found = fairness(few_runs({}, {"method": "greg_1"}, {"method": "sfp"} | FRESH))
    assert (found.level, found.fresh) == ("S4.1", ("sfp",))
    assert str(found).endswith("share only data and network with the others (level S1): sfp.")


def test_one_method_alone_shares_nothing() -> None:
    found = fairness(few_runs({}, {"method": "unpruned", "epochs": 0.0}))
    assert str(found).endswith("S1 (arXiv 2301.05219): the methods share only data and network.")


def test_methods_without_fine_tuning_fine_tune_for_no_epochs() -> None:
    none = {"recipes": "{}", "fine_tune_epochs": math.nan, "epochs": 3.0}
    assert fairness(few_runs(none, {"method": "x"} | none)).level == "S4.1"


def test_pruning_epochs_separate_regularization_from_one_shot(runs: pd.DataFrame) -> None:
    found = fairness(runs[runs["architecture"] == "resnet20"])
    assert found.level == "S3.2"
    assert found.fresh == ("sfp", "asfp", "srfp", "asrfp", "scratch_e", "scratch_b")
