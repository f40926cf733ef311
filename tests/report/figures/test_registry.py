from __future__ import annotations

import math
import os
import subprocess
import sys
from pathlib import Path
from xml.etree import ElementTree

import matplotlib
import pandas as pd
import pytest

from prunebench.core.errors import ConfigError, ResultError
from prunebench.report.figures.accuracy_speedup import accuracy_speedup
from prunebench.report.figures.figure_options import Options
from prunebench.report.figures.registry import FIGURES, write_figures
from prunebench.report.figures.style import save
from tests.report.conftest import CURVE, few_runs

NAMES = [
    f"{name}.{suffix}"
    for name in (
        "accuracy_speedup",
        "accuracy_latency",
        "speedup_measured",
        "kept_width",
        "accuracy_epochs",
        "method_diagnostics",
        "accuracy_without_training",
    )
    for suffix in ("svg", "png", "pdf")
]


def test_figures_have_fixed_names(runs_csv: Path, tmp_path: Path) -> None:
    rows = pd.read_csv(runs_csv, dtype=str)
    few_csv, out = tmp_path / "few.csv", tmp_path / "figures"
    rows[rows["method"].isin(["unpruned", "l1"])].to_csv(few_csv, index=False)
    paths = write_figures(few_csv, out)
    assert paths == [out / name for name in NAMES]
    assert sorted(path.name for path in out.iterdir()) == sorted(NAMES)
    assert ElementTree.parse(paths[0]).getroot().tag == "{http://www.w3.org/2000/svg}svg"


@pytest.mark.parametrize("name", FIGURES)
def test_same_runs_give_the_same_bytes(name: str, tmp_path: Path) -> None:
    first, second = (
        save(FIGURES[name](few_runs(*CURVE)), tmp_path / folder / name) for folder in "ab"
    )
    assert [path.read_bytes() for path in first] == [path.read_bytes() for path in second]
    svg = first[0].read_text(encoding="utf-8")
    assert b"/CreationDate" not in first[2].read_bytes()
    assert "<dc:date>" not in svg
    assert "Matplotlib v" not in svg


def test_settings_of_the_user_change_nothing(tmp_path: Path) -> None:
    plain, *_ = save(accuracy_speedup(few_runs(*CURVE)), tmp_path / "plain")
    with matplotlib.rc_context({"font.size": 20, "lines.linewidth": 9, "svg.hashsalt": "x"}):
        other, *_ = save(accuracy_speedup(few_runs(*CURVE)), tmp_path / "other")
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


def test_bytes_do_not_depend_on_the_hashes_of_strings(runs_csv: Path, tmp_path: Path) -> None:
    code = (
        "import sys; from pathlib import Path\n"
        "from prunebench.report.figures.registry import FIGURES\n"
        "from prunebench.report.figures.style import save\n"
        "from prunebench.report.runs_csv import read_runs\n"
        "frame = read_runs(Path(sys.argv[1]))\n"
        "save(FIGURES['accuracy_speedup'](frame), Path(sys.argv[2]) / 'figure')\n"
    )
    found = []
    for seed in ("1", "2"):
        subprocess.run(
            [sys.executable, "-c", code, str(runs_csv), str(tmp_path / seed)],
            check=True,
            capture_output=True,
            env=os.environ | {"PYTHONHASHSEED": seed},
        )
        found.append([path.read_bytes() for path in sorted((tmp_path / seed).iterdir())])
    assert len(found[0]) == 3
    assert found[0] == found[1]


def test_a_method_to_highlight_must_have_a_run(runs_csv: Path, tmp_path: Path) -> None:
    words = rf"^{runs_csv}: unknown method to highlight 'gerg_1'; did you mean greg_1\?"
    with pytest.raises(ResultError, match=words):
        write_figures(runs_csv, tmp_path, Options(highlight=("l1", "gerg_1")))


def test_options_that_do_not_exist_are_one_line() -> None:
    with pytest.raises(ConfigError, match=r"^style: 'poster' is none of column, page$"):
        Options("poster")
    nine = tuple(f"m{i}" for i in range(9))
    with pytest.raises(ConfigError, match=r"^highlight: 9 methods are given, and at most 8 lines"):
        Options(highlight=nine)
