"""A method in another package, found through its entry point and run by the workflow."""

from __future__ import annotations

import csv
from pathlib import Path

import pytest

from tests.workflow.conftest import planned, snakemake
from tests.workflow.test_quick import AFTER_A_RUN, QUICK, edit

METHOD = '''
from prunebench.channels.unit_weights import unit_rows
from prunebench.methods.one_shot import OneShot


class Largest(OneShot):
    """Filters with the largest weights leave."""

    summary = "largest first"

    def score(self, run, groups):
        return {name: -unit_rows(run.params, g).abs().sum(dim=1) for name, g in groups.items()}
'''


@pytest.fixture
def installed(tmp_path: Path) -> Path:
    """A folder as pip leaves it: a module, and the metadata that name its entry point."""
    folder = tmp_path / "site"
    metadata = folder / "largest_first-1.0.dist-info"
    metadata.mkdir(parents=True)
    (folder / "largest_first.py").write_text(METHOD, encoding="utf-8")
    (metadata / "METADATA").write_text("Metadata-Version: 2.1\nName: largest-first\nVersion: 1.0\n")
    (metadata / "entry_points.txt").write_text(
        "[prunebench.methods]\nlargest_first = largest_first:Largest\n"
    )
    return folder


def test_a_plug_in_runs_through_the_workflow(quick_copy: Path, installed: Path) -> None:
    edit(quick_copy / "config/experiments/quick.yaml", "  l1: {}", "  l1: {}\n  largest_first: {}")
    env = {"PYTHONPATH": str(installed)}
    assert planned(quick_copy, *QUICK, env=env) == {"prune": 1, **AFTER_A_RUN}
    done = snakemake(quick_copy, "--cores", "1", *QUICK, env=env)
    assert done.returncode == 0, done.stdout
    with (quick_copy / "results/quick/runs.csv").open(encoding="utf-8", newline="") as file:
        rows = {row["method"]: row for row in csv.DictReader(file)}
    assert list(rows) == ["unpruned", "random", "l1", "largest_first"]
    assert rows["largest_first"]["macs"] == rows["l1"]["macs"]
