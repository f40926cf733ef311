"""The experiments of OrthoReg count, spare, rank and train as its official code does."""

from __future__ import annotations

from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import torch

from prunebench import testing
from prunebench.experiments.recipe import Recipe
from prunebench.experiments.spec import RunSpec
from prunebench.methods.base import Method
from prunebench.methods.registry import method_class
from prunebench.models.registry import build
from prunebench.papers.published import read_published, select
from prunebench.papers.reproduced import states
from prunebench.planning.grid import resolve_experiment
from prunebench.training.run import RunState
from tests.planning.conftest import complete

CONFIG = Path(__file__).parents[2] / "config"
NETWORKS = ("vgg13", "mobilenet_v1", "resnet34")
ITERATIVE = ("random", "fisher", "tfo", "l1", "l2", "rdt", "orthoreg", "orthoreg_from_base")


@cache
def runs(experiment: str) -> tuple[RunSpec, ...]:
    return tuple(
        complete(r) for r in resolve_experiment(experiment, CONFIG) if r.method != "unpruned"
    )


def of_seed_0(experiment: str, **wanted: Any) -> list[RunSpec]:
    found = [r for r in runs(experiment) if (r.seed, r.dataset) == (0, "cifar100")]
    return [r for r in found if all(getattr(r, key) == value for key, value in wanted.items())]


def method_of(spec: RunSpec) -> Method[Any]:
    found = method_class(spec.method)
    return found(found.Options(**spec.options))


def narrow(network: str) -> RunState:
    """A network of a sixteenth of the width, on images of 8x8."""
    name = "resnet34_cifar" if network == "resnet34" else network
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return testing.start(build(f"{name}_x0_0625", num_classes=4), image=(3, 8, 8))


@cache
def whole(network: str) -> RunState:
    name = "resnet34_cifar" if network == "resnet34" else network
    with torch.random.fork_rng():
        return testing.start(build(name, num_classes=100), image=(3, 8, 8))


def rates(recipe: Recipe) -> list[tuple[int, float]]:
    """Return the learning rates of a recipe with the number of epochs of each."""
    assert recipe.epochs is not None
    found = [round(recipe.lr_at(epoch, recipe.epochs), 9) for epoch in range(recipe.epochs)]
    return [(found.count(rate), rate) for rate in dict.fromkeys(found)]


# --- what leaves
@pytest.mark.parametrize(
    ("network", "leaves"),
    [
        ("vgg13", [736, 1472, 2208]),  # of 2944
        ("mobilenet_v1", [2736, 5472, 8208]),  # of 10 944, depthwise channels too
        ("resnet34", [2128, 4256, 6384]),  # of 8512, stem and shortcuts too
    ],
)
def test_early_bird_tickets_are_shares_of_all_filters(network: str, leaves: list[int]) -> None:
    run = whole(network)
    for setting in ("orthoreg", "fisher", "bn", "l1", "random"):
        specs = of_seed_0(f"orthoreg_early_bird_{network}", setting=setting)
        assert [spec.ratio for spec in specs] == [0.25, 0.5, 0.75]
        method: Any = method_of(specs[0])
        layers = method.ranked(run)
        assert [method.goal(run, spec.budget, layers) for spec in specs] == leaves


@pytest.mark.parametrize(
    ("network", "first"),
    [
        ("vgg13", 981),  # floor(2944 / 3)
        ("mobilenet_v1", 3648),
        ("resnet34", 2894),  # floor(8512 - 5617.92): 66 % stay
    ],
)
@pytest.mark.parametrize("method", ITERATIVE)
def test_the_first_of_two_rounds_takes_a_third(method: str, network: str, first: int) -> None:
    run = whole(network)
    (spec,) = of_seed_0(f"orthoreg_iterative_{network}", method=method, ratio=0.5)
    found: Any = method_of(spec)
    phases = found.phases(spec.recipes, spec.budget)
    pruning = [phase for phase in phases if phase.then is not None]
    assert len(pruning) == 2
    run.phases, run.phase = tuple(phases), pruning[0]
    assert found.goal(run, pruning[0].then, found.ranked(run)) == first


@pytest.mark.parametrize("method", ["fisher", "tfo", "l1", "l2", "rdt"])
def test_depthwise_layers_take_over_the_scores_of_what_they_read(method: str) -> None:
    (spec,) = of_seed_0("orthoreg_iterative_mobilenet_v1", method=method, ratio=0.5)
    fewer = {"samples": 8} if "samples" in spec.options else {}
    found = method_of(spec.model_copy(update={"options": spec.options | fewer}))
    run = narrow("mobilenet_v1")
    group = run.graph.groups["stages.1.0.pointwise"]
    own = [m for m in group.members if m.parameters[0].startswith("stages.1.0.")]
    assert "stages.1.1.depthwise.weight" in {m.parameters[0] for m in group.members}
    assert len(own) < len(group.members)
    both, alone = (
        found.score(run, {group.name: g})[group.name]
        for g in (group, replace(group, members=tuple(own)))
    )
    assert torch.equal(both, alone)
    assert len(both.unique()) > 1


# --- how long and how fast
def test_every_recipe_has_the_stages_of_the_code() -> None:
    tickets = of_seed_0("orthoreg_early_bird_vgg13", ratio=0.5)
    search = {r.setting: r.recipes["search"] for r in tickets}
    assert rates(search["orthoreg"]) == [(24, 0.1), (1, 0.01)]
    assert search["orthoreg"].weight_decay == 0
    for setting in ("fisher", "bn", "l1", "random"):
        assert rates(search[setting]) == [(25, 0.1)]
        assert search[setting].weight_decay == 1e-4
    assert rates(tickets[0].recipes["fine_tune"]) == [(60, 0.1), (40, 0.01), (40, 0.001)]
    (own,) = of_seed_0("orthoreg_iterative_vgg13", method="orthoreg", ratio=0.5)
    assert rates(own.base.recipe) == [(80, 0.1), (40, 0.01), (40, 0.001)]
    assert own.recipes["penalized"] == search["orthoreg"]
    assert rates(own.recipes["retrain"]) == [(35, 0.1), (35, 0.01), (10, 0.001)]
    assert rates(own.recipes["fine_tune"]) == [(40, 0.1), (40, 0.01), (20, 0.001)]
    for recipe in (*search.values(), *own.recipes.values(), own.base.recipe):
        assert (recipe.batch_size, recipe.momentum, recipe.nesterov) == (128, 0.9, False)
        assert recipe.normalize == "orthoreg"


@pytest.mark.parametrize("network", NETWORKS)
def test_all_methods_go_through_the_same_rounds(network: str) -> None:
    phases = {
        spec.method: method_of(spec).phases(spec.recipes, spec.budget)
        for spec in of_seed_0(f"orthoreg_iterative_{network}", ratio=0.75)
    }
    assert tuple(phases) == ITERATIVE
    budgets = {m: [p.then for p in found if p.then is not None] for m, found in phases.items()}
    assert [b.ratio for b in budgets["l1"]] == [0.6, 0.75]
    assert all(found == budgets["l1"] for found in budgets.values())
    assert {found[-1].recipe for found in phases.values()} == {phases["l1"][-1].recipe}
    assert [p.name for p in phases["orthoreg"]] == [
        "penalize_1",
        "retrain_1",
        "penalize_2",
        "fine_tune",
    ]


@pytest.mark.parametrize(
    ("network", "penalty"), [("vgg13", 0.01), ("mobilenet_v1", 0.001), ("resnet34", 0.01)]
)
def test_the_penalty_has_its_network_s_factor_and_no_baseline_has_one(
    network: str, penalty: float
) -> None:
    tickets = runs(f"orthoreg_early_bird_{network}")
    assert {(r.setting, r.options["penalty"]) for r in tickets} == {
        ("orthoreg", penalty),
        *((setting, 0) for setting in ("fisher", "bn", "l1", "random")),
    }
    rounds = [r for r in runs(f"orthoreg_iterative_{network}") if "orthoreg" in r.method]
    assert {r.options["penalty"] for r in rounds} == {penalty}
    assert {(r.method, r.start) for r in rounds} == {
        ("orthoreg", "fresh"),
        ("orthoreg_from_base", "base"),
    }


def test_scales_are_divided_by_the_fan_in_in_vgg_alone() -> None:
    found = {
        network: {
            r.options["criterion"]["bn_scale"]["by_fan_in"]
            for r in runs(f"orthoreg_early_bird_{network}")
            if r.setting == "bn"
        }
        for network in NETWORKS
    }
    assert found == {"vgg13": {True}, "mobilenet_v1": {False}, "resnet34": {False}}


# --- beside what is printed
@pytest.mark.parametrize("network", NETWORKS)
def test_every_printed_row_has_its_experiment(network: str, tmp_path: Path) -> None:
    printed = select(read_published(), own_only=True, paper="orthoreg", architecture=network)
    found = [state.experiment for state in states(printed, CONFIG, tmp_path)]
    assert found == [f"orthoreg_early_bird_{network}"] * 10
