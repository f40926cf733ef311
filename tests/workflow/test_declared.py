"""Experiments whose networks cannot be trained yet: the workflow refuses them."""

from __future__ import annotations

from pathlib import Path

import pytest

from prunebench.experiments.config import read_experiment
from prunebench.models.registry import is_detector
from tests.workflow.conftest import ROOT, snakemake

DECLARED = sorted(
    path.stem
    for path in (ROOT / "config" / "experiments").glob("*.yaml")
    if any(map(is_detector, read_experiment(ROOT / "config", path.stem).networks))
)


@pytest.mark.parametrize("experiment", DECLARED)
def test_a_declared_experiment_is_refused_in_one_line(workflow: Path, experiment: str) -> None:
    done = snakemake(workflow, "-n", "--config", f"experiments={experiment}")
    assert done.returncode == 1
    last = done.stdout.splitlines()[-1]
    assert last.startswith(f"prunebench: config/experiments/{experiment}.yaml: networks: ")
    assert last.endswith(
        "is a detector; detectors can be counted (prunebench costs) but not trained yet"
    )
    assert "Traceback" not in done.stdout
