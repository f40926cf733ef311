from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from prunebench.core.errors import ConfigError
from prunebench.core.plug_ins import LIMIT
from prunebench.criteria.registry import CRITERIA
from prunebench.experiments.phases import RATIO_KINDS
from prunebench.methods import registry
from prunebench.methods.base import Method, MethodOptions
from prunebench.methods.controls import Unpruned

Register = Callable[[str, str, str], None]


def test_methods_are_listed_in_order() -> None:
    assert list(registry.METHODS) == sorted(registry.METHODS)


def test_a_criterion_is_not_listed_as_a_method() -> None:
    assert not set(registry.METHODS) & set(CRITERIA)
    assert set(CRITERIA) < set(registry.method_paths())


@pytest.mark.parametrize("name", registry.method_paths())
def test_every_method_says_what_it_is(name: str) -> None:
    found = registry.method_class(name)
    assert issubclass(found, Method)
    assert found.summary
    assert set(found.ratio_kinds) <= set(RATIO_KINDS)
    assert isinstance(found(found.Options()).options, MethodOptions)  # defaults are complete


def test_an_unknown_method_is_named_with_the_closest() -> None:
    with pytest.raises(ConfigError, match="unknown method 'gerg_1'; did you mean greg_1"):
        registry.method_class("gerg_1")


def test_plug_ins_are_found_among_the_methods(register: Register) -> None:
    built_in = registry.method_paths()
    register("prunebench.methods", "mine", "prunebench.methods.controls:Unpruned")
    assert registry.method_class("mine") is Unpruned
    assert list(registry.method_paths()) == sorted([*built_in, "mine"])


@pytest.mark.parametrize("name", ["greg_1", "l1", "mine"])
def test_a_name_that_is_taken_concerns_those_who_use_it(name: str, register: Register) -> None:
    register("prunebench.methods", "mine", "first:M")
    register("prunebench.methods", name, "other:Method")
    register("prunebench.methods", name, "other:Method")  # found twice, as in two folders
    assert registry.method_class("l2").summary
    with pytest.raises(ConfigError, match=rf"registered as the method '{name}': .* and other:Meth"):
        registry.method_class(name)


def test_a_criterion_may_not_have_the_name_of_a_method(register: Register) -> None:
    register("prunebench.criteria", "greg_1", "other:Criterion")
    with pytest.raises(ConfigError, match=r"method 'greg_1': .*:GReg1 and other:Criterion"):
        registry.method_class("greg_1")


BROKEN = {
    "raising": "raise RuntimeError('no license\\nsee the manual')",
    "leaving": "raise SystemExit(3)",
    "hanging": "import time\ntry:\n    time.sleep(60)\nexcept Exception:\n    pass",
    "empty": "",
    "number": "M = 3",
    "other": "class M: summary = 'mine'",
    "silent": "from prunebench.methods.base import Method\nclass M(Method): ...",
    "syntax": "M = = 3",
}


@pytest.fixture
def broken(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, register: Register, request: Any
) -> Iterator[str]:
    """The name of a plug-in that cannot be used; its module has the same name."""
    name = str(request.param)
    (tmp_path / f"{name}_plug_in.py").write_text(BROKEN[name], encoding="utf-8")
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setenv(LIMIT, "0.2")
    register("prunebench.methods", name, f"{name}_plug_in:M")
    yield name
    sys.modules.pop(f"{name}_plug_in", None)


@pytest.mark.parametrize(
    ("broken", "problem"),
    [
        ("raising", ": no license"),
        ("leaving", ": it exits"),
        ("hanging", ": its import takes more than 0.2 seconds (PRUNEBENCH_PLUG_IN_SECONDS)"),
        ("empty", ": module 'empty_plug_in' has no attribute 'M'"),
        ("number", " is no subclass of prunebench.methods.base.Method"),
        ("other", " is no subclass of prunebench.methods.base.Method"),
        ("silent", " has no summary, a line of text"),
        ("syntax", ": invalid syntax (syntax_plug_in.py, line 1)"),
    ],
    indirect=["broken"],
)
def test_a_plug_in_that_cannot_be_used_is_named_and_skipped(
    broken: str, problem: str, capsys: pytest.CaptureFixture[str]
) -> None:
    sentence = f"the plug-in {broken}_plug_in:M of the method '{broken}'{problem}"
    with pytest.raises(ConfigError) as error:
        registry.method_class(broken)
    assert str(error.value) == sentence
    assert [*dict(registry.usable_methods())] == sorted({*registry.METHODS, *CRITERIA})
    assert capsys.readouterr().err == f"prunebench: {sentence}; it is skipped\n"


@pytest.mark.parametrize("broken", ["raising"], indirect=True)
def test_a_plug_in_is_imported_by_those_who_use_it_alone(broken: str) -> None:
    assert registry.method_class("l1").summary
    assert broken in registry.method_paths()
    assert f"{broken}_plug_in" not in sys.modules


def test_a_criterion_that_is_none_is_named(register: Register) -> None:
    register("prunebench.criteria", "mine", "prunebench.methods.controls:Unpruned")
    with pytest.raises(ConfigError, match=r"'mine' is no subclass of .*criteria\.base\.Criterion"):
        registry.method_class("mine")


def test_names_are_listed_without_torch() -> None:
    code = "import sys; from prunebench.methods.registry import method_paths; method_paths(); "
    subprocess.run([sys.executable, "-c", f"{code}sys.exit('torch' in sys.modules)"], check=True)
