from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from prunebench.core.errors import ResultError
from prunebench.report.collect import write_rows
from prunebench.report.runs_csv import read_rows
from prunebench.report.to_others import beside, differences_to_others, lines_of
from tests.report.conftest import few_runs

STORED = Path(__file__).parents[2] / "results/reference/digits_controls/runs.csv"


def runs(method: str, *accuracies: float) -> list[dict[str, object]]:
    return [
        {"method": method, "seed": seed, "accuracy": accuracy}
        for seed, accuracy in enumerate(accuracies)
    ]


def test_differences_are_paired_by_seed_with_every_other_method() -> None:
    frame = few_runs(
        *runs("l1", 97.0, 98.0, 99.0),
        *runs("random", 96.0, 96.0),
        *runs("unpruned", 99.0),
        *runs("mine", 98.0, 99.5, 99.5),
    )
    found = differences_to_others(frame, "mine").set_index("to")
    assert list(found.index) == ["l1", "random"]
    assert list(found["n"]) == [3, 2]
    assert found.loc["l1", "difference"] == pytest.approx(1.0)  # 1, 1.5 and 0.5
    # t(0.975, 2) = 4.3027; standard error 0.5 / sqrt(3)
    assert found.loc["l1", "high"] == pytest.approx(1 + 4.3027 * 0.5 / 3**0.5, abs=1e-3)
    assert found.loc["random", "difference"] == pytest.approx(2.75)
    assert found["p"].isna().tolist() == [False, True]
    lines = list(lines_of(found.reset_index()))
    assert lines[0] == "mine · default · digits · resnet20 · ratio units_per_group 0.5"
    assert lines[2].split() == ["l1", "3", "+1.00", "[-0.24,", "+2.24]", "0.074"]
    assert lines[3].split() == ["random", "2", "+2.75", "–", "–"]


def test_a_method_alone_has_no_differences() -> None:
    assert differences_to_others(few_runs(*runs("mine", 98.0)), "mine").empty


def test_new_rows_stand_below_stored_ones_and_replace_the_method_s(tmp_path: Path) -> None:
    rows = read_rows(STORED)
    own = [replace(row, experiment="other", macs=7) for row in rows if row.method == "l1"]
    write_rows(tmp_path / "new.csv", own)
    notes = list(beside(STORED, tmp_path / "new.csv", "l1", tmp_path / "both.csv"))
    both = read_rows(tmp_path / "both.csv")
    assert notes == []
    assert len(both) == len(rows)
    assert {row.macs for row in both if row.method == "l1"} == {7}
    assert {row.experiment for row in both} == {"digits_controls"}


def test_another_base_network_is_a_note_and_other_data_an_error(tmp_path: Path) -> None:
    own = [row for row in read_rows(STORED) if row.method == "l1"]
    write_rows(tmp_path / "new.csv", [replace(row, base_hash="f" * 64) for row in own])
    (note,) = beside(STORED, tmp_path / "new.csv", "l1", tmp_path / "both.csv")
    assert note.startswith(f"{len(own)} of {len(own)} runs start from another base network")
    write_rows(tmp_path / "new.csv", [replace(row, data_hash="f" * 64) for row in own])
    with pytest.raises(ResultError, match="have the data ffffffffffff of digits, which no row"):
        list(beside(STORED, tmp_path / "new.csv", "l1", tmp_path / "both.csv"))
    with pytest.raises(ResultError, match="it has no rows of other methods"):
        list(beside(tmp_path / "new.csv", STORED, "l1", tmp_path / "both.csv"))
