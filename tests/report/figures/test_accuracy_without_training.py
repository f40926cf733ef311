from __future__ import annotations

import json
from typing import Any

import numpy as np
from matplotlib.collections import FillBetweenPolyCollection
from matplotlib.figure import Figure

from prunebench.report.figures.accuracy_without_training import accuracy_without_training
from tests.report.conftest import CURVE, few_runs, shown, words

GLOBAL = {"setting": "global", "ratio_kind": "units_global"}


def row(
    after: float,
    accuracy: float,
    *,
    events: tuple[str, ...] = ("pruned", "recalibrated"),
    **more: Any,
) -> dict[str, Any]:
    """Return a run without training that removed half of the MACs."""
    names = ("phase", "epoch", "train_loss", "val_accuracy", "test_accuracy")
    history = {name: [None] * len(events) for name in names} | {"event": list(events)}
    own = {"epochs": 0.0, "history": json.dumps(history)}
    return own | {"accuracy_after_removal": after, "accuracy": accuracy} | more


def lines(figure: Figure, panel: int) -> dict[str, list[tuple[float, float]]]:
    """Return the points of each method in a panel."""
    found = [line for line in shown(figure)[panel].lines if str(line.get_label())[0] != "_"]
    return {
        str(line.get_label()): list(zip(*np.asarray(line.get_data()), strict=True))
        for line in found
    }


def test_left_is_right_after_removal_and_right_is_the_end() -> None:
    figure = accuracy_without_training(few_runs(row(20.0, 60.0)))
    # the base network has 99 %
    assert lines(figure, 0) == {"l1": [(0.0, 99.0), (50.0, 20.0)]}
    assert lines(figure, 1) == {"l1": [(0.0, 99.0), (50.0, 60.0)]}
    assert [words(axes).count("l1") for axes in shown(figure)] == [1, 1]


def test_lines_are_means_and_bands_the_range_over_seeds() -> None:
    rows = [row(a, 60.0, method="random", seed=seed) for seed, a in enumerate((20, 30, 70))]
    axes = shown(accuracy_without_training(few_runs(*rows, row(50.0, 60.0))))[0]
    assert lines(axes.figure, 0)["random"][1] == (50.0, 40.0)  # type: ignore[arg-type]
    (band,) = [one for one in axes.collections if isinstance(one, FillBetweenPolyCollection)]
    heights = [y for x, y in band.get_paths()[0].vertices if x == 50.0]
    assert (min(heights), max(heights)) == (20.0, 70.0)


def test_each_network_has_a_row_per_setting() -> None:
    runs = [
        row(20.0, 60.0, architecture=name, **kind) for name in ("a", "b") for kind in ({}, GLOBAL)
    ]
    figure = accuracy_without_training(few_runs(*runs))
    assert len(shown(figure)) == 8
    assert [text for text in words(figure) if "digits" in text] == ["a · digits", "b · digits"]
    titles = [axes.get_title(loc="left").partition("\n")[0] for axes in shown(figure)[:4]]
    assert titles == [
        "the same share of every group",
        "",
        "global · units of all groups ranked together",
        "",
    ]


def test_a_run_that_kept_its_statistics_is_on_the_left_alone() -> None:
    figure = accuracy_without_training(few_runs(row(20.0, 20.0, events=("pruned",))))
    assert lines(figure, 0) == {"l1": [(0.0, 99.0), (50.0, 20.0)]}
    assert lines(figure, 1) == {}
    assert "no such run" in words(figure)


def test_trained_runs_and_older_tables_have_no_such_figure() -> None:
    trained = few_runs(*CURVE).assign(accuracy_after_removal=50.0)
    fresh = few_runs(row(20.0, 60.0, start="fresh"))
    unpruned = few_runs(row(99.0, 99.0, method="unpruned"))
    older = few_runs(row(20.0, 60.0)).drop(columns="accuracy_after_removal")
    for frame in (trained, fresh, unpruned, older):
        assert "no run without training" in words(accuracy_without_training(frame))
