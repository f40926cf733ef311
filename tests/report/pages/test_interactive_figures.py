from __future__ import annotations

import json
import math
from typing import Any

import pandas as pd
import pytest

from prunebench.report.pages.interactive_figures import Data, figures_of, layers_of, legend_of
from prunebench.report.seed_statistics import summarize
from tests.report.conftest import few_runs

METHOD = {"macs": 50, "base_macs": 100}


def data_of(frame: pd.DataFrame, chart: str) -> Data:
    """Return the data sets of a figure of a frame with one network."""
    figures = figures_of("resnet20 on digits", "n0", frame, summarize(frame))
    return next(figure.data for figure, _ in figures if figure.chart == f"n0_{chart}")


def charts_of(frame: pd.DataFrame) -> list[str]:
    found = figures_of("resnet20 on digits", "n0", frame, summarize(frame))
    return [figure.chart for figure, _ in found]


def test_a_point_says_what_it_is_and_how_sure() -> None:
    rows = [{"seed": seed, "accuracy": 97.0 + seed} for seed in range(3)]
    point = data_of(few_runs(*rows), "macs")["points"][0]
    words = ("method", "setting", "ratio", "n", "top-1", "95 % interval", "MACs speedup")
    # 98 ± 1 with n = 3; half the interval is 4.303 / sqrt(3) = 2.484
    assert [point[word] for word in words] == [
        *("l1", "default", "0.5", "3", "98.00 ± 1.00 %", "[95.52, 100.48]", "2.00×")
    ]
    assert (point["x"], point["y"], point["low"], point["high"]) == (2.0, 98.0, 97.0, 99.0)


def test_error_bars_end_at_100_percent_and_one_seed_has_none() -> None:
    two = few_runs({"seed": 0, "accuracy": 99.0}, {"seed": 1, "accuracy": 100.0})
    assert data_of(two, "macs")["points"][0]["high"] == 100.0
    one = data_of(few_runs({}), "macs")["points"][0]
    assert (one["low"], one["high"], one["95 % interval"]) == (98.0, 98.0, "–")


def test_a_collapsed_point_stays_at_the_edge_and_keeps_its_number() -> None:
    methods = [("l1", 98.0), ("fpgm", 97.0), ("taylor", 96.0), ("random", 10.0)]
    rows = [{"method": method, "accuracy": accuracy} for method, accuracy in methods]
    points = data_of(few_runs(*rows), "macs")["points"]
    last = next(point for point in points if point["method"] == "random")
    assert (last["y"], last["low"], last["top-1"]) == (96.0, 96.0, "10.00 %")


def test_a_latency_has_a_figure_of_its_own_for_each_batch_size() -> None:
    columns = {
        "latency_ms_cpu_b1": 2.0,
        "latency_base_ms_cpu_b1": 3.0,
        "latency_speedup_cpu_b1": 1.5,
    }
    frame = few_runs(columns)
    assert "n0_cpu_forward_1" in charts_of(frame)
    assert data_of(frame, "cpu_forward_1")["points"][0]["x"] == 1.5
    assert not any(
        "cpu" in name for name in charts_of(frame.assign(latency_speedup_cpu_b1=math.nan))
    )


def test_cuda_graphs_have_a_figure_of_their_own() -> None:
    speedups = {"cuda": 1.5, "cuda_graph": 2.5}
    columns: dict[str, float] = {}
    for where, speedup in speedups.items():
        columns |= {
            f"latency_ms_{where}_b1": 2.0,
            f"latency_base_ms_{where}_b1": 2.0 * speedup,
            f"latency_speedup_{where}_b1": speedup,
        }
    frame = few_runs(columns)
    assert len(charts_of(frame)) == len(set(charts_of(frame)))
    assert data_of(frame, "cuda_forward_1")["points"][0]["x"] == 1.5
    assert data_of(frame, "cuda_forward_1_graph")["points"][0]["x"] == 2.5


def test_accuracies_over_epochs_are_means_over_the_seeds() -> None:
    rows = [{"seed": 0}, {"seed": 1}]
    points = data_of(few_runs(*rows), "epochs")["points"]
    shown = [(point["epoch"], point["error"], point["event"], point["n"]) for point in points]
    assert shown == [(0, 69.0, "pruned", "2"), (1, 3.0, "", "2"), (2, 2.0, "", "2")]
    assert points[-1]["top-1"] == "98.00 ± 0.00 %"


def test_runs_without_epochs_have_no_figure_over_epochs() -> None:
    history: dict[str, Any] = json.loads(few_runs({})["history"][0])
    first = json.dumps({name: values[:1] for name, values in history.items()})
    assert "n0_epochs" not in charts_of(few_runs({"history": first}))


def test_unpruned_runs_alone_have_no_figure() -> None:
    assert charts_of(few_runs({"method": "unpruned", "ratio": 0.0})) == []


def test_layers_show_the_range_over_the_seeds() -> None:
    rows = [{"widths": '{"a":[4,8]}'}, {"seed": 1, "widths": '{"a":[6,8]}'}]
    assert list(layers_of(few_runs(*rows))) == [
        {
            "layer": 1,
            "kept": 5.0,
            "full": 8,
            "layer name": "a",
            "kept units": "4 to 6 of 8",
            "kept in %": "62.5",
        }
    ]


@pytest.mark.parametrize(("method", "fill"), [("random", "white"), ("greg_1", "#d55e00")])
def test_the_legend_has_the_look_of_the_method(method: str, fill: str) -> None:
    (key,) = legend_of(summarize(few_runs({"method": method})))
    assert (key.method, key.look.fill) == (method, fill)
