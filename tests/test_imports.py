"""Imports point in one direction: core, then data, models, channels, then methods, measure, ..."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest

import prunebench

PACKAGE = Path(prunebench.__file__).parent
FILES = sorted(PACKAGE.rglob("*.py"))
BELOW = {  # what a folder may import beside itself; "network" and "export" are files
    "core": set(),
    "experiments": {"core"},
    "data": {"core", "experiments"},
    "models": {"core", "experiments"},
    "channels": {"core", "experiments"},
    "network": {"core", "experiments", "data", "models", "channels"},
    # A criterion and a method see groups and tensors, no network and no data set.
    "criteria": {"core", "experiments", "channels"},
    "methods": {"core", "experiments", "channels", "criteria"},
    "measure": {"core", "experiments", "data", "models", "channels", "network"},
    "report": {"core", "experiments"},
    "papers": {"core", "experiments", "models", "channels", "measure", "report"},
}
BELOW["planning"] = BELOW["measure"] | {"measure", "methods", "papers"}
BELOW["training"] = {"core", "experiments", "data", "models", "channels", "network"} | {
    "criteria",
    "methods",
    "measure",
}
BELOW["testing"] = BELOW["training"] | {"training"}
BELOW["templates"] = BELOW["testing"] | {"testing"}
BELOW["export"] = BELOW["measure"] | {"measure"}
BELOW["own_network"] = BELOW["training"] | {"training", "export", "report"}
BELOW["cli"] = set(BELOW)
BELOW[""] = {"core", "cli", "models", "channels", "own_network"}  # __init__.py and __main__.py
TORCH_IN_PAPERS = {"conventions", "recount"}
SAME_NAMES = {"__init__", "base", "registry"}
# Losses, box operations and whole detectors are torchvision's; classifiers do without it.
TORCHVISION_ALLOWED = PACKAGE / "models" / "detection"


def imports(path: Path) -> Iterator[str]:
    """Yield the modules that a file imports, wherever in it."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: a relative import"
            yield f"{node.module}.{node.names[0].name}" if node.module else ""


def folder(path: Path) -> str:
    parts = path.relative_to(PACKAGE).with_suffix("").parts
    return parts[0] if parts[0] in BELOW else ""


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_a_file_imports_only_what_lies_below(path: Path) -> None:
    own = {module.split(".")[1] for module in imports(path) if module.startswith("prunebench.")}
    assert own <= BELOW[folder(path)] | {folder(path)}


@pytest.mark.parametrize(
    ("place", "strangers"),
    [
        (".", {"snakemake"}),
        ("core", {"torch", "torchvision", "pandas", "numpy"}),
        ("experiments", {"torch", "torchvision", "pandas", "numpy"}),
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
        and not (module.startswith("torchvision.") and path.parent == TORCHVISION_ALLOWED)
    }
    assert not found


@pytest.mark.parametrize(
    ("place", "strangers"),
    [
        ("core", ["torch", "pandas", "snakemake"]),
        ("experiments", ["torch", "pandas", "snakemake"]),
        ("report", ["torch", "snakemake"]),
        ("papers", ["torch", "snakemake"]),
    ],
)
def test_what_a_folder_imports_keeps_clear_of_them_too(place: str, strangers: list[str]) -> None:
    files = [file.relative_to(PACKAGE) for file in (PACKAGE / place).rglob("[a-z]*.py")]
    names = [
        ".".join(("prunebench", *file.with_suffix("").parts))
        for file in files
        if place != "papers" or file.stem not in TORCH_IN_PAPERS
    ]
    code = f"import sys, {', '.join(names)}\nsys.exit(bool(set({strangers}) & set(sys.modules)))"
    subprocess.run([sys.executable, "-c", code], check=True)


def test_every_folder_has_its_place_in_this_order() -> None:
    assert {folder(path) for path in FILES} == set(BELOW)


def test_no_module_name_means_two_things() -> None:
    names = Counter(path.stem for path in FILES if path.stem not in SAME_NAMES)
    assert [name for name, count in names.items() if count > 1] == []
