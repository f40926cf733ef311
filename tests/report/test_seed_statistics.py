from __future__ import annotations

import math

import numpy as np
import pandas as pd
import pytest

from prunebench.core.errors import ResultError
from prunebench.report.seed_statistics import DIFFERENCE, groups_of_cells, summarize

from .conftest import few_runs


def test_mean_and_sample_deviation_over_seeds() -> None:
    cell = summarize(few_runs(*({"accuracy": y, "seed": y} for y in (96, 98, 100)))).iloc[0]
    # deviations -2, 0, 2: the sum of squares 8, divided by n - 1 = 2
    assert (cell["n"], cell["accuracy"], cell["accuracy_std"]) == (3, 98.0, 2.0)


def test_one_seed_has_no_spread() -> None:
    cell = summarize(few_runs({})).iloc[0]
    assert cell["n"] == 1
    assert math.isnan(cell["accuracy_std"])


def test_unpruned_comes_first_then_ratios_then_methods_without_one() -> None:
    auto = {"ratio": math.nan, "ratio_kind": "auto", "method": "epruner"}
    rows = [auto, {"ratio": 0.75}, {"method": "greg_1"}, {}, {"method": "unpruned", "ratio": 0.0}]
    summary = summarize(few_runs(*rows))
    assert list(summary["method"]) == ["unpruned", "l1", "greg_1", "l1", "epruner"]
    assert list(summary["ratio"])[:4] == [0.0, 0.5, 0.5, 0.75]


def test_networks_are_never_averaged_together() -> None:
    rows = [{"architecture": "vgg16", "accuracy": 90.0}, {"seed": 1}, {"dataset": "cifar10"}]
    summary = summarize(few_runs(*rows))
    assert list(summary["architecture"]) == ["vgg16", "resnet20", "resnet20"]
    assert list(summary["n"]) == [1, 1, 1]


@pytest.mark.parametrize(
    "other", [{"setting": "x"}, {"ratio": 0.25}, {"ratio_kind": "macs"}, {"ratio": math.nan}]
)
def test_setting_ratio_and_its_kind_make_cells(other: dict[str, object]) -> None:
    assert list(summarize(few_runs({}, other))["n"]) == [1, 1]


def test_latencies_of_each_device_are_averaged_alone() -> None:
    rows = [{"latency_speedup_cpu_b1": x, "seed": x, "latency_speedup_cuda_b1": 5} for x in (1, 2)]
    cell = summarize(few_runs(*rows)).iloc[0]
    assert (cell["latency_speedup_cpu_b1"], cell["latency_speedup_cuda_b1"]) == (1.5, 5.0)


@pytest.mark.parametrize("unstable", [0, 1])
def test_a_latency_that_is_unstable_in_one_run_has_a_range_and_no_mean(unstable: int) -> None:
    def run(seed: int, low: float, mean: float, high: float, flag: int) -> dict[str, float]:
        names = ("speedup_low", "speedup", "speedup_high", "unstable")
        cells = {
            f"latency_{name}_cpu_b1": x
            for name, x in zip(names, (low, mean, high, flag), strict=True)
        }
        return {"seed": seed, **cells}

    frame = few_runs(run(0, 1.4, 1.5, 1.8, 0), run(1, 1.3, 1.7, 1.75, unstable))
    cell = summarize(frame).iloc[0]
    assert cell["latency_unstable_cpu_b1"] == unstable
    assert (cell["latency_speedup_low_cpu_b1"], cell["latency_speedup_high_cpu_b1"]) == (1.3, 1.8)
    mean, std = cell["latency_speedup_cpu_b1"], cell["latency_speedup_cpu_b1_std"]
    assert (math.isnan(mean), math.isnan(std)) == (bool(unstable), bool(unstable))
    assert unstable or mean == pytest.approx(1.6)


def test_a_cell_without_an_unstable_run_keeps_its_mean_beside_one_that_has_some() -> None:
    rows = [
        {"latency_speedup_cpu_b1": 2.0, "latency_unstable_cpu_b1": 1},
        {"method": "x", "latency_speedup_cpu_b1": 3.0, "latency_unstable_cpu_b1": 0},
        {"method": "old", "latency_speedup_cpu_b1": 4.0},  # of unknown stability
    ]
    means = summarize(few_runs(*rows)).set_index("method")["latency_speedup_cpu_b1"]
    assert means.dropna().to_dict() == {"x": 3.0, "old": 4.0}


def test_missing_column_is_named() -> None:
    with pytest.raises(ResultError, match="the column 'drop' is missing"):
        summarize(few_runs({}).drop(columns="drop"))


def test_all_cells_of_an_experiment(runs: pd.DataFrame) -> None:
    summary = summarize(runs)
    assert len(summary) == 62
    assert set(summary["n"][summary["architecture"] == "resnet20"]) == {2}
    assert set(summary["n"][summary["architecture"] != "resnet20"]) == {1}


def test_differences_to_l1_are_paired_by_seed() -> None:
    l1 = [{"seed": seed, "accuracy": y} for seed, y in enumerate((90.0, 91.0, 92.0))]
    greg = [
        {"method": "greg_1", "seed": seed, "accuracy": y}
        for seed, y in enumerate((90.5, 92.0, 92.9))
    ]
    cells = summarize(few_runs(*l1, *greg)).set_index("method")
    # differences 0.5, 1.0, 0.9: mean 0.8, deviation sqrt(0.07), t(0.975, 2) = 4.302653
    margin = 4.302653 * math.sqrt(0.07 / 3)
    found = cells.loc["greg_1", list(DIFFERENCE)].tolist()
    assert found == pytest.approx([0.8, 0.8 - margin, 0.8 + margin], abs=1e-5)
    assert cells.loc["l1", list(DIFFERENCE)].isna().all()


def test_fewer_than_three_pairs_have_no_interval() -> None:
    rows = [{"seed": s, "accuracy": y, "method": m} for m, s, y in _TWO_PAIRS]
    cell = summarize(few_runs(*rows)).set_index("method").loc["greg_1"]
    assert cell["difference"] == pytest.approx(-1.5)  # of seeds 0 and 1
    assert math.isnan(cell["difference_low"])


_TWO_PAIRS = [("l1", 0, 92.0), ("l1", 1, 93.0)] + [
    ("greg_1", seed, y) for seed, y in enumerate((91.0, 91.0, 99.0))
]


@pytest.mark.parametrize("other", [{"ratio": 0.7}, {"ratio_kind": "macs"}, {"seed": 7}])
def test_other_ratios_and_seeds_are_no_pairs(other: dict[str, object]) -> None:
    assert "difference" not in summarize(few_runs({}, {"method": "greg_1", **other}))


def runs_of(accuracies: dict[str, tuple[float, ...]], **same: object) -> list[dict[str, object]]:
    """Return a run per method and seed."""
    return [
        {"method": method, "seed": seed, "accuracy": y, **same}
        for method, values in accuracies.items()
        for seed, y in enumerate(values)
    ]


CLEAR = {"l1": (90.0, 91.0, 92.0), "greg_1": (93.1, 94.0, 94.9), "sfp": (90.1, 90.9, 92.0)}


def test_verdicts_are_corrected_over_the_table() -> None:
    cells = summarize(few_runs(*runs_of(CLEAR))).set_index("method")
    # differences 3.1, 3.0, 2.9: t = 3 sqrt(3) / 0.1 = 51.96 with 2 degrees of freedom, p = 0.00037;
    # differences 0.1, -0.1, 0: p = 1
    assert cells["verdict"].to_dict() == {"l1": "", "greg_1": "higher", "sfp": "unclear"}
    assert cells.loc["greg_1", "p_holm"] == pytest.approx(2 * 0.00037, rel=0.01)
    assert cells.loc["sfp", "p_holm"] == 1.0


def test_both_references_are_one_family() -> None:
    cells = summarize(few_runs(*runs_of(CLEAR)), reference="greg_1").set_index("method")
    # to l1: greg_1 and sfp; to greg_1: l1 and sfp
    assert cells.loc["greg_1", "p_holm"] == pytest.approx(4 * 0.00037, rel=0.01)
    assert cells["verdict_to_greg_1"].to_dict() == {"l1": "lower", "greg_1": "", "sfp": "lower"}
    assert cells.loc["l1", "difference_to_greg_1"] == pytest.approx(-3.0)


def test_methods_that_cannot_be_told_apart_share_a_letter() -> None:
    groups = groups_of_cells(few_runs(*runs_of(CLEAR))).droplevel([0, 1, 3, 4, 5])
    assert groups.to_dict() == {"greg_1": "a", "l1": "b", "sfp": "b"}


def test_each_ratio_has_letters_of_its_own() -> None:
    other = runs_of({"l1": (80.0, 80.0, 80.5), "sfp": (80.1, 80.0, 80.3)}, ratio=0.75)
    groups = groups_of_cells(few_runs(*runs_of(CLEAR), *other))
    assert set(groups.xs(0.75, level="ratio")) == {"a"}
    assert set(groups.xs(0.5, level="ratio")) == {"a", "b"}


def test_fewer_than_three_common_seeds_have_no_letter() -> None:
    rows = runs_of({"l1": (90.0, 91.0, 92.0), "greg_1": (93.0, 94.0)})
    apart = [run | {"seed": run["seed"] + 1} for run in runs_of({"sfp": (90.0, 90.5, 91.0)})]
    assert groups_of_cells(few_runs(*rows, *apart)).empty
    assert not {"group", "verdict", "p_holm"} & set(summarize(few_runs(*rows, *apart)).columns)


def test_equal_differences_are_no_proof_on_a_small_test_set() -> None:
    accuracies = {"l1": (90.0, 91.0, 92.0), "greg_1": (90.5, 91.5, 92.5)}
    unknown = summarize(few_runs(*runs_of(accuracies)))
    assert "verdict" not in unknown
    assert unknown["difference_low"].isna().all()
    # one image of 200 is half a point: error 0.5 / sqrt(6) / sqrt(3) = 0.118, t(0.975, 2) = 4.303
    cell = summarize(few_runs(*runs_of(accuracies, test_images=200))).set_index("method")
    assert cell.loc["greg_1", "difference_low"] == pytest.approx(-0.00707, abs=1e-5)
    # t = sqrt(18) = 4.243: p = 0.0513
    assert cell.loc["greg_1", "p_holm"] == pytest.approx(0.0513, abs=1e-4)


@pytest.mark.slow
def test_tables_of_noise_have_a_winner_in_at_most_one_of_twenty() -> None:
    random = np.random.default_rng(0)
    winners = 0
    for _ in range(60):
        methods = ["l1", *(f"m{i}" for i in range(20))]
        accuracies = {name: tuple(random.normal(90, 0.3, 5)) for name in methods}
        cells = summarize(few_runs(*runs_of(accuracies)))
        winners += bool(set(cells["verdict"]) & {"higher", "lower"})
        winners += set(cells["group"]) != {"a"}
    # two families of 5 % for each table: 6 expected at most, three deviations above 13
    assert winners <= 13
