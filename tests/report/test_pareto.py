from __future__ import annotations

import math

import pandas as pd
import pytest

from prunebench.report.pareto import pareto_front


def cells(*rows: tuple[float, float, float, int]) -> pd.DataFrame:
    """Return cells from (speedup, accuracy, accuracy_std, n)."""
    return pd.DataFrame(rows, columns=["speedup", "accuracy", "accuracy_std", "n"])


def front(*rows: tuple[float, float, float, int]) -> list[list[float]]:
    steps = pareto_front(cells(*rows), "speedup", 1.0)
    return steps[["until", "accuracy"]].to_numpy().tolist()


ONE_SEED = (math.nan, 1)


def test_only_cells_that_no_other_dominates_make_steps() -> None:
    # (3, 85) is slower and worse than (4, 90); (4, 88) is as fast and worse
    found = front((2, 95, *ONE_SEED), (3, 85, *ONE_SEED), (4, 90, *ONE_SEED), (4, 88, *ONE_SEED))
    assert found == [[2, 95], [4, 90]]


def test_a_fast_and_accurate_cell_is_the_whole_front() -> None:
    assert front((2, 90, *ONE_SEED), (4, 95, *ONE_SEED)) == [[4, 95]]


def test_cells_that_are_not_faster_than_the_start_are_no_step() -> None:
    assert front((0.9, 99, *ONE_SEED), (2, 95, *ONE_SEED)) == [[2, 95]]


def test_bounds_are_the_fronts_of_the_bounds() -> None:
    # t(2 degrees of freedom, 97.5 %) = 4.303; half widths 4.303 * std / sqrt(3)
    steady, noisy = (2, 90.0, 0.4, 3), (4, 89.0, 2.0, 3)  # half widths 0.994 and 4.969
    steps = pareto_front(cells(steady, noisy), "speedup", 1.0)
    assert steps["low"].tolist() == pytest.approx([89.006, 84.031], abs=0.001)
    # the noisy cell reaches 93.969, above the 90.994 of the steady one, at a higher speedup
    assert steps["high"].tolist() == pytest.approx([93.969, 93.969], abs=0.001)


@pytest.mark.parametrize(("std", "n"), [(math.nan, 1), (1.0, 2), (0.0, 3)])
def test_no_interval_without_three_seeds_that_differ(std: float, n: int) -> None:
    steps = pareto_front(cells((2, 90, std, n)), "speedup", 1.0)
    assert steps[["low", "high"]].isna().all(axis=None)


def test_a_step_without_an_interval_is_not_shaded_by_another_cell() -> None:
    steps = pareto_front(cells((2, 90, math.nan, 1), (4, 80, 1.0, 3)), "speedup", 1.0)
    assert steps["low"].isna().tolist() == [True, False]


def test_bounds_end_at_100() -> None:
    steps = pareto_front(cells((2, 99.5, 1.0, 3)), "speedup", 1.0)
    assert steps["high"].tolist() == [100.0]


def test_nothing_pruned_has_no_front() -> None:
    assert pareto_front(cells(), "speedup", 1.0).empty
