from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from prunebench.core.errors import ConfigError
from prunebench.core.plug_ins import plug_ins, registered_name, source_of


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


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """The current folder, an empty one."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [*sys.path])
    plug_ins.cache_clear()
    yield tmp_path
    plug_ins.cache_clear()


def test_names_in_the_file_of_the_current_folder_are_plug_ins(here: Path) -> None:
    text = '[methods]\nmine = "module:Class"\n[networks]\nnet = "nets:make"\n'
    (here / "prunebench.toml").write_text(text, encoding="utf-8")
    assert ("mine", "module:Class") in plug_ins("prunebench.methods")
    assert ("net", "nets:make") in plug_ins("prunebench.networks")
    assert ("mine", "module:Class") not in plug_ins("prunebench.criteria")
    assert str(here) in sys.path


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("[methods", "not a TOML file (Expected ']'"),
        ("[method]\n", "unknown section 'method'; did you mean methods?"),
        ("[methods]\nMine = 'a:B'\n", "methods: Mine = 'a:B' is not of the form my_name ="),
        ("[methods]\nmine = 'a.B'\n", "methods: mine = 'a.B' is not of the form my_name ="),
        ("methods = 3\n", "methods: methods = 3 is not of the form my_name ="),
    ],
)
def test_a_wrong_line_of_the_file_is_named(here: Path, text: str, sentence: str) -> None:
    (here / "prunebench.toml").write_text(text, encoding="utf-8")
    with pytest.raises(ConfigError) as error:
        plug_ins("prunebench.methods")
    assert str(error.value).startswith(f"{here / 'prunebench.toml'}: {sentence}")


def test_an_unknown_name_says_where_names_are_registered(here: Path) -> None:
    known = "unknown method 'mine' (allowed: l1); names of your own are registered in "
    with pytest.raises(ConfigError) as caught:
        registered_name("method", "mine", {"l1": "a:L1"})
    assert str(caught.value) == f"{known}prunebench.toml, and {here} has no such file"
    (here / "prunebench.toml").touch()
    with pytest.raises(ConfigError) as caught:
        registered_name("method", "mine", {"l1": "a:L1"})
    assert str(caught.value) == f"{known}{here / 'prunebench.toml'}"
