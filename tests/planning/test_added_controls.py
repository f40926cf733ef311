"""Controls that an experiment asks for instead of naming them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from prunebench.core.errors import ConfigError
from prunebench.experiments.spec import RunSpec
from prunebench.planning.grid import resolve_experiment
from tests.cli.conftest import EXPERIMENT, RECIPE, WriteConfig

OWN_WIDTHS = {"group_fisher": {"ratio_kind": "macs", "options": {"interval_steps": 1}}}
ROLES = {"base": "one", "fine_tune": "one", "prune": "steps"}
STEPS = {name: value for name, value in RECIPE.items() if name != "epochs"}


def resolved(write_config: WriteConfig, methods: dict[str, Any], **keys: Any) -> list[RunSpec]:
    folder = write_config(files=files(methods, **keys))
    return resolve_experiment("more", folder)


def files(methods: dict[str, Any], **keys: Any) -> dict[str, Any]:
    changed = {"methods": methods, "recipes": ROLES, "controls": True, **keys}
    recipes = {"one": RECIPE, "two": RECIPE | {"lr": 0.5}, "steps": STEPS}
    written = {f"recipes/{name}.yaml": recipe for name, recipe in recipes.items()}
    return {"experiments/more.yaml": EXPERIMENT | changed, **written}


def names(runs: list[RunSpec]) -> list[str]:
    return [f"{run.method}/{run.setting}/{run.ratio_slug}" for run in runs]


def test_a_method_with_widths_of_its_own_gets_four_controls_at_them(
    write_config: WriteConfig,
) -> None:
    runs = resolved(write_config, OWN_WIDTHS)
    assert names(runs) == [
        "group_fisher/default/macs-0.5",
        "unpruned/default/0",
        "unpruned/trained/0",
        "random/default/0.5",
        "random/widths_of_group_fisher/macs-0.5",
        "l1/default/0.5",
        "l1/widths_of_group_fisher/macs-0.5",
        "scratch_e/default/0.5",
        "scratch_e/widths_of_group_fisher/macs-0.5",
        "scratch_b/default/0.5",
        "scratch_b/widths_of_group_fisher/macs-0.5",
    ]
    follows = {run.widths_from for run in runs if run.setting.startswith("widths_of")}
    assert follows == {runs[0].path}


def test_controls_choose_among_the_units_of_the_method_and_train_as_it_does(
    write_config: WriteConfig,
) -> None:
    own = {"roles": ["stem", "stream", "inside"], "total_epochs": 4.0, "interval_steps": 1}
    method = {"ratio_kind": "macs", "options": own, "recipes": {"fine_tune": "two"}}
    runs = {f"{r.method}/{r.setting}": r for r in resolved(write_config, {"group_fisher": method})}
    control = runs["l1/widths_of_group_fisher"]
    shared = {"roles": ["stem", "stream", "inside"], "total_epochs": 4.0}
    assert control.options == {**shared, "widths_from": "group_fisher/default"}
    assert control.recipe_names == {"fine_tune": "two"}
    assert runs["unpruned/trained"].options == {"fine_tune": True, "total_epochs": 4.0}
    assert runs["l1/default"].options == {"total_epochs": 4.0}


@pytest.mark.parametrize(
    ("methods", "controls"),
    [
        ({"greg_1": {}}, 0),  # the ratio gives the same widths to all
        ({"greg_1": {"ratio_kind": "macs"}}, 0),  # uniform, too
        ({"greg_1": {"ratio_kind": "macs", "options": {"allocation": "global"}}}, 4),
        ({"greg_1": {"ratio_kind": "weights", "options": {"unit": "weight"}}}, 0),
        ({"greg_1": {"ratio_kind": "auto", "options": {"layer_ratios": {"*": 0.5}}}}, 0),
        ({"increg": {"ratio_kind": "macs", "options": {"A": 0.1}}}, 0),  # its zeros stay
        ({"fpgm": {"ratio_kind": "units_global"}}, 4),
        ({"fpgm": {"options": {"widths_from": "l1"}}}, 0),
    ],
)
def test_only_a_method_that_chooses_its_widths_needs_controls_at_them(
    write_config: WriteConfig, methods: dict[str, Any], controls: int
) -> None:
    roles = {**ROLES, "regularize": "steps", "loss_eval": "steps", "retrain": "one"}
    runs = resolved(write_config, methods, recipes=roles)
    assert len([run for run in runs if run.setting.startswith("widths_of")]) == controls


def test_a_network_of_a_method_limits_its_controls_too(write_config: WriteConfig) -> None:
    networks = {"resnet20_x0_25": {}, "resnet32_x0_25": {}}
    methods = {"epruner": {"networks": ["resnet20_x0_25"], "seeds": [3]}, "l1": {}}
    runs = resolved(write_config, methods, networks=networks)
    controls = [run for run in runs if run.setting == "widths_of_epruner"]
    assert len(controls) == 4
    assert {(run.architecture, run.seed) for run in controls} == {("resnet20_x0_25", 3)}
    assert {run.ratio_slug for run in controls} == {"auto"}


def test_settings_that_the_experiment_names_stay_and_come_first(write_config: WriteConfig) -> None:
    own = {"settings": {"in_rounds": {"rounds": 2}, "default": {"rounds": 3}}}
    runs = resolved(write_config, {"l1": own, **OWN_WIDTHS}, controls=["l1"])
    found = [run for run in runs if run.method == "l1"]
    names = ["in_rounds", "default", "widths_of_group_fisher"]
    assert [run.setting for run in found] == names
    assert [run.options.get("rounds") for run in found] == [2, 3, None]


def test_only_the_named_controls_are_added(write_config: WriteConfig) -> None:
    runs = resolved(write_config, OWN_WIDTHS, controls=["random", "scratch_b"])
    assert {run.method for run in runs} == {"group_fisher", "random", "scratch_b"}
    assert [run.setting for run in runs if run.method == "scratch_b"] == ["widths_of_group_fisher"]


def test_no_control_is_added_by_default(write_config: WriteConfig) -> None:
    assert {run.method for run in resolved(write_config, OWN_WIDTHS, controls=False)} == {
        "group_fisher"
    }


def test_a_recipe_cross_repeats_what_trains_with_the_role(write_config: WriteConfig) -> None:
    methods = {"unpruned": {}, "l1": {}, "random": {"options": {"fine_tune": False}}}
    runs = resolved(write_config, methods, controls=False, recipe_cross={"fine_tune": "two"})
    assert names(runs) == [
        "unpruned/default/0",
        "l1/default/0.5",
        "l1/default_with_two/0.5",
        "random/default/0.5",
    ]
    assert [run.recipe_names.get("fine_tune") for run in runs] == [None, "one", "two", None]


def test_names_of_added_settings_may_be_longer_than_given_ones(write_config: WriteConfig) -> None:
    long, setting = "r" * 100, "s" * 100
    methods = {"group_fisher": {"settings": {setting: {}}, **OWN_WIDTHS["group_fisher"]}}
    written = files(methods, recipe_cross={"fine_tune": long})
    folder = write_config(files=written | {f"recipes/{long}.yaml": RECIPE})
    longest = max((run.setting for run in resolve_experiment("more", folder)), key=len)
    assert longest == f"widths_of_group_fisher_{setting}_with_{long}"


@pytest.mark.parametrize(
    ("keys", "words"),
    [
        ({"controls": ["l3"]}, "controls"),
        (
            {"recipe_cross": {"fine_tune": "tow"}},
            "recipe_cross.fine_tune: unknown recipe 'tow' (allowed: one, one_epoch, steps, two)",
        ),
        (
            {"recipe_cross": {"base": "two"}},
            "recipe_cross.base: all runs of a network share its base network",
        ),
        ({"recipe_cross": {"finetune": "two"}}, "recipe_cross: unknown role 'finetune'"),
    ],
)
def test_errors_name_the_key(write_config: WriteConfig, keys: dict[str, Any], words: str) -> None:
    folder: Path = write_config(files=files({"l1": {}}, **keys))
    with pytest.raises(ConfigError) as error:
        resolve_experiment("more", folder)
    assert words in str(error.value)
    assert "\n" not in str(error.value)
