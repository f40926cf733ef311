from __future__ import annotations

import math
from typing import Any

import pandas as pd
import pytest

from prunebench.report.seed_statistics import summarize
from prunebench.report.series import (
    Series,
    at_one_ratio,
    in_color,
    others,
    per_network,
    series_of,
)
from tests.report.conftest import few_runs

AUTO = {"method": "epruner", "ratio": math.nan, "ratio_kind": "auto"}
THREE_RATIOS = [{"ratio": r, "speedup_macs": s} for r, s in ((0.5, 2), (0.75, 4), (0.875, 8))]


def series(*rows: dict[str, Any]) -> list[Series]:
    return series_of(summarize(few_runs(*rows)))


def test_ratios_of_a_method_are_one_line_by_rising_speedup() -> None:
    (one,) = series(*reversed(THREE_RATIOS))
    assert (one.label, list(one.cells["speedup_macs"])) == ("l1", [2, 4, 8])


def test_settings_of_a_method_without_ratio_are_one_line() -> None:
    rows = [AUTO | {"setting": s, "speedup_macs": x} for s, x in (("b9", 5), ("b6", 3))]
    (one,) = series(*rows)
    assert (one.label, list(one.cells["setting"])) == ("epruner", ["b6", "b9"])


def test_settings_of_a_method_with_ratios_are_lines_of_their_own() -> None:
    found = series({"setting": "default"}, {"setting": "global"})
    assert [(one.label, one.variant) for one in found] == [("l1", 0), ("l1 global", 1)]


def test_kinds_of_ratio_are_lines_of_their_own() -> None:
    found = series({}, {"ratio_kind": "macs"})
    assert [one.label for one in found] == ["l1 (units_per_group)", "l1 (macs)"]


def test_a_kind_of_ratio_is_named_only_where_a_setting_has_several() -> None:
    found = series({}, {"ratio_kind": "weights", "setting": "weights"})
    assert [one.label for one in found] == ["l1", "l1 weights"]


def test_a_setting_is_named_on_each_network_alike() -> None:
    two = [{"setting": "rounds"}, {"setting": "rounds", "architecture": "vgg16"}, {}]
    networks = per_network(few_runs(*two))
    labels = [[one.label for one in series_of(cells)] for _, _, cells in networks]
    assert sorted(labels) == [["l1 rounds"], ["l1 rounds", "l1"]]


def test_order_is_own_methods_then_baselines_then_controls() -> None:
    names = ("random", "l1", "unpruned", "my_method", "greg_1")
    found = series(*({"method": name} for name in names))
    assert [one.method for one in found] == ["greg_1", "my_method", "l1", "random"]


def picked(*rows: dict[str, Any]) -> tuple[str, list[str], list[float]]:
    words, picks = at_one_ratio(summarize(few_runs(*rows)))
    return words, [pick.label for pick in picks], [pick.cell["speedup_macs"] for pick in picks]


def test_middle_ratio_is_picked() -> None:
    assert picked(*THREE_RATIOS) == ("ratio 0.75", ["l1"], [4])


def test_ratio_of_most_methods_is_picked() -> None:
    rows = [*THREE_RATIOS, {"method": "greg_1", "ratio": 0.875, "speedup_macs": 7}]
    assert picked(*rows) == ("ratio 0.875", ["greg_1", "l1"], [7, 8])


def test_method_without_the_ratio_gives_its_nearest_speedup() -> None:
    rows = [AUTO | {"setting": f"b{x}", "speedup_macs": x} for x in (2.5, 5.0, 7.5)]
    words, labels, speedups = picked(*THREE_RATIOS, *rows)
    assert words == "ratio 0.75 or the nearest in MACs"
    assert (labels, speedups) == (["epruner b5.0", "l1"], [5.0, 4])


def test_without_any_ratio_the_middle_speedup_is_picked() -> None:
    rows = [AUTO | {"setting": f"b{x}", "speedup_macs": x} for x in (2.0, 3.0, 9.0)]
    assert picked(*rows) == ("near 3.0× fewer MACs", ["epruner b3.0"], [3.0])


def test_nothing_is_picked_if_nothing_was_pruned() -> None:
    assert picked({"method": "unpruned"}) == ("nothing pruned", [], [])


@pytest.mark.parametrize("cell", [{}, AUTO])
def test_pick_finds_its_runs(cell: dict[str, Any]) -> None:
    others = [{"method": "greg_1"}, {"architecture": "vgg16"} | cell]
    frame = few_runs(cell, cell | {"seed": 1}, *others)
    _, runs, cells = per_network(frame)[0]
    (pick,) = [p for p in at_one_ratio(cells)[1] if p.method != "greg_1"]
    assert list(pick.runs(runs)["seed"]) == [0, 1]


def test_all_series_of_an_experiment(runs: pd.DataFrame) -> None:
    (title, _, cells), _ = per_network(runs)
    assert title == "resnet20 · digits"
    assert [one.label for one in series_of(cells)] == [
        "greg_1",
        "srfp",
        "asrfp",
        "epruner",
        "l1",
        "sfp",
        "asfp",
        "random",
        "scratch_e",
        "scratch_b",
    ]


def labels(found: list[Series]) -> list[str]:
    return [one.label for one in found]


def test_at_most_eight_series_are_in_color() -> None:
    names = ["random", *(f"baseline{i}" for i in range(9)), "l1", "greg_2", "greg_1"]
    colored, rest = in_color(series(*({"method": name} for name in names)))
    # the first of the paper, l1, then plug-ins (as unknown methods are), which come before random
    assert labels(colored) == ["greg_2", *(f"baseline{i}" for i in range(6)), "l1"]
    assert others(colored, rest) == "5 other methods"


def test_chosen_methods_are_in_color_and_no_other() -> None:
    found = series(*({"method": name} for name in ("greg_1", "l1", "random")))
    colored, rest = in_color(found, ["random"])
    assert (labels(colored), labels(rest)) == (["random"], ["greg_1", "l1"])


def test_second_settings_come_after_the_first_of_every_method() -> None:
    rows = [
        {"method": f"m{i}", "setting": setting}
        for i in range(5)
        for setting in ("default", "global")
    ]
    colored, rest = in_color(series(*rows))
    assert {f"m{i}" for i in range(5)} <= set(labels(colored))
    assert labels(rest) == ["m3 global", "m4 global"]
    assert others(colored, rest) == "2 other lines"
