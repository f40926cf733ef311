from __future__ import annotations

import pandas as pd
import pytest
from matplotlib.axes import Axes
from matplotlib.container import ErrorbarContainer

from prunebench.report.figures.accuracy_speedup import accuracy_speedup
from prunebench.report.looks import look
from tests.report.conftest import CURVE, few_runs, shown, words


def series(axes: Axes) -> dict[str, ErrorbarContainer]:
    return {str(c.get_label()): c for c in axes.containers if isinstance(c, ErrorbarContainer)}


def test_a_panel_per_network_says_which_and_how_many_seeds() -> None:
    rows = [{}, {"seed": 1}, {"architecture": "vgg16"}]
    titles = [axes.get_title(loc="left") for axes in accuracy_speedup(few_runs(*rows)).axes]
    assert titles == ["resnet20 · digits · n = 2, bars ± 1 std", "vgg16 · digits · n = 1"]


def test_points_are_means_and_bars_sample_deviations() -> None:
    rows = [
        run | {"seed": s, "accuracy": run["accuracy"] + d}
        for run in CURVE
        for s, d in ((0, -1), (1, 1))
    ]
    (axes,) = accuracy_speedup(few_runs(*rows)).axes
    line, _, (bars,) = series(axes)["l1"]
    assert list(line.get_xdata()) == [2, 4]
    assert list(line.get_ydata()) == [98, 96]
    # deviations -1 and 1: sqrt(2 / (2 - 1)) = 1.414 to each side
    lengths = [(high - low)[1] for low, high in bars.get_segments()]
    assert lengths == pytest.approx([2.828, 2.828], abs=0.001)


def test_one_seed_has_no_bars() -> None:
    (axes,) = accuracy_speedup(few_runs(*CURVE)).axes
    assert not series(axes)["l1"].has_yerr


def test_base_is_a_dashed_line() -> None:
    (axes,) = accuracy_speedup(few_runs(*CURVE)).axes
    (base,) = [line for line in axes.lines if line.get_label() == "_base"]
    assert list(base.get_ydata()) == [99.0, 99.0]
    assert base.is_dashed()
    assert "base 99.00" in words(axes)


@pytest.mark.parametrize(
    ("fastest", "ticks"),
    [
        (1.9, ["1", "1.5", "2"]),
        (8, ["1", "2", "4", "8"]),
        (2000, ["1", "4", "16", "64", "256", "1024"]),
    ],
)
def test_speedup_axis_has_round_ticks_or_doubles_from_tick_to_tick(
    fastest: float, ticks: list[str]
) -> None:
    figure = accuracy_speedup(few_runs({"speedup_macs": fastest}))
    figure.draw_without_rendering()
    assert figure.axes[0].get_xscale() == "log"
    assert [label.get_text() for label in figure.axes[0].get_xticklabels()] == ticks


@pytest.mark.parametrize("method", ["greg_1", "random", "my_method"])
def test_lines_wear_the_look_of_their_method(method: str) -> None:
    (axes,) = accuracy_speedup(few_runs({"method": method})).axes
    line = series(axes)[method][0]
    expected = look(method)
    assert (line.get_color(), line.get_marker()) == (expected.color, expected.marker)
    assert line.get_linestyle() == expected.line


def test_lines_are_named_at_their_ends() -> None:
    figure = accuracy_speedup(few_runs(*CURVE, *(run | {"method": "greg_1"} for run in CURVE)))
    assert not figure.legends
    assert {"l1", "greg_1"} <= set(words(figure.axes[0]))


def test_labels_of_all_lines_are_there(runs: pd.DataFrame) -> None:
    (axes, _) = shown(accuracy_speedup(runs))
    found = words(axes)
    assert found.count("greg_1") == found.count("epruner") == 1
    # 10 methods: one of each paper, l1, random, and others up to eight
    assert set(series(axes)) == {
        *("greg_1", "srfp", "epruner", "l1", "random"),
        *("sfp", "asfp", "asrfp"),
    }
    assert "2 other methods" in found


def test_collapsed_point_leaves_the_axis_and_is_written_at_its_edge() -> None:
    dead = {"method": "random", "ratio": 0.75, "speedup_macs": 4, "accuracy": 10.0}
    (axes,) = accuracy_speedup(few_runs(*CURVE, dead | {"ratio": 0.5, "accuracy": 97.0}, dead)).axes
    assert axes.get_ylim()[0] > 94
    assert {"random", "random 10.0 ↓"} <= set(words(axes))
    assert list(series(axes)["random"][0].get_ydata()) == [97.0, 10.0]


def test_many_collapsed_lines_are_one_range() -> None:
    lines = [run | {"method": f"m{i}"} for i in range(5) for run in CURVE]
    dead = [
        {"method": f"m{i}", "ratio": 0.9, "speedup_macs": 8, "accuracy": 10 + i} for i in range(5)
    ]
    (axes,) = accuracy_speedup(few_runs(*lines, *dead)).axes
    assert "5 lines 10.0–14.0 ↓" in words(axes)


def test_nothing_is_cut_off_if_all_lose_much() -> None:
    rows = [{"accuracy": 50.0}, {"method": "random", "accuracy": 20.0}]
    (axes,) = accuracy_speedup(few_runs(*rows)).axes
    assert axes.get_ylim()[0] < 20


@pytest.mark.parametrize(("networks", "width_mm"), [(1, 90), (2, 180), (3, 180)])
def test_width_is_a_column_or_a_page(networks: int, width_mm: float) -> None:
    figure = accuracy_speedup(few_runs(*({"architecture": f"n{i}"} for i in range(networks))))
    assert figure.get_figwidth() * 25.4 == pytest.approx(width_mm)
    assert len(shown(figure)) == networks


def test_a_line_that_is_only_in_the_strip_has_no_second_label() -> None:
    dead = {"method": "random", "accuracy": 10.0}
    (axes,) = accuracy_speedup(few_runs(*CURVE, dead)).axes
    assert [text for text in words(axes) if "random" in text] == ["random 10.0 ↓"]


def test_base_near_100_has_its_label_below_the_line() -> None:
    (axes,) = accuracy_speedup(few_runs({"base_accuracy": 99.95, "accuracy": 98.0})).axes
    (label,) = [text for text in axes.texts if text.get_text() == "base 99.95"]
    assert label.get_va() == "top"
    assert axes.get_ylim()[1] == 100.0


def test_front_has_no_interval_for_fewer_than_three_seeds() -> None:
    rows = [
        run | {"seed": seed, "accuracy": run["accuracy"] + seed} for run in CURVE for seed in (0, 1)
    ]
    (axes,) = accuracy_speedup(few_runs(*rows)).axes
    assert [patch.get_label() for patch in axes.patches] == ["_front"]
    assert "Pareto front" in words(axes)
