"""Single weights as units, and input channels: of one-shot criteria and of GReg."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from pydantic import ValidationError
from torch import nn

from prunebench import testing
from prunebench.channels.plan import Plan
from prunebench.channels.removal import mask, remove
from prunebench.core.errors import TrainingError
from prunebench.experiments.phases import Budget, Phase, RatioKind
from prunebench.experiments.recipe import Recipe
from prunebench.methods.base import Method
from prunebench.methods.greg import FixReg, GReg1, GReg2
from prunebench.methods.registry import method_class
from prunebench.methods.unstructured import (
    WeightOptions,
    global_counts,
    smallest,
    weight_counts,
    weight_layers,
)
from prunebench.testing import named_layers, recorded_operations
from prunebench.training.run import RunState

L1 = method_class("l1")
Random = method_class("random")

GREG = [GReg1, GReg2, FixReg]
# two updates to pick, four more to the ceiling
SHORT = {
    GReg1: {"interval_steps": 2, "delta": 0.25, "stabilize_steps": 3},
    GReg2: {"interval_steps": 2, "delta": 0.25, "delta_pick": 0.125, "pick_ceiling": 0.25}
    | {"stabilize_steps": 3},
    FixReg: {"interval_steps": 2, "fixed_steps": 5, "stabilize_steps": 3},
}


def method(kind: type[Method[Any]], **options: Any) -> Method[Any]:
    return kind(kind.Options(**({"unit": "weight"} | SHORT.get(kind, {}) | options)))


def weights(ratio: float) -> Budget:
    return Budget(kind="weights", ratio=ratio)


def phases(found: Method[Any], budget: Budget) -> list[Phase]:
    recipe = Recipe(batch_size=4, lr=0.01, weight_decay=0.0)
    fine_tune = recipe.model_copy(update={"epochs": 1})
    return found.phases({"regularize": recipe, "fine_tune": fine_tune}, budget)


def zeros(run: RunState) -> dict[str, int]:
    """How many entries of each masked weight are zero."""
    return {name: int((run.params[name] == 0).sum()) for name in run.masks}


@pytest.fixture
def two_layer_run() -> RunState:
    """stem 1 -> 1 of 1x1, conv 1 -> 2 of 1x2 with (4, -1), (2, 3), head 2 -> 2."""
    torch.manual_seed(0)
    model = named_layers(
        stem=nn.Conv2d(1, 1, 1),
        conv=nn.Conv2d(1, 2, (1, 2)),
        pool=nn.AdaptiveAvgPool2d(1),
        flat=nn.Flatten(),
        head=nn.Linear(2, 2),
    )
    run = testing.start(model, image=(1, 1, 3))
    with torch.no_grad():
        run.params["stem.weight"].fill_(5.0)
        run.params["conv.weight"].copy_(torch.tensor([[4.0, -1.0], [2.0, 3.0]]).view(2, 1, 1, 2))
        run.params["head.weight"].copy_(torch.tensor([[0.5, 6.0], [7.0, -8.0]]))
    return run


# --- which weights
@pytest.mark.parametrize(
    ("options", "layers"),
    [
        ({}, ["stem", "conv"]),
        ({"layers": ["convolutions", "linear"]}, ["stem", "conv", "head"]),
        ({"layers": ["convolutions", "linear", "not stem"]}, ["conv", "head"]),
        ({"layers": ["convolutions", "not co*"], "roles": ["stream"]}, ["stem"]),
    ],
)
def test_layers_are_chosen_by_kind_and_path(
    options: dict[str, Any], layers: list[str], two_layer_run: RunState
) -> None:
    found = weight_layers(two_layer_run.graph, WeightOptions(**options))
    assert found == {name: f"{name}.weight" for name in layers}


def test_stem_and_second_convolutions_are_among_them(resnet_run: RunState) -> None:
    found = weight_layers(resnet_run.graph, WeightOptions(layers=("convolutions", "linear")))
    assert len(found) == 20
    assert [*found][:3] == ["conv1", "stages.0.0.conv1", "stages.0.0.conv2"]
    assert [*found][-1] == "fc"


# --- how many
def test_ties_go_to_the_lower_index() -> None:
    assert smallest(torch.ones(2, 2), 3).tolist() == [[True, True], [True, False]]


SCORES = {"a": torch.tensor([4.0, 1.0, 2.0, 3.0]), "b": torch.tensor([9.0, 0.5, 8.0])}


@pytest.mark.parametrize(
    ("kind", "ratio", "options", "counts"),
    [
        ("weights", 0.5, {}, [2, 2]),  # ceil(1.5) of 3
        ("weights", 0.99, {}, [3, 2]),  # one stays
        ("weights", 0.0, {}, [0, 0]),
        ("weights", 0.6, {"allocation": "global"}, [3, 1]),  # floor(4.2): 0.5, 1, 2, 3
        ("weights", 0.71, {"allocation": "global"}, [3, 1]),  # 4 is the largest of a and stays
        ("weights", 5 / 7 + 0.01, {"allocation": "global"}, [3, 2]),
        ("auto", None, {"layer_ratios": {"a": 0.5, "*": 0.0}}, [2, 0]),
    ],
)
def test_counts(
    kind: RatioKind, ratio: float | None, options: dict[str, Any], counts: list[int]
) -> None:
    found = weight_counts(SCORES, Budget(kind=kind, ratio=ratio), WeightOptions(**options))
    assert list(found.values()) == counts


def test_a_ratio_beyond_one_weight_in_each_layer_is_refused() -> None:
    with pytest.raises(TrainingError, match=r"ratio 0.9 of weights is out of reach .* 2 layers"):
        global_counts(SCORES, 0.9)


def test_weights_that_are_no_numbers_are_refused() -> None:
    scores = {"a": torch.ones(2), "b": torch.tensor([1.0, float("nan")])}
    with pytest.raises(TrainingError, match="scores of the weights of 'b' are not all finite"):
        weight_counts(scores, weights(0.5), WeightOptions())


@pytest.mark.parametrize("kind", [L1, Random, *GREG])
@pytest.mark.parametrize(
    ("unit", "ratio_kind"), [("weight", "units_per_group"), ("filter", "weights")]
)
def test_unit_and_ratio_kind_must_fit(
    unit: str, ratio_kind: RatioKind, kind: type[Method[Any]]
) -> None:
    sentence = f"unit '{unit}' does not go with ratio_kind '{ratio_kind}'"
    with pytest.raises(ValueError, match=sentence):
        phases(method(kind, unit=unit), Budget(kind=ratio_kind, ratio=0.5))


def test_single_weights_take_over_no_widths() -> None:
    with pytest.raises(ValidationError, match="does not go with unit 'weight'"):
        method(L1, widths_from="greg_1")


# --- one-shot criteria
def test_the_smallest_weights_of_each_layer_become_zero(two_layer_run: RunState) -> None:
    l1 = method(L1, layers=("convolutions", "linear"))
    plan = l1.select(two_layer_run, weights(0.5))
    assert plan.removed == {}
    assert {name: keep.flatten().tolist() for name, keep in plan.zeroed.items()} == {
        "conv.weight": [True, False, False, True],
        "head.weight": [False, False, True, True],
    }  # the stem keeps its one weight


def test_the_smallest_weights_of_all_layers_become_zero(two_layer_run: RunState) -> None:
    plan = method(L1, layers=("convolutions", "linear"), allocation="global").select(
        two_layer_run, weights(0.5)
    )
    # 4 of 9: 0.5, 1, 2, 3
    assert {name: keep.flatten().tolist() for name, keep in plan.zeroed.items()} == {
        "conv.weight": [True, False, False, False],
        "head.weight": [False, True, True, True],
    }


def test_ratios_by_layer_may_exclude_the_stem(resnet_run: RunState) -> None:
    l1 = method(L1, layers=("convolutions", "linear"), layer_ratios={"conv1": 0.0, "*": 0.827})
    testing.prune(l1, Budget(kind="auto", ratio=None), resnet_run)
    found = zeros(resnet_run)
    assert "conv1.weight" not in found
    assert found["stages.0.0.conv1.weight"] == 1906  # ceil(0.827 * 2304)
    assert found["fc.weight"] == 530  # ceil(0.827 * 640)
    assert len(found) == 19


@pytest.mark.parametrize("kind", [L1, Random])
@pytest.mark.parametrize("allocation", ["uniform", "global"])
def test_the_share_of_zeros_is_the_ratio(
    allocation: str, kind: type[Method[Any]], resnet_run: RunState
) -> None:
    found = method(kind, allocation=allocation)
    testing.begin(found, phases(found, weights(0.9)), resnet_run)
    testing.prune(found, weights(0.9), resnet_run)
    total = sum(p.numel() for p in resnet_run.params.values() if p.ndim == 4)
    goal = int(0.9 * total)
    excess = sum(zeros(resnet_run).values()) - goal
    assert 0 <= excess <= (19 if allocation == "uniform" else 0)  # rounded up in each layer


@pytest.mark.parametrize("kind", [L1, Random])
def test_a_larger_ratio_later_keeps_what_is_zero(
    kind: type[Method[Any]], two_layer_run: RunState
) -> None:
    found = method(kind)
    testing.begin(found, [Phase(name="first")], two_layer_run)
    first = found.select(two_layer_run, weights(0.25)).zeroed["conv.weight"]
    testing.prune(found, weights(0.25), two_layer_run)
    testing.begin(found, [Phase(name="second")], two_layer_run)
    second = found.select(two_layer_run, weights(0.5)).zeroed["conv.weight"]
    assert (int(first.sum()), int(second.sum())) == (3, 2)
    assert not (second & ~first).any()


def test_random_weights_are_a_function_of_seed_and_layer(resnet_run: RunState) -> None:
    random = method(Random)
    testing.begin(random, phases(random, weights(0.5)), resnet_run)
    first, again = (random.select(resnet_run, weights(0.5)).zeroed for _ in range(2))
    resnet_run.seed = 1
    other = random.select(resnet_run, weights(0.5)).zeroed
    assert all(torch.equal(first[name], again[name]) for name in first)
    a, b = "stages.0.0.conv1.weight", "stages.0.0.conv2.weight"
    assert not torch.equal(first[a], other[a])
    assert not torch.equal(first[a], first[b])


# --- growing regularization of single weights
@pytest.mark.parametrize("kind", GREG)
def test_chosen_weights_alone_are_penalized(kind: type[Method[Any]], resnet_run: RunState) -> None:
    greg: Any = method(kind)
    testing.begin(greg, phases(greg, weights(0.9)), resnet_run)
    for _ in range(3):
        greg.decide(resnet_run)
    name = "stages.0.0.conv1"
    pruned, penalty = greg.state["pruned"][name], greg.state["penalty"][name]
    testing.backward(resnet_run)
    weight = resnet_run.params[f"{name}.weight"]
    before = weight.grad.clone()
    with recorded_operations():
        greg.before_optimizer_step(resnet_run)
    assert int(pruned.sum()) == 2074  # ceil(0.9 * 2304)
    assert torch.equal(weight.grad, before.addcmul(weight.detach(), penalty))
    assert penalty[pruned].gt(0).all()
    assert penalty[~pruned].le(0).all()
    assert greg.state["ratio"] == {}  # not measured, so it stops nothing


@pytest.mark.parametrize("kind", [L1, Random, *GREG])
def test_ratio_zero_changes_no_weight(kind: type[Method[Any]], resnet_run: RunState) -> None:
    found = method(kind)
    testing.begin(found, phases(found, weights(0.0)), resnet_run)
    assert found.select(resnet_run, weights(0.0)) == Plan()
    testing.train(found, phases(found, weights(0.0)), resnet_run)
    assert (resnet_run.masks, resnet_run.costs.macs()) == ({}, resnet_run.base_macs)


@pytest.mark.parametrize("kind", [L1, Random, *GREG])
@pytest.mark.parametrize("unit", ["channel", "weight"])
def test_a_unit_of_each_layer_survives(
    unit: str, kind: type[Method[Any]], resnet_run: RunState
) -> None:
    found, ratio = method(kind, unit=unit), 1 - 1e-9
    budget = Budget(kind="weights" if unit == "weight" else "units_per_group", ratio=ratio)
    testing.begin(found, phases(found, budget), resnet_run)
    testing.prune(found, budget, resnet_run)
    if unit == "weight":
        assert {int(keep.sum()) for keep in resnet_run.masks.values()} == {1}
    else:
        inside = [name for name in resnet_run.sizes if name.endswith(".conv1")]
        assert {len(resnet_run.kept[name]) for name in inside} == {1}


@pytest.mark.parametrize("kind", GREG)
def test_masked_weights_stay_zero(kind: type[Method[Any]], resnet_run: RunState) -> None:
    greg = method(kind, layers=("convolutions", "linear", "not stem"))
    testing.train(greg, phases(greg, weights(0.75))[:2], resnet_run)
    assert resnet_run.costs.macs() == resnet_run.base_macs
    assert len(resnet_run.masks) == 19
    for name, keep in resnet_run.masks.items():
        assert int((~keep).sum()) == -(-3 * keep.numel() // 4)
        assert resnet_run.params[name][~keep].eq(0).all()
    assert greg.figures()["penalty"] >= 1.0
    assert greg.figures()["magnitude_ratio"] > 1.0


def test_greg_2_picks_weights_of_the_moment(two_layer_run: RunState) -> None:
    greg: Any = method(GReg2, layers=("conv*",))
    testing.begin(greg, phases(greg, weights(0.5)), two_layer_run)
    weight = two_layer_run.params["conv.weight"]
    for update in range(3):
        values = [1.0, 2.0, 3.0, 4.0] if update == 1 else [4.0, 3.0, 2.0, 1.0]
        with torch.no_grad():
            weight.copy_(torch.tensor(values).view(weight.shape))
        greg.decide(two_layer_run)
    assert greg.state["pruned"]["conv"].flatten().tolist() == [True, True, False, False]


def test_l1_zeroes_the_weights_that_greg_1_pushes(resnet_run: RunState) -> None:
    greg = method(GReg1)
    testing.begin(greg, phases(greg, weights(0.8)), resnet_run)
    pushed = greg.select(resnet_run, weights(0.8)).zeroed
    zeroed = method(L1).select(resnet_run, weights(0.8)).zeroed
    assert list(pushed) == list(zeroed)
    assert all(torch.equal(pushed[name], zeroed[name]) for name in pushed)


# --- input channels
@pytest.fixture
def channel_run() -> RunState:
    """stem 1 -> 3, conv 3 -> 2 with input channels of mean |w| 2, 0.5 and 1, head 2 -> 2."""
    torch.manual_seed(0)
    model = named_layers(stem=nn.Conv2d(1, 3, 1), conv=nn.Conv2d(3, 2, 1), head=nn.Conv2d(2, 2, 1))
    run = testing.start(model, image=(1, 1, 1))
    with torch.no_grad():
        run.params["conv.weight"].copy_(
            torch.tensor([[1.0, -0.5, 2.0], [-3.0, 0.5, 0.0]]).view(2, 3, 1, 1)
        )
        run.params["stem.weight"].copy_(torch.tensor([0.1, 9.0, 9.0]).view(3, 1, 1, 1))
    return run


def test_channels_are_ranked_by_what_reads_them(channel_run: RunState) -> None:
    plan = method(L1, unit="channel", roles=("stem",)).select(
        channel_run, Budget(kind="units_per_group", ratio=0.3)
    )
    assert plan.removed["stem"].tolist() == [1]


def test_penalty_of_a_channel_lies_on_what_reads_it(channel_run: RunState) -> None:
    greg: Any = method(GReg1, unit="channel", roles=("stem",))
    testing.begin(greg, phases(greg, Budget(kind="units_per_group", ratio=0.5)), channel_run)
    greg.decide(channel_run)
    assert list(greg.weight_penalty) == ["conv.weight"]
    assert greg.weight_penalty["conv.weight"].shape == (1, 3, 1, 1)
    assert greg.weight_penalty["conv.weight"].flatten().tolist() == [0.0, 0.25, 0.25]


def test_pushing_channels_to_zero_makes_removal_exact(resnet_run_float64: RunState) -> None:
    run = resnet_run_float64
    greg: Any = method(GReg1, unit="channel")
    testing.begin(greg, phases(greg, Budget(kind="units_per_group", ratio=0.5)), run)
    with torch.no_grad():
        for group, pruned in greg.state["pruned"].items():
            reader = group.replace("conv1", "conv2")
            run.params[f"{reader}.weight"][:, pruned] = 0.0
    plan = greg.select(run, run.phases[1].then)
    images = torch.randn(4, 1, 8, 8, dtype=torch.float64)
    dense = run.model.eval()(images)
    assert torch.allclose(mask(run.model, run.graph, plan.removed)(images), dense, atol=1e-12)
    assert torch.allclose(remove(run.model, run.graph, plan.removed)(images), dense, atol=1e-12)


def test_channels_behind_a_flatten_have_several_columns() -> None:
    torch.manual_seed(0)
    model = named_layers(conv=nn.Conv2d(1, 2, 1), flat=nn.Flatten(), head=nn.Linear(8, 2))
    run = testing.start(model, image=(1, 2, 2))
    with torch.no_grad():
        run.params["head.weight"].copy_(torch.tensor([[1.0] * 4 + [0.5] * 4] * 2))
    greg: Any = method(GReg1, unit="channel", roles=("stem",))
    testing.begin(greg, phases(greg, Budget(kind="units_per_group", ratio=0.5)), run)
    greg.decide(run)
    assert greg.weight_penalty["head.weight"].tolist() == [[0.0] * 4 + [0.25] * 4]
