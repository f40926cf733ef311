"""`prunebench new-method`: what it writes passes at once and runs, in any folder."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.cli.conftest import EXPERIMENT, WriteConfig
from tests.workflow.conftest import PACKAGE

FORMS = [("rank_it", []), ("shrink_it", ["--training"])]


def run(*arguments: str, folder: Path, package: Path | None = None) -> str:
    """Run a Python module in a folder, and return its output."""
    env = dict(os.environ)
    if package is not None:
        env["PYTHONPATH"] = str(package)
    done = subprocess.run(
        [sys.executable, "-m", *arguments],
        cwd=folder,
        env=env,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    assert done.returncode == 0, done.stdout
    return done.stdout


@pytest.mark.parametrize(("name", "options"), FORMS)
def test_a_method_beside_the_configuration_passes_and_runs(
    write_config: WriteConfig, name: str, options: list[str]
) -> None:
    folder = write_config().parent.absolute()
    lines = run("prunebench", "new-method", name, *options, folder=folder).splitlines()
    row = yaml.safe_load("\n".join(lines[lines.index("methods:") :]))["methods"]
    tested = run("pytest", "-q", "-p", "no:cacheprovider", f"test_{name}.py", folder=folder)
    assert " passed" in tested
    assert " failed" not in tested

    roles = {"recipes": dict.fromkeys(row[name].get("recipes", {}), "one_epoch")}
    write_config({"methods": EXPERIMENT["methods"] | {name: roles if options else {}}})
    run("prunebench", "data", "--dataset", "synthetic", folder=folder)
    base = ["--architecture", "resnet20_x0_25", "--recipe", "one_epoch"]
    run("prunebench", "base", "--dataset", "synthetic", *base, folder=folder)
    run("prunebench", "prune", "--method", name, folder=folder)
    (result,) = (folder / f"results/tiny/synthetic/resnet20_x0_25/{name}").rglob("training.json")
    assert len(json.loads(result.read_text(encoding="utf-8"))["code"]) == 64


@pytest.mark.parametrize(("name", "options"), FORMS)
def test_in_a_checkout_it_becomes_part_of_the_package(
    tmp_path: Path, name: str, options: list[str]
) -> None:
    ignored = shutil.ignore_patterns("__pycache__", "*.egg-info")
    shutil.copytree(PACKAGE, tmp_path / "src/prunebench", ignore=ignored)
    where: Any = {"folder": tmp_path, "package": tmp_path / "src"}
    run("prunebench", "new-method", name, *options, **where)
    kind = "methods" if options else "criteria"
    registry = (tmp_path / f"src/prunebench/{kind}/registry.py").read_text(encoding="utf-8")
    names = re.findall(r'^    "(\w+)": "', registry, flags=re.MULTILINE)
    assert name in names
    assert names == sorted(names)
    tested = run("pytest", "-q", "-p", "no:cacheprovider", f"tests/{kind}/test_{name}.py", **where)
    assert " passed" in tested
    assert not (tmp_path / "prunebench.toml").exists()
    ruff = shutil.which("ruff")
    if ruff is not None:
        files = [f"src/prunebench/{kind}/{name}.py", f"tests/{kind}/test_{name}.py"]
        config = str(Path(__file__).parents[2] / "pyproject.toml")
        for command in (["check"], ["format", "--check"]):
            subprocess.run([ruff, *command, "--config", config, *files], cwd=tmp_path, check=True)


@pytest.mark.parametrize(
    ("name", "sentence"),
    [
        ("l1", "the method 'l1' exists already: prunebench.criteria.weights:L1"),
        ("json", "'json' is the name of a module that is installed; choose another one"),
        ("My-Method", "'My-Method' is not a valid name"),
        ("taken", "test_taken.py: there is such a file already; choose another name"),
    ],
)
def test_a_name_that_cannot_be_used_is_named(
    write_config: WriteConfig, call: Any, name: str, sentence: str
) -> None:
    write_config()
    Path("test_taken.py").touch()
    status, _, error = call("new-method", name)
    assert status == 1
    assert sentence in error
    assert not Path("prunebench.toml").exists()
    assert not Path("taken.py").exists()
