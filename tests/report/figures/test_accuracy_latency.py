from __future__ import annotations

from typing import Any

import pytest

from prunebench.report.figures.accuracy_latency import accuracy_latency
from prunebench.report.runs_csv import latency_columns
from tests.report.conftest import few_runs, shown, words


def times(
    base_ms: float, ms: float, batch_size: int = 1, part: Any = "forward"
) -> dict[str, float]:
    columns = latency_columns("cpu", batch_size, part)
    return dict(zip(columns, (ms, base_ms, base_ms / ms), strict=True))


def test_a_panel_per_part_and_batch_size_says_the_milliseconds_of_the_base() -> None:
    row = times(3.0, 1.5) | times(80.0, 20.0, 64) | times(5.0, 4.0, 1, "whole")
    titles = [
        axes.get_title(loc="left").splitlines()[1]
        for axes in shown(accuracy_latency(few_runs(row)))
    ]
    assert titles == [
        "CPU, one image · base 3.00 ms",
        "CPU, batch of 64 · base 80.0 ms",
        "CPU, one image, with post-processing · base 5.00 ms",
    ]


def test_points_are_mean_speedups_and_the_base_is_a_cross_at_1() -> None:
    rows = [times(4.0, 2.0), times(6.0, 2.0) | {"seed": 1, "accuracy": 97.0}]
    (axes,) = accuracy_latency(few_runs(*rows)).axes
    (bars,) = axes.containers
    assert (list(bars[0].get_xdata()), list(bars[0].get_ydata())) == ([2.5], [97.5])
    (cross,) = [line for line in axes.lines if line.get_marker() == "+"]
    assert (list(cross.get_xdata()), list(cross.get_ydata())) == ([1.0], [99.0])
    low, high = axes.get_xlim()
    assert (low, high) == pytest.approx((1.0, 2.65))  # 2.5, and 6 % beyond


def test_networks_that_were_not_timed_are_not_shown() -> None:
    rows = [times(4.0, 2.0), {"method": "increg"}, times(4.0, 4.0) | {"method": "unpruned"}]
    figure = accuracy_latency(few_runs(*rows))
    (axes,) = shown(figure)
    assert [bars.get_label() for bars in axes.containers] == ["l1"]


@pytest.mark.parametrize("row", [{}, times(1.0, 1.0) | {"method": "unpruned", "ratio": 0.0}])
def test_without_times_the_figure_says_so(row: dict[str, Any]) -> None:
    (axes,) = accuracy_latency(few_runs(row)).axes
    assert words(axes) == ["no latency was measured"]


def test_detectors_are_compared_by_ap() -> None:
    figure = accuracy_latency(few_runs(times(2.0, 1.0) | {"task": "detection"}))
    assert figure.get_suptitle() == "AP vs. latency"
    assert figure.axes[0].get_ylabel() == "COCO AP (%)"


def test_an_unstable_latency_is_grey_and_not_on_the_front() -> None:
    known = {"latency_speedup_low_cpu_b1": 2.5, "latency_speedup_high_cpu_b1": 4.5}
    row = times(4.0, 1.0) | known | {"latency_unstable_cpu_b1": 1.0, "method": "random"}
    others = [{"ratio": 0.5}, {"ratio": 0.75, "accuracy": 97.0}]
    stable = [times(4.0, 2.0) | {"latency_unstable_cpu_b1": 0.0} | own for own in others]
    (axes,) = shown(accuracy_latency(few_runs(row, *stable)))
    assert [bars.get_label() for bars in axes.containers] == ["l1", "_unstable"]
    (segment,) = axes.containers[1][2][0].get_segments()
    assert segment[:, 0].tolist() == [2.5, 4.5]
    (front,) = [patch for patch in axes.patches if patch.get_label() == "_front"]
    assert list(front.get_data().edges) == [1.0, 2.0]
