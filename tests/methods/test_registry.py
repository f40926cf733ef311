from __future__ import annotations

from importlib.metadata import EntryPoint

import pytest

from prunebench.core.errors import ConfigError
from prunebench.experiments.phases import RATIO_KINDS
from prunebench.methods import registry
from prunebench.methods.base import Method, MethodOptions
from prunebench.methods.one_shot import L1


@pytest.fixture
def plug_in(monkeypatch: pytest.MonkeyPatch) -> list[EntryPoint]:
    """What other packages have registered; empty, to be filled by a test."""
    found: list[EntryPoint] = []
    monkeypatch.setattr(registry, "entry_points", lambda *, group: found)
    return found


def entry(name: str, value: str) -> EntryPoint:
    return EntryPoint(name=name, value=value, group="prunebench.methods")


def test_methods_are_listed_in_order() -> None:
    assert list(registry.METHODS) == sorted(registry.METHODS)


@pytest.mark.parametrize("name", registry.METHODS)
def test_every_method_says_what_it_is(name: str) -> None:
    found = registry.method_class(name)
    assert issubclass(found, Method)
    assert found.summary
    assert set(found.ratio_kinds) <= set(RATIO_KINDS)
    assert isinstance(found(found.Options()).options, MethodOptions)  # defaults are complete


def test_an_unknown_method_is_named_with_the_closest() -> None:
    with pytest.raises(ConfigError, match="unknown method 'gerg_1'; did you mean greg_1"):
        registry.method_class("gerg_1")


def test_plug_ins_are_found_among_the_methods(plug_in: list[EntryPoint]) -> None:
    plug_in.append(entry("mine", "prunebench.methods.one_shot:L1"))
    assert registry.method_class("mine") is L1
    assert list(registry.method_paths()) == sorted([*registry.METHODS, "mine"])


@pytest.mark.parametrize("name", ["l1", "mine"])
def test_a_name_that_is_taken_is_refused(name: str, plug_in: list[EntryPoint]) -> None:
    plug_in.extend([entry("mine", "first:M"), entry(name, "other:Method")])
    with pytest.raises(ConfigError, match=f"other:Method registers the method '{name}', which"):
        registry.method_paths()


@pytest.mark.parametrize("value", ["nowhere.at_all:M", "prunebench.methods.one_shot:Missing"])
def test_a_plug_in_that_cannot_be_imported_is_named(value: str, plug_in: list[EntryPoint]) -> None:
    plug_in.append(entry("mine", value))
    with pytest.raises(ConfigError, match=f"the plug-in {value} of the method 'mine': "):
        registry.method_class("mine")
