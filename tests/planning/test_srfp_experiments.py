"""The experiments of SRFP train, choose and start as the scripts of its family do."""

from __future__ import annotations

from collections import Counter
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import torch

from prunebench import testing
from prunebench.experiments.config import read_experiment
from prunebench.experiments.spec import RunSpec
from prunebench.methods.registry import method_class
from prunebench.models.registry import build
from prunebench.papers.published import read_published, select
from prunebench.papers.reproduced import states
from prunebench.planning.grid import resolve_experiment
from tests.planning.conftest import complete

CONFIG = Path(__file__).parents[2] / "config"
SOFT = ("sfp", "asfp", "srfp", "asrfp", "soft_fpgm")
IMAGENET = {"resnet18": 3, "resnet34": 3, "resnet50": 4, "resnet101": 4}  # projections


@cache
def runs(experiment: str) -> tuple[RunSpec, ...]:
    return tuple(complete(r) for r in resolve_experiment(experiment, CONFIG) if r.method in SOFT)


def soft_of(spec: RunSpec) -> Any:
    found = method_class(spec.method)
    return found(found.Options(**spec.options))


def of(experiment: str, **wanted: Any) -> list[RunSpec]:
    found = [r for r in runs(experiment) if r.seed == 0]
    return [r for r in found if all(getattr(r, key) == value for key, value in wanted.items())]


# --- how they are trained
@pytest.mark.parametrize("data", ["cifar10", "cifar100"])
def test_cifar_s_rates_fall_to_a_fifth_and_resnet_110_begins_at_a_tenth(data: str) -> None:
    for network, first in (("resnet56", 0.1), ("resnet110", 0.01)):
        (spec,) = of(f"srfp_{data}", method="asrfp", ratio=0.4, architecture=network)
        recipe = spec.recipes["base"]
        assert recipe == spec.base.recipe
        assert (recipe.epochs, recipe.batch_size, recipe.nesterov) == (200, 128, True)
        assert recipe.normalize == f"sfp_{data}"
        found = [round(recipe.lr_at(epoch, 200), 6) for epoch in (0, 0.9, 1, 59, 60, 120, 160)]
        assert found == [first, first, 0.1, 0.1, 0.02, 0.004, 0.0008]


@pytest.mark.parametrize(
    ("network", "setting", "rates"),
    [
        ("resnet56", "pretrained", [0.01, 0.01]),
        ("resnet110", "pretrained_warm_up", [0.001, 0.01]),
    ],
)
def test_fpgm_s_pretrained_start_is_a_tenth_of_the_rate(
    network: str, setting: str, rates: list[float]
) -> None:
    (spec,) = of("srfp_cifar10", architecture=network, setting=setting)
    assert (spec.start, spec.ratio) == ("base", 0.4)
    recipe = spec.recipes["base"]
    assert [round(recipe.lr_at(epoch, 200), 6) for epoch in (0, 1)] == rates
    assert spec.base.recipe.lr == 0.1


def test_filters_of_cifar_networks_are_those_of_every_convolution() -> None:
    specs = runs("srfp_cifar10")
    # 4 networks, 3 seeds: 4 ratios of 4 methods; FPGM's 0.3 and 0.4 and a mix
    counts = Counter(r.method for r in specs if not r.options["pretrained"])
    assert counts == dict.fromkeys(("sfp", "asfp", "srfp", "asrfp"), 48) | {"soft_fpgm": 36}
    assert {(r.options["scope"], tuple(r.options["layers"])) for r in specs} == {
        ("layer", ("convolutions",))
    }
    masked = {(r.method, r.options["mask_gradients"]) for r in specs}
    assert masked == {*((m, False) for m in SOFT[:4]), ("soft_fpgm", True)}


def test_single_weights_are_of_the_same_training() -> None:
    specs = runs("srfp_cifar10_weights")
    assert {(r.options["scope"], r.ratio_kind, r.start) for r in specs} == {
        ("weight", "weights", "fresh")
    }
    assert {r.method for r in specs} == set(SOFT[:4])
    (filters,) = of("srfp_cifar10", method="srfp", ratio=0.4, architecture="resnet20")
    assert {r.recipes["base"] for r in specs} == {filters.recipes["base"]}


# --- ImageNet
@pytest.mark.parametrize("network", IMAGENET)
def test_projections_are_not_pruned_on_imagenet(network: str) -> None:
    with torch.random.fork_rng():
        run = testing.start(build(f"{network}_x0_0625", num_classes=10), image=(3, 32, 32))
    convs = [name for name, p in run.params.items() if p.ndim == 4]
    for method in SOFT:
        spec = of(f"srfp_imagenet_{network}", method=method, ratio=0.3)[0]
        layers = soft_of(spec).layers(run)
        assert len(layers) == len(convs) - IMAGENET[network]
        assert next(iter(run.params)).removesuffix(".weight") in layers  # the stem


@pytest.mark.parametrize("network", IMAGENET)
def test_both_starts_have_rates_and_sigma_of_their_own(network: str) -> None:
    for method in SOFT:
        for setting, start, lr, sigma in (
            ("scratch", "fresh", 0.1, 1e-3),
            ("pretrained", "base", 0.01, 1e-5),
        ):
            spec = of(f"srfp_imagenet_{network}", method=method, setting=setting, ratio=0.3)[0]
            recipe = spec.recipes["base"]
            assert (spec.start, recipe.weights) == (start, None)
            found = [round(recipe.lr_at(epoch, 100), 8) for epoch in (0, 30, 60, 90)]
            assert found == pytest.approx([lr, lr / 10, lr / 100, lr / 1000])
            assert (recipe.batch_size, recipe.weight_decay) == (256, 1e-4)
            assert spec.base.recipe.weights is not None
            if method in ("srfp", "asrfp"):
                assert spec.options["sigma"] == sigma


def test_imagenet_s_schedules_end_where_its_scripts_say() -> None:
    (spec,) = of("srfp_imagenet_resnet34", method="asrfp", setting="pretrained", ratio=0.4)
    soft = soft_of(spec)
    # epochs of 100 from which alpha is 0 and P is 0.4; logged: 1.122e-4 at 79, 0 from 80
    assert soft.alpha_at(79, 100) == pytest.approx(1.1220183657e-4, rel=1e-6)
    assert soft.alpha_at(80, 100) == 0
    assert (soft.keep_at(89, 100, 0.4) > 0.6, soft.keep_at(90, 100, 0.4)) == (True, 0.6)
    (phase,) = soft.phases(spec.recipes, spec.budget)
    assert phase.reportable_from == 0.9


def test_the_abstract_s_row_is_asrfp_at_40_percent(tmp_path: Path) -> None:
    rows = select(read_published(), own_only=True, paper="srfp")
    assert [str(s) for s in states(rows, CONFIG, tmp_path)] == ["srfp_imagenet_resnet34, not run"]
    published = read_experiment(CONFIG, "srfp_imagenet_resnet34").published
    assert published is not None
    named = {
        (r.method, r.setting, r.ratio): published.name_of(
            r.architecture, r.method, r.setting, r.path.split("/")[-2]
        )
        for r in runs("srfp_imagenet_resnet34")
    }
    assert [cell for cell, name in named.items() if name] == [("asrfp", "scratch", 0.4)]
