"""Copies of the workflow in temporary folders, and one finished run of the experiment quick."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

import pytest
import yaml

import prunebench
from tests.conftest import Once

ROOT = Path(__file__).parents[2]
PACKAGE = Path(prunebench.__file__).parent
PARTS = ("Snakefile", "environment.yml", "workflow", "profiles", "config")


def copy_workflow(folder: Path) -> Path:
    """Copy all files that Snakemake reads, without results, to `folder`."""
    folder.mkdir(exist_ok=True)
    for part in PARTS:
        source = ROOT / part
        if source.is_dir():
            shutil.copytree(source, folder / part)
        else:
            shutil.copy2(source, folder / part)
    return folder


def quick_methods() -> list[str]:
    """Return the methods of the experiment quick; docs/adding.md adds some."""
    file = ROOT / "config" / "experiments" / "quick.yaml"
    return list(yaml.safe_load(file.read_text(encoding="utf-8"))["methods"])


def snakemake(
    folder: Path, *arguments: str, env: Mapping[str, str] | None = None
) -> subprocess.CompletedProcess[str]:
    """Run Snakemake in `folder`, targets first; stdout holds output and errors."""
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    return subprocess.run(
        [sys.executable, "-m", "snakemake", *arguments],
        cwd=folder,
        env={**os.environ, "PATH": path, **(env or {})},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


def planned(folder: Path, *arguments: str, env: Mapping[str, str] | None = None) -> dict[str, int]:
    """Return the number of jobs of a dry run by rule."""
    done = snakemake(folder, *arguments, "-n", "-q", "rules", env=env)
    assert done.returncode == 0, done.stdout
    rows = re.findall(r"^(\w+) +(\d+)$", done.stdout, flags=re.MULTILINE)
    return {rule: int(count) for rule, count in rows if rule != "total"}


@pytest.fixture
def workflow(tmp_path: Path) -> Path:
    """A folder with the workflow, without results."""
    return copy_workflow(tmp_path / "workflow")


@pytest.fixture
def resolved(once: Once, workflow: Path) -> Path:
    """A folder with the workflow and the resolved `quick`, which is planned without torch."""

    def resolve(folder: Path) -> None:
        copy_workflow(folder)
        planned(folder, "--config", "experiments=quick")

    shutil.copytree(once("resolved", resolve) / "results", workflow / "results")
    return workflow


@pytest.fixture(scope="session")
def quick(once: Once) -> Path:
    """A folder in which the experiment `quick` has run; tests copy it before they change it."""

    def run(folder: Path) -> None:
        copy_workflow(folder)
        done = snakemake(folder, "--cores", "2", "--config", "experiments=quick")
        assert done.returncode == 0, done.stdout

    return once("quick", run)


@pytest.fixture
def quick_copy(quick: Path, tmp_path: Path) -> Path:
    """A copy of the finished run with the modification times of its files."""
    return shutil.copytree(quick, tmp_path / "quick", symlinks=True)


@pytest.fixture
def patched_package(tmp_path: Path) -> Path:
    """A copy of the package that a test can edit."""
    folder = tmp_path / "package"
    shutil.copytree(
        PACKAGE, folder / "prunebench", ignore=shutil.ignore_patterns("__pycache__", "*.egg-info")
    )
    return folder
