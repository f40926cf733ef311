from __future__ import annotations

from pathlib import Path

import pandas as pd
import pytest

from prunebench.core.errors import ResultError
from prunebench.report.claims.declared_claims import Claim, Source, difference
from prunebench.report.claims.effects import ADDITIVITY_ERROR, Variant
from prunebench.report.claims.measured_claims import experiment_rows, measure_claims
from tests.report.claims.conftest import runs_of, write_runs

A, B = Variant("a"), Variant("b")
CLAIM = Claim(
    id="T1",
    paper="test",
    statement="a beats b",
    where="here",
    measured="a − b",
    sources=(Source("first", difference(A, B)), Source("second", difference(A, B))),
)
FIVE = {"a": [92.0, 92.1, 91.9, 92.0, 92.2], "b": [90.0, 90.0, 90.1, 89.9, 90.0]}


def test_the_first_experiment_with_enough_seeds_is_the_source(tmp_path: Path) -> None:
    write_runs(tmp_path / "first", runs_of({name: values[:4] for name, values in FIVE.items()}))
    write_runs(tmp_path / "second", runs_of(FIVE))
    (found,) = measure_claims(tmp_path, [CLAIM])
    assert found.source is not None
    assert found.source.experiment == "second"
    assert [(name, one.n, one.effect) for name, one in found.passed_over] == [
        ("first", 4, pytest.approx(2.0))
    ]
    assert found.networks == ("digits · resnet20",)
    assert found.finding.verdict == "supported"


def test_a_preferred_experiment_with_enough_seeds_comes_first(tmp_path: Path) -> None:
    write_runs(tmp_path / "first", runs_of(FIVE))
    write_runs(tmp_path / "second", runs_of({"a": [1.0] * 6, "b": [2.0] * 6}))
    (found,) = measure_claims(tmp_path, [CLAIM])
    assert found.source is not None
    assert (found.source.experiment, found.passed_over) == ("first", ())


def test_without_enough_seeds_the_most_count(tmp_path: Path) -> None:
    write_runs(tmp_path / "first", runs_of({"a": [92.0], "b": [90.0]}))
    write_runs(tmp_path / "second", runs_of({"a": [92.0, 92.0], "b": [90.0, 91.0]}))
    (found,) = measure_claims(tmp_path, [CLAIM])
    assert found.finding.estimate is not None
    assert found.finding.estimate.n == 2
    assert found.finding.verdict == "undecided"


def test_a_claim_without_runs_is_not_run(tmp_path: Path) -> None:
    write_runs(tmp_path / "first", runs_of({"a": [92.0]}))
    (found,) = measure_claims(tmp_path, [CLAIM])
    assert (found.finding.verdict, found.source) == ("not run", None)


def test_no_runs_at_all_are_an_error_in_one_line(tmp_path: Path) -> None:
    with pytest.raises(ResultError, match=r"no runs\.csv of the experiments of claims: first, sec"):
        measure_claims(tmp_path, [CLAIM])


def test_a_damaged_file_is_named(tmp_path: Path) -> None:
    write_runs(tmp_path / "first", runs_of(FIVE).drop(columns="method"))
    with pytest.raises(ResultError, match=r"first/runs\.csv: the column 'method' is missing"):
        measure_claims(tmp_path, [CLAIM])


def test_additivity_is_read_from_beside_the_runs(tmp_path: Path) -> None:
    runs = runs_of({"a": [92.0, 91.0], "b": [90.0, 90.0]})
    write_runs(tmp_path / "first", runs)
    names = ["dataset", "architecture", "method", "setting", "ratio", "ratio_kind", "seed"]
    rows = runs[names].assign(additivity_error=[0.1, 0.2, 0.4, 0.8], additivity_correlation=1.0)
    rows.to_csv(tmp_path / "first/additivity.csv", index=False)
    frame = experiment_rows(tmp_path, "first")
    assert frame is not None
    found = difference(B, A, quantity=ADDITIVITY_ERROR).by_seed(frame)
    assert found.values.to_dict() == pytest.approx({0: 0.3, 1: 0.6})


def test_an_experiment_without_runs_is_none(tmp_path: Path) -> None:
    assert experiment_rows(tmp_path, "first") is None


def test_without_additivity_there_is_no_such_effect(tmp_path: Path) -> None:
    frame = pd.DataFrame(runs_of({"a": [92.0], "b": [90.0]}))
    assert difference(A, B, quantity=ADDITIVITY_ERROR).by_seed(frame).values.empty
