"""docs/adding.md adds a criterion and a method: this does so beside copies of the configuration."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.workflow.conftest import ROOT, planned, quick_methods

PAGE = (ROOT / "docs/adding.md").read_text(encoding="utf-8")
FILES = dict(re.findall(r"<!-- file: (\S+) -->\n```python\n(.*?)```", PAGE, flags=re.DOTALL))
(CHECK,) = re.findall(r"(?<!-->)\n```python\n(.*?)```", PAGE, flags=re.DOTALL)
ROWS = re.findall(r"```yaml\n(  .*?)```", PAGE, flags=re.DOTALL)
COMMANDS = re.findall(r"^prunebench (new-method .*)$", PAGE, flags=re.MULTILINE)


@pytest.fixture(scope="module")
def added(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder in which the page's commands have run, with the page's files in it."""
    folder = tmp_path_factory.mktemp("added")
    for command in COMMANDS:
        run(folder, "prunebench", *command.split())
    for name, text in FILES.items():
        (folder / name).write_text(text, encoding="utf-8")
    return folder


def run(folder: Path, *arguments: str) -> str:
    done = subprocess.run(
        [sys.executable, "-m", *arguments],
        cwd=folder,
        env=dict(os.environ),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    assert done.returncode == 0, done.stdout
    return done.stdout


def test_the_page_s_tests_pass(added: Path) -> None:
    (added / "test_active.py").write_text(f"def test_it():\n{indented(CHECK)}", encoding="utf-8")
    found = run(added, "pytest", "-q", "-p", "no:cacheprovider", ".")
    assert re.search(r"\b12 passed", found), found


@pytest.mark.parametrize(
    ("name", "module", "class_name"),
    [("lamp", "criteria/lamp.py", "Lamp"), ("slimming", "methods/slimming.py", "Slimming")],
)
def test_the_page_has_the_code_of_the_package(name: str, module: str, class_name: str) -> None:
    source = (ROOT / "src/prunebench" / module).read_text(encoding="utf-8")
    line = f"class {class_name}("
    assert source.count(line) == 1
    assert FILES[f"my_{name}.py"] == source.replace(line, f"class My{class_name}(")


def indented(code: str) -> str:
    return "".join(f"    {line}\n" for line in code.splitlines())


def test_a_file_needs_nothing_but_the_package() -> None:
    for name, text in FILES.items():
        modules = re.findall(r"^(?:from|import) (\w+)", text, flags=re.MULTILINE)
        own = {"__future__", "collections", "prunebench", "pydantic", "pytest", "torch"}
        assert set(modules) <= own | {name.removesuffix(".py").removeprefix("test_")}


def test_the_page_s_rows_run_what_is_new_and_nothing_else_again(
    added: Path, quick_copy: Path
) -> None:
    for name in ("prunebench.toml", "my_lamp.py", "my_slimming.py"):
        shutil.copy(added / name, quick_copy)
    file = quick_copy / "config" / "experiments" / "quick.yaml"
    file.write_text(file.read_text(encoding="utf-8") + "".join(ROWS), encoding="utf-8")
    assert not {"my_lamp", "my_slimming"} & set(quick_methods())
    jobs = planned(quick_copy, "--config", "experiments=quick")
    assert jobs.get("prune", 0) == 3  # two settings of my_lamp, and my_slimming
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
