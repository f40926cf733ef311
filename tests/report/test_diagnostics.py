from __future__ import annotations

from pathlib import Path

from prunebench.experiments.results import DIAGNOSTICS_FILE, DiagnosticRow, diagnostics_of
from prunebench.report.diagnostics import summarize_diagnostics

HEAD = ",".join(DiagnosticRow._fields) + "\n"


def read(tmp_path: Path, rows: str) -> object:
    return summarize_diagnostics(
        diagnostics_of((HEAD + rows).encode(), tmp_path / DIAGNOSTICS_FILE)
    )


def test_layers_become_their_smallest_median_and_largest(tmp_path: Path) -> None:
    rows = "p,5,a,penalty,1\np,5,b,penalty,4\np,5,c,penalty,2\np,9,a,penalty,7\n"
    assert read(tmp_path, rows) == {
        "penalty": {"step": [5, 9], "low": [1, 7], "middle": [2, 7], "high": [4, 7]}
    }


def test_steps_count_on_from_phase_to_phase(tmp_path: Path) -> None:
    rows = "p,5,a,x,1\np,8,a,x,2\nq,3,a,x,3\nq,4,a,x,4\nq,2,a,x,5\n"  # q is there twice
    found = read(tmp_path, rows)
    assert found == {
        "x": {
            "step": [5, 8, 11, 12, 14],
            "low": [1, 2, 3, 4, 5],
            "middle": [1, 2, 3, 4, 5],
            "high": [1, 2, 3, 4, 5],
        }
    }


def test_a_quantity_logged_once_keeps_its_layers(tmp_path: Path) -> None:
    rows = "select,0,a,size,2.123456\nselect,0,b,size,4\n"
    assert read(tmp_path, rows) == {"size": {"layer": ["a", "b"], "value": [2.1235, 4]}}


def test_values_that_are_not_finite_are_omitted(tmp_path: Path) -> None:
    assert read(tmp_path, "p,1,a,x,nan\np,1,b,x,3\n") == {"x": {"layer": ["b"], "value": [3]}}


def test_a_run_without_diagnostics(tmp_path: Path) -> None:
    assert read(tmp_path, "") == {}
