"""A SLURM with two cores and a GPU, and a copy of the workflow whose jobs it runs."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

from tests.workflow.conftest import copy_workflow


@pytest.fixture(scope="session")
def cluster() -> None:
    """Skip the test where no SLURM runs."""
    if shutil.which("sinfo") is None:
        pytest.skip("SLURM is not installed; see tests/slurm/start.sh")
    try:
        subprocess.run(["sinfo"], capture_output=True, check=True, timeout=30)
    except subprocess.SubprocessError as error:
        pytest.skip(f"SLURM does not run ({error}); see tests/slurm/start.sh")


@pytest.fixture
def workflow(cluster: None, tmp_path: Path) -> Path:
    """A copy of the workflow, without results, in a folder that the jobs see too."""
    return copy_workflow(tmp_path / "workflow")
