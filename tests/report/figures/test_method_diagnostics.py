from __future__ import annotations

import json
from typing import Any

import pandas as pd

from prunebench.report.figures.method_diagnostics import method_diagnostics
from prunebench.report.runs_csv import networks
from tests.report.conftest import few_runs, shown


def with_diagnostics(insides: dict[str, Any]) -> dict[str, Any]:
    return {"insides": json.dumps(insides)}


def over_steps(low: list[float], high: list[float]) -> dict[str, Any]:
    return {"step": [8, 16], "low": low, "middle": low, "high": high}


def test_a_line_with_a_band_over_steps_and_bars_over_layers() -> None:
    penalty, sizes = over_steps([1, 2], [1, 3]), {"layer": ["a", "b"], "value": [2.0, 5.0]}
    row = with_diagnostics({"penalty": penalty, "mean_cluster_size": sizes})
    first, second = shown(method_diagnostics(few_runs(row)))
    assert list(first.lines[0].get_ydata()) == [1, 2]
    assert [text.get_text() for text in first.texts] == ["penalty"]
    assert [bar.get_height() for bar in second.patches] == [2.0, 5.0]
    assert [text.get_text() for text in second.texts] == ["mean cluster size"]


def test_an_axis_is_logarithmic_if_values_span_a_large_factor() -> None:
    far, near = over_steps([1, 2], [1, 300]), over_steps([1, 2], [1, 3])
    scales = [
        axes.get_yscale()
        for axes in shown(method_diagnostics(few_runs(with_diagnostics({"a": far, "b": near}))))
    ]
    assert scales == ["log", "linear"]


def test_a_constant_quantity_has_no_panel() -> None:
    row = with_diagnostics(
        {"alpha": over_steps([0, 0], [0, 0]), "share": over_steps([0, 1], [0, 1])}
    )
    (axes,) = shown(method_diagnostics(few_runs(row)))
    assert [text.get_text() for text in axes.texts] == ["share"]


def test_the_first_network_is_shown(runs: pd.DataFrame) -> None:
    figure = method_diagnostics(runs)
    (dataset, architecture), _ = networks(runs)[0]
    assert figure.subfigs[0].get_suptitle().startswith(f"{architecture} · {dataset} · ratio")
    titles = [axes.get_title("left") for axes in shown(figure)]
    assert titles == ["greg_1", "greg_1", "epruner beta0.6"]


def test_the_title_says_which_of_several_seeds_is_shown() -> None:
    one, two = few_runs({}), few_runs({"seed": 3}, {"seed": 4})
    titles = [method_diagnostics(frame).subfigs[0].get_suptitle() for frame in (one, two)]
    assert titles == [
        "resnet20 · digits · ratio 0.5",
        "resnet20 · digits · ratio 0.5 · seed 3 only",
    ]
