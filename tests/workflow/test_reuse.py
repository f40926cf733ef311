"""Rows of a stored runs.csv instead of runs, and a stored runs.csv that grows."""

from __future__ import annotations

import csv
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.workflow.conftest import planned, snakemake
from tests.workflow.test_quick import QUICK, edit

FILE = "config/experiments/quick.yaml"
REUSE = (*QUICK, "reuse=stored.csv")
CSV = "results/quick/runs.csv"
FROM_ROWS = {"collect": 1, "write_tables": 1, "draw_figures": 1, "write_report": 1, "all": 1}


def rows(path: Path) -> list[dict[str, str]]:
    with path.open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def without_mark(table: Path) -> list[dict[str, str]]:
    return [{k: v for k, v in row.items() if k != "reused"} for row in rows(table)]


@pytest.fixture
def with_rows(quick: Path, workflow: Path) -> Path:
    """A folder without results, and the rows of a finished run of quick."""
    shutil.copy2(quick / CSV, workflow / "stored.csv")
    return workflow


def test_with_all_rows_stored_nothing_is_trained(quick: Path, with_rows: Path) -> None:
    assert planned(with_rows, *REUSE) == {"data": 1, **FROM_ROWS}
    done = snakemake(with_rows, "tables", "--cores", "1", *REUSE)
    assert done.returncode == 0, done.stdout
    assert not (with_rows / "results/base").exists()
    found, stored = (rows(place / CSV) for place in (with_rows, quick))
    assert {row.pop("reused") for row in found} == {"stored.csv"}
    assert found == [{k: v for k, v in row.items() if k != "reused"} for row in stored]
    summary = "results/quick/tables/summary.csv"
    assert without_mark(with_rows / summary) == without_mark(quick / summary)
    text = (with_rows / "results/quick/tables/summary.md").read_text(encoding="utf-8")
    assert "Reused from stored.csv: 3 of 3 runs, computed on " in text
    drawn = {"draw_figures": 1, "write_report": 1}
    assert planned(with_rows, *REUSE) == {**drawn, "all": 1}

    edit(with_rows / FILE, "  l1: {}", "  l1: {options: {roles: [stem]}}")
    own = {"base": 1, "prune": 1, "measure_cost": 1, "measure_latency": 1}
    assert planned(with_rows, *REUSE) == {**own, **FROM_ROWS}


def test_a_changed_option_reruns_exactly_its_run(quick: Path, with_rows: Path) -> None:
    edit(with_rows / FILE, "  l1: {}", "  l1: {options: {roles: [stem]}}")
    own = {"prune": 1, "measure_cost": 1, "measure_latency": 1}
    assert planned(with_rows, *REUSE) == {"data": 1, "base": 1, **own, **FROM_ROWS}
    for place in ("data", "base"):  # trained before
        shutil.copytree(quick / "results" / place, with_rows / "results" / place)
    assert planned(with_rows, *REUSE) == {**own, **FROM_ROWS}
    done = snakemake(with_rows, CSV, "--cores", "1", *REUSE)
    assert done.returncode == 0, done.stdout
    found = {row["method"]: row["reused"] for row in rows(with_rows / CSV)}
    assert found == {"unpruned": "stored.csv", "random": "stored.csv", "l1": ""}
    assert planned(with_rows, CSV, *REUSE) == {}


def test_rows_of_another_base_network_are_run_again(quick_copy: Path) -> None:
    # The base network is there, and the rows have another one.
    stored = quick_copy / "stored.csv"
    text = (quick_copy / CSV).read_text(encoding="utf-8")
    (base_hash,) = {row["base_hash"] for row in rows(quick_copy / CSV)}
    stored.write_text(text.replace(base_hash, "0" * 64), encoding="utf-8")
    shutil.rmtree(quick_copy / "results/quick")
    assert planned(quick_copy, *REUSE)["prune"] == 3
    stored.write_text(text, encoding="utf-8")
    assert planned(quick_copy, *REUSE) == FROM_ROWS


@pytest.mark.parametrize(
    ("text", "words"),
    [(None, "no such file"), ("a,b\n1,2\n", "the column 'spec_hash' is missing")],
)
def test_a_file_that_is_no_runs_csv_is_a_one_line_error(
    resolved: Path, text: str | None, words: str
) -> None:
    if text is not None:
        (resolved / "stored.csv").write_text(text, encoding="utf-8")
    done = snakemake(resolved, "-n", *REUSE)
    assert done.returncode == 1
    assert done.stdout.splitlines()[-1] == f"prunebench: stored.csv: {words}"
    assert "Traceback" not in done.stdout


def collect_into(folder: Path, file: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "prunebench", "collect", "--experiment", "quick"]
    return subprocess.run(
        [*command, "--into", file], cwd=folder, capture_output=True, text=True, check=False
    )


def test_finished_runs_are_merged_into_a_stored_file(quick_copy: Path) -> None:
    shutil.rmtree(quick_copy / "results/quick/digits/resnet20/random")
    first = collect_into(quick_copy, "stored.csv")
    assert first.stdout.splitlines() == [
        "2 rows added, 0 were there · stored.csv",
        "1 of 3 runs are not finished here",
    ]
    assert collect_into(quick_copy, "stored.csv").stdout.startswith("0 rows added, 2 were there")

    (l1,) = (row for row in rows(quick_copy / "stored.csv") if row["method"] == "l1")
    edit(quick_copy / "stored.csv", f",{l1['top1']},", ",12.5,")
    before = (quick_copy / "stored.csv").read_bytes()
    refused = collect_into(quick_copy, "stored.csv")
    assert refused.returncode == 1
    (line,) = refused.stderr.splitlines()
    assert line.startswith("prunebench: stored.csv: two different results for the specification ")
    assert (quick_copy / "stored.csv").read_bytes() == before
