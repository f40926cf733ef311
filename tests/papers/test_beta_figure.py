from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from prunebench.papers.beta_figure import (
    beta_runs,
    macs_of_beta,
    printed_points,
    write_macs_of_beta,
)
from tests.report.conftest import few_runs, legend, shown

AUTO = {"ratio": math.nan, "ratio_kind": "auto", "method": "epruner", "base_macs": 200}


def runs(**more: Any) -> list[dict[str, Any]]:
    """Runs that keep 100, 80 and 60 of 200 MACs."""
    steps = ((0.6, 100), (0.7, 80), (0.8, 60))
    return [AUTO | {"setting": f"b{b}", "beta": b, "macs": macs} | more for b, macs in steps]


def points(axes: Any) -> list[list[tuple[float, float]]]:
    return [list(zip(*np.asarray(line.get_data()), strict=True)) for line in axes.lines]


def test_macs_kept_are_a_line_over_beta() -> None:
    figure = macs_of_beta(beta_runs(few_runs(*runs())))
    (axes,) = shown(figure)
    assert points(axes) == [[(0.6, 50.0), (0.7, 40.0), (0.8, 30.0)]]
    assert legend(figure) == ["all filters"]


def test_runs_without_negligible_filters_are_another_line() -> None:
    both = [*runs(), *runs(filters_negligible=5, macs=150)]
    (axes,) = shown(macs_of_beta(beta_runs(few_runs(*both))))
    assert [line[0] for line in points(axes)] == [(0.6, 50.0), (0.6, 75.0)]


def test_printed_point_stands_beside_the_network_of_its_name() -> None:
    assert printed_points("cifar10", "resnet56") == [(0.76, pytest.approx(38.67))]
    frame = few_runs(*runs(dataset="cifar10", architecture="resnet56"))
    figure = macs_of_beta(beta_runs(frame))
    assert points(shown(figure)[0])[1] == [(0.76, pytest.approx(38.67))]
    assert legend(figure)[1] == "printed, another base network"


@pytest.mark.parametrize("change", [{"ratio": 0.5}, {"beta": 0.7}, {"beta": math.nan}])
def test_other_experiments_have_no_such_figure(change: dict[str, Any], tmp_path: Path) -> None:
    frame = few_runs(*(run | change for run in runs()))
    assert beta_runs(frame).empty
    assert beta_runs(few_runs({})).empty
    frame.to_csv(tmp_path / "runs.csv", index=False)
    assert write_macs_of_beta(tmp_path / "runs.csv", tmp_path) == []


def test_figure_is_written_in_two_formats(tmp_path: Path) -> None:
    few_runs(*runs()).to_csv(tmp_path / "runs.csv", index=False)
    found = write_macs_of_beta(tmp_path / "runs.csv", tmp_path)
    assert [path.name for path in found] == [f"macs_of_beta.{x}" for x in ("svg", "png", "pdf")]
    assert all(path.stat().st_size > 1000 for path in found)
