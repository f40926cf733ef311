"""Networks of the user's own and of plug-ins, by name."""

from __future__ import annotations

import sys
from collections.abc import Callable
from types import ModuleType
from typing import Any

import pytest
from torch import nn

from prunebench.core.errors import ConfigError, ModelError
from prunebench.models.registry import (
    build,
    check_function,
    has_widths,
    is_detector,
    names,
    split_width,
)


@pytest.fixture
def module(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """An imported module of the user's with two networks."""
    made = ModuleType("own_nets_of_test")
    made.conv = lambda num_classes, in_channels=3: nn.Conv2d(in_channels, num_classes, 1)
    made.linear = lambda *, num_classes: nn.Linear(4, num_classes)
    monkeypatch.setitem(sys.modules, made.__name__, made)
    return made


@pytest.mark.parametrize("name", ["own_nets_of_test:conv", "own_nets_of_test.conv"])
def test_a_function_of_the_user_s_builds_a_network(module: ModuleType, name: str) -> None:
    model = build(name, num_classes=2, in_channels=1)
    assert isinstance(model, nn.Conv2d)
    assert (model.in_channels, model.out_channels) == (1, 2)
    assert split_width(name) == (name, 1.0)
    assert not is_detector(name)
    assert not has_widths(name)


def test_a_function_gets_only_the_arguments_that_it_takes(module: ModuleType) -> None:
    model = build("own_nets_of_test:linear", num_classes=2, in_channels=1)
    assert isinstance(model, nn.Linear)


def test_a_plug_in_is_known_by_its_name(
    module: ModuleType, register: Callable[[str, str, str], None]
) -> None:
    register("prunebench.networks", "mine", "own_nets_of_test:conv")
    assert isinstance(build("mine", num_classes=2), nn.Conv2d)
    assert "mine" in names()
    assert not is_detector("mine")
    with pytest.raises(ConfigError, match="mine has one width; leave out '_x0_5'"):
        build("mine_x0_5", num_classes=2)
    register("prunebench.networks", "resnet20", "own_nets_of_test:conv")
    with pytest.raises(ConfigError, match="two functions are registered as the network 'resnet20'"):
        build("resnet20", num_classes=2)


@pytest.mark.parametrize(
    ("made", "sentence"),
    [
        (3, "3 is no function"),
        (lambda: None, "the function takes no argument 'num_classes'"),
        (lambda num_classes, depth: None, "the argument 'depth' has no default"),
    ],
)
def test_what_cannot_be_called_is_an_error_before_any_run(
    module: ModuleType, made: Any, sentence: str
) -> None:
    module.made = made
    with pytest.raises(ConfigError, match=f"network own_nets_of_test:made: {sentence}"):
        check_function("own_nets_of_test:made")


def test_what_is_no_module_is_an_error(module: ModuleType) -> None:
    module.made = lambda num_classes: [num_classes]
    sentence = r"network own_nets_of_test:made: it returns \[2\], which is no torch.nn.Module"
    with pytest.raises(ModelError, match=sentence):
        build("own_nets_of_test:made", num_classes=2)
