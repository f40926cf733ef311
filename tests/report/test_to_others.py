from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from prunebench.core.errors import ResultError
from prunebench.report.collect import write_rows
from prunebench.report.runs_csv import read_rows
from prunebench.report.to_others import (
    beside,
    differences_to_others,
    few_seeds,
    lines_of,
    ranked,
    shown_methods,
)
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
    found = differences_to_others(frame, ["mine"]).set_index("to")
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
    found = differences_to_others(few_runs(*runs("mine", 98.0)), ["mine"])
    assert found.empty
    assert next(few_seeds(found)).startswith("0 seeds in common: no interval and no test is possi")


def test_two_new_methods_are_compared_once_and_corrected_together() -> None:
    frame = few_runs(
        *runs("l1", 97.0, 98.0, 99.0),
        *runs("mine", 98.0, 99.5, 99.5),
        *runs("yours", 98.5, 98.5, 99.5),
    )
    found = differences_to_others(frame, ["mine", "yours"])
    pairs = list(zip(found["method"], found["to"], strict=True))
    assert pairs == [("mine", "l1"), ("mine", "yours"), ("yours", "l1")]
    alone = differences_to_others(frame, ["mine"]).set_index("to")
    assert found.loc[0, "p"] > alone.loc["l1", "p"]  # of three tests instead of two
    assert list(few_seeds(found)) == []


def test_one_seed_is_said_to_allow_no_test() -> None:
    frame = few_runs(*runs("l1", 97.0, 98.0), *runs("mine", 98.0))
    assert list(few_seeds(differences_to_others(frame, ["mine"]))) == [
        "1 seed in common: no interval and no test is possible below 3, and differences may be "
        "chance"
    ]


def test_the_printed_table_ranks_what_was_run_within_100_characters() -> None:
    long = "a_method_whose_name_is_longer_than_any_column"
    frame = few_runs(
        *runs("l1", 97.0, 98.0),
        {"method": "l1", "ratio": 0.9, "accuracy": 50.0},
        *runs("unpruned", 99.0),
        {"method": long, "setting": "with_many_words_about_it_" * 3, "accuracy": 97.25},
        {"method": "mine", "ratio": float("nan"), "ratio_kind": "auto", "accuracy": 96.0},
    )
    lines = list(ranked(frame, [long, "mine"]))
    assert max(map(len, lines)) <= 100
    first = lines[: lines.index(next(line for line in lines[1:] if "ratio auto" in line))]
    assert first[0].startswith("digits · resnet20 · ratio 0.5 · base ")
    names = [line[:14].split() for line in first[2:]]
    assert names == [["unpruned"], ["l1"], [">", "a_method_who"]]  # without l1 at ratio 0.9
    assert "97.50 ± 0.71" in first[3]
    assert lines[-1].startswith("> mine ")


def test_a_figure_names_the_new_method_the_best_other_l1_and_random() -> None:
    frame = few_runs(
        *runs("random", 90.0),
        *runs("fpgm", 96.0),
        *runs("greg_1", 97.0),
        {"method": "taylor", "ratio": 0.25, "accuracy": 99.0},  # at another ratio
        *runs("l1", 95.0),
        *runs("unpruned", 99.0),
        *runs("mine", 94.0),
    )
    assert shown_methods(frame, ["mine"]) == ("mine", "greg_1", "l1", "random")
    assert shown_methods(few_runs(*runs("mine", 94.0)), ["mine"]) == ("mine",)


def test_new_rows_stand_below_stored_ones_and_replace_the_method_s(tmp_path: Path) -> None:
    rows = read_rows(STORED)
    own = [replace(row, experiment="other", macs=7) for row in rows if row.method == "l1"]
    write_rows(tmp_path / "new.csv", own)
    notes = list(beside(STORED, {"l1": tmp_path / "new.csv"}, tmp_path / "both.csv"))
    both = read_rows(tmp_path / "both.csv")
    assert notes == []
    assert len(both) == len(rows)
    assert {row.macs for row in both if row.method == "l1"} == {7}
    assert {row.experiment for row in both} == {"digits_controls"}


def test_another_base_network_is_a_note_and_other_data_an_error(tmp_path: Path) -> None:
    own = [row for row in read_rows(STORED) if row.method == "l1"]
    write_rows(tmp_path / "new.csv", [replace(row, base_hash="f" * 64) for row in own])
    (note,) = beside(STORED, {"l1": tmp_path / "new.csv"}, tmp_path / "both.csv")
    assert note.startswith(f"{len(own)} of {len(own)} runs start from another base network")
    write_rows(tmp_path / "new.csv", [replace(row, data_hash="f" * 64) for row in own])
    with pytest.raises(ResultError, match="have the data ffffffffffff of digits, which no row"):
        list(beside(STORED, {"l1": tmp_path / "new.csv"}, tmp_path / "both.csv"))
    with pytest.raises(ResultError, match="it has no rows of other methods"):
        list(beside(tmp_path / "new.csv", {"l1": STORED}, tmp_path / "both.csv"))
