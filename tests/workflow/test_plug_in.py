"""A criterion and a method of another package, found by entry points and run by the workflow."""

from __future__ import annotations

import csv
from pathlib import Path

import pytest

from tests.workflow.conftest import planned, snakemake
from tests.workflow.test_quick import AFTER_A_RUN, QUICK, edit

MODULE = '''
from prunebench.criteria.weights import FilterCriterion
from prunebench.methods.one_shot import OneShot


class LargestFirst(FilterCriterion):
    """Removes the filters with the largest weights."""

    summary = "largest first"

    def of_rows(self, rows):
        return -rows.abs().sum(dim=1)


class Mine(OneShot):
    """The same as a method."""

    summary = "mine"

    def score(self, run, groups):
        return LargestFirst().scores(run, groups)
'''


@pytest.fixture
def installed(tmp_path: Path) -> Path:
    """A folder as pip installs it: a module, and metadata with its entry points."""
    folder = tmp_path / "site"
    metadata = folder / "largest_first-1.0.dist-info"
    metadata.mkdir(parents=True)
    (folder / "largest_first.py").write_text(MODULE, encoding="utf-8")
    (metadata / "METADATA").write_text("Metadata-Version: 2.1\nName: largest-first\nVersion: 1.0\n")
    (metadata / "entry_points.txt").write_text(
        "[prunebench.criteria]\nlargest_first = largest_first:LargestFirst\n"
        "[prunebench.methods]\nmine = largest_first:Mine\n"
    )
    return folder


def test_plug_ins_run_through_the_workflow(quick_copy: Path, installed: Path) -> None:
    rows = "  l1: {}\n  largest_first: {}\n  mine: {}"
    edit(quick_copy / "config/experiments/quick.yaml", "  l1: {}", rows)
    env = {"PYTHONPATH": str(installed)}
    assert planned(quick_copy, *QUICK, env=env) == AFTER_A_RUN | {"prune": 2}
    csv_file = "results/quick/runs.csv"
    done = snakemake(quick_copy, "runs", csv_file, "--cores", "1", *QUICK, env=env)
    assert done.returncode == 0, done.stdout
    with (quick_copy / csv_file).open(encoding="utf-8", newline="") as file:
        found = {row["method"]: row for row in csv.DictReader(file)}
    assert list(found)[:5] == ["unpruned", "random", "l1", "largest_first", "mine"]
    assert found["largest_first"]["macs"] == found["mine"]["macs"] == found["l1"]["macs"]
    assert found["largest_first"]["top1"] == found["mine"]["top1"]
