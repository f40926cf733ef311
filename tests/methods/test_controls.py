from __future__ import annotations

from typing import Any

import pytest
import torch

from prunebench import testing
from prunebench.experiments.phases import Budget, Epochs, Phase
from prunebench.experiments.recipe import Recipe
from prunebench.methods.controls import (
    ScratchB,
    ScratchE,
    ScratchOptions,
    UniformWidth,
    Unpruned,
    UnprunedOptions,
    scratch_b_epochs,
)
from prunebench.training.run import RunState

BASE = Recipe(epochs=4, batch_size=4, lr=0.01, weight_decay=0.0)


def phases(method: ScratchE) -> list[Phase]:
    return method.phases({"base": BASE}, Budget(kind="units_per_group", ratio=0.5))


@pytest.fixture
def half_width_run(resnet_run: RunState) -> RunState:
    """A run whose source kept every second unit inside of blocks."""
    resnet_run.source_kept = {
        name: torch.arange(0, n, 2) if resnet_run.graph.groups[name].role == "inside" else units
        for (name, n), units in zip(resnet_run.sizes.items(), resnet_run.kept.values(), strict=True)
    }
    return resnet_run


@pytest.mark.parametrize(
    ("base_macs", "macs", "epochs"),
    [(400, 100, 40), (300, 200, 30), (200, 100, 40), (100, 100, 20)],
)
def test_scratch_b_trains_as_much_as_the_base_up_to_a_cap(
    base_macs: int, macs: int, epochs: float
) -> None:
    assert scratch_b_epochs(20, base_macs, macs, longest=2.0) == epochs


def test_base_network_is_trained_like_pruned_ones_on_request() -> None:
    nothing = Budget(kind="units_per_group", ratio=0.0)
    as_it_is, trained = (Unpruned(UnprunedOptions(fine_tune=wanted)) for wanted in (False, True))
    assert (as_it_is.needed_roles(), trained.needed_roles()) == ((), ("fine_tune",))
    assert as_it_is.phases({}, nothing) == []
    run = testing.train(trained, nothing)
    assert [(row.phase, row.step) for row in run.records.history] == [("fine_tune", 3)]
    assert run.costs.macs() == run.base_macs


def test_widths_are_those_of_the_followed_run(half_width_run: RunState) -> None:
    method = ScratchE(ScratchOptions())
    testing.train(method, phases(method)[:1], half_width_run)
    kept = half_width_run.kept
    assert {name: units.tolist() for name, units in kept.items()} == {
        name: units.tolist() for name, units in half_width_run.source_kept.items()
    }


def test_the_small_network_starts_from_fresh_weights(half_width_run: RunState) -> None:
    method = ScratchE(ScratchOptions())
    testing.train(method, phases(method)[:1], half_width_run)
    found = half_width_run.params["stages.0.0.conv2.weight"].clone()
    half_width_run.go_to(0)  # the phase whose random numbers are asked for
    half_width_run.initialize()
    assert found.shape == (16, 8, 3, 3)
    assert torch.equal(found, half_width_run.params["stages.0.0.conv2.weight"])


def test_a_run_that_kept_everything_gives_the_whole_network(resnet_run: RunState) -> None:
    method = ScratchE(ScratchOptions())
    resnet_run.source_kept = dict(resnet_run.kept)
    assert method.select(resnet_run, Budget(kind="units_per_group", ratio=0.0)).removed == {}


def test_scratch_e_trains_the_base_recipe_s_epochs(resnet_run: RunState) -> None:
    method = ScratchE(ScratchOptions())
    assert method.phase_length(resnet_run, phases(method)[1]) == Epochs(4)


@pytest.mark.parametrize(("longest", "epochs"), [(2.0, 4 * 1.5), (1.25, 5.0)])
def test_scratch_b_s_epochs_follow_from_the_present_network(
    longest: float, epochs: float, resnet_run: RunState
) -> None:
    method = ScratchB(ScratchOptions(longest=longest))
    resnet_run.base_macs = resnet_run.costs.macs() * 3 // 2
    length = method.phase_length(resnet_run, phases(method)[1])
    assert isinstance(length, Epochs)
    assert length.n == pytest.approx(epochs)


# --- the uniformly thinner network
def uniform(run: RunState, kind: Any, ratio: float, **options: Any) -> None:
    method = UniformWidth(UniformWidth.Options(**options))
    testing.train(method, method.phases({"base": BASE}, Budget(kind=kind, ratio=ratio))[:1], run)


def test_all_layers_are_thinner_by_the_same_share(resnet_run: RunState) -> None:
    uniform(resnet_run, "units_per_group", 0.25)
    shapes = {tuple(p.shape[:2]) for p in resnet_run.params.values() if p.ndim == 4}
    assert shapes == {(12, 1), (12, 12), (24, 12), (24, 24), (48, 24), (48, 48)}
    assert resnet_run.params["fc.weight"].shape == (10, 48)


@pytest.mark.parametrize("kind", ["macs", "params"])
@pytest.mark.parametrize("allocation", ["uniform", "global"])
def test_a_uniform_network_meets_a_budget(allocation: str, kind: str, resnet_run: RunState) -> None:
    start = {"macs": resnet_run.base_macs, "params": resnet_run.base_params}[kind]
    uniform(resnet_run, kind, 0.75, allocation=allocation)
    left = {"macs": resnet_run.costs.macs(), "params": resnet_run.costs.params()}[kind]
    assert 0.22 * start <= left <= 0.25 * start  # a unit of a stream is in seven layers at once
    shares = [len(units) / resnet_run.sizes[name] for name, units in resnet_run.kept.items()]
    assert max(shares) - min(shares) <= 1 / 8  # half of them: about half of every group


def test_global_ranking_of_units_is_uniform_too(resnet_run: RunState) -> None:
    uniform(resnet_run, "units_global", 0.5)
    assert {len(u) / resnet_run.sizes[n] for n, u in resnet_run.kept.items()} == {0.5}


def test_the_uniform_network_starts_from_fresh_weights(resnet_run: RunState) -> None:
    uniform(resnet_run, "units_per_group", 0.5)
    found = resnet_run.params["stages.0.0.conv2.weight"].clone()
    resnet_run.go_to(0)
    resnet_run.initialize()
    assert torch.equal(found, resnet_run.params["stages.0.0.conv2.weight"])
