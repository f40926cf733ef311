"""A stored runs.csv grows by merging: nothing is replaced, and contradictions are refused."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pandas as pd
import pytest

from prunebench.core.errors import ResultError
from prunebench.experiments.spec import RunSpec
from prunebench.report.collect import collect, write_rows
from prunebench.report.merge import merge_into, path_of
from prunebench.report.runs_csv import RunRow, read_rows


@pytest.fixture(scope="module")
def rows(results: tuple[Path, list[RunSpec]]) -> list[RunRow]:
    """The rows of a whole experiment."""
    return collect(*results)


def test_a_row_is_written_as_it_was_read(rows: list[RunRow], tmp_path: Path) -> None:
    write_rows(tmp_path / "a.csv", rows)
    again = read_rows(tmp_path / "a.csv")
    assert [row.spec_hash for row in again] == [row.spec_hash for row in rows]
    write_rows(tmp_path / "b.csv", again)
    assert (tmp_path / "b.csv").read_bytes() == (tmp_path / "a.csv").read_bytes()


def test_a_file_of_an_earlier_version_lacks_what_may_be_empty(
    rows: list[RunRow], tmp_path: Path
) -> None:
    path = tmp_path / "old.csv"
    write_rows(path, rows[:2])
    frame = pd.read_csv(path, dtype=str, keep_default_na=False)
    frame.drop(columns=["by_class", "processor"]).to_csv(path, index=False)
    old, _ = read_rows(path)
    assert (old.by_class, old.processor) == (None, None)
    assert old.spec_hash == rows[0].spec_hash


@pytest.mark.parametrize("column", ["top1", "base_top1", "seed"])
def test_a_row_needs_its_metric_and_what_is_never_empty(
    column: str, rows: list[RunRow], tmp_path: Path
) -> None:
    path = tmp_path / "old.csv"
    write_rows(path, rows[:1])
    pd.read_csv(path, dtype=str, keep_default_na=False).drop(columns=column).to_csv(
        path, index=False
    )
    with pytest.raises(ResultError, match=f"the column '{column}' is missing"):
        read_rows(path)


def test_the_file_is_the_same_whatever_is_merged_first(rows: list[RunRow], tmp_path: Path) -> None:
    order = [path_of(row) for row in rows]
    write_rows(tmp_path / "whole.csv", rows)
    path = tmp_path / "runs.csv"
    assert merge_into(path, rows[30:], order) == len(rows) - 30
    assert merge_into(path, rows[:40], order) == 30
    assert path.read_bytes() == (tmp_path / "whole.csv").read_bytes()
    before = path.stat().st_mtime_ns
    assert merge_into(path, rows, order) == 0
    assert path.stat().st_mtime_ns == before


def test_rows_of_other_experiments_stay_behind(rows: list[RunRow], tmp_path: Path) -> None:
    path = tmp_path / "runs.csv"
    write_rows(path, [replace(rows[0], experiment="another")])
    assert merge_into(path, rows[:2], [path_of(row) for row in rows]) == 2
    assert [row.experiment for row in read_rows(path)] == ["digits", "digits", "another"]


def test_times_latencies_and_origin_may_differ(rows: list[RunRow], tmp_path: Path) -> None:
    path = tmp_path / "runs.csv"
    write_rows(path, rows[:1])
    more = {name: 2 * value for name, value in rows[0].more.items() if "latency" in name}
    again = replace(rows[0], training_seconds=9.0, processor="Xeon", date="2027-01-01", more=more)
    assert merge_into(path, [again], []) == 0
    assert read_rows(path)[0].processor == rows[0].processor


def test_a_row_of_an_earlier_version_may_record_less(rows: list[RunRow], tmp_path: Path) -> None:
    path, row = tmp_path / "runs.csv", rows[3]
    history = json.loads(row.history)
    less = {name: own for name, own in history.items() if name != "train_loss"}
    assert less != history
    write_rows(path, [replace(row, options=None, history=json.dumps(less))])
    assert merge_into(path, [row], []) == 0
    other = {**history, "test_top1": [0.0 for _ in history["test_top1"]]}
    with pytest.raises(ResultError, match=r"two different results .* history is"):
        merge_into(path, [replace(row, history=json.dumps(other))], [])


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"top1": 12.5}, "two different results for the specification {0.spec_hash}: top1 is "),
        ({"experiment": "new", "macs": 1}, "two different results for the specification"),
        ({"spec_hash": "0123"}, "{1} is there with the spec_hash {0.spec_hash}, not 0123; delete "),
        ({"data_hash": "d2"}, "{1} is there with the data_hash {0.data_hash}, not d2; delete its "),
        ({"base_hash": "w2"}, "{1} is there with the base_hash {0.base_hash}, not w2; delete its "),
        (
            {"base_hash": "w2", "experiment": "new"},
            "{1} starts from the base network {0.base_hash:.12} and new/",
        ),
    ],
)
def test_contradictions_are_refused_in_one_line(
    rows: list[RunRow], tmp_path: Path, change: dict[str, str], words: str
) -> None:
    path, row = tmp_path / "runs.csv", rows[3]
    assert row.base_hash
    write_rows(path, [row])
    before = path.read_bytes()
    with pytest.raises(ResultError) as caught:
        merge_into(path, [rows[4], replace(row, **change)], [])
    assert str(caught.value).startswith(f"{path}: " + words.format(row, path_of(row)))
    assert "\n" not in str(caught.value)
    assert path.read_bytes() == before


def test_the_two_results_are_named(rows: list[RunRow], tmp_path: Path) -> None:
    path, row = tmp_path / "runs.csv", replace(rows[3], processor="EPYC", date="2026-11-30")
    write_rows(path, [row])
    other = replace(row, top1=12.5, processor="Xeon", setting="b")
    with pytest.raises(ResultError) as caught:
        merge_into(path, [other], [])
    assert str(caught.value).endswith(
        f"top1 is {row.top1} in {path_of(row)} (EPYC, 2026-11-30) and 12.5 in {path_of(other)} "
        "(Xeon, 2026-11-30)"
    )


def test_a_file_that_is_no_runs_csv_is_left_alone(rows: list[RunRow], tmp_path: Path) -> None:
    path = tmp_path / "runs.csv"
    path.write_text("a,b\n1,2\n", encoding="utf-8")
    with pytest.raises(ResultError, match=r"runs\.csv: the column '\w+' is missing"):
        merge_into(path, rows, [])
    assert path.read_text(encoding="utf-8") == "a,b\n1,2\n"
