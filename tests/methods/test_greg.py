from __future__ import annotations

import io
from typing import Any

import pytest
import torch
from torch import nn

from prunebench import testing
from prunebench.channels.unit_weights import mean_magnitude
from prunebench.experiments.phases import Budget, Phase, Steps
from prunebench.experiments.recipe import Recipe
from prunebench.methods.allocation import lowest, pruned_count
from prunebench.methods.greg import GReg1, count_updates, magnitude_ratio, raise_penalty, smoothed
from prunebench.methods.registry import method_class
from prunebench.testing import named_layers, recorded_operations
from prunebench.training.run import RunState

L1 = method_class("l1")

SHORT = {"interval_steps": 2, "delta": 0.25, "stabilize_steps": 3}  # example E3; tau is 1


def greg(**options: Any) -> GReg1:
    return GReg1(GReg1.Options(**options))


def phases(method: GReg1, recipe: Recipe, ratio: float = 0.5) -> list[Phase]:
    fine_tune = recipe.model_copy(update={"epochs": 1})
    budget = Budget(kind="units_per_group", ratio=ratio)
    return method.phases({"regularize": recipe, "fine_tune": fine_tune}, budget)


def begin(method: GReg1, run: RunState, recipe: Recipe, ratio: float = 0.5) -> None:
    """Start the first phase up to its first decision."""
    testing.begin(method, phases(method, recipe, ratio), run)


def fill(method: GReg1, run: RunState) -> None:
    """Let steps see penalties that a test has set."""
    method.units.fill(method.weight_penalty, run.graph, method.state["penalty"])


def set_filters(run: RunState, name: str, values: list[list[float]]) -> None:
    with torch.no_grad():
        weight = run.params[f"{name}.weight"]
        weight.copy_(torch.tensor(values).reshape(weight.shape))


@pytest.fixture
def two_filter_run() -> RunState:
    """stem 1 -> 1, conv 1 -> 2 with weights 0.5 and -2, head 2 -> 2."""
    torch.manual_seed(0)
    model = named_layers(stem=nn.Conv2d(1, 1, 1), conv=nn.Conv2d(1, 2, 1), head=nn.Conv2d(2, 2, 1))
    run = testing.start(model, image=(1, 1, 1))
    set_filters(run, "conv", [[0.5], [-2.0]])
    return run


@pytest.fixture
def two_layer_run() -> RunState:
    """stem 1 -> 1, a 1 -> 2, b 2 -> 2, head 2 -> 2."""
    torch.manual_seed(0)
    model = named_layers(
        stem=nn.Conv2d(1, 1, 1),
        a=nn.Conv2d(1, 2, 1),
        b=nn.Conv2d(2, 2, 1),
        head=nn.Conv2d(2, 2, 1),
        flatten=nn.Flatten(),
    )
    return testing.start(model, image=(1, 1, 1))


# --- the pruned set
FILTERS = torch.tensor([[1, -1], [0.1, 0.3], [-2, 0.5], [0.2, -0.3], [0.4, 0.4]])


def test_score_is_the_mean_magnitude_of_a_filter() -> None:
    assert torch.allclose(mean_magnitude(FILTERS), torch.tensor([1.0, 0.2, 1.25, 0.25, 0.4]))


@pytest.mark.parametrize(
    ("ratio", "pruned"),
    [(0.2, [1]), (0.5, [1, 3, 4]), (0.7, [0, 1, 3, 4]), (0.95, [0, 1, 3, 4]), (0.0, [])],
)
def test_pruned_set_of_five_filters(ratio: float, pruned: list[int]) -> None:
    assert lowest(mean_magnitude(FILTERS), pruned_count(5, ratio)).tolist() == pruned


def test_the_filters_of_l1_are_chosen_before_training(resnet_run: RunState, recipe: Recipe) -> None:
    method, budget = greg(), Budget(kind="units_per_group", ratio=0.7)
    begin(method, resnet_run, recipe, ratio=0.7)
    l1 = L1(L1.Options()).select(resnet_run, budget).removed
    with torch.no_grad():
        for parameter in resnet_run.params.values():
            parameter.copy_(torch.randn_like(parameter))
    found = method.select(resnet_run, budget).removed
    assert list(found) == list(l1)
    assert all(torch.equal(found[name], l1[name]) for name in l1)


# --- the penalty
@pytest.mark.parametrize(
    ("updates", "value"), [(10, 0.001), (1000, 0.10000112), (5000, 0.49997061), (10_000, 1.0000535)]
)
def test_penalty_is_summed_up_in_float32(updates: int, value: float) -> None:
    penalty = torch.zeros(1)
    for _ in range(updates):
        raise_penalty(penalty, torch.tensor([True]), 1e-4)
    assert float(penalty) == pytest.approx(value, rel=1e-7)


def test_10000_updates_of_1e_4_are_the_first_above_one() -> None:
    assert count_updates(0.0, 1e-4, 1.0, beyond=True) == (
        10_000,
        pytest.approx(1.0000535, rel=1e-7),
    )


def test_1001_updates_of_1e_5_reach_0_01() -> None:
    assert count_updates(0.0, 1e-5, 0.01, beyond=False) == (
        1001,
        pytest.approx(0.01000996, rel=1e-6),
    )


def test_9900_updates_of_1e_4_lead_from_there_beyond_one() -> None:
    assert count_updates(0.01000996, 1e-4, 1.0, beyond=True)[0] == 9900


def test_kept_units_get_no_penalty() -> None:
    penalty = torch.zeros(3)
    raise_penalty(penalty, torch.tensor([True, False, True]), 0.25)
    assert penalty.tolist() == [0.25, 0.0, 0.25]


def test_steps_that_float32_swallows_are_refused() -> None:
    with pytest.raises(ValueError, match="steps of 1e-09 never exceed 1"):
        count_updates(0.0, 1e-9, 1.0, beyond=True)


@pytest.mark.parametrize(
    ("penalty", "decay", "momentum"),
    [
        (0.3, 1e-4, [0.25005, -0.4002]),
        (-1e-4, 1e-4, [0.1, 0.2]),
        (-1e-4, 5e-4, [0.1002, 0.1992]),
    ],
)
def test_gradient_takes_penalty_and_weight_decay(
    penalty: float, decay: float, momentum: list[float], two_filter_run: RunState, recipe: Recipe
) -> None:
    run, method = two_filter_run, greg()
    begin(method, run, recipe)
    method.state["penalty"]["conv"].fill_(penalty)
    fill(method, run)
    weight, bias = run.params["conv.weight"], run.params["conv.bias"]
    optimizer = torch.optim.SGD([weight, bias], lr=1e-3, momentum=0.9, weight_decay=decay)
    for p in run.params.values():
        p.grad = torch.zeros_like(p)
    weight.grad = torch.tensor([0.1, 0.2]).reshape(weight.shape)
    method.before_optimizer_step(run)
    optimizer.step()
    assert torch.allclose(
        optimizer.state[weight]["momentum_buffer"].flatten(), torch.tensor(momentum), atol=1e-7
    )


def test_step_with_a_penalty_of_0_3(two_filter_run: RunState, recipe: Recipe) -> None:
    run, method = two_filter_run, greg()
    begin(method, run, recipe)
    method.state["penalty"]["conv"].fill_(0.3)
    fill(method, run)
    weight = run.params["conv.weight"]
    weight.grad = torch.tensor([0.1, 0.2]).reshape(weight.shape)
    method.before_optimizer_step(run)
    torch.optim.SGD([weight], lr=1e-3, momentum=0.9, weight_decay=1e-4).step()
    expected = torch.tensor([0.49974995, -1.9995998])
    assert torch.allclose(weight.detach().flatten(), expected, rtol=1e-7, atol=0)


def test_only_the_pruned_filters_feel_the_penalty(resnet_run: RunState, recipe: Recipe) -> None:
    method, name = greg(), "stages.0.0.conv1"
    begin(method, resnet_run, recipe)
    method.decide(resnet_run)
    testing.backward(resnet_run)
    before = {n: p.grad.clone() for n, p in resnet_run.params.items()}
    method.before_optimizer_step(resnet_run)
    changed = {n for n, p in resnet_run.params.items() if not torch.equal(p.grad, before[n])}
    assert changed == {f"{group}.weight" for group in method.state["penalty"]}
    weight, pruned = resnet_run.params[f"{name}.weight"], method.state["pruned"][name]
    added = weight.grad - before[f"{name}.weight"]
    assert torch.allclose(added[pruned], 1e-4 * weight[pruned], atol=1e-7)
    assert added[~pruned].eq(0).all()


def test_a_weight_in_two_groups_gets_both_penalties(resnet_run: RunState, recipe: Recipe) -> None:
    # the second convolution of a stage's first block has 16 filters in each of two streams
    method = greg(roles=("stream",))
    begin(method, resnet_run, recipe)
    for value, penalty in enumerate(method.state["penalty"].values(), start=1):
        penalty.fill_(value)
    fill(method, resnet_run)
    along = method.weight_penalty["stages.1.0.conv2.weight"].flatten().tolist()
    assert along == [2.0] * 8 + [1.0] * 16 + [2.0] * 8


# --- the smoothed ratio
def test_smoothed_ratio() -> None:
    first = smoothed(None, 2.0)
    second = smoothed(first, 4.0)
    third = smoothed(second, 8.0)
    assert [first, second, third] == pytest.approx([2, 2.2, 2.78])


def test_magnitude_ratio_is_of_means() -> None:
    # kept 6 and 2, pruned 0.5 and 1.5 and 1
    scores = torch.tensor([6.0, 0.5, 1.5, 2.0, 1.0])
    assert float(magnitude_ratio(scores, torch.tensor([0, 1, 1, 0, 1]).bool())) == 4.0


def test_the_last_layer_may_stop_an_update_before_the_others(
    two_layer_run: RunState, recipe: Recipe
) -> None:
    run, method, done = two_layer_run, greg(ratio_stop=10), []
    set_filters(run, "a", [[1], [2]])
    set_filters(run, "b", [[1, 1], [2, 2]])
    begin(method, run, recipe)
    method.decide(run)  # both ratios are 2
    set_filters(run, "a", [[0.01], [2]])
    set_filters(run, "b", [[0.01, 0.01], [2, 2]])
    for _ in range(2):  # 0.9 * 2 + 0.1 * 200 = 21.8, but b still has 2 when a is visited
        method.decide(run)
        done.append(list(method.state["done"]))
    assert done == [["b"], ["b", "a"]]
    assert method.finished(run)
    assert method.state["ratio"]["b"] == pytest.approx(21.8)  # of when it stopped


def test_small_filters_do_not_stop_the_paper_s_variant(
    two_layer_run: RunState, recipe: Recipe
) -> None:
    method = greg(ratio_stop=None)
    set_filters(two_layer_run, "a", [[1e-9], [2]])
    set_filters(two_layer_run, "b", [[1e-9, 0], [2, 2]])
    begin(method, two_layer_run, recipe)
    method.decide(two_layer_run)
    assert not method.finished(two_layer_run)


# --- over time
def test_time_line(two_layer_run: RunState, recipe: Recipe) -> None:
    method, penalties = greg(**SHORT), []

    def look(run: RunState) -> None:
        if "penalty" in method.state:
            penalties.append([float(p.max()) for p in method.state["penalty"].values()])

    testing.train(method, phases(method, recipe), two_layer_run, before_step=look)
    # set at iterations 0, 2, 4, 6, 8; finished at 8; removal after iteration 11
    values = [0.25, 0.25, 0.5, 0.5, 0.75, 0.75, 1.0, 1.0, 1.25, 1.25, 1.25, 1.25]
    assert penalties == [[value] * 2 for value in values]
    assert two_layer_run.records.capped == []
    assert {name: len(units) for name, units in two_layer_run.kept.items()} == {
        "stem": 1,
        "a": 1,
        "b": 1,
    }


def test_phases_are_as_long_as_the_ceiling_says(recipe: Recipe) -> None:
    regularize, stabilize, fine_tune = phases(greg(), recipe)
    assert regularize.length == Steps(99_991)  # the 10,000th update is at iteration 99,990
    assert stabilize.length == Steps(10_001)
    assert [p.reportable_from for p in (regularize, stabilize, fine_tune)] == [None, None, 0.0]
    assert stabilize.optimizer == "carry"
    assert "decide" not in stabilize.hooks


def test_interval_is_an_option() -> None:
    assert greg(interval_steps=5).interval == Steps(5)


def test_a_recipe_with_epochs_is_refused(recipe: Recipe) -> None:
    with pytest.raises(ValueError, match="'regularize': the method decides its length"):
        phases(greg(), recipe.model_copy(update={"epochs": 3}))


def test_ratio_zero_removes_nothing(resnet_run: RunState, recipe: Recipe) -> None:
    method, trained = greg(**SHORT), []
    nothing = phases(method, recipe, ratio=0.0)
    testing.train(
        method, nothing, resnet_run, after_step=lambda run: trained.append(run.phase.name)
    )
    assert resnet_run.costs.macs() == resnet_run.base_macs
    assert trained == ["stabilize"] * 4 + ["fine_tune"] * 3
    assert method.figures() == {}


def test_figures_are_of_the_moment_of_removal(two_layer_run: RunState, recipe: Recipe) -> None:
    run, method = two_layer_run, greg(**SHORT)
    begin(method, run, recipe)
    pruned = {name: int(units.nonzero()) for name, units in method.state["pruned"].items()}
    for name, large in (("a", 3.0), ("b", 6.0)):
        with torch.no_grad():
            run.params[f"{name}.weight"].fill_(large)[pruned[name]] = 0.5
    method.decide(run)
    testing.prune(method, run.phases[1].then, run)
    assert method.figures() == {"magnitude_ratio": 6.0, "penalty": 0.25}  # of 6 and 12


def test_penalty_and_ratio_are_logged(two_layer_run: RunState, recipe: Recipe) -> None:
    method = greg(**SHORT)
    testing.train(method, phases(method, recipe), two_layer_run)
    logged: dict[tuple[str, str], list[float]] = {}
    for row in two_layer_run.records.diagnostics:
        logged.setdefault((row.layer, row.quantity), []).append(row.value)
    # three steps an epoch: 0, 2 | 4 | 6, 8 while it grows; then it stays while the network settles
    assert logged["a", "penalty"] == [0.5, 0.75, 1.25, 1.25, 1.25]
    assert {layer for layer, what in logged if what == "magnitude_ratio"} == {"a", "b"}


# --- steps that can be captured
def test_steps_read_nothing_on_the_host_and_repeat(resnet_run: RunState, recipe: Recipe) -> None:
    method = greg()
    begin(method, resnet_run, recipe)
    testing.backward(resnet_run)
    steps = []
    for _ in range(2):
        method.decide(resnet_run)
        with recorded_operations() as operations:
            method.before_optimizer_step(resnet_run)
        steps.append(list(operations))
    assert steps[0] == steps[1]
    assert len(steps[0]) > 0


def test_decisions_write_in_place(resnet_run: RunState, recipe: Recipe) -> None:
    method = greg()
    begin(method, resnet_run, recipe)

    def addresses() -> list[int]:
        state = [*method.state["penalty"].values(), *method.state["pruned"].values()]
        return [tensor.data_ptr() for tensor in [*state, *method.weight_penalty.values()]]

    before = addresses()
    method.decide(resnet_run)
    assert addresses() == before


def test_attach_restores_tensors_outside_of_state(resnet_run: RunState, recipe: Recipe) -> None:
    method, file = greg(), io.BytesIO()
    begin(method, resnet_run, recipe)
    method.decide(resnet_run)
    torch.save(method.state, file)
    file.seek(0)
    resumed = greg()
    resumed.state = torch.load(file, weights_only=True)
    resumed.attach(resnet_run)
    assert resumed.weight_penalty.keys() == method.weight_penalty.keys()
    assert all(
        torch.equal(resumed.weight_penalty[n], method.weight_penalty[n])
        for n in method.weight_penalty
    )
    assert resumed.state["ratio"] == method.state["ratio"]
