"""The wheel and the sdist, and what a study outside of a checkout does with them."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path
from zipfile import ZipFile

import pytest
import yaml
from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet
from packaging.version import Version

import prunebench
from prunebench.core.project import PARTS
from tests.conftest import Once
from tests.workflow.conftest import planned

ROOT = Path(__file__).parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
FORCED = PROJECT["tool"]["hatch"]["build"]["targets"]["wheel"]["force-include"]
ENVIRONMENT = yaml.safe_load((ROOT / "environment.yml").read_text(encoding="utf-8"))


def build(source: Path, target: str, folder: Path) -> None:
    """Build a `wheel` or an `sdist` without an environment of its own."""
    command = [sys.executable, "-m", "hatchling", "build", "-t", target, "-d", folder]
    subprocess.run(command, cwd=source, check=True, capture_output=True)


def files_of(wheel: Path) -> set[str]:
    return {name for name in ZipFile(wheel).namelist() if not name.endswith("/RECORD")}


@pytest.fixture(scope="module")
def wheel(once: Once) -> Path:
    return next(once("wheel", lambda folder: build(ROOT, "wheel", folder)).glob("*.whl"))


@pytest.fixture(scope="module")
def installed(once: Once, wheel: Path) -> dict[str, str]:
    """The environment of a Python that has the wheel and no checkout."""

    def install(folder: Path) -> None:
        flags = ["--no-deps", "--no-index", "--no-compile", "--quiet"]
        command = [sys.executable, "-m", "pip", "install", *flags, "--target", folder, wheel]
        subprocess.run(command, check=True)

    return {**os.environ, "PYTHONPATH": str(once("installed", install))}


def prune_bench(folder: Path, env: dict[str, str], *arguments: str) -> str:
    command = [sys.executable, "-m", "prunebench", *arguments]
    done = subprocess.run(command, cwd=folder, env=env, capture_output=True, text=True)
    return done.stdout + done.stderr


def test_the_wheel_starts_a_study_that_plans_its_quick_start(
    installed: dict[str, str], tmp_path: Path
) -> None:
    where = [sys.executable, "-c", "import prunebench; print(prunebench.__file__)"]
    found = subprocess.run(where, cwd=tmp_path, env=installed, capture_output=True, text=True)
    assert found.stdout.startswith(installed["PYTHONPATH"])
    out = prune_bench(tmp_path, installed, "init", "my study")
    assert out.splitlines()[-1] == "next: cd 'my study' && snakemake --cores all"
    jobs = planned(tmp_path / "my study", "--config", "experiments=quick", env=installed)
    assert jobs["prune"] > 1
    out = prune_bench(tmp_path, installed, "init", "my study")
    assert out == (
        "prunebench: my study: already has Snakefile, config, environment.yml, profiles, workflow; "
        "name another folder\n"
    )


def test_the_wheel_has_the_package_and_one_copy_of_the_workflow(wheel: Path) -> None:
    names = files_of(wheel)
    package = {
        path.relative_to(ROOT / "src").as_posix()
        for path in (ROOT / "src" / "prunebench").rglob("*")
        if path.is_file() and "__pycache__" not in path.parts
    }
    assert package <= names
    for part in PARTS:
        source = ROOT / part
        expected = [p for p in source.rglob("*") if p.is_file()] if source.is_dir() else [source]
        for path in expected:
            assert f"prunebench/project/{path.relative_to(ROOT).as_posix()}" in names
    assert {part: f"prunebench/project/{part}" for part in PARTS} == FORCED


def test_a_wheel_from_the_sdist_is_the_same(wheel: Path, tmp_path: Path) -> None:
    build(ROOT, "sdist", tmp_path)
    archive = next(tmp_path.glob("*.tar.gz"))
    shutil.unpack_archive(archive, tmp_path)
    build(tmp_path / archive.name.removesuffix(".tar.gz"), "wheel", tmp_path)
    again = next(tmp_path.glob("*.whl"))
    assert again.name == wheel.name
    assert files_of(again) == files_of(wheel)


def test_the_image_is_built_from_all_files_of_the_wheel(wheel: Path, tmp_path: Path) -> None:
    lines = (ROOT / ".dockerignore").read_text(encoding="utf-8").splitlines()
    for name in (line[1:] for line in lines if line.startswith("!")):
        source, target = ROOT / name, tmp_path / "context" / name
        if source.is_dir():
            shutil.copytree(source, target)
        else:
            target.parent.mkdir(exist_ok=True)
            shutil.copyfile(source, target)
    build(tmp_path / "context", "wheel", tmp_path)
    assert files_of(next(tmp_path.glob("*.whl"))) == files_of(wheel)


def test_there_is_one_semantic_version(wheel: Path) -> None:
    assert re.fullmatch(r"\d+\.\d+\.\d+", prunebench.__version__)
    assert wheel.name == f"prunebench-{prunebench.__version__}-py3-none-any.whl"
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text(encoding="utf-8"))
    assert citation["version"] == prunebench.__version__


def test_the_environment_leaves_all_packages_to_pyproject() -> None:
    python, *others = ENVIRONMENT["dependencies"]
    assert others == ["pip", "git", {"pip": ["-e ."]}]
    name, _, version = python.partition("=")
    assert name == "python"
    assert Version(version) in SpecifierSet(PROJECT["project"]["requires-python"])


@pytest.mark.parametrize(
    ("torch", "is_allowed"),
    [("2.10.0", False), ("2.11.0", True), ("2.12.1", True), ("2.13.0", False), ("2.14.1", True)],
)
def test_versions_of_torch_with_a_torchvision_beside_them_are_allowed(
    torch: str, is_allowed: bool
) -> None:
    found = [Requirement(text) for text in PROJECT["project"]["dependencies"]]
    allowed = next(requirement.specifier for requirement in found if requirement.name == "torch")
    assert (torch in allowed) == is_allowed


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_the_shell_completes_commands(shell: str, tmp_path: Path) -> None:
    words = {
        "COMP_WORDS": "prunebench pub",  # of bash
        "COMP_CWORD": "1",
        "_TYPER_COMPLETE_ARGS": "prunebench pub",  # of zsh and fish
        "_TYPER_COMPLETE_FISH_ACTION": "get-args",
        "_PRUNEBENCH_COMPLETE": f"complete_{shell}",
    }
    env = {**os.environ, **words}
    assert "published" in prune_bench(tmp_path, env)
