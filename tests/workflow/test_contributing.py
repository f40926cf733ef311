"""CONTRIBUTING.md adds a criterion and a method; this does so in copies of package and config."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.workflow.conftest import ROOT, planned, quick_methods

PAGE = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")
BLOCKS = re.findall(r"```(?:python|yaml)\n(.*?)```", PAGE, flags=re.DOTALL)
CRITERION, METHOD = BLOCKS[:4], BLOCKS[4:]  # source, test, line of the registry, row
FILES = {
    "largest.py": CRITERION[0],
    "test_largest.py": CRITERION[1],
    "slimming.py": METHOD[0],
    "test_slimming.py": METHOD[1],
}


@pytest.fixture
def added(patched_package: Path) -> Path:
    """A copy of the package with the page's criterion and method in it."""
    for folder, table, name, (source, _, line, _) in (
        ("criteria", "CRITERIA", "largest", CRITERION),
        ("methods", "METHODS", "slimming", METHOD),
    ):
        place = patched_package / "prunebench" / folder
        (place / f"{name}.py").write_text(source, encoding="utf-8")
        registry = (place / "registry.py").read_text(encoding="utf-8")
        edited = registry.replace(f"{table} = {{\n", f"{table} = {{\n{line}")
        (place / "registry.py").write_text(edited, encoding="utf-8")
    return patched_package


def test_the_page_s_tests_pass(added: Path, tmp_path: Path) -> None:
    tests = tmp_path / "tests"
    tests.mkdir()
    for name in ("test_largest.py", "test_slimming.py"):
        (tests / name).write_text(FILES[name], encoding="utf-8")
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", str(tests)],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(added)},
        capture_output=True,
        text=True,
    )
    assert "8 passed" in done.stdout, done.stdout


def test_a_method_s_test_needs_nothing_but_the_package() -> None:
    modules = set(re.findall(r"^(?:from|import) (\S+)", METHOD[1], flags=re.MULTILINE))
    assert modules == {"torch", "prunebench.methods.slimming", "prunebench.testing"}


def test_the_page_s_rows_run_what_is_new_and_nothing_else_again(
    added: Path, quick_copy: Path
) -> None:
    file = quick_copy / "config" / "experiments" / "quick.yaml"
    rows = {"largest": CRITERION[3], "slimming": METHOD[3]}
    new = [row for name, row in rows.items() if name not in quick_methods()]
    file.write_text(file.read_text(encoding="utf-8") + "".join(new), encoding="utf-8")
    jobs = planned(quick_copy, "--config", "experiments=quick", env={"PYTHONPATH": str(added)})
    assert jobs.get("prune", 0) == len(new)
    assert "base" not in jobs


def test_the_page_is_formatted_like_the_package(tmp_path: Path) -> None:
    ruff = shutil.which("ruff")
    if ruff is None:
        pytest.skip("ruff is in the extra `dev`")
    for name, source in FILES.items():
        (tmp_path / name).write_text(source, encoding="utf-8")
    config = ROOT / "pyproject.toml"
    for command in (["format", "--check"], ["check", "--ignore", "D,I001"]):
        subprocess.run([ruff, *command, "--config", config, "."], cwd=tmp_path, check=True)
