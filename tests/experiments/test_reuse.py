"""Rows of a runs.csv stand for runs with the same specification, data and base network."""

from __future__ import annotations

import csv
import json
from pathlib import Path
from typing import Any

import pytest

from prunebench.core.errors import ResultError
from prunebench.experiments.reuse import Wanted, data_hash, misfit, reusable
from prunebench.experiments.spec import data_path

ROW = {
    "task": "classification",
    "spec_hash": "s1",
    "data_hash": "d1",
    "base_spec_hash": "b",
    "base_hash": "w1",
    "base_top1": "98.5",
    "top1": "97.0",
    "reused": "",
}
BASE = "base/digits/resnet20/r/seed0"


def wanted(hash_: str = "s1", **more: Any) -> Wanted:
    run = Wanted(f"e/{hash_}", hash_, "digits", BASE, "b", None)
    return run._replace(**more)


def stored(path: Path, *rows: dict[str, str]) -> Path:
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, list(ROW))
        writer.writeheader()
        writer.writerows(ROW | row for row in rows)
    return path


def write_training(results: Path, path: str, **content: Any) -> None:
    (results / path).mkdir(parents=True)
    (results / path / "training.json").write_text(json.dumps(content), encoding="utf-8")


def write_data(results: Path, sha256: str) -> None:
    header = json.dumps({"__metadata__": {"prunebench": json.dumps({"sha256": sha256})}}).encode()
    path = data_path(results, "digits")
    path.parent.mkdir()
    path.write_bytes(len(header).to_bytes(8, "little") + header)


def test_a_row_of_the_same_specification_stands_for_a_run(tmp_path: Path) -> None:
    file = stored(tmp_path / "runs.csv", {}, {"spec_hash": "s2", "top1": "96.0"})
    found = reusable([wanted("s2"), wanted("s3")], [file], tmp_path)
    assert {path: row.cells["top1"] for path, row in found.items()} == {"e/s2": "96.0"}


def test_a_row_of_detection_is_compared_by_its_own_metric(tmp_path: Path) -> None:
    cells = {name: cell for name, cell in ROW.items() if "top1" not in name}
    cells |= {"task": "detection", "base_map": "36.5", "map": "35.0"}
    file = tmp_path / "runs.csv"
    file.write_text(f"{','.join(cells)}\n{','.join(cells.values())}\n", encoding="utf-8")
    base = {"spec_hash": "b", "weights_sha256": "w1", "task": "detection", "map": 36.5}
    write_training(tmp_path, BASE, **base)
    assert set(reusable([wanted()], [file], tmp_path)) == {"e/s1"}
    write_training(tmp_path / "other", BASE, **base | {"map": 30.0})
    assert reusable([wanted()], [file], tmp_path / "other") == {}


@pytest.mark.parametrize(("here", "expected"), [("d1", {"e/s1"}), ("d2", set())])
def test_a_row_of_other_data_is_run_again(tmp_path: Path, here: str, expected: set[str]) -> None:
    write_data(tmp_path, here)
    file = stored(tmp_path / "runs.csv", {})
    assert set(reusable([wanted()], [file], tmp_path)) == expected
    if not expected:
        sentence = misfit(wanted(), [file], tmp_path)
        assert sentence is not None
        assert sentence.endswith(
            f"the row of e/s1 has the data d1, {tmp_path}/data/digits.safetensors has d2"
        )


@pytest.mark.parametrize(
    ("row", "base", "stands"),
    [
        ({}, {"weights_sha256": "w1", "top1": 98.5}, True),
        ({}, {"weights_sha256": "w2", "top1": 98.5}, False),
        ({}, {"weights_sha256": "w2", "top1": 98.5, "spec_hash": "other"}, True),  # stale here
        ({"base_hash": ""}, {"weights_sha256": "w2", "top1": 98.5}, True),  # from fresh weights
        ({"base_hash": ""}, {"weights_sha256": "w2", "top1": 98.25}, False),
    ],
)
def test_a_row_of_another_base_network_is_run_again(
    tmp_path: Path, row: dict[str, str], base: dict[str, Any], stands: bool
) -> None:
    write_training(tmp_path, BASE, **({"spec_hash": "b"} | base))
    file = stored(tmp_path / "runs.csv", row)
    assert bool(reusable([wanted()], [file], tmp_path)) == stands
    sentence = misfit(wanted(), [file], tmp_path)
    assert (sentence is None) == stands
    assert sentence is None or "has the base network " in sentence


def test_a_run_that_is_stored_here_needs_no_row(tmp_path: Path) -> None:
    file = stored(tmp_path / "runs.csv", {}, {"spec_hash": "s2"})
    write_training(tmp_path, "e/s1", spec_hash="s1")
    write_training(tmp_path, "e/s2", spec_hash="of before")
    assert set(reusable([wanted(), wanted("s2")], [file], tmp_path)) == {"e/s2"}


@pytest.mark.parametrize(
    ("rows", "stand"), [([{}], set()), ([{}, {"spec_hash": "c"}], {"s1", "c"})]
)
def test_a_run_whose_widths_are_taken_is_needed_itself(
    tmp_path: Path, rows: list[dict[str, str]], stand: set[str]
) -> None:
    file = stored(tmp_path / "runs.csv", *rows)
    control = wanted("c", widths_from="e/s1")
    found = reusable([wanted(), control], [file], tmp_path)
    assert {path.removeprefix("e/") for path in found} == stand


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"data_hash": "d2"}, "data_hash of digits is d1 and d2; run `prunebench data --dataset d"),
        ({"base_hash": "w2"}, f"base_hash of {BASE} is w1 and w2; run `snakemake bases` first"),
        ({"base_top1": "98.0"}, f"base_top1 of {BASE} is 98.5 and 98.0; run `snakemake bases`"),
    ],
)
def test_rows_must_agree_on_what_is_not_here(
    tmp_path: Path, change: dict[str, str], words: str
) -> None:
    file = stored(tmp_path / "runs.csv", {}, {"spec_hash": "s2", **change})
    with pytest.raises(ResultError) as caught:
        reusable([wanted(), wanted("s2")], [file], tmp_path)
    assert words in str(caught.value)
    assert "\n" not in str(caught.value)


def test_two_results_for_one_hash_are_refused(tmp_path: Path) -> None:
    files = [stored(tmp_path / "a.csv", {}), stored(tmp_path / "b.csv", {"top1": "96.0"})]
    with pytest.raises(
        ResultError, match=r"a\.csv and .*b\.csv: two different results .* s1: top1"
    ):
        reusable([wanted()], files, tmp_path)
    same = [files[0], stored(tmp_path / "b.csv", {"reused": "a.csv"})]
    assert set(reusable([wanted()], same, tmp_path)) == {"e/s1"}


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (None, "no such file"),
        ("a,b\n1,2\n", "the column 'spec_hash' is missing"),
        (
            f"{','.join(ROW)}\nclassification,s1,d1,b,w1\n",
            f"row 1 has 5 cells, expected {len(ROW)}",
        ),
    ],
)
def test_a_file_that_is_no_runs_csv_is_a_one_line_error(
    tmp_path: Path, text: str | None, words: str
) -> None:
    file = tmp_path / "runs.csv"
    if text is not None:
        file.write_text(text, encoding="utf-8")
    with pytest.raises(ResultError) as caught:
        reusable([wanted()], [file], tmp_path)
    assert str(caught.value) == f"{file}: {words}"


def test_the_data_hash_is_read_without_the_tensors(tmp_path: Path) -> None:
    write_data(tmp_path, "d1")
    path = data_path(tmp_path, "digits")
    assert data_hash(path) == "d1"
    path.write_bytes(path.read_bytes()[:20])
    with pytest.raises(ResultError, match=r"digits\.safetensors: not a data file; delete it"):
        data_hash(path)
