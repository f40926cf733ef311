from __future__ import annotations

import pytest
import torch
from torch import Tensor

from prunebench.methods.increg.formulas import (
    averaged_rank,
    ceiling_factor,
    discontinuous_increments,
    next_share,
    norm_increments,
    ranks,
    smaller_share,
    stage_base,
    staged_ceiling,
    symmetric_increments,
)


def row(*values: float) -> Tensor:
    return torch.tensor([values], dtype=torch.float64)


def number(value: float) -> Tensor:
    return torch.tensor([[value]], dtype=torch.float64)


# --- ranks
def test_ranks_count_from_the_smallest() -> None:
    assert ranks(row(3, 1, 2)).tolist() == [[2, 0, 1]]


def test_of_equal_values_the_first_comes_first() -> None:
    assert ranks(row(1, 0, 1, 0, 1)).tolist() == [[2, 0, 3, 1, 4]]


def test_layers_are_ranked_on_their_own() -> None:
    values = torch.tensor([[5.0, 4.0], [1.0, 2.0]])
    assert ranks(values).tolist() == [[1, 0], [0, 1]]


def test_averaged_rank_over_three_iterations() -> None:
    mean, found = torch.zeros(1, 3, dtype=torch.float64), []
    for n, norms in enumerate([(3, 1, 2), (1, 2, 3), (1, 3, 2)], start=1):
        mean = averaged_rank(mean, ranks(row(*norms)), n)
        found.append(mean[0].tolist())
    assert found[0] == [2, 0, 1]
    assert found[1] == [1, 0.5, 1.5]
    assert found[2] == pytest.approx([0.666667, 1, 1.333333], abs=5e-7)


# --- increments
@pytest.mark.parametrize(
    ("pivot", "expected"),
    [
        (4, [1, 0.594604, 0.353553, 0.202698, 0, -0.340896, -0.914214, -1.878414, -3.5]),
        (5, [1, 0.659754, 0.435275, 0.287175, 0.170123, 0, -0.257858, -0.648698, -1.241101]),
    ],
)
def test_symmetric_increments(pivot: int, expected: list[float]) -> None:
    positions = torch.arange(9, dtype=torch.float64)[None]
    found = symmetric_increments(positions, number(pivot), 1.0)
    assert found[0].tolist() == pytest.approx(expected, abs=5e-7)


@pytest.mark.parametrize(
    ("position", "expected"),
    [
        (0, 2.5e-4),
        (100, 1.214415e-4),
        (192, 6.25e-5),
        (288, 0),
        (400, -1.556155e-4),
        (575, -8.678057e-4),
    ],
)
def test_symmetric_increments_of_576_columns(position: int, expected: float) -> None:
    found = symmetric_increments(number(position), number(288), 2.5e-4)
    assert float(found) == pytest.approx(expected, abs=5e-11)


def test_discontinuous_increments() -> None:
    positions = torch.arange(8, dtype=torch.float64)[None]
    found = discontinuous_increments(positions, number(4), number(8), 1.0, 0.1)
    expected = [1, 0.464159, 0.215443, 0.1, -0.1, -0.215443, -0.464159, -1]
    assert found[0].tolist() == pytest.approx(expected, abs=5e-7)


@pytest.mark.parametrize(("R", "expected"), [(1, [1, -0.1, -1]), (2, [1, 0.1, -1])])
def test_a_single_column_on_one_side_takes_the_whole_increment(
    R: int, expected: list[float]
) -> None:
    positions = torch.arange(3, dtype=torch.float64)[None]
    found = discontinuous_increments(positions, number(R), number(3), 1.0, 0.1)
    assert found[0].tolist() == pytest.approx(expected)


def test_increments_from_norms_fall_in_a_line() -> None:
    # 2 - 2 (s - 1) / (3 - 1)
    found = norm_increments(row(1, 2, 3, 5), number(1), number(3), 2.0)
    assert found.tolist() == [[2, 1, 0, -2]]


def test_equal_norms_all_grow_and_larger_ones_are_relieved() -> None:
    found = norm_increments(row(1, 1, 1, 2), number(1), number(1), 0.5)[0].tolist()
    assert found[:3] == [0.5] * 3
    assert found[3] < -1e9


def test_the_base_of_a_stage_follows_its_progress() -> None:
    assert stage_base(row(0, 0.05, 0.2, 1)).tolist()[0] == pytest.approx([0.05, 0.05, 0.15, 0.75])


# --- ceiling and stages
@pytest.mark.parametrize(("x", "m"), [(0.01, 0.25), (0.05, 1), (0.1, 1.893722), (0.2, 2.452036)])
def test_ceiling_factor(x: float, m: float) -> None:
    assert ceiling_factor(x) == pytest.approx(m, abs=5e-7)


@pytest.mark.parametrize(("target", "ceiling"), [(2.5, 6.130090), (2.03915, 5.000069), (5, 10)])
def test_ceilings_in_effect(target: float, ceiling: float) -> None:
    assert staged_ceiling(target, 0.2) == pytest.approx(ceiling, abs=5e-7)


@pytest.mark.parametrize(
    ("accuracy", "x"), [(0.9, 0.01), (0.8995, 0.01), (0.905, 0.05), (0.93, 0.2)]
)
def test_the_next_share_grows_with_the_accuracy(accuracy: float, x: float) -> None:
    assert next_share(accuracy, 0.9) == pytest.approx(x)


@pytest.mark.parametrize(("failed", "x"), [(0.87, 0.08), (0.82, 0.04), (0.92, 0.0), (0.93, 0.0)])
def test_a_failed_share_shrinks_to_where_a_line_meets_the_border(failed: float, x: float) -> None:
    # 0.2 * (0.92 - 0.90) / (0.92 - failed)
    assert smaller_share(0.2, 0.92, failed, 0.9) == pytest.approx(x)
