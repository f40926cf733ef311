from __future__ import annotations

import pytest
import torch

from prunebench.methods.allocation import (
    leaving_order,
    lowest,
    pruned_count,
    shortest_prefix,
)


@pytest.mark.parametrize(
    ("ratio", "n", "count"),
    [
        (0.9, 16, 15),
        (0.95, 16, 15),
        (0.7, 64, 45),
        (0.68, 64, 44),
        (0.21, 512, 108),
        (0.14, 512, 72),
        (0.0, 64, 0),
    ],
)
def test_counts_round_up(ratio: float, n: int, count: int) -> None:
    assert pruned_count(n, ratio) == count


@pytest.mark.parametrize(("ratio", "n", "count"), [(0.07, 100, 8), (0.55, 100, 56), (0.28, 25, 8)])
def test_counts_may_be_one_too_many_in_floating_point(ratio: float, n: int, count: int) -> None:
    assert pruned_count(n, ratio) == count


@pytest.mark.parametrize("n", [1, 2, 16])
def test_one_unit_always_survives(n: int) -> None:
    assert pruned_count(n, 0.999) == n - 1


@pytest.mark.parametrize(
    ("ratio", "kept"),
    [
        (0.5, [8, 16, 32]),
        (0.7, [4, 9, 19]),
        (0.9, [1, 3, 6]),
        (0.925, [1, 2, 4]),
        (0.95, [1, 1, 3]),
    ],
)
def test_widths_of_resnet56_in_greg(ratio: float, kept: list[int]) -> None:
    assert [n - pruned_count(n, ratio) for n in (16, 32, 64)] == kept


@pytest.mark.parametrize(
    ("ratio", "kept"),
    [
        (0.5, [32, 64, 128, 256]),
        (0.6, [25, 51, 102, 204]),
        (0.7, [19, 38, 76, 153]),
        (0.8, [12, 25, 51, 102]),
        (0.9, [6, 12, 25, 51]),
    ],
)
def test_widths_of_vgg19_in_greg(ratio: float, kept: list[int]) -> None:
    assert [n - pruned_count(n, ratio) for n in (64, 128, 256, 512)] == kept


def test_widths_by_stage_of_the_2_55x_network_of_greg() -> None:
    stages = [(16, 0.75), (32, 0.75), (64, 0.32)]
    assert [n - pruned_count(n, ratio) for n, ratio in stages] == [4, 8, 43]


def test_lowest_are_ascending_indices() -> None:
    assert lowest(torch.tensor([3.0, 0.0, 2.0, 1.0]), 3).tolist() == [1, 2, 3]


def test_ties_go_to_the_lower_index() -> None:
    assert lowest(torch.ones(40), 3).tolist() == [0, 1, 2]


def test_lowest_none_is_an_empty_set() -> None:
    assert lowest(torch.tensor([1.0, 2.0]), 0).tolist() == []


def test_a_shorter_beginning_of_the_order_is_a_smaller_plan() -> None:
    scores = {"a": torch.tensor([4.0, 1.0, 3.0]), "b": torch.tensor([0.5, 2.0, 5.0, 6.0])}
    assert leaving_order(scores, {}, "global") == ["b", "a", "b", "a", "b"]
    # a at 1/3 and 2/3, b at 1/4, 2/4, 3/4 of its width
    assert leaving_order(scores, {}, "uniform") == ["b", "a", "b", "a", "b"]


def test_removed_units_count_in_a_uniform_order() -> None:
    scores = {"a": torch.arange(3.0), "b": torch.arange(2.0)}
    # b had four units: its next one is its third, at 3/4; those of a stand at 1/3 and 2/3
    assert leaving_order(scores, {"b": 2}, "uniform") == ["a", "a", "b"]


def test_without_groups_nothing_is_removed() -> None:
    assert leaving_order({}, {}, "global") == []


@pytest.mark.parametrize(("goal", "counts"), [(0, {}), (1, {"b": 1}), (3, {"b": 2, "a": 1})])
def test_the_shortest_beginning_that_reaches_a_target(goal: int, counts: dict[str, int]) -> None:
    order = ["b", "a", "b"]
    assert shortest_prefix(order, lambda c: sum(c.values()) >= goal) == counts


def test_a_target_out_of_reach_is_an_error() -> None:
    with pytest.raises(ValueError, match="out of reach"):
        shortest_prefix(["a"], lambda counts: False)
