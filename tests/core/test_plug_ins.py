from __future__ import annotations

import sys
from pathlib import Path

import pytest

from prunebench.core.plug_ins import source_of


@pytest.fixture
def package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A package that cannot be imported, with a module and a namespace package beside it."""
    for name in ("package_of_test/inner", "space_of_test"):
        (tmp_path / name).mkdir(parents=True)
    (tmp_path / "package_of_test/__init__.py").write_text("raise RuntimeError")
    for name in (
        "package_of_test/module",
        "package_of_test/inner/__init__",
        "space_of_test/module",
    ):
        (tmp_path / f"{name}.py").touch()
    monkeypatch.syspath_prepend(tmp_path)
    return tmp_path


@pytest.mark.parametrize(
    ("module", "file"),
    [
        ("package_of_test", "package_of_test/__init__.py"),
        ("package_of_test.module", "package_of_test/module.py"),
        ("package_of_test.inner", "package_of_test/inner/__init__.py"),
        ("space_of_test.module", "space_of_test/module.py"),
    ],
)
def test_the_source_of_a_module_is_found_without_an_import(
    package: Path, module: str, file: str
) -> None:
    assert source_of(module) == package / file
    assert module not in sys.modules
    assert "package_of_test" not in sys.modules


@pytest.mark.parametrize("module", ["nowhere_at_all", "sys", "__main__.x", "", "json.nowhere"])
def test_what_has_no_source_has_no_file(module: str) -> None:
    assert source_of(module) is None
