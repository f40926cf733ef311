from __future__ import annotations

import numpy as np

from prunebench.report.envelope import envelope


def stretches(*lines: tuple[list[float], list[float]], gap: float = 0.1) -> list[list[list[float]]]:
    arrays = [(np.array(x), np.array(y)) for x, y in lines]
    return [[part.tolist() for part in stretch] for stretch in envelope(arrays, gap)]


def test_lines_are_straight_between_their_points() -> None:
    # at 2, the first line is halfway from 10 to 20
    assert stretches(([1, 3], [10, 20]), ([1, 2, 3], [0, 30, 0])) == [
        [[1, 2, 3], [0, 15, 0], [10, 30, 20]]
    ]


def test_points_that_are_close_are_one_place() -> None:
    assert stretches(([1.0], [5]), ([1.02], [7]), ([1.04], [6])) == [[[1.02], [5], [7]]]


def test_places_that_no_line_joins_are_apart() -> None:
    assert stretches(([1], [5]), ([2, 3], [6, 7])) == [[[1], [5], [5]], [[2, 3], [6, 7], [6, 7]]]


def test_a_line_counts_only_where_it_reaches() -> None:
    assert stretches(([1, 2], [5, 5]), ([2, 3], [8, 8])) == [
        [[1, 2, 3], [5, 5, 8], [5, 8, 8]],
    ]


def test_no_lines_have_no_range() -> None:
    assert stretches() == []
