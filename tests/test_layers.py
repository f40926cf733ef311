"""Imports point in one direction: core, then data, models, channels, then methods, measure, ..."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

import prunebench

PACKAGE = Path(prunebench.__file__).parent
FILES = sorted(PACKAGE.rglob("*.py"))
BELOW = {  # what a folder may import beside itself
    "core": set(),
    "data": {"core"},
    "models": {"core"},
    "channels": {"core"},
    "methods": {"core", "channels"},  # a method sees groups and tensors, no model and no data set
    "measure": {"core", "channels", "data", "models"},
    "training": {"core", "channels", "data", "models", "methods", "measure"},
    "report": {"core"},
    "cli": {"core", "channels", "data", "models", "methods", "measure", "training", "report"},
    "": {"core", "cli"},  # __init__.py and __main__.py
}


def imports(path: Path) -> Iterator[str]:
    """Yield the modules that a file imports, wherever in it."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: a relative import"
            yield f"{node.module}.{node.names[0].name}" if node.module else ""


def folder(path: Path) -> str:
    parts = path.relative_to(PACKAGE).parts
    return parts[0] if len(parts) > 1 else ""


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_a_file_imports_only_what_lies_below(path: Path) -> None:
    own = {module.split(".")[1] for module in imports(path) if module.startswith("prunebench.")}
    assert own <= BELOW[folder(path)] | {folder(path)}


@pytest.mark.parametrize(
    ("place", "strangers"),
    [
        (".", {"snakemake"}),
        ("core", {"torch", "torchvision", "pandas", "numpy"}),
        ("report", {"torch", "torchvision"}),
        ("models", {"torchvision", "timm"}),
        ("methods", {"torchvision"}),
    ],
)
def test_a_folder_keeps_clear_of_strangers(place: str, strangers: set[str]) -> None:
    found = {
        f"{path.name}: {module}"
        for path in (PACKAGE / place).rglob("*.py")
        for module in imports(path)
        if module.split(".")[0] in strangers
    }
    assert not found


@pytest.mark.parametrize(
    ("place", "strangers"),
    [("core", ["torch", "pandas", "snakemake"]), ("report", ["torch", "snakemake"])],
)
def test_what_a_folder_imports_keeps_clear_of_them_too(place: str, strangers: list[str]) -> None:
    modules = [f"prunebench.{place}.{file.stem}" for file in (PACKAGE / place).glob("[a-z]*.py")]
    code = f"import sys, {', '.join(modules)}\nsys.exit(bool(set({strangers}) & set(sys.modules)))"
    subprocess.run([sys.executable, "-c", code], check=True)


def test_every_folder_has_its_place_in_this_order() -> None:
    assert {folder(path) for path in FILES} == set(BELOW)
