from __future__ import annotations

import json
import math
from collections.abc import Collection, Sequence
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from prunebench.report.figures.accuracy_epochs import (
    accuracy_epochs,
    split_shown,
    trajectory,
)
from prunebench.report.figures.style import save
from tests.report.conftest import few_runs, legend, shown

TWO_PHASES: dict[str, list[Any]] = {
    "phase": ["regularize", "regularize", "regularize", "fine_tune"],
    "event": ["", "", "pruned", ""],
    "test_accuracy": [95.0, 96.0, 90.0, None],
    "val_accuracy": [94.0, 95.0, 89.0, 97.0],
}


def test_epochs_run_on_over_phases_and_pruning_takes_none() -> None:
    path = trajectory(TWO_PHASES, "val_accuracy", start=98.5)
    assert path.epochs == (0, 1, 2, 2, 3)
    assert path.accuracy == (98.5, 94.0, 95.0, 89.0, 97.0)
    assert path.pruned == (3,)
    assert path.phases == (("regularize", 0, 2), ("fine_tune", 2, 3))


def test_accuracy_that_was_not_measured_is_a_gap() -> None:
    path = trajectory(TWO_PHASES, "test_accuracy", start=None)
    assert path.epochs == (1, 2, 2, 3)
    assert math.isnan(path.accuracy[-1])


@pytest.mark.parametrize("history", [None, {"phase": [], "event": [], "test_accuracy": []}])
def test_run_without_epochs_has_its_start_alone(history: dict[str, list[Any]] | None) -> None:
    path = trajectory(history, "test_accuracy", start=99.0)
    assert (path.epochs, path.accuracy, path.phases) == ((0,), (99.0,), ())


def untested(row: dict[str, Any]) -> dict[str, Any]:
    history = json.loads(few_runs({})["history"].iloc[0]) | {"test_accuracy": [None] * 3}
    return row | {"history": json.dumps(history)}


def test_validation_is_shown_if_the_test_split_was_not_evaluated() -> None:
    assert split_shown(few_runs({})) == "test_accuracy"
    assert split_shown(few_runs(untested({}))) == "val_accuracy"
    (axes,) = shown(accuracy_epochs(few_runs(untested({}))))
    (base, line, _) = axes.lines
    assert list(base.get_ydata()) == [98.5, 98.5]
    assert list(line.get_ydata()) == [98.5, 30.0, 96.0, 97.0]


def test_a_panel_per_method_with_a_line_per_seed_and_marks_where_it_pruned() -> None:
    (axes,) = shown(accuracy_epochs(few_runs({}, {"seed": 1})))
    lines = [line for line in axes.lines if line.get_label() == "l1"]
    marks = [line for line in axes.lines if line.get_label() == "pruned"]
    assert [list(line.get_xdata()) for line in lines] == [[0, 0, 1, 2]] * 2
    assert [list(line.get_ydata()) for line in lines] == [[99.0, 31.0, 97.0, 98.0]] * 2
    assert [list(mark.get_ydata()) for mark in marks] == [[31.0]] * 2


def many_seeds(ends: Sequence[float], shorter: Collection[int] = ()) -> pd.DataFrame:
    """Return runs whose last accuracies are `ends`; some seeds lack the last epoch."""
    rows = []
    for seed, end in enumerate(ends):
        history = json.loads(few_runs({})["history"].iloc[0]) | {"test_accuracy": [80, 97, end]}
        if seed in shorter:
            history = {name: values[:-1] for name, values in history.items()}
        rows.append({"seed": seed, "history": json.dumps(history)})
    return few_runs(*rows)


def test_more_than_five_seeds_are_their_median_in_a_band_between_the_quartiles() -> None:
    figure = accuracy_epochs(many_seeds([90, 91, 92, 93, 94, 95, 10]))
    (axes,) = shown(figure)
    (line,) = [line for line in axes.lines if line.get_label() == "l1"]
    (marks,) = [line for line in axes.lines if line.get_label() == "pruned"]
    assert list(line.get_ydata()) == [99, 80, 97, 92]
    assert list(marks.get_ydata()) == [80]
    vertices = axes.collections[0].get_paths()[0].vertices
    assert sorted({y for x, y in vertices if x == 2}) == [90.5, 93.5]
    assert axes.get_ylim()[0] > 50  # the seed that failed does not stretch the axis
    assert legend(figure)[1:3] == ["median of the seeds", "middle half of the seeds"]


def test_the_median_ends_where_fewer_than_half_of_the_seeds_go_on() -> None:
    (axes,) = shown(accuracy_epochs(many_seeds([90] * 7, shorter=range(4))))
    (line,) = [line for line in axes.lines if line.get_label() == "l1"]
    assert list(line.get_xdata()) == [0, 0, 1]


def test_five_seeds_have_a_line_each() -> None:
    (axes,) = shown(accuracy_epochs(many_seeds([90] * 5)))
    assert sum(line.get_label() == "l1" for line in axes.lines) == 5


def test_a_run_from_fresh_weights_does_not_start_at_the_base() -> None:
    (axes,) = shown(accuracy_epochs(few_runs({"method": "sfp", "start": "fresh"})))
    (line,) = [line for line in axes.lines if line.get_label() == "sfp"]
    assert list(line.get_ydata()) == [31.0, 97.0, 98.0]


def test_the_range_of_all_other_methods_is_grey() -> None:
    low = json.loads(few_runs({})["history"].iloc[0]) | {"test_accuracy": [21.0, 87.0, 88.0]}
    rows = [{}, {"method": "greg_1"}, {"method": "random", "history": json.dumps(low)}]
    panels = shown(accuracy_epochs(few_runs(*rows)))
    bands = [axes.collections[0].get_paths()[0].vertices for axes in panels]
    # the last epoch of l1 and random behind greg_1, of greg_1 and random behind l1
    heights = [sorted({y for x, y in band if x == 2}) for band in bands]
    assert heights == [[88.0, 98.0], [88.0, 98.0], [98.0]]


def test_nothing_measured_is_off_the_axis() -> None:
    (axes,) = shown(accuracy_epochs(few_runs({})))
    low, high = axes.get_ylim()
    assert low < 31.0
    assert 99.0 < high < 100.0
    assert list(axes.get_yticks()) == [99, 95, 80, 50]


def test_a_perfect_run_stays_on_the_axis(tmp_path: Path) -> None:
    history = json.loads(few_runs({})["history"].iloc[0]) | {"test_accuracy": [10.0, 90.0, 100.0]}
    figure = accuracy_epochs(few_runs({"history": json.dumps(history)}))
    save(figure, tmp_path / "figure")
    assert shown(figure)[0].get_ylim()[1] > 99.9


def test_legend_says_only_what_is_drawn() -> None:
    assert legend(accuracy_epochs(few_runs({}))) == ["base", "one seed", "right after pruning"]


def test_all_methods_but_the_unpruned_have_panels(runs: pd.DataFrame) -> None:
    figure = accuracy_epochs(runs)
    assert len(shown(figure)) == 16  # of 10 methods on two networks, at most eight each
    assert [axes.get_title(loc="left") for axes in shown(figure)[:4]] == [
        "greg_1",
        "srfp",
        "asrfp",
        "epruner beta0.6",
    ]
