from __future__ import annotations

import math
from pathlib import Path
from xml.etree import ElementTree

import matplotlib
import pytest

from prunebench.core.errors import ResultError
from prunebench.report.figures.accuracy_speedup import accuracy_speedup
from prunebench.report.figures.registry import FIGURES, write_figures
from prunebench.report.figures.style import save
from tests.report.conftest import CURVE, few_runs

NAMES = [
    "accuracy_speedup.svg",
    "accuracy_speedup.png",
    "accuracy_latency.svg",
    "accuracy_latency.png",
    "kept_width.svg",
    "kept_width.png",
    "accuracy_epochs.svg",
    "accuracy_epochs.png",
    "method_diagnostics.svg",
    "method_diagnostics.png",
    "accuracy_without_training.svg",
    "accuracy_without_training.png",
]


def test_figures_have_fixed_names(runs_csv: Path, tmp_path: Path) -> None:
    paths = write_figures(runs_csv, tmp_path)
    assert paths == [tmp_path / name for name in NAMES]
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted(NAMES)
    assert ElementTree.parse(paths[0]).getroot().tag == "{http://www.w3.org/2000/svg}svg"


@pytest.mark.parametrize("name", FIGURES)
def test_same_runs_give_the_same_bytes(name: str, tmp_path: Path) -> None:
    first, second = (
        save(FIGURES[name](few_runs(*CURVE)), tmp_path / folder / name) for folder in "ab"
    )
    assert [path.read_bytes() for path in first] == [path.read_bytes() for path in second]
    svg = first[0].read_text(encoding="utf-8")
    assert "<dc:date>" not in svg
    assert "Matplotlib v" not in svg


def test_settings_of_the_user_change_nothing(tmp_path: Path) -> None:
    (plain, _) = save(accuracy_speedup(few_runs(*CURVE)), tmp_path / "plain")
    with matplotlib.rc_context({"font.size": 20, "lines.linewidth": 9, "svg.hashsalt": "x"}):
        (other, _) = save(accuracy_speedup(few_runs(*CURVE)), tmp_path / "other")
    assert plain.read_bytes() == other.read_bytes()


@pytest.mark.parametrize("name", FIGURES)
def test_runs_without_anything_pruned_still_give_every_figure(name: str, tmp_path: Path) -> None:
    frame = few_runs({"method": "unpruned", "ratio": 0.0, "history": math.nan})
    assert all(path.stat().st_size for path in save(FIGURES[name](frame), tmp_path / name))


@pytest.mark.parametrize(
    ("name", "column"),
    [("kept_width", "widths"), ("accuracy_epochs", "history"), ("method_diagnostics", "insides")],
)
def test_missing_column_is_named(name: str, column: str) -> None:
    with pytest.raises(ResultError, match=f"the column '{column}' is missing"):
        FIGURES[name](few_runs({}).drop(columns=column))
