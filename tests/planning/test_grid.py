from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from pydantic import create_model

from prunebench.core.errors import ConfigError
from prunebench.core.plug_ins import where_registered
from prunebench.criteria.registry import criterion_class
from prunebench.experiments.config import merged_config, read_config
from prunebench.experiments.phases import Budget, HookName, Phase
from prunebench.experiments.recipe import Recipe
from prunebench.methods import registry
from prunebench.methods.base import Method, MethodOptions, Run
from prunebench.methods.registry import method_class
from prunebench.models.registry import names
from prunebench.planning.grid import resolve, resolve_experiment
from tests.cli.conftest import EXPERIMENT, RECIPE, WriteConfig
from tests.planning.conftest import complete

L1 = method_class("l1")

METHODS = ", ".join(registry.method_paths())


L1_OPTIONS = ", ".join(sorted(L1.Options.model_fields))


def resolve_all(config_dir: Path) -> list[Any]:
    return resolve(read_config(config_dir / "config.yaml"), config_dir)


def test_a_run_has_its_full_specification(write_config: WriteConfig) -> None:
    unpruned, l1 = resolve_all(write_config())
    assert unpruned.path == "tiny/synthetic/resnet20_x0_25/unpruned/default/0/seed0"
    assert l1.path == "tiny/synthetic/resnet20_x0_25/l1/default/0.5/seed0"
    assert (l1.ratio_kind, l1.revision, l1.start) == ("units_per_group", L1.revision, "base")
    assert (l1.options, complete(l1).options) == ({}, L1.Options().model_dump(mode="json"))
    assert l1.recipe_names == {"fine_tune": "one_epoch"}
    assert l1.recipes["fine_tune"].lr == 0.1
    assert l1.base.path == "base/synthetic/resnet20_x0_25/one_epoch/seed0"
    assert l1.base == unpruned.base


class Slimming(Method[MethodOptions]):
    """Network Slimming without the phase that enables its penalty."""

    def before_optimizer_step(self, run: Run) -> None:
        raise AssertionError("never called")


class Stops(Method[MethodOptions]):
    """An early end that no phase asks for."""

    def finished(self, run: Run) -> bool:
        return True


class OnlyWhereNothingTrains(Slimming):
    """The hook is named in a phase that only selects."""

    def phases(self, recipes: Mapping[str, Recipe], budget: Budget) -> list[Phase]:
        hooks: frozenset[HookName] = frozenset({"before_optimizer_step"})
        return [replace(super().phases(recipes, budget)[0], hooks=hooks)]


class Optional(Slimming):
    """The hook depends on options."""

    optional_hooks = frozenset({"before_optimizer_step"})


@pytest.mark.parametrize(
    ("kind", "hook"),
    [
        (Slimming, "before_optimizer_step"),
        (Stops, "finished"),
        (OnlyWhereNothingTrains, "before_optimizer_step"),
    ],
)
def test_a_hook_that_no_phase_enables_is_refused(
    kind: type[Method[MethodOptions]],
    hook: str,
    write_config: WriteConfig,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setitem(registry.METHODS, "l1_like", f"{__name__}:{kind.__name__}")
    sentence = rf"methods\.l1_like: {kind.__name__} defines {hook}, but no phase enables it"
    with pytest.raises(ConfigError, match=sentence) as caught:
        resolve_all(write_config({"methods": {"l1_like": {}}}))
    assert "\n" not in str(caught.value)


def test_a_hook_that_depends_on_options_may_be_left_off(
    write_config: WriteConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(registry.METHODS, "l1_like", f"{__name__}:Optional")
    assert [run.method for run in resolve_all(write_config({"methods": {"l1_like": {}}}))] == [
        "l1_like"
    ]


@pytest.mark.parametrize(
    ("changed", "paths"),
    [
        ({"methods": {"l1": {"ratios": [0.25, 0.75]}}}, ["l1/default/0.25", "l1/default/0.75"]),
        ({"methods": {"epruner": {}}}, ["epruner/default/auto"]),
        (
            {"methods": {"epruner": {"settings": {"beta0.6": {"beta": 0.6}, "beta1": {}}}}},
            ["epruner/beta0.6/auto", "epruner/beta1/auto"],
        ),
        ({"methods": {"unpruned": {"ratios": [0]}}}, ["unpruned/default/0"]),
        (
            {"methods": {"l1": {"ratio_kind": "auto", "options": {"layer_ratios": {"*": 0.5}}}}},
            ["l1/default/auto"],
        ),
        ({"methods": {"l1": {"ratio_kind": "macs"}}}, ["l1/default/macs-0.5"]),
        (
            {
                "methods": {
                    "l1": {
                        "settings": {
                            "default": {},
                            "weights": {
                                "unit": "weight",
                                "ratio_kind": "weights",
                                "ratios": [0.75, 0.9],
                            },
                        }
                    }
                }
            },
            ["l1/default/0.5", "l1/weights/weights-0.75", "l1/weights/weights-0.9"],
        ),
    ],
)
def test_ratios_and_settings_become_folders(
    write_config: WriteConfig, changed: dict[str, Any], paths: list[str]
) -> None:
    runs = resolve_all(write_config(changed))
    assert [run.path for run in runs] == [
        f"tiny/synthetic/resnet20_x0_25/{path}/seed0" for path in paths
    ]


def test_seeds_of_a_network_override_those_of_the_experiment(write_config: WriteConfig) -> None:
    networks = {"resnet20": {"seeds": [3, 4]}, "resnet20_x0_25": {}}
    config_dir = write_config({"networks": networks, "methods": {"l1": {}}, "seeds": 1})
    assert [run.seed for run in resolve_experiment("tiny", config_dir)] == [3, 4, 1]


def test_seeds_of_the_configuration_override_all_others(write_config: WriteConfig) -> None:
    config_dir = write_config({"networks": {"resnet20": {"seeds": [3, 4]}}})
    assert {run.seed for run in resolve_experiment("tiny", config_dir, seeds=(7,))} == {7}


def test_only_the_chosen_ratios_are_run_and_the_unpruned_network(write_config: WriteConfig) -> None:
    methods = {"l1": {"ratios": [0.25, 0.5]}, "random": {"ratio_kind": "macs", "ratios": [0.5]}}
    config_dir = write_config({"methods": {"unpruned": {}, **methods}})
    config = merged_config({"experiments": "tiny", "ratios": ["0.50", "macs-0.5"]}, config_dir)
    found = [(run.method, run.ratio_slug) for run in resolve(config, config_dir)]
    assert found == [("unpruned", "0"), ("l1", "0.5"), ("random", "macs-0.5")]
    alone = merged_config({"experiments": "tiny", "ratios": 0.25}, config_dir)
    assert [run.method for run in resolve(alone, config_dir)] == ["unpruned", "l1"]
    with pytest.raises(ConfigError, match=re.escape(f"{TINY}unknown ratio '0.3' (allowed: 0.25")):
        resolve(merged_config({"experiments": "tiny", "ratios": 0.3}, config_dir), config_dir)


def test_a_method_may_be_limited_to_some_networks(write_config: WriteConfig) -> None:
    networks = {"resnet20": {}, "vgg16_x0_25": {}}
    settings = {"default": {}, "stem": {"roles": ["stem"], "networks": "resnet20"}}
    methods = {"random": {"settings": settings}, "l1": {"networks": "vgg16_x0_25"}}
    runs = resolve_all(write_config({"networks": networks, "methods": methods}))
    assert [(run.architecture, run.method, run.setting) for run in runs] == [
        ("resnet20", "random", "default"),
        ("resnet20", "random", "stem"),
        ("vgg16_x0_25", "random", "default"),
        ("vgg16_x0_25", "l1", "default"),
    ]


def test_options_of_a_network_override_a_setting_s_and_these_the_method_s(
    write_config: WriteConfig,
) -> None:
    l1 = {
        "options": {"roles": ["stem"]},
        "settings": {"default": {}, "stream": {"roles": ["stream"]}},
        "by_network": {"vgg16_x0_25": {"roles": ["inside"]}},
    }
    networks = {"resnet20": {}, "vgg16_x0_25": {}}
    runs = resolve_all(write_config({"networks": networks, "methods": {"l1": l1}}))
    assert [complete(run).options["roles"] for run in runs] == [
        ["stem"],
        ["stream"],
        ["inside"],
        ["inside"],
    ]


def test_recipes_of_a_method_override_a_network_s_and_these_the_experiment_s(
    write_config: WriteConfig,
) -> None:
    changed = {
        "networks": {"resnet20": {"recipes": {"base": "long", "fine_tune": "long"}}},
        "methods": {"random": {}, "l1": {"recipes": {"fine_tune": "hot"}}},
    }
    recipes = {"recipes/long.yaml": RECIPE, "recipes/hot.yaml": RECIPE}
    random, l1 = resolve_all(write_config(changed, recipes))
    assert random.recipe_names == {"fine_tune": "long"}
    assert l1.recipe_names == {"fine_tune": "hot"}
    assert l1.base.recipe_name == "long"


def test_options_may_determine_whether_a_run_starts_from_the_base_network(
    write_config: WriteConfig,
) -> None:
    settings = {"scratch": {}, "pretrained": {"pretrained": True}}
    scratch, pretrained = resolve_all(write_config({"methods": {"sfp": {"settings": settings}}}))
    assert (scratch.start, pretrained.start) == ("fresh", "base")


def test_recipes_of_a_setting_override_the_method_s(write_config: WriteConfig) -> None:
    settings = {"default": {}, "hot": {"recipes": {"fine_tune": "hot"}}}
    methods = {"l1": {"recipes": {"fine_tune": "long"}, "settings": settings}}
    recipes = {"recipes/long.yaml": RECIPE, "recipes/hot.yaml": {**RECIPE, "lr": 0.5}}
    default, hot = resolve_all(write_config({"methods": methods}, recipes))
    assert (default.recipe_names, hot.recipe_names) == ({"fine_tune": "long"}, {"fine_tune": "hot"})
    assert hot.recipes["fine_tune"].lr == 0.5
    assert hot.options == default.options
    assert hot.base == default.base


def test_recipes_of_a_removed_method_are_allowed(write_config: WriteConfig) -> None:
    roles = ("base", "fine_tune", "regularize")
    changed = {"recipes": dict.fromkeys(roles, "one_epoch"), "methods": {"unpruned": {}}}
    assert len(resolve_all(write_config(changed))) == 1


def test_a_control_names_the_run_whose_widths_it_takes(write_config: WriteConfig) -> None:
    methods = {"l1": {"settings": {"a": {}}}, "scratch_e": {"options": {"widths_from": "l1/a"}}}
    _, scratch = resolve_all(write_config({"methods": methods}))
    assert scratch.widths_from == "tiny/synthetic/resnet20_x0_25/l1/a/0.5/seed0"


def scratch_hash(config_dir: Path) -> str:
    (found,) = (run.hash for run in resolve_all(config_dir) if run.method == "scratch_e")
    return str(found)


def test_a_control_s_hash_follows_the_run_and_not_the_name(write_config: WriteConfig) -> None:
    def control(name: str, **options: Any) -> dict[str, Any]:
        l1 = {"settings": {name: options}}
        scratch = {"options": {"widths_from": f"l1/{name}"}}
        return {"methods": {"l1": l1, "scratch_e": scratch}}

    first = scratch_hash(write_config(control("a")))
    assert scratch_hash(write_config(control("b"))) == first
    assert scratch_hash(write_config(control("a", roles=["stem"]))) != first


def test_names_of_experiments_settings_and_recipes_are_in_no_hash(
    write_config: WriteConfig,
) -> None:
    renamed = {
        "methods": {"unpruned": {}, "l1": {"settings": {"other": {}}}},
        "recipes": {"base": "two", "fine_tune": "two"},
    }
    before = [run.hash for run in resolve_all(write_config())]
    folder = write_config(
        files={"experiments/new.yaml": EXPERIMENT | renamed, "recipes/two.yaml": RECIPE}
    )
    after = resolve_experiment("new", folder)
    assert [run.hash for run in after] == before
    assert after[1].path == "new/synthetic/resnet20_x0_25/l1/other/0.5/seed0"


@pytest.mark.parametrize(
    ("given", "kept"),
    [
        ({"penalty": 0.02, "rounds": 1}, {"penalty": 0.02}),
        ({"criterion": {"fisher": {}}}, {}),
        ({"criterion": {"bn_scale": {}}}, {"criterion": {"bn_scale": {}}}),
        (
            {"criterion": {"fisher": {"samples": 300, "combine": "joint"}}},
            {"criterion": {"fisher": {"samples": 300}}},
        ),
    ],
)
def test_a_specification_has_the_options_that_differ_from_their_defaults(
    write_config: WriteConfig, given: dict[str, Any], kept: dict[str, Any]
) -> None:
    roles = dict.fromkeys(("base", "penalized", "retrain", "fine_tune"), "one_epoch")
    changed = {"recipes": roles, "methods": {"orthoreg": {"options": given}}}
    assert [run.options for run in resolve_all(write_config(changed))] == [kept]


def test_a_new_option_with_a_default_leaves_hashes_as_they_are(
    write_config: WriteConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = write_config({"methods": {"l1": {"options": {"roles": ["stem"]}}}})
    (before,) = resolve_all(folder)
    new = create_model("New", __base__=L1.Options, new_option=(int, 3))
    monkeypatch.setattr(L1, "Options", new)
    (after,) = resolve_all(folder)
    assert complete(after).options["new_option"] == 3
    assert after.hash == before.hash


def test_a_revision_of_the_chosen_criterion_changes_the_hash(
    write_config: WriteConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    recipes = EXPERIMENT["recipes"] | {"search": "one_epoch"}
    folder = write_config({"recipes": recipes, "methods": {"early_bird": {}}})
    (before,) = resolve_all(folder)
    monkeypatch.setattr(criterion_class("bn_scale"), "revision", 2)
    (after,) = resolve_all(folder)
    assert (before.revision, after.revision) == (1, 2)
    assert before.hash != after.hash


def test_a_method_that_decides_its_ratio_takes_a_target_where_asked(
    write_config: WriteConfig,
) -> None:
    settings = {"own": {}, "half": {"ratio_kind": "macs"}}
    methods = {"epruner": {"settings": settings}}
    own, *half = resolve_all(write_config({"methods": methods, "ratios": [0.5, 0.7]}))
    assert (own.ratio_kind, own.ratio) == ("auto", None)
    assert [(run.ratio_kind, run.ratio) for run in half] == [("macs", 0.5), ("macs", 0.7)]


def test_any_criterion_may_take_the_widths_of_another_run(write_config: WriteConfig) -> None:
    setting = {"on_epruner": {"widths_from": "epruner"}}
    methods = {"epruner": {}, "random": {"ratio_kind": "auto", "settings": setting}}
    _, random = resolve_all(write_config({"methods": methods}))
    assert random.widths_from == "tiny/synthetic/resnet20_x0_25/epruner/default/auto/seed0"
    assert random.path == "tiny/synthetic/resnet20_x0_25/random/on_epruner/auto/seed0"


TINY = "config/experiments/tiny.yaml: "
PUBLISHED = {"paper": "greg", "table": "Table 1", "rows": {"l1": "l1/one_shot"}}


@pytest.mark.parametrize(
    ("changed", "words"),
    [
        (
            {"datasets": ["synthetik"]},
            "datasets: unknown data set 'synthetik'; did you mean synthetic? "
            "(allowed: bccd, cifar10, cifar100, cifar100_other, cifar10_other, coco, digits, "
            "digits_coco, fashion_mnist, imagenet, synthetic, tiny_imagenet)",
        ),
        (
            {"networks": {"mobilenet": {}}},
            "networks: unknown network 'mobilenet'; did you mean mobilenet_v2 or mobilenet_v1? "
            f"(allowed: {', '.join(names())})",
        ),
        (
            {"networks": {"resnet20_x0": {}}},
            "networks: network 'resnet20_x0': the width '0' is not a number above 0 and at most "
            "16; for example, resnet20_x0_25 has a quarter of the width",
        ),
        (
            {"methods": {"gerg_1": {}}},
            f"methods: unknown method 'gerg_1'; did you mean greg_1? (allowed: {METHODS})",
        ),
        (
            {"methods": {"l1": {"by_network": {"resnet20": {}}}}},
            "methods.l1.by_network: unknown network of this experiment 'resnet20'; did you mean "
            "resnet20_x0_25? (allowed: resnet20_x0_25)",
        ),
        (
            {"methods": {"l1": {"settings": {"all": {"networks": "vgg16"}}}}},
            "methods.l1.settings.all.networks: unknown network of this experiment 'vgg16' "
            "(allowed: resnet20_x0_25)",
        ),
        (
            {"methods": {"l1": {"networks": ["resnet20"]}}},
            "methods.l1.networks: unknown network of this experiment 'resnet20'; did you mean "
            "resnet20_x0_25? (allowed: resnet20_x0_25)",
        ),
        (
            {"methods": {"l1": {"options": {"rolls": ["stem"]}}}},
            f"methods.l1.options: unknown key 'rolls'; did you mean roles? (allowed: {L1_OPTIONS})",
        ),
        (
            {"methods": {"l1": {"settings": {"all": {"roles": ["stem", "insid"]}}}}},
            "methods.l1.settings.all.roles[1]: unknown role 'insid'; did you mean inside? "
            "(allowed: chain, convolutions, depthwise, except_shortcuts, first, "
            "first_convolutions, full, gate, grouped, head, inside, last, linear, middle, "
            "pointwise, shortcut, stem, stream)",
        ),
        (
            {"methods": {"l1": {"by_network": {"resnet20_x0_25": {"x": 1}}}}},
            f"methods.l1.by_network.resnet20_x0_25: unknown key 'x' (allowed: {L1_OPTIONS})",
        ),
        (
            {"methods": {"epruner": {"ratios": [0.5]}}},
            "methods.epruner.ratios: epruner determines its ratio by its options; remove "
            "ratios, or give a ratio_kind of macs, params, activations, latency",
        ),
        (
            {"methods": {"epruner": {"ratio_kind": "units_global"}}},
            "methods.epruner.ratio_kind: unknown ratio_kind of epruner 'units_global' "
            "(allowed: activations, auto, latency, macs, params)",
        ),
        (
            {"methods": {"unpruned": {"ratios": [0.5]}, "l1": {}}},
            "methods.unpruned.ratios: unpruned allows [0.0], not [0.5]",
        ),
        (
            {"methods": {"sfp": {"ratio_kind": "units_global"}}},
            "methods.sfp.ratio_kind: unknown ratio_kind of sfp 'units_global' "
            "(allowed: activations, latency, macs, params, units_per_group, weights)",
        ),
        (
            {"ratio_kind": "auto", "methods": {"sfp": {}}},
            "ratio_kind: unknown ratio_kind of sfp 'auto' (allowed: activations, latency, macs, "
            "params, units_per_group, weights)",
        ),
        (
            {"methods": {"sfp": {"ratio_kind": "activations"}}},
            "methods.sfp: ratio_kind 'activations' needs scope 'group', which removes filters; "
            "scope 'layer' zeroes them, and allows units_per_group, macs, params",
        ),
        (
            {"methods": {"l1_columns": {"ratio_kind": "activations"}}},
            "methods.l1_columns.ratio_kind: unknown ratio_kind of l1_columns 'activations' "
            "(allowed: auto, macs, params, units_per_group)",
        ),
        (
            {"methods": {"l1": {"ratio_kind": "auto", "ratios": [0.5]}}},
            "methods.l1.ratios: ratio_kind 'auto' takes layer_ratios or widths_from; remove ratios",
        ),
        (
            {"methods": {"l1": {"ratio_kind": "auto"}}},
            "methods.l1: layer_ratios and ratio_kind 'auto' require each other",
        ),
        (
            {"methods": {"l1": {"options": {"layer_ratios": {"stem": 0.5}}}}},
            "methods.l1: layer_ratios and ratio_kind 'auto' require each other",
        ),
        (
            {"methods": {"epruner": {"options": {"round_to": 8}}}},
            "methods.epruner: epruner cannot round widths; remove round_to",
        ),
        (
            {"methods": {"sfp": {"options": {"round_to": 8}}}},
            "methods.sfp.options: round_to needs scope 'group', not 'layer', which keeps all "
            "widths",
        ),
        (
            {"methods": {"l1": {"options": {"round_to": 8, "widths_from": "random"}}}},
            "methods.l1.options: round_to does not go with widths_from; round the widths of that "
            "run",
        ),
        (
            {"methods": {"l1": {"options": {"round_to": 8, "unit": "weight"}}}},
            "methods.l1.options: round_to does not go with unit 'weight', which keeps all widths",
        ),
        ({"ratios": []}, "methods.l1.ratios: l1 needs at least one ratio, here or for all methods"),
        (
            {"methods": {"l1": {"settings": {"a": {"ratio_kind": "weights"}}}}},
            "methods.l1: unit 'filter' does not go with ratio_kind 'weights'",
        ),
        (
            {"methods": {"epruner": {"settings": {"a": {"ratios": [0.5]}}}}},
            "methods.epruner.settings.a.ratios: epruner determines its ratio by its options; "
            "remove ratios, or give a ratio_kind of macs, params, activations, latency",
        ),
        (
            {"methods": {"l1": {}, "sfp": {"options": {"widths_from": "l1"}}}},
            "methods.sfp: sfp determines its own widths; remove widths_from",
        ),
        (
            {
                "methods": {
                    "l1": {},
                    "random": {"options": {"widths_from": "l1", "layer_ratios": {"*": 0.5}}},
                }
            },
            "methods.random: widths_from and layer_ratios exclude each other",
        ),
        (
            {"methods": {"l1": {}, "scratch_e": {"options": {"widths_from": "l1/defautl"}}}},
            "methods.scratch_e: widths_from: unknown run 'l1/defautl'; did you mean l1/default? "
            "(allowed: l1/default) at 0.5",
        ),
        (
            {"methods": {"l1": {}, "scratch_e": {"ratios": [0.25]}}},
            "methods.scratch_e: widths_from: unknown run 'l1/default' (allowed: none) at 0.25",
        ),
        (
            {"methods": {"l1": {}, "scratch_e": {"options": {"widths_from": "scratch_e"}}}},
            "methods.scratch_e: widths_from: unknown run 'scratch_e/default' (allowed: l1/default) "
            "at 0.5",
        ),
        ({"reference": "l2"}, "reference: unknown method 'l2' (allowed: l1, unpruned)"),
        ({"highlight": ["l2"]}, "highlight: unknown method 'l2' (allowed: l1, unpruned)"),
        (
            {"published": PUBLISHED | {"paper": "gerg"}},
            "published.paper: unknown paper 'gerg'; did you mean greg? "
            "(allowed: epruner, greg, group_fisher, increg, orthoreg, srfp)",
        ),
        (
            {"published": PUBLISHED | {"table": "Table 11"}},
            "published.table: unknown table 'Table 11'; did you mean Table 1 or Table 4 or "
            "Table 3? (allowed: Table 1, Table 2, Table 3, Table 4)",
        ),
        (
            {"published": PUBLISHED | {"networks": {"resnet20_x0_25": "resnet55"}}},
            "published.networks.resnet20_x0_25: unknown printed network 'resnet55'; did you mean "
            "resnet56? (allowed: resnet56, vgg19)",
        ),
        (
            {"published": PUBLISHED | {"rows": {"l2": "l1"}}},
            "published.rows: unknown method 'l2' (allowed: l1, unpruned)",
        ),
        (
            {"published": PUBLISHED | {"rows": {"l1": "l1/oneshot"}}},
            "published.rows.l1: unknown row 'l1/oneshot'; did you mean l1/one_shot? (allowed: "
            "baseline, baseline/unpruned, greg_1, greg_1/growing_reg, l1, l1/one_shot)",
        ),
        (
            {"published": PUBLISHED | {"rows": {"l1": "l1/one_shot/-"}}},
            "published.rows.l1: the table has no row 'l1/one_shot/-'; the third part is the "
            "printed ratio, - if there is none, or the FLOPs, such as flops_m=2044",
        ),
        (
            {"recipes": {"base": "one_epoch"}},
            "recipes: the role 'fine_tune' is missing; l1 needs it",
        ),
        (
            {"recipes": {"fine_tune": "one_epoch"}},
            "recipes: the role 'base' is missing; every network needs it",
        ),
        (
            {"recipes": {"base": "one_epoch", "fine_tune": "one_epoch", "finetune": "one_epoch"}},
            "recipes: unknown role 'finetune'; did you mean fine_tune? (allowed: base, fine_tune)",
        ),
        (
            {"networks": {"resnet20": {"recipes": {"bsae": "one_epoch"}}}},
            "networks.resnet20.recipes: unknown role 'bsae'; did you mean base? "
            "(allowed: base, fine_tune)",
        ),
        (
            {"methods": {"l1": {"recipes": {"base": "one_epoch"}}}},
            "methods.l1.recipes: unknown role 'base' (allowed: fine_tune)",
        ),
        (
            {"methods": {"l1": {"settings": {"hot": {"recipes": {"base": "one_epoch"}}}}}},
            "methods.l1.settings.hot.recipes: unknown role 'base' (allowed: fine_tune)",
        ),
        (
            {"recipes": {"base": "one_epoch", "fine_tune": "one_epohc"}},
            "recipes.fine_tune: unknown recipe 'one_epohc'; did you mean one_epoch? "
            "(allowed: one_epoch) in config/recipes",
        ),
        (
            {"methods": {"l1": {"recipes": {"fine_tune": "two_epochs"}}}},
            "methods.l1.recipes.fine_tune: unknown recipe 'two_epochs'; did you mean "
            "one_epoch? (allowed: one_epoch) in config/recipes",
        ),
    ],
)
def test_an_impossible_experiment_is_a_one_line_error_with_file_and_key(
    write_config: WriteConfig, changed: dict[str, Any], words: str
) -> None:
    config_dir = write_config(changed)
    with pytest.raises(ConfigError) as error:
        resolve_all(config_dir)
    found = str(error.value).removesuffix(f"; {where_registered()}")  # after unknown names
    assert found == TINY + words


MOVED = {
    "datasets": ["imagenet"],
    "recipes": {"base": "loaded", "fine_tune": "plain"},
    "methods": {"unpruned": {}, "l1": {}},
}
LOADED = {**RECIPE, "weights": "a.pt", "expected_top1": 76.1, "augment": {"resized_crop": {}}}


def test_recipes_are_adapted_to_other_data(
    write_config: WriteConfig,
) -> None:
    recipes = {"recipes/loaded.yaml": LOADED, "recipes/plain.yaml": {**RECIPE, "epochs": 20}}
    config_dir = write_config(MOVED, recipes)
    run = resolve_experiment("tiny_on_synthetic_32_x0_1", config_dir)[1]
    assert run.base.path == ("base/synthetic_32/resnet20_x0_25/loaded_on_synthetic_32_x0_1/seed0")
    found = run.base.recipe
    assert (found.weights, found.expected_top1, found.epochs) == (None, None, 1)
    assert found.augment.model_dump(exclude_defaults=True) == {"crop_padding": 4, "flip": True}
    # What these images can follow has its own name: its bases are those of all experiments.
    assert run.recipe_names == {"fine_tune": "plain_x0_1"}
    assert run.recipes["fine_tune"].epochs == 2


def test_an_experiment_keeps_its_weights_on_its_own_data(write_config: WriteConfig) -> None:
    config_dir = write_config(MOVED, {"recipes/loaded.yaml": LOADED, "recipes/plain.yaml": RECIPE})
    for name in ("tiny", "tiny_on_imagenet", "tiny_x0_1"):
        base = resolve_experiment(name, config_dir)[0].base
        assert (base.recipe.weights, base.recipe.expected_top1) == ("a.pt", 76.1)
        assert "_on_" not in base.recipe_name


def test_weights_without_epochs_are_refused_on_other_data(write_config: WriteConfig) -> None:
    recipes = {"recipes/loaded.yaml": {**LOADED, "epochs": None}, "recipes/plain.yaml": RECIPE}
    config_dir = write_config(MOVED, recipes)
    with pytest.raises(ConfigError) as error:
        resolve_experiment("tiny_on_synthetic", config_dir)
    assert str(error.value) == (
        f"{TINY}recipes.base: the recipe 'loaded_on_synthetic' has no epochs, but a base network "
        "needs them on synthetic: its weights are for other images"
    )


@pytest.mark.parametrize(
    ("changed", "recipe", "words"),
    [
        (
            {},
            {"normalize": "digits"},
            "config/recipes/one_epoch.yaml: normalize: the normalization 'digits' has 1 "
            "channels and synthetic has 3; `normalize: dataset` fits every data set",
        ),
        (
            {},
            {"normalize": "digit"},
            "config/recipes/one_epoch.yaml: normalize: unknown normalization 'digit'; did you mean "
            "digits? (allowed: ",
        ),
        (
            {},
            {"epochs": None},
            f"{TINY}recipes.base: the recipe 'one_epoch' has no epochs, but a base network needs "
            "them",
        ),
        (
            {"recipes": {"base": "long", "fine_tune": "one_epoch"}},
            {"epochs": None},
            f"{TINY}methods.l1: phase 'fine_tune': its recipe does not set epochs",
        ),
        (
            {},
            {"lrr": 1},
            "config/recipes/one_epoch.yaml: unknown key 'lrr'; did you mean lr? (allowed: acc",
        ),
    ],
)
def test_a_recipe_that_does_not_fit_is_a_one_line_error(
    write_config: WriteConfig, changed: dict[str, Any], recipe: dict[str, Any], words: str
) -> None:
    files = {"recipes/one_epoch.yaml": RECIPE | recipe, "recipes/long.yaml": RECIPE}
    config_dir = write_config(changed, files)
    with pytest.raises(ConfigError) as error:
        resolve_all(config_dir)
    assert str(error.value).startswith(words)


@pytest.mark.parametrize(
    ("files", "words"),
    [
        (
            {"config.yaml": {"experiments": ["tinny"]}},
            "config/config.yaml: experiments: unknown experiment 'tinny'; did you mean tiny? "
            "(allowed: tiny) in config/experiments",
        ),
        (
            {"config.yaml": {"experiments": "base"}, "experiments/base.yaml": EXPERIMENT},
            "config/experiments/base.yaml: name: 'base' is a folder in results/; not allowed: "
            "base, benchmarks, claims, data, logs, reference, resolved",
        ),
        (
            {
                "config.yaml": {"experiments": ["tiny", "other"]},
                "experiments/other.yaml": EXPERIMENT | {"threads": 2},
            },
            "config/experiments/other.yaml: threads: 2 threads here and 1 in the experiment 'tiny' "
            "would train base/synthetic/resnet20_x0_25/one_epoch/seed0 differently; use the same "
            "number, or a recipe with another name",
        ),
    ],
)
def test_experiments_that_conflict_are_a_one_line_error(
    write_config: WriteConfig, files: dict[str, Any], words: str
) -> None:
    config_dir = write_config(files=files)
    with pytest.raises(ConfigError) as error:
        resolve_all(config_dir)
    assert str(error.value) == words


def test_experiments_of_different_data_share_no_base_network(write_config: WriteConfig) -> None:
    other = EXPERIMENT | {"threads": 2, "networks": {"resnet20": {}}}
    files = {"config.yaml": {"experiments": ["tiny", "other"]}, "experiments/other.yaml": other}
    assert len(resolve_all(write_config(files=files))) == 4


def test_the_command_exits_with_1_and_one_line_without_traceback(write_config: WriteConfig) -> None:
    write_config({"methods": {"gerg_1": {}}})
    command = [sys.executable, "-m", "prunebench", "resolve"]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 1
    assert done.stdout == ""
    assert done.stderr == (
        f"prunebench: {TINY}methods: unknown method 'gerg_1'; did you mean greg_1? "
        f"(allowed: {METHODS}); {where_registered()}\n"
    )
    assert not Path("results").exists()
