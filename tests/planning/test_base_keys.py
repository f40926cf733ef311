"""Runs take normalization and training images from their base networks."""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from prunebench.core.errors import ConfigError
from prunebench.experiments.config import read_recipe
from prunebench.experiments.spec import RunSpec
from prunebench.methods.base import Method
from prunebench.methods.registry import METHODS, method_class
from prunebench.planning.grid import resolve_experiment
from tests.cli.conftest import RECIPE, WriteConfig

PUBLISHED = {"normalize": "imagenet", "trained_on": "train_and_val"}
RECIPES_DIR = Path(__file__).parents[2] / "config"


def last_run(
    write_config: WriteConfig,
    base: Mapping[str, Any],
    own: Mapping[str, Any],
    methods: Mapping[str, Any] | None = None,
) -> RunSpec:
    """Return the last run of an experiment whose base network and methods have two recipes."""
    methods = {"l1": {}} if methods is None else methods
    roles = {role for name in methods for role in method_class(name).recipe_roles} - {"base"}
    config_dir = write_config(
        {"recipes": {"base": "trained", **dict.fromkeys(roles, "own")}, "methods": methods},
        {"recipes/trained.yaml": {**RECIPE, **base}, "recipes/own.yaml": {**RECIPE, **own}},
    )
    return resolve_experiment("tiny", config_dir)[-1]


def keys(run: RunSpec, role: str = "fine_tune") -> tuple[str | None, str]:
    return run.recipes[role].normalize, run.recipes[role].trained_on


def test_a_run_takes_the_keys_of_its_base_network(write_config: WriteConfig) -> None:
    run = last_run(write_config, PUBLISHED, {})
    assert keys(run) == ("imagenet", "train_and_val")
    assert run.trained_on == run.base.trained_on == "train_and_val"


def test_without_these_keys_the_specification_names_the_defaults(
    write_config: WriteConfig,
) -> None:
    run = last_run(write_config, {}, {})
    assert keys(run) == ("dataset", "train")
    assert run.base.recipe.normalize == "dataset"


def test_a_run_without_recipes_trains_on_the_images_of_its_base_network(
    write_config: WriteConfig,
) -> None:
    assert last_run(write_config, PUBLISHED, {}, {"unpruned": {}}).trained_on == "train_and_val"


def test_a_run_without_fine_tuning_needs_no_recipe(write_config: WriteConfig) -> None:
    options = {"fine_tune": False, "recalibrate": 20}
    config_dir = write_config(
        {"recipes": {"base": "one_epoch"}, "methods": {"l1": {"options": options}}}
    )
    run = resolve_experiment("tiny", config_dir)[0]
    assert (run.recipes, run.recipe_names) == ({}, {})


def test_runs_of_all_seeds_share_one_imported_base_network(write_config: WriteConfig) -> None:
    changed = {"seeds": [0, 1], "recipes": {"base": "trained", "fine_tune": "one_epoch"}}
    for weights, seeds in ((None, {0, 1}), ("a.pt", {0})):
        config_dir = write_config(changed, {"recipes/trained.yaml": {**RECIPE, "weights": weights}})
        runs = resolve_experiment("tiny", config_dir)
        assert {run.seed for run in runs} == {0, 1}
        assert {run.base.seed for run in runs} == seeds


def test_a_method_may_have_seeds_of_its_own(write_config: WriteConfig) -> None:
    config_dir = write_config({"methods": {"l1": {}, "random": {"seeds": [0, 5]}}})
    runs = resolve_experiment("tiny", config_dir)
    assert [(run.method, run.seed) for run in runs] == [("l1", 0), ("random", 0), ("random", 5)]
    runs = resolve_experiment("tiny", config_dir, seeds=(3,))
    assert [(run.method, run.seed) for run in runs] == [("l1", 3), ("random", 3)]


def test_another_name_of_the_same_normalization_is_allowed(write_config: WriteConfig) -> None:
    run = last_run(write_config, {"normalize": "imagenet"}, {"normalize": "greg_cifar10"})
    assert keys(run) == ("greg_cifar10", "train")  # both are ImageNet's numbers


def test_a_run_with_fresh_weights_keeps_its_own_recipe(write_config: WriteConfig) -> None:
    srfp = {"srfp": {"recipes": {"base": "own"}}}
    run = last_run(write_config, PUBLISHED, {"normalize": "orthoreg"}, srfp)
    assert (run.start, run.trained_on) == ("fresh", "train")
    assert keys(run, "base") == ("orthoreg", "train")
    run = last_run(write_config, PUBLISHED, {}, {"uniform_width": {}})
    assert keys(run, "base") == ("imagenet", "train_and_val")
    assert run.trained_on == "train_and_val"


TINY = "config/experiments/tiny.yaml: "
WITHOUT = "is trained on the validation images too (trained_on: train_and_val)"


@pytest.mark.parametrize(
    ("base", "own", "methods", "words"),
    [
        (
            {"normalize": "imagenet"},
            {"normalize": "orthoreg"},
            {"l1": {}},
            "recipe 'own': normalize: 'orthoreg' differs from the base network's 'imagenet'; "
            "remove the key",
        ),
        (
            {},
            {"trained_on": "train_and_val"},
            {"l1": {}},
            "recipe 'own': trained_on: 'train_and_val' differs from the base network's 'train'; "
            "remove the key",
        ),
        (
            PUBLISHED,
            {"trained_on": "train"},
            {"l1": {}},
            "recipe 'own': trained_on: 'train' differs from the base network's 'train_and_val'; "
            "remove the key",
        ),
        (
            PUBLISHED,
            {"epochs": None, "weight_decay": 0.01},
            {"increg_accuracy": {"recipes": {"fine_tune": "one_epoch"}}},
            "methods.increg_accuracy: the method selects by validation accuracy, but its base "
            f"network {WITHOUT}",
        ),
        (
            {},
            {"trained_on": "train_and_val"},
            {
                "early_bird": {
                    "options": {"ticket": "best", "draw": "fixed", "schedule": "anew"},
                    "ratio_kind": "units_global",
                }
            },
            f"methods.early_bird: phase 'search' selects by validation accuracy, but the network "
            f"{WITHOUT}",
        ),
        (
            {},
            {"trained_on": "train_and_val"},
            {"early_bird": {"recipes": {"search": "one_epoch"}, "ratio_kind": "units_global"}},
            "methods.early_bird: the recipe of 'fine_tune' has trained_on 'train_and_val', "
            "another one 'train'",
        ),
    ],
)
def test_what_the_base_network_rules_out_is_a_one_line_error(
    write_config: WriteConfig, base: Any, own: Any, methods: Any, words: str
) -> None:
    with pytest.raises(ConfigError) as error:
        last_run(write_config, base, own, methods)
    assert str(error.value) == TINY + words


@pytest.mark.parametrize("name", sorted(METHODS))
def test_methods_that_validate_say_so(name: str) -> None:
    kind = method_class(name)
    own = kind.__mro__[: kind.__mro__.index(Method)]
    sources = [inspect.getsource(part) for part in own if issubclass(part, Method)]
    validates = any(".validate()" in source for source in sources)
    assert kind.needs_validation == validates


@pytest.mark.parametrize("depth", [20, 32, 44, 56])
def test_the_published_bases_were_trained_on_all_images(depth: int) -> None:
    recipe = read_recipe(RECIPES_DIR, f"akamaster_cifar10_resnet{depth}_base")
    assert (recipe.normalize, recipe.trained_on) == ("imagenet", "train_and_val")
    assert recipe.expected_within == 0.02
