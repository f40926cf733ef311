"""CONTRIBUTING.md adds a method; this follows the page in copies of package, tests and config."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.workflow.conftest import ROOT, planned

PAGE = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")
METHOD, TEST, NAME, ROW = re.findall(r"```(?:python|yaml)\n(.*?)```", PAGE, flags=re.DOTALL)


@pytest.fixture
def added(patched_package: Path) -> Path:
    """A copy of the package with the page's method in it."""
    methods = patched_package / "prunebench" / "methods"
    (methods / "largest.py").write_text(METHOD, encoding="utf-8")
    registry = (methods / "registry.py").read_text(encoding="utf-8")
    edited = registry.replace("METHODS = {\n", f"METHODS = {{\n{NAME}")
    (methods / "registry.py").write_text(edited, encoding="utf-8")
    return patched_package


def test_the_page_s_test_passes(added: Path, tmp_path: Path) -> None:
    tests = tmp_path / "tests" / "methods"
    tests.mkdir(parents=True)
    for name in ("__init__.py", "conftest.py"):
        shutil.copy2(ROOT / "tests" / "methods" / name, tests / name)
    (tests / "test_largest.py").write_text(TEST, encoding="utf-8")
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", str(tests)],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(added)},
        capture_output=True,
        text=True,
    )
    assert "2 passed" in done.stdout


def test_the_page_s_row_runs_the_method_and_nothing_else_again(
    added: Path, quick_copy: Path
) -> None:
    file = quick_copy / "config" / "experiments" / "quick.yaml"
    file.write_text(file.read_text(encoding="utf-8") + ROW, encoding="utf-8")
    jobs = planned(quick_copy, "--config", "experiments=quick", env={"PYTHONPATH": str(added)})
    assert jobs["prune"] == 1
    assert "base" not in jobs


def test_the_page_is_formatted_like_the_package(tmp_path: Path) -> None:
    ruff = shutil.which("ruff")
    if ruff is None:
        pytest.skip("ruff is in the extra `dev`")
    (tmp_path / "largest.py").write_text(METHOD, encoding="utf-8")
    (tmp_path / "test_largest.py").write_text(TEST, encoding="utf-8")
    config = ROOT / "pyproject.toml"
    for command in (["format", "--check"], ["check", "--ignore", "D,I001"]):
        subprocess.run([ruff, *command, "--config", config, "."], cwd=tmp_path, check=True)
