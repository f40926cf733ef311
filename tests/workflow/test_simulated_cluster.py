"""benchmarks/simulated_cluster.py runs the workflow with stand-ins for the commands of SLURM."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.workflow.conftest import ROOT

pytest.importorskip("snakemake_executor_plugin_slurm")


def simulate(folder: Path, *arguments: str) -> dict[str, str]:
    """Return the rows of the table of a simulation with jobs of half a second."""
    command = [sys.executable, ROOT / "benchmarks" / "simulated_cluster.py"]
    options = ["--seeds", "1", "--slots", "8", "--speed", "60", "--folder", folder]
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    done = subprocess.run(
        [*command, *options, *arguments],
        env={**os.environ, "PATH": path},
        capture_output=True,
        text=True,
        check=True,
    )
    return dict(re.findall(r"^\| (.+) \| (.+) \|$", done.stdout, flags=re.MULTILINE))


@pytest.mark.slow
def test_all_runs_of_a_simulated_cluster_finish(tmp_path: Path) -> None:
    rows = simulate(tmp_path / "workflow")
    assert rows["jobs"] == "2 base, 1 data, 38 prune"
    assert rows["their last states"] == "41 COMPLETED"
    assert rows["sbatch"].startswith("41, 1.00 per job")
    assert len([*tmp_path.glob("workflow/results/digits/*/*/*/*/*/seed0/finished.json")]) == 38


@pytest.mark.slow
def test_failed_and_preempted_jobs_of_a_simulated_cluster_run_again(tmp_path: Path) -> None:
    faults = ("--fail", "0.2", "--preempt", "0.2")
    rows = simulate(tmp_path / "workflow", *faults, "--", "--retries", "9")
    assert "41 COMPLETED" in rows["their last states"]
    assert "FAILED" in rows["their last states"]


@pytest.mark.slow
def test_a_job_of_a_simulated_cluster_can_hold_several_runs(tmp_path: Path) -> None:
    rows = simulate(tmp_path / "workflow", "--config", "{runs_per_job: 2}")
    assert rows["jobs"] == "2 base, 1 data, 20 prune_part"
    assert rows["their last states"] == "23 COMPLETED"
