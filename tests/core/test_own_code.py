from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from prunebench.core.errors import ConfigError
from prunebench.core.module_code import read_module
from prunebench.core.own_code import (
    call_with_known,
    code_of_name,
    own_code,
    own_function,
)
from prunebench.core.plug_ins import source_of, with_current_folder

MODULE = """
VALUE = 3


def make(num_classes, width=1.0):
    return num_classes, width
"""


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The current folder, with modules in it, as a console script sees it."""
    (tmp_path / "own_nets.py").write_text(MODULE, encoding="utf-8")
    (tmp_path / "own_broken.py").write_text("1 / 0", encoding="utf-8")
    (tmp_path / "own_needy.py").write_text("import not_installed_at_all", encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [folder for folder in sys.path if folder])
    return tmp_path


def test_a_function_of_the_current_folder_is_imported(here: Path) -> None:
    assert own_function("own_nets:make", "network")(10) == (10, 1.0)
    sys.modules.pop("own_nets")


@pytest.mark.parametrize(
    ("path", "sentence"),
    [
        ("own_nets", "network 'own_nets': not of the form module:function"),
        ("../own_nets:make", "network '../own_nets:make': not of the form module:function"),
        ("own_nest:make", "network own_nest:make: no module 'own_nest'; modules of the current"),
        ("own.nets:make", "network own.nets:make: no module 'own'; modules of the current"),
        (
            "own_needy:make",
            "network own_needy:make: no module 'not_installed_at_all', which own_needy imports;",
        ),
        ("own_broken:make", "network own_broken:make: own_broken cannot be imported: division by"),
        ("own_nets:mke", "unknown name in own_nets 'mke'; did you mean make? (allowed: VALUE,"),
        ("own_nets:VALUE", "network own_nets:VALUE: 3 is no function"),
    ],
)
def test_what_is_wrong_is_one_line(here: Path, path: str, sentence: str) -> None:
    with pytest.raises(ConfigError) as error:
        own_function(path, "network")
    assert sentence in str(error.value)
    assert "\n" not in str(error.value)


def test_an_import_has_a_time_limit(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (here / "own_endless.py").write_text("import time\ntime.sleep(9)", encoding="utf-8")
    monkeypatch.setenv("PRUNEBENCH_PLUG_IN_SECONDS", "0.1")
    with pytest.raises(ConfigError, match=r"takes more than 0\.1 seconds"):
        own_function("own_endless:make", "network")


def test_the_current_folder_is_added_once(here: Path) -> None:
    with_current_folder()
    with_current_folder()
    assert sys.path.count(str(here)) == 1


def test_only_arguments_that_a_function_takes_are_given() -> None:
    known = {"num_classes": 10, "in_channels": 3}

    def everything(**given: int) -> dict[str, int]:
        return given

    def some(in_channels: int, *, depth: int = 2) -> tuple[int, int]:
        return in_channels, depth

    assert call_with_known(everything, "a:b", "network", known, ["num_classes"]) == known
    assert call_with_known(some, "a:b", "network", known, []) == (3, 2)


@pytest.mark.parametrize(
    ("parameters", "sentence"),
    [
        ("depth", "the argument 'depth' has no default; the function is called with num"),
        (
            "num_classes, /",
            "the argument 'num_classes' has no default; the function is called with",
        ),
        ("depth=1", "the function takes no argument 'num_classes'"),
    ],
)
def test_a_function_that_cannot_be_called_is_named(parameters: str, sentence: str) -> None:
    function = eval(f"lambda {parameters}: None")
    known = {"num_classes": 10, "in_channels": 3}
    with pytest.raises(ConfigError, match=sentence) as error:
        call_with_known(function, "own:make", "network", known, ["num_classes"])
    assert str(error.value).startswith("network own:make: ")


@pytest.fixture
def package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A package and a module beside it that it imports, in the current folder."""
    folder = tmp_path / "own_package"
    folder.mkdir()
    (folder / "__init__.py").write_text("from .inner import make\n", encoding="utf-8")
    (folder / "inner.py").write_text("import json, own_sizes\n", encoding="utf-8")
    (tmp_path / "own_sizes.py").write_text("SIDE = 8\n", encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    yield tmp_path
    forget()


def forget() -> None:
    source_of.cache_clear()
    read_module.cache_clear()


@pytest.mark.parametrize(
    "file", ["own_package/__init__.py", "own_package/inner.py", "own_sizes.py"]
)
def test_an_edit_of_what_a_function_uses_changes_its_code(package: Path, file: str) -> None:
    before = own_code("own_package:make")
    text = (package / file).read_text(encoding="utf-8")
    forget()
    (package / file).write_text(f"# {text}{text}", encoding="utf-8")
    assert own_code("own_package:make") == before
    forget()
    (package / file).write_text(f"{text}x = 1\n", encoding="utf-8")
    assert own_code("own_package:make") not in (before, None)


def test_only_the_user_s_own_and_plug_ins_have_a_code(
    package: Path, register: Callable[[str, str, str], None]
) -> None:
    register("prunebench.networks", "mine", "own_package:make")
    code = own_code("own_package:make")
    assert code_of_name("mine", "prunebench.networks") == code
    assert code_of_name("own_package.make", "prunebench.networks") == code
    assert code_of_name("mine", "prunebench.datasets") is None
    assert code_of_name("resnet20", "prunebench.networks") is None
    assert own_code("own_nowhere:make") is None
