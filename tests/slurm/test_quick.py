"""The experiment `quick` on SLURM, from the README's command to its table."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.slow_run import start_snakemake, timeless_rows
from tests.workflow.conftest import copy_workflow

pytestmark = pytest.mark.slurm

QUICK = ("--config", "experiments=quick", "device=cpu")


def test_numbers_are_those_of_a_run_without_slurm(workflow: Path, tmp_path: Path) -> None:
    alone = copy_workflow(tmp_path / "alone")
    options = {
        alone: ("--cores", "1"),
        workflow: ("--workflow-profile", "profiles/slurm-test"),
    }
    mains = {folder: start_snakemake(folder, *more, *QUICK) for folder, more in options.items()}
    for folder, main in mains.items():
        assert main.wait() == 0, (folder / "main.log").read_text(encoding="utf-8")
    expected = timeless_rows(alone / "results/quick/runs.csv")
    assert [row["method"] for row in expected] == ["unpruned", "random", "l1"]
    assert len(expected[0]) > 50
    assert timeless_rows(workflow / "results/quick/runs.csv") == expected
    assert (workflow / "results/quick/tables/summary.html").exists()
