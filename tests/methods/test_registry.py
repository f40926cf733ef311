from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable

import pytest

from prunebench.core.errors import ConfigError
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
def test_a_name_that_is_taken_is_refused(name: str, register: Register) -> None:
    register("prunebench.methods", "mine", "first:M")
    register("prunebench.methods", name, "other:Method")
    with pytest.raises(ConfigError, match=f"other:Method registers the method '{name}', which"):
        registry.method_paths()


def test_a_criterion_with_the_name_of_a_method_is_refused(register: Register) -> None:
    register("prunebench.criteria", "greg_1", "other:Criterion")
    with pytest.raises(ConfigError, match="other:Criterion registers the method 'greg_1', which"):
        registry.method_paths()


@pytest.mark.parametrize("value", ["nowhere.at_all:M", "prunebench.methods.one_shot:Missing"])
def test_a_plug_in_that_cannot_be_imported_is_named(value: str, register: Register) -> None:
    register("prunebench.methods", "mine", value)
    with pytest.raises(ConfigError, match=f"the plug-in {value} of the method 'mine': "):
        registry.method_class("mine")


def test_names_are_listed_without_torch() -> None:
    code = "import sys; from prunebench.methods.registry import method_paths; method_paths(); "
    subprocess.run([sys.executable, "-c", f"{code}sys.exit('torch' in sys.modules)"], check=True)
