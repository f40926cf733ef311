from __future__ import annotations

import math
from pathlib import Path

import pandas as pd
import pytest

from prunebench.core.errors import ResultError
from prunebench.papers.published import PublishedRow
from prunebench.report import runs_csv as columns
from prunebench.report.runs_csv import json_cells, networks, read_runs

from .conftest import few_runs


class Row:
    """The part of a `RunRow` that `columns_of` uses."""

    task = "classification"

    def __init__(self, *names: str) -> None:
        self.more = dict.fromkeys(names, 0.0)


def ordered(*names: str) -> list[str]:
    return columns.columns_of([Row(*names)])  # type: ignore[list-item]


def test_columns_are_the_published_ones_and_then_ours() -> None:
    names = ordered()
    renamed = {"ratio_printed": "ratio", "ratio_kind_printed": "ratio_kind"}
    published = [renamed.get(name, name) for name in PublishedRow.model_fields]
    assert names[: len(published)] == published
    assert names[len(published)] == "experiment"


def test_no_column_stands_twice() -> None:
    names = ordered("latency_ms_cpu_b1", "magnitude_ratio")
    assert len(names) == len(set(names))


def test_latencies_go_by_device_then_batch_size_as_a_number() -> None:
    given = [
        name for b in (64, 8) for d in ("cuda", "cpu") for name in columns.latency_columns(d, b)
    ]
    latencies = [name for name in ordered(*given) if columns.is_latency(name)]
    assert latencies[:3] == [
        "latency_ms_cpu_b8",
        "latency_base_ms_cpu_b8",
        "latency_speedup_cpu_b8",
    ]
    assert [name for name in latencies if name.startswith("latency_ms_")] == [
        "latency_ms_cpu_b8",
        "latency_ms_cpu_b64",
        "latency_ms_cuda_b8",
        "latency_ms_cuda_b64",
    ]


def test_latencies_of_the_whole_detector_have_columns_of_their_own() -> None:
    given = [
        name
        for part in ("whole", "forward")
        for d in ("cuda", "cpu")
        for name in columns.latency_columns(d, 1, part)
    ]
    latencies = [name for name in ordered(*given) if name.startswith("latency_ms_")]
    assert latencies == [
        "latency_ms_cpu_b1",
        "latency_ms_cpu_whole_b1",
        "latency_ms_cuda_b1",
        "latency_ms_cuda_whole_b1",
    ]
    assert all(columns.is_latency(name) for name in given)
    assert all(
        columns.latency_columns(w.device_kind, w.batch_size, w.part) == w.columns
        for w in map(columns.timed, given)
    )


def test_range_and_stability_stand_beside_their_speedup() -> None:
    kinds = [columns.Timed("cuda", "forward", 1, mode) for mode in ("graph", "eager")]
    given = [name for kind in kinds for name in (*kind.stability, *kind.columns)]
    assert [name for name in ordered(*given) if columns.is_latency(name)][3:7] == [
        "latency_speedup_low_cuda_b1",
        "latency_speedup_high_cuda_b1",
        "latency_unstable_cuda_b1",
        "latency_ms_cuda_graph_b1",
    ]
    assert [columns.timed(name) for name in given] == [kinds[0]] * 6 + [kinds[1]] * 6
    assert all(name.startswith(columns.latency_prefixes("cuda")) for name in given)


def test_own_numbers_of_methods_stand_between_latencies_and_provenance() -> None:
    names = ordered("mask_distance", "latency_ms_cpu_b1", "gram")
    here = names.index("latency_ms_cpu_b1")
    assert names[here - 1 : here + 4] == [
        "selection_seconds",
        "latency_ms_cpu_b1",
        "gram",
        "mask_distance",
        "latency_devices",
    ]


@pytest.mark.parametrize(
    ("name", "fixed"),
    [("top1", True), ("history", True), ("latency_ms_cpu_b1", False), ("more", False)],
)
def test_fixed_columns_are_those_of_every_table(name: str, fixed: bool) -> None:
    assert columns.is_fixed(name) is fixed


HEAD = "dataset,architecture,method,setting,ratio,ratio_kind,seed,spec_hash,top1\n"


def read(tmp_path: Path, text: str) -> pd.DataFrame:
    path = tmp_path / "runs.csv"
    path.write_text(text, encoding="utf-8")
    return read_runs(path)


def test_words_stay_words_and_empty_numbers_are_nan(tmp_path: Path) -> None:
    run = read(tmp_path, HEAD + "digits,resnet20,l1,none,,auto,0,00123e45,\n").iloc[0]
    assert (run["setting"], run["spec_hash"]) == ("none", "00123e45")
    assert math.isnan(run["ratio"])
    assert math.isnan(run["accuracy"])


def test_collected_runs_are_read_in_their_order(runs: pd.DataFrame) -> None:
    assert len(runs) == 93  # 31 cells, for two seeds and for one
    assert runs["method"].iloc[0] == "random"
    assert list(runs["seed"].iloc[:3]) == [0, 1, 0]
    assert runs["ratio"].isna().sum() == 9  # epruner's


def test_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(ResultError, match=r"runs\.csv: no such file"):
        read_runs(tmp_path / "runs.csv")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "not a table of runs"),
        (HEAD, "no runs"),
        ("dataset,method\ndigits,l1\n", "the column 'architecture' is missing"),
        (HEAD + "a,b,c,d,e,f,g,h,i,j,k\n" * 2 + "a,b\n" + "a" * 3 + ",b" * 20, "not a table"),
    ],
)
def test_an_invalid_table_of_runs_is_refused(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(ResultError, match=rf"runs\.csv: {message}"):
        read(tmp_path, text)


@pytest.mark.parametrize(
    ("column", "cell", "problem"),
    [
        ("macs", "many", "macs is 'many', not a number"),
        ("latency_ms_cpu_b1", "[1]", r"latency_ms_cpu_b1 is '\[1\]', not a number"),
        ("recipes", "{", "recipes is '{', not a JSON object"),
        ("versions", "[]", r"versions is '\[\]', not a JSON object"),
    ],
)
def test_a_damaged_cell_is_named(tmp_path: Path, column: str, cell: str, problem: str) -> None:
    head = "dataset,architecture,method,setting,ratio,ratio_kind"
    row = "digits,resnet20,l1,default,0.5,macs"
    with pytest.raises(ResultError, match=rf"runs\.csv: {problem}"):
        read(tmp_path, f"{head},{column}\n{row},\n{row},{cell}\n")


def test_networks_keep_the_order_of_first_appearance() -> None:
    runs = few_runs({"architecture": "vgg16"}, {"architecture": "alexnet"}, {"dataset": "cifar10"})
    assert [name for name, _ in networks(runs)] == [
        ("digits", "vgg16"),
        ("digits", "alexnet"),
        ("cifar10", "resnet20"),
    ]


def test_json_cells_are_read_and_empty_ones_are_none() -> None:
    assert json_cells(few_runs({"stages": "[0,null]"}, {"stages": math.nan}), "stages") == [
        [0, None],
        None,
    ]


def test_damaged_json_cell_is_named() -> None:
    with pytest.raises(ResultError, match=r"runs\.csv: stages of l1, seed 3, is not valid JSON"):
        json_cells(few_runs({"stages": "[0,", "seed": 3}), "stages")


def test_rows_of_two_tasks_are_refused(tmp_path: Path) -> None:
    head = "task," + HEAD
    rows = [
        f"{task},digits,resnet20,l1,none,,auto,0,h,\n" for task in ("classification", "detection")
    ]
    with pytest.raises(ResultError, match="rows of classification and detection"):
        read(tmp_path, head + "".join(rows))
    with pytest.raises(ResultError, match="task is 'segmentation', expected one of classification"):
        read(tmp_path, head + rows[0].replace("classification", "segmentation"))
