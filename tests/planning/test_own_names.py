"""Networks and data sets of the user's own in an experiment."""

from __future__ import annotations

import sys
from pathlib import Path
from types import ModuleType

import pytest
from torch import nn

from prunebench.core.errors import ConfigError
from prunebench.data.synthetic import SYNTHETIC
from prunebench.planning.grid import resolve_experiment

EXPERIMENT = """
title: Own code
datasets: {datasets}
networks: {networks}
seeds: [0]
ratios: [0.5]
recipes: {{base: two, fine_tune: two}}
methods:
  l1: {{}}
"""
RECIPE = """
epochs: 2
batch_size: 16
lr: 0.05
weight_decay: 0
normalize: dataset
schedule: {kind: cosine, per: step}
"""


@pytest.fixture
def config(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A configuration folder with a recipe, beside a module of the user's."""
    for name in ("experiments", "recipes"):
        (tmp_path / name).mkdir()
    (tmp_path / "recipes/two.yaml").write_text(RECIPE, encoding="utf-8")
    module = ModuleType("own_names_of_test")
    module.conv = lambda num_classes: nn.Conv2d(3, num_classes, 1)
    module.pair = lambda num_classes, depth: None
    module.STRIPES = SYNTHETIC
    monkeypatch.setitem(sys.modules, module.__name__, module)
    return tmp_path


def write(config: Path, networks: str, datasets: str = "synthetic") -> None:
    text = EXPERIMENT.format(networks=networks, datasets=datasets)
    (config / "experiments/own.yaml").write_text(text, encoding="utf-8")


def test_a_colon_becomes_a_dot_in_paths(config: Path) -> None:
    write(config, "{'own_names_of_test:conv': {}}", "[own_names_of_test:STRIPES]")
    (run,) = resolve_experiment("own", config)
    folder = "own_names_of_test.STRIPES/own_names_of_test.conv"
    assert run.path == f"own/{folder}/l1/default/0.5/seed0"
    assert run.base.path == f"base/{folder}/two/seed0"


@pytest.mark.parametrize(
    ("networks", "datasets", "sentence"),
    [
        (
            "{'own_names_of_test:pair': {}}",
            "synthetic",
            "networks: network own_names_of_test:pair: the argument 'depth' has no default",
        ),
        (
            "{'own_names_of_test:missing': {}}",
            "synthetic",
            "networks: network own_names_of_test:missing: unknown name in own_names_of_test",
        ),
        (
            "{resnet20: {}}",
            "own_nowhere_at_all:read",
            "datasets: data set own_nowhere_at_all:read: no module 'own_nowhere_at_all'",
        ),
        (
            "{'../nets:make': {}}",
            "synthetic",
            "networks: '../nets:make' is not a valid name (allowed: lower-case letters, digits "
            "and underscores, a letter first, or module:function)",
        ),
    ],
)
def test_what_is_wrong_is_named_with_its_file_and_key(
    config: Path, networks: str, datasets: str, sentence: str
) -> None:
    write(config, networks, datasets)
    with pytest.raises(ConfigError) as error:
        resolve_experiment("own", config)
    assert str(error.value).startswith(f"{config / 'experiments/own.yaml'}: {sentence}")
    assert "\n" not in str(error.value)
