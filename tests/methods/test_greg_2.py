"""GReg-2 and FixReg: what differs from GReg-1 (test_greg)."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from pydantic import ValidationError
from torch import Tensor, nn

from prunebench import testing
from prunebench.experiments.phases import Budget, Phase, Steps
from prunebench.experiments.recipe import Recipe
from prunebench.methods.greg import FixReg, GReg1, GReg2, PenalizedRemoval, count_updates, relieve
from prunebench.testing import named_layers, recorded_operations
from prunebench.training.run import RunState

# example E4; tau is 1
SHORT = {
    "interval_steps": 2,
    "delta_pick": 0.125,
    "pick_ceiling": 0.25,
    "delta": 0.25,
    "recover": -0.0625,
    "stabilize_steps": 3,
}


def greg(**options: Any) -> GReg2:
    return GReg2(GReg2.Options(**(SHORT | options)))


def phases(method: PenalizedRemoval[Any], recipe: Recipe, ratio: float = 0.5) -> list[Phase]:
    fine_tune = recipe.model_copy(update={"epochs": 1})
    budget = Budget(kind="units_per_group", ratio=ratio)
    return method.phases({"regularize": recipe, "fine_tune": fine_tune}, budget)


def begin(method: PenalizedRemoval[Any], run: RunState, recipe: Recipe, ratio: float = 0.5) -> None:
    """Start the first phase up to its first decision."""
    testing.begin(method, phases(method, recipe, ratio), run)


def set_filters(run: RunState, name: str, values: list[float]) -> None:
    with torch.no_grad():
        weight = run.params[f"{name}.weight"]
        weight.copy_(torch.tensor(values).view(-1, 1, 1, 1).expand(weight.shape))


@pytest.fixture
def two_layer_run() -> RunState:
    """stem 1 -> 1, a 1 -> 2, b 2 -> 2, head 2 -> 2; in a and b filter 0 is the smaller one."""
    torch.manual_seed(0)
    model = named_layers(
        stem=nn.Conv2d(1, 1, 1),
        a=nn.Conv2d(1, 2, 1),
        b=nn.Conv2d(2, 2, 1),
        head=nn.Conv2d(2, 2, 1),
        flatten=nn.Flatten(),
    )
    run = testing.start(model, image=(1, 1, 1))
    set_filters(run, "a", [1.0, 2.0])
    set_filters(run, "b", [1.0, 2.0])
    return run


# --- over time
def test_time_line(two_layer_run: RunState, recipe: Recipe) -> None:
    method, seen = greg(), []

    def look(run: RunState) -> None:
        if "penalty" in method.state:
            pruned, penalty = method.state["pruned"]["a"], method.state["penalty"]["a"]
            seen.append((float(penalty[pruned]), float(penalty[~pruned])))

    testing.train(method, phases(method, recipe), two_layer_run, before_step=look)
    # set at iterations 0, 2, ..., 10; picked at 2; finished at 10; removal after iteration 13
    line = [(0.125, 0.125), (0.25, 0.25), (0.5, -0.0625), (0.75, -0.0625), (1.0, -0.0625)]
    assert seen == [pair for pair in line for _ in range(2)] + [(1.25, -0.0625)] * 4
    assert len(seen) == 14
    assert two_layer_run.records.capped == []
    assert {name: len(units) for name, units in two_layer_run.kept.items()} == {
        "stem": 1,
        "a": 1,
        "b": 1,
    }


def test_phases_are_as_long_as_both_ceilings_say(recipe: Recipe) -> None:
    regularize, stabilize, _ = phases(GReg2(GReg2.Options(interval_steps=5)), recipe)
    assert regularize.length == Steps(54_501)  # 1,001 + 9,900 updates; the last is at 54,500
    assert stabilize.length == Steps(10_001)


def test_defaults_are_the_code_s() -> None:
    options = GReg2.Options()
    found = (options.delta_pick, options.pick_ceiling, options.delta, options.ceiling)
    assert found == (1e-5, 0.01, 1e-4, 1.0)
    assert (options.recover, options.ratio_stop) == (-1e-4, 1000.0)


def test_iteration_48200_of_a_published_log() -> None:
    # ResNet-34, K_u 5: the 9,641st update, 8,640 after the pick; the log shows 0.87404
    penalty = torch.zeros(1)
    for _ in range(1001):
        penalty.add_(1e-5)
    for _ in range(8640):
        penalty.add_(1e-4)
    assert float(penalty) == pytest.approx(0.87404, abs=5e-6)


# --- the pick
def test_the_pick_goes_by_the_weights_of_that_moment(
    two_layer_run: RunState, recipe: Recipe
) -> None:
    method, run = greg(), two_layer_run
    begin(method, run, recipe)
    method.decide(run)
    assert method.state["pruned"]["a"].tolist() == [True, False]
    set_filters(run, "a", [3.0, 2.0])
    method.decide(run)  # the second update reaches 0.25
    set_filters(run, "a", [1.0, 2.0])
    method.decide(run)
    assert method.state["pruned"]["a"].tolist() == [False, True]
    assert method.state["penalty"]["a"].tolist() == [-0.0625, 0.5]
    assert method.state["penalty"]["b"].tolist() == [0.5, -0.0625]


def test_counts_are_fixed_by_the_base_network(resnet_run: RunState, recipe: Recipe) -> None:
    method = greg(roles=("inside",))
    begin(method, resnet_run, recipe, ratio=0.7)
    for _ in range(3):
        method.decide(resnet_run)
    counts = {int(pruned.sum()) for pruned in method.state["pruned"].values()}
    assert counts == {12, 23, 45}  # ceil(0.7 n) of 16, 32, 64


def test_layers_that_lose_nothing_are_not_penalized(resnet_run: RunState, recipe: Recipe) -> None:
    method = greg(layer_ratios={"stages.0.*": 0.5})
    fine_tune = recipe.model_copy(update={"epochs": 1})
    recipes = {"regularize": recipe, "fine_tune": fine_tune}
    testing.begin(method, method.phases(recipes, Budget(kind="auto", ratio=None)), resnet_run)
    method.decide(resnet_run)
    assert list(method.weight_penalty) == [f"stages.0.{block}.conv1.weight" for block in range(3)]


@pytest.mark.parametrize(("recover", "penalty"), [(None, -5e-4), (-1e-4, -1e-4), (0.0, 0.0)])
def test_kept_units_recover(
    recover: float | None, penalty: float, two_layer_run: RunState, recipe: Recipe
) -> None:
    method = greg(recover=recover)
    decayed = recipe.model_copy(update={"weight_decay": 5e-4})
    begin(method, two_layer_run, decayed)
    for _ in range(3):
        method.decide(two_layer_run)
    assert method.state["penalty"]["a"].tolist() == [0.5, pytest.approx(penalty, rel=1e-6)]


def test_relief_is_of_kept_units_alone() -> None:
    penalty = torch.tensor([0.25, 0.25, 0.25])
    relieve(penalty, torch.tensor([True, False, True]), -0.5)
    assert penalty.tolist() == [0.25, -0.5, 0.25]


def test_picking_must_end_below_the_ceiling() -> None:
    with pytest.raises(ValidationError, match=r"pick_ceiling 1.0 must lie below the ceiling 1.0"):
        greg(pick_ceiling=1.0)


# --- the ratio
def test_the_ratio_runs_while_picking_on_what_would_be_picked(
    two_layer_run: RunState, recipe: Recipe
) -> None:
    method, run = greg(), two_layer_run
    begin(method, run, recipe)
    ratios = []
    for filters in ([4.0, 2.0], [4.0, 1.0], [8.0, 1.0]):  # filter 0 was the smaller one
        set_filters(run, "a", filters)
        method.decide(run)
        ratios.append(method.state["ratio"]["a"])
    # 2, then 0.9 * 2 + 0.1 * 4 at the pick, then 0.9 * 2.2 + 0.1 * 8: filter 1 was picked
    assert ratios == pytest.approx([2.0, 2.2, 2.78])


def test_each_layer_stops_by_its_own_ratio(two_layer_run: RunState, recipe: Recipe) -> None:
    method, run, done = greg(ratio_stop=10), two_layer_run, []
    set_filters(run, "a", [0.1, 2.0])
    begin(method, run, recipe)
    for _ in range(3):
        method.decide(run)
        done.append(list(method.state["done"]))
    assert done == [[], ["a"], ["a"]]  # not before the pick, but at it
    assert method.state["penalty"]["a"].tolist() == [0.25, 0.25]
    assert method.state["penalty"]["b"].tolist() == [0.5, -0.0625]
    assert not method.finished(run)


def test_small_filters_do_not_stop_the_paper_s_variant(
    two_layer_run: RunState, recipe: Recipe
) -> None:
    method = greg(ratio_stop=None)
    set_filters(two_layer_run, "a", [1e-9, 2.0])
    begin(method, two_layer_run, recipe)
    for _ in range(3):
        method.decide(two_layer_run)
    assert method.state["done"] == []


# --- the other rules
@pytest.mark.parametrize("kind", [GReg1, GReg2, FixReg])
def test_ratio_zero_changes_nothing(
    kind: type[PenalizedRemoval[Any]], two_layer_run: RunState, recipe: Recipe
) -> None:
    method, trained = kind(kind.Options(stabilize_steps=3)), []
    nothing = phases(method, recipe, ratio=0.0)
    testing.train(
        method, nothing, two_layer_run, after_step=lambda run: trained.append(run.phase.name)
    )
    assert two_layer_run.costs.macs() == two_layer_run.base_macs
    assert trained == ["stabilize"] * 4 + ["fine_tune"] * 3
    assert (method.figures(), two_layer_run.records.capped) == ({}, [])


@pytest.mark.parametrize("kind", [GReg1, GReg2, FixReg])
def test_every_layer_keeps_a_filter(
    kind: type[PenalizedRemoval[Any]], resnet_run: RunState, recipe: Recipe
) -> None:
    method = kind(kind.Options())
    begin(method, resnet_run, recipe, ratio=0.999)
    plan = method.select(resnet_run, Budget(kind="units_per_group", ratio=0.999))
    left = {resnet_run.sizes[name] - len(units) for name, units in plan.removed.items()}
    assert left == {1}


def test_steps_read_nothing_on_the_host_and_repeat(resnet_run: RunState, recipe: Recipe) -> None:
    method = greg()
    begin(method, resnet_run, recipe)
    testing.backward(resnet_run)
    steps = []
    for _ in range(4):  # picking, the pick, beyond it
        method.decide(resnet_run)
        with recorded_operations() as operations:
            method.before_optimizer_step(resnet_run)
        steps.append(list(operations))
    assert all(step == steps[0] for step in steps)
    assert len(steps[0]) > 0


@pytest.mark.parametrize("unit", ["filter", "channel", "weight"])
def test_decisions_write_in_place(unit: str, resnet_run: RunState, recipe: Recipe) -> None:
    method = greg(unit=unit)
    kind: Any = "weights" if unit == "weight" else "units_per_group"
    recipes = {"regularize": recipe, "fine_tune": recipe.model_copy(update={"epochs": 1})}
    testing.begin(method, method.phases(recipes, Budget(kind=kind, ratio=0.5)), resnet_run)

    def addresses() -> list[int]:
        state = [*method.state["penalty"].values(), *method.state["pruned"].values()]
        return [tensor.data_ptr() for tensor in [*state, *method.weight_penalty.values()]]

    before = addresses()
    for _ in range(4):  # beyond the pick
        method.decide(resnet_run)
        assert addresses() == before
    first = method.weight_penalty[next(iter(method.weight_penalty))]
    assert sorted(set(first.flatten().tolist())) == [-0.0625, 0.75]


# --- theory: Eq. 3-8, and the notes' example E6
def settled(
    hessian: Tensor, penalty: float, run: RunState, method: GReg1, *, lr: float, steps: int
) -> list[float]:
    """Return the weights of `conv` where gradient descent on a quadratic loss comes to rest.

    The loss is (w - 1)' H (w - 1) / 2; the method adds its penalty to the gradient.
    """
    weight = run.params["conv.weight"]
    method.state["penalty"]["conv"].fill_(penalty)
    method.units.fill(method.weight_penalty, run.graph, method.state["penalty"])
    with torch.no_grad():
        weight.fill_(1.0)
    for _ in range(steps):
        weight.grad = (hessian @ (weight.detach().flatten() - 1)).view(weight.shape)
        method.before_optimizer_step(run)
        with torch.no_grad():
            weight.sub_(lr * weight.grad)
    found: list[float] = weight.detach().flatten().tolist()
    return found


@pytest.fixture
def two_weight_run() -> RunState:
    """stem 1 -> 1, conv 1 -> 2 of 1x1: two weights, head 2 -> 2."""
    model = named_layers(stem=nn.Conv2d(1, 1, 1), conv=nn.Conv2d(1, 2, 1), head=nn.Conv2d(2, 2, 1))
    return testing.start(model.double(), image=(1, 1, 1))


def test_flat_directions_shrink_first(two_weight_run: RunState, recipe: Recipe) -> None:
    method = GReg1(GReg1.Options())
    begin(method, two_weight_run, recipe)
    hessian = torch.diag(torch.tensor([1.0, 0.01], dtype=torch.float64))
    found = settled(hessian, 0.01, two_weight_run, method, lr=1.0, steps=1500)
    assert found == pytest.approx([0.990099, 0.5], abs=1e-6)  # 1 / (d / h + 1)


def test_penalized_optimum_with_cross_terms(two_weight_run: RunState, recipe: Recipe) -> None:
    method = GReg1(GReg1.Options())
    begin(method, two_weight_run, recipe)
    hessian = torch.tensor([[2.0, 0.5], [0.5, 1.0]], dtype=torch.float64)
    found = settled(hessian, 0.1, two_weight_run, method, lr=0.5, steps=300)
    assert found == pytest.approx([0.970874, 0.922330], abs=1e-6)
    # (H + d I)^-1 H w; the paper's ratios, which drop cross terms, are 0.946602 and 0.898058


# --- FixReg
def test_fixreg_penalizes_at_once(two_layer_run: RunState, recipe: Recipe) -> None:
    method, seen = FixReg(FixReg.Options(fixed_steps=5, interval_steps=2, stabilize_steps=3)), []

    def look(run: RunState) -> None:
        if "penalty" in method.state:
            seen.append(method.state["penalty"]["a"].tolist())

    testing.train(method, phases(method, recipe), two_layer_run, before_step=look)
    assert seen == [[1.0, 0.0]] * 10  # the update at 6 is the first beyond 5; then 3 + 1 steps
    assert two_layer_run.records.capped == []
    assert method.figures().keys() == {"magnitude_ratio", "penalty"}


def test_fixreg_lasts_as_long_as_the_code(recipe: Recipe) -> None:
    regularize, stabilize, _ = phases(FixReg(FixReg.Options()), recipe)
    assert regularize.length == Steps(50_011)  # 50,010 are taken: the first multiple above 50,000
    assert stabilize.length == Steps(10_001)


def test_fixreg_removes_the_filters_of_greg_1(resnet_run: RunState, recipe: Recipe) -> None:
    found = []
    for method in (GReg1(GReg1.Options()), FixReg(FixReg.Options())):
        begin(method, resnet_run, recipe, ratio=0.7)
        plan = method.select(resnet_run, Budget(kind="units_per_group", ratio=0.7))
        found.append({name: units.tolist() for name, units in plan.removed.items()})
    assert found[0] == found[1]


def test_steps_of_picking_that_float32_swallows_are_refused() -> None:
    with pytest.raises(ValueError, match=r"steps of 1e-10 never exceed 0.01"):
        count_updates(0.0, 1e-10, 0.01, beyond=False)
