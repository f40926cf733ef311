from __future__ import annotations

import pytest
from matplotlib.figure import Figure

from prunebench.report.figures.end_labels import End, label_ends, spread_apart


@pytest.mark.parametrize(
    ("positions", "expected"),
    [
        ([50, 51], [45.5, 55.5]),  # 10 apart around their middle
        ([1, 2, 50], [5, 15, 50]),  # not below the room
        ([98, 99], [85, 95]),  # not above it
        ([10, 90], [10, 90]),
    ],
)
def test_labels_are_apart_and_within_the_panel(
    positions: list[float], expected: list[float]
) -> None:
    assert spread_apart(positions, 10, (0, 100)) == expected


def test_labels_that_do_not_fit_keep_their_distance() -> None:
    assert spread_apart([5, 5, 5], 10, (0, 20)) == [-5, 5, 15]


def test_labels_stand_right_of_the_panel_in_the_order_of_the_ends() -> None:
    figure = Figure()
    axes = figure.subplots()
    ends = [End("low", "#000000", 1, 0.2), End("high", "#000000", 0.5, 0.21)]
    label_ends(figure, [(axes, ends)])
    boxes = {text.get_text(): text.get_window_extent() for text in axes.texts if text.get_text()}
    assert list(boxes) == ["low", "high"]
    assert boxes["low"].y1 <= boxes["high"].y0 + 1  # a pixel
    assert min(box.x0 for box in boxes.values()) > axes.get_window_extent().x1
