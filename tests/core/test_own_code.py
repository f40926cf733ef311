from __future__ import annotations

import sys
from pathlib import Path

import pytest

from prunebench.core.errors import ConfigError
from prunebench.core.own_code import call_with_known, own_function, with_current_folder

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

    assert call_with_known(everything, "a:b", "network", known, {"num_classes"}) == known
    assert call_with_known(some, "a:b", "network", known, set()) == (3, 2)


@pytest.mark.parametrize(
    ("parameters", "sentence"),
    [
        ("depth", "the argument 'depth' has no default; it is called with num_classes and in_ch"),
        ("num_classes, /", "the argument 'num_classes' has no default; it is called with"),
        ("depth=1", "it takes no argument 'num_classes'"),
    ],
)
def test_a_function_that_cannot_be_called_is_named(parameters: str, sentence: str) -> None:
    function = eval(f"lambda {parameters}: None")
    known = {"num_classes": 10, "in_channels": 3}
    with pytest.raises(ConfigError, match=sentence) as error:
        call_with_known(function, "own:make", "network", known, {"num_classes"})
    assert str(error.value).startswith("network own:make: ")
