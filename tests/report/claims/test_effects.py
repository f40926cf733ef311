from __future__ import annotations

import json
from typing import Any

import pandas as pd
import pytest

from prunebench.report.claims.effects import (
    CONVERGENCE,
    EARLY_ACCURACY,
    SELECTION,
    Contrast,
    Rank,
    VarianceShares,
    Variant,
)
from tests.report.claims.conftest import runs_of
from tests.report.conftest import few_runs

A, B = Variant("a"), Variant("b")
DIFFERENCE = Contrast({A: 1.0, B: -1.0})


def test_a_difference_is_paired_by_seed() -> None:
    found = DIFFERENCE.by_seed(runs_of({"a": [90, 80], "b": [88, 81]}))
    assert found.values.to_dict() == {0: 2.0, 1: -1.0}


def test_ratios_are_averaged_within_a_seed() -> None:
    both = [runs_of({"a": [90], "b": [88]}), runs_of({"a": [70], "b": [60]}, ratio=0.75)]
    found = DIFFERENCE.by_seed(pd.concat(both, ignore_index=True))
    assert found.values.to_dict() == {0: 6.0}  # of 2 and 10
    # one of 1000 images is 0.1 points; a mean of two differences has 1 / sqrt(2) of its rounding
    assert found.step == pytest.approx(0.1 / 2**0.5)


def test_a_seed_that_lacks_a_run_is_left_out() -> None:
    both = [runs_of({"a": [90, 91], "b": [88, 88]}), runs_of({"a": [70], "b": [60]}, ratio=0.75)]
    found = DIFFERENCE.by_seed(pd.concat(both, ignore_index=True))
    assert list(found.values.index) == [0]


def test_a_ratio_that_only_one_of_the_variants_has_is_not_used() -> None:
    both = [runs_of({"a": [90], "b": [88]}), runs_of({"a": [70]}, ratio=0.75)]
    assert DIFFERENCE.by_seed(pd.concat(both, ignore_index=True)).values.to_dict() == {0: 2.0}


def test_without_runs_of_a_variant_there_is_no_effect() -> None:
    assert DIFFERENCE.by_seed(runs_of({"a": [90]})).values.empty
    assert DIFFERENCE.by_seed(runs_of({"c": [90]})).values.empty


def test_a_difference_of_differences() -> None:
    names = {"a": [90], "b": [80], "c": [70], "d": [65]}
    weights = {A: 1.0, B: -1.0, Variant("c"): -1.0, Variant("d"): 1.0}
    found = Contrast(weights).by_seed(runs_of(names))
    assert found.values.to_dict() == {0: 5.0}  # (90 - 80) - (70 - 65)
    assert found.step == pytest.approx(0.1 * 2**0.5)


def test_times_are_compared_by_their_logarithms() -> None:
    rows = [{"method": m, "selection_seconds": s} for m, s in (("a", 0.1), ("b", 1.0), ("c", 100))]
    weights = {B: 0.5, Variant("c"): 0.5, A: -1.0}
    found = Contrast(weights, SELECTION).by_seed(few_runs(*rows))
    assert found.values[0] == pytest.approx(2.0)  # sqrt(1 x 100) / 0.1 = 100
    assert found.step == 0.0


def history(accuracies: list[float], phase: str = "train") -> str:
    n = len(accuracies)
    return json.dumps(
        {
            "phase": [phase] * n,
            "epoch": list(range(1, n + 1)),
            "event": [""] * n,
            "train_loss": [None] * n,
            "val_accuracy": [None] * n,
            "test_accuracy": accuracies,
        }
    )


@pytest.mark.parametrize(
    ("accuracies", "epochs"),
    [
        ([10.0, 90.0, 89.6, 90.0], 2.0),  # 0.4 points away from the end
        ([10.0, 90.0, 89.0, 90.0], 4.0),
        ([90.0, 90.0], 1.0),
    ],
)
def test_a_run_has_converged_once_it_stays_near_its_last_accuracy(
    accuracies: list[float], epochs: float
) -> None:
    frame = few_runs({"history": history(accuracies)})
    assert CONVERGENCE.of(frame).tolist() == [epochs]


def test_the_first_epochs_are_those_of_fine_tuning() -> None:
    frame = few_runs({"history": history([60.0, 70.0, 99.0], "fine_tune")})
    assert EARLY_ACCURACY.of(frame).tolist() == [65.0]
    other = few_runs({"history": history([60.0, 70.0])})
    assert EARLY_ACCURACY.of(other).isna().all()


def test_shares_of_variance_of_a_table_by_hand() -> None:
    # rows a and b, columns x and y: 4 2 / 3 1. Mean 2.5; squares 2.25 + 0.25 + 0.25 + 2.25 = 5.
    # Columns' means 3.5 and 1.5: 2 x (1 + 1) = 4; rows' means 3 and 2: 2 x (0.25 + 0.25) = 1.
    values = {("a", "x"): 4.0, ("a", "y"): 2.0, ("b", "x"): 3.0, ("b", "y"): 1.0}
    rows: list[dict[str, Any]] = [
        {"method": m, "setting": s, "accuracy": value} for (m, s), value in values.items()
    ]
    found = VarianceShares(("a", "b"), ("x", "y")).by_seed(few_runs(*rows))
    assert found.values.to_dict() == pytest.approx({0: 4 / 5 - 1 / 5})
    assert VarianceShares(("a", "b"), ("x", "y")).by_seed(few_runs(*rows[:3])).values.empty


def test_ranks_count_from_the_middle_and_ties_share_theirs() -> None:
    rank = Rank("a", ("a", "b", "c"))
    assert rank.by_seed(runs_of({"a": [3], "b": [2], "c": [1]})).values.to_dict() == {0: 0.5}
    assert rank.by_seed(runs_of({"a": [2], "b": [3], "c": [1]})).values.to_dict() == {0: 0.0}
    # ranks 1.5, 1.5 and 3
    assert rank.by_seed(runs_of({"a": [2], "b": [2], "c": [1]})).values.to_dict() == {0: 0.25}
    assert rank.by_seed(runs_of({"a": [3], "b": [2]})).values.empty
