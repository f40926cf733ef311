from __future__ import annotations

from typing import Any

import pytest

from prunebench.report.figures.speedup_measured import speedup_measured
from prunebench.report.runs_csv import latency_columns
from tests.report.conftest import few_runs, shown, words


def timed(speedup: float, **more: Any) -> dict[str, Any]:
    """Return a run with half of the MACs, measured as so many times as fast."""
    values = (2.0 / speedup, 2.0, speedup)
    return dict(zip(latency_columns("cpu", 1), values, strict=True)) | more


def unstable(speedup: float, low: float, high: float, **more: Any) -> dict[str, Any]:
    known = {"latency_speedup_low_cpu_b1": low, "latency_speedup_high_cpu_b1": high}
    return timed(speedup, latency_unstable_cpu_b1=1.0, **known, **more)


STABLE = {"latency_unstable_cpu_b1": 0.0}


def test_points_are_measured_over_theoretical_speedups() -> None:
    rows = [timed(1.4), timed(1.6, seed=1), timed(2.5, ratio=0.75, speedup_macs=4.0)]
    (axes,) = shown(speedup_measured(few_runs(*rows)))
    (bars,) = axes.containers
    assert list(bars[0].get_xdata()) == [2.0, 4.0]
    assert list(bars[0].get_ydata()) == [1.5, 2.5]
    assert (axes.get_xlabel(), axes.get_ylabel()) == ("MACs speedup (×)", "Latency speedup (×)")


def test_equal_speedups_are_a_diagonal_within_the_panel() -> None:
    (axes,) = shown(speedup_measured(few_runs(timed(1.5))))
    (diagonal,) = [line for line in axes.lines if line.get_label() == "_equal"]
    # from 1 to the smaller of the largest speedups, plus 6 %: 1.5 * 1.06
    assert list(diagonal.get_xdata()) == pytest.approx([1.0, 1.59])
    assert list(diagonal.get_ydata()) == pytest.approx([1.0, 1.59])


def test_a_panel_per_batch_size_says_the_milliseconds_of_the_base() -> None:
    large = dict(zip(latency_columns("cpu", 64), (20.0, 80.0, 4.0), strict=True))
    titles = [
        a.get_title(loc="left") for a in shown(speedup_measured(few_runs(timed(1.5) | large)))
    ]
    assert [title.splitlines()[-1] for title in titles] == [
        "CPU, one image · base 2.00 ms",
        "CPU, batch of 64 · base 80.0 ms",
    ]


def test_an_unstable_latency_is_grey_with_its_range_and_on_no_line() -> None:
    rows = [
        timed(1.5, **STABLE),
        unstable(3.0, 2.5, 3.2, ratio=0.75, speedup_macs=4.0),
        unstable(2.8, 2.7, 3.4, ratio=0.75, speedup_macs=4.0, seed=1),
    ]
    (axes,) = shown(speedup_measured(few_runs(*rows)))
    (grey,) = [bars for bars in axes.containers if bars.get_label() == "_unstable"]
    (line,) = [bars for bars in axes.containers if bars.get_label() == "l1"]
    assert list(line[0].get_xdata()) == [2.0]
    (segment,) = grey[2][0].get_segments()
    # the mean of both seeds, and the range over both
    assert list(grey[0].get_ydata()) == pytest.approx([2.9])
    assert segment[:, 1].tolist() == pytest.approx([2.5, 3.4])
    assert "unstable (1)" in words(axes)


def test_files_without_the_columns_about_stability_have_no_unstable_point() -> None:
    (axes,) = shown(speedup_measured(few_runs(timed(1.5))))
    assert not [text for text in words(axes) if "unstable" in text]


def test_slower_networks_widen_the_axis() -> None:
    (axes,) = shown(speedup_measured(few_runs(timed(0.8))))
    assert axes.get_ylim()[0] == pytest.approx(0.8)
    assert axes.get_xlim()[0] == 1.0


def test_without_latencies_the_figure_says_so() -> None:
    (axes,) = speedup_measured(few_runs({})).axes
    assert words(axes) == ["no latency was measured"]
