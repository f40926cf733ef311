"""OrthoReg's bookkeeping on live networks; E7 is an example of its notes."""

from __future__ import annotations

from typing import Any
from unittest import mock

import pytest
import torch
from torch import Tensor, nn

from prunebench import testing
from prunebench.channels.plan import Plan
from prunebench.core.errors import TrainingError
from prunebench.experiments.phases import Budget
from prunebench.experiments.recipe import Recipe
from prunebench.methods.global_ranking import (
    free_units,
    protected_count,
    removed_to_percent,
)
from prunebench.methods.registry import method_class
from prunebench.models.registry import build
from prunebench.testing import named_layers
from prunebench.training.run import RunState

from .projected_resnet import resnet34, small

L1 = method_class("l1")
BNScale = method_class("bn_scale")

VGG = {"roles": ("stem", "inside"), "protected_share": 0.05}
MOBILENET = {**VGG, "count": "channels"}
ZEROED = {"zeroed": ("last", "shortcut")}
RESNET = {"zeroed": ("last", "shortcut"), "targets": "percent"}


def l1(**options: Any) -> L1:
    return L1(L1.Options(**({"norm": "sum"} | options)))


def budget(ratio: float) -> Budget:
    return Budget(kind="units_global", ratio=ratio)


# --- E7: protected filters
@pytest.mark.parametrize(
    ("width", "protected"), [(64, [60, 61, 62, 63]), (32, [30, 31]), (512, list(range(486, 512)))]
)
def test_the_highest_indices_are_protected(width: int, protected: list[int]) -> None:
    count = protected_count(width, 0.05)
    free = free_units(torch.zeros(width), torch.zeros(width, dtype=torch.bool), count)
    assert sorted(set(range(width)) - set(free.tolist())) == protected


def test_protected_filters_may_be_the_least_important() -> None:
    scores = torch.arange(19.0, -1.0, -1.0)  # 19, 18 ... 0
    free = free_units(scores, torch.zeros(20, dtype=torch.bool), protected_count(20, 0.05))
    assert free.tolist() == list(range(18))


def test_protected_filters_stay_in_a_network() -> None:
    net = named_layers(stem=nn.Conv2d(1, 2, 1), conv=nn.Conv2d(2, 20, 1), head=nn.Conv2d(20, 2, 1))
    run = testing.start(net, image=(1, 1, 1))
    with torch.no_grad():
        run.params["conv.weight"].copy_(torch.arange(19.0, -1.0, -1.0).view(20, 1, 1, 1))
    assert l1().select(run, budget(0.2)).removed["conv"].tolist() == [16, 17, 18, 19]
    plan = l1(protected_share=0.05).select(run, budget(0.2))
    assert plan.removed["conv"].tolist() == [14, 15, 16, 17]


def test_a_ratio_that_protected_filters_rule_out_is_named(resnet_run: RunState) -> None:
    sentence = "'select': 332 units must be removed, but only 315 units of 9 layers may be"
    # of 16, 32, 64 channels 1, 2, 4 stay; 336 less 3 x 7 is 315
    with pytest.raises(TrainingError, match=sentence):
        l1(protected_share=0.05).select(resnet_run, budget(0.99))


# --- what a ratio is a fraction of
@pytest.mark.parametrize(
    ("name", "options", "population", "quarters"),
    [
        ("vgg13", VGG, 2944, [736, 1472, 2208]),
        ("mobilenet_v1", MOBILENET, 10944, [2736, 5472, 8208]),
        ("resnet34", RESNET, 8512, [2128, 4256, 6384]),
    ],
)
def test_populations_of_the_papers_networks(
    name: str, options: dict[str, Any], population: int, quarters: list[int]
) -> None:
    model = resnet34() if name == "resnet34" else build(name, num_classes=100, in_channels=3)
    run = testing.start(model, image=(3, 8, 8))
    method = l1(**options)
    layers = method.ranked(run)
    assert method.population(run, layers) == (population, population)
    assert [method.goal(run, budget(r), layers) for r in (0.25, 0.5, 0.75)] == quarters


@pytest.mark.parametrize(
    ("first", "present", "percent", "removed"),
    [
        (512, 512, 66, 174),  # 512 - 337.92 is 174.08
        (8512, 8512, 66, 2894),  # 8512 - 5617.92
        (8512, 5618, 50, 1362),
        (8512, 5618, 49, 1447),  # 5618 - 4170.88
        (100, 100, 75, 25),
    ],
)
def test_the_number_removed_is_rounded_down_for_percents(
    first: int, present: int, percent: int, removed: int
) -> None:
    assert removed_to_percent(first, present, percent) == removed


def test_resnet_34_in_two_rounds() -> None:
    run = testing.start(resnet34(), image=(3, 8, 8))
    method = l1(rounds=2, **RESNET)
    first, second = method.budgets(budget(0.5))
    layers = method.ranked(run)
    assert method.goal(run, first, layers) == 2894
    with mock.patch.object(method, "population", return_value=(8512, 5618)):
        assert method.goal(run, second, layers) == 1447


def test_a_unit_with_a_depthwise_convolution_counts_twice() -> None:
    torch.manual_seed(0)
    run = testing.start(build("mobilenet_v1_x0_25", num_classes=10, in_channels=3), image=(3, 8, 8))
    plan = l1(**MOBILENET).select(run, budget(0.5))
    # a quarter of 10944 channels; the last convolution's 256 units count once
    once = len(plan.removed.get("stages.4.1.pointwise", []))
    twice = sum(map(len, plan.removed.values())) - once
    assert 2 * twice + once in (1368, 1369)


# --- OrthoReg's ResNets: removed within blocks, zeroed where sums tie channels
@pytest.fixture
def projected_run() -> RunState:
    """4 + 4 and 8 + 8 + 8, 8 + 8 filters in blocks and a shortcut, 4 in the stem: 52."""
    return testing.start(small(), image=(3, 4, 4))


def lower(run: RunState, conv: str, units: list[int]) -> None:
    """Make some filters of a layer the smallest of all."""
    with torch.no_grad():
        run.params[f"{conv}.weight"][units] *= 1e-3


def test_filters_outside_of_blocks_are_zeroed(projected_run: RunState) -> None:
    lower(projected_run, "stages.1.0.conv1", [1])
    lower(projected_run, "stages.1.0.conv2", [2, 5])
    lower(projected_run, "stages.1.0.shortcut.0", [3])
    method = l1(**ZEROED)
    plan = method.select(projected_run, budget(4 / 52))
    assert {n: u.tolist() for n, u in plan.removed.items()} == {"stages.1.0.conv1": [1]}
    assert {
        name: (~mask).nonzero()[:, 0].unique().tolist() for name, mask in plan.zeroed.items()
    } == {
        "stages.1.0.conv2.weight": [2, 5],
        "stages.1.0.bn2.weight": [2, 5],
        "stages.1.0.bn2.bias": [2, 5],
        "stages.1.0.shortcut.0.weight": [3],
        "stages.1.0.shortcut.1.weight": [3],
        "stages.1.0.shortcut.1.bias": [3],
    }


def test_a_zeroed_channel_adds_nothing_to_the_sum(projected_run: RunState) -> None:
    method = l1(**ZEROED)
    with torch.no_grad():
        for name in ("bn1", "bn2", "shortcut.1"):
            projected_run.params[f"stages.1.0.{name}.bias"].normal_()
    lower(projected_run, "stages.1.0.conv2", [2, 5])
    testing.prune(method, budget(2 / 52), projected_run)
    seen: list[Tensor] = []
    block = projected_run.model.stages[1][0]
    block.bn2.register_forward_hook(lambda module, args, out: seen.append(out))
    projected_run.model.eval()(torch.randn(2, 3, 4, 4))
    assert seen[0][:, [2, 5]].abs().max() == 0
    assert seen[0][:, [0, 1, 3, 4, 6, 7]].abs().amin(dim=(0, 2, 3)).min() > 0


def test_the_stem_is_counted_and_never_chosen(projected_run: RunState) -> None:
    lower(projected_run, "conv1", [0, 1, 2, 3])
    method = l1(**ZEROED)
    layers = method.ranked(projected_run)
    assert method.population(projected_run, layers) == (52, 52)
    plan = method.select(projected_run, budget(0.5))
    assert "conv1.weight" not in plan.zeroed
    zeroed = sum(int((~m).flatten(1).all(1).sum()) for m in plan.zeroed.values() if m.ndim > 1)
    assert zeroed + sum(map(len, plan.removed.values())) == 26


def test_zeroed_filters_count_as_gone_in_a_later_round(projected_run: RunState) -> None:
    method = l1(rounds=2, **RESNET)
    recipe = Recipe(epochs=1, batch_size=4, lr=0.01, weight_decay=0.0)
    projected_run.phases = tuple(method.phases({"fine_tune": recipe}, budget(0.5)))
    left = []
    for phase in projected_run.phases[::2]:
        projected_run.phase = phase
        testing.prune(method, phase.then, projected_run)
        layers = method.ranked(projected_run)
        left.append(method.population(projected_run, layers))
    # 66 and 49 percent of 52 are 34.32 and 25.48. Of the floor(17.68) filters chosen first, one is
    # the last of its layer, and of the floor(36 - 25.48) chosen next, two.
    assert left == [(52, 36), (52, 28)]


def test_batch_norm_scales_rank_zeroed_filters_too(projected_run: RunState) -> None:
    with torch.no_grad():
        projected_run.params["stages.1.1.bn2.weight"][3] = 0.5
    plan = BNScale(BNScale.Options(**ZEROED)).select(projected_run, budget(1 / 52))
    assert (~plan.zeroed["stages.1.1.conv2.weight"]).nonzero()[:, 0].unique().tolist() == [3]
    assert not plan.removed


def test_rules_say_which_layers_are_zeroed(projected_run: RunState) -> None:
    method = l1(roles=("inside", "not stages.0.*"), zeroed=("last", "not stages.0.*"))
    layers = method.ranked(projected_run)
    assert list(layers) == [
        "stages.1.0.conv1",
        "stages.1.1.conv1",
        "stages.1.0.conv2",
        "stages.1.1.conv2",
    ]
    assert method.population(projected_run, layers) == (52, 52)  # all count


def chosen(plan: Plan) -> dict[str, int]:
    """Return how many filters of each layer a plan removes or zeroes."""
    zeroed = {
        name.removesuffix(".weight"): int((~mask).flatten(1).all(dim=1).sum())
        for name, mask in plan.zeroed.items()
        if mask.ndim > 1
    }
    return {name: len(units) for name, units in plan.removed.items()} | zeroed


@pytest.mark.parametrize(
    ("options", "ratio"),
    [
        (ZEROED, 41 / 52),  # 52 less the stem's 4 and one of each of 7 layers: 41 may go
        (RESNET, 0.92),  # all 48 but the stem's are ranked, 52 - 4.16 chosen
    ],
)
def test_every_layer_keeps_a_filter(
    projected_run: RunState, options: dict[str, Any], ratio: float
) -> None:
    assert chosen(l1(**options).select(projected_run, budget(ratio))) == {
        "stages.0.0.conv1": 3,
        "stages.0.0.conv2": 3,
        "stages.1.0.conv1": 7,
        "stages.1.0.conv2": 7,
        "stages.1.0.shortcut.0": 7,
        "stages.1.1.conv1": 7,
        "stages.1.1.conv2": 7,
    }


def test_nothing_is_removed_in_place_of_a_layers_last_filter(projected_run: RunState) -> None:
    # 14 filters are chosen: all 8 of one convolution, all 4 of another, 2 of a third
    lower(projected_run, "stages.1.0.conv1", list(range(8)))
    lower(projected_run, "stages.0.0.conv2", list(range(4)))
    lower(projected_run, "stages.1.1.conv1", [2, 5])
    with torch.no_grad():
        projected_run.params["stages.1.0.conv1.weight"][6] *= 2
        projected_run.params["stages.0.0.conv2.weight"][0] *= 2
    plan = l1(**RESNET).select(projected_run, budget(0.27))  # 52 - 37.96 is 14.04
    assert chosen(plan) == {
        "stages.1.0.conv1": 7,
        "stages.0.0.conv2": 3,
        "stages.1.1.conv1": 2,
    }
    assert plan.removed["stages.1.0.conv1"].tolist() == [0, 1, 2, 3, 4, 5, 7]
    kept = plan.zeroed["stages.0.0.conv2.weight"].flatten(1).any(dim=1)
    assert kept.nonzero()[:, 0].tolist() == [0]


def test_a_layers_last_filter_is_ranked_in_later_rounds_too(projected_run: RunState) -> None:
    lower(projected_run, "stages.1.0.conv1", list(range(8)))
    testing.prune(l1(**RESNET), budget(0.16), projected_run)  # 8 are chosen, 7 removed
    assert len(projected_run.kept["stages.1.0.conv1"]) == 1
    lower(projected_run, "stages.1.1.conv1", [2, 5])
    plan = l1(**RESNET).select(projected_run, budget(0.2))  # 45 - 41.6: its last and two others
    assert chosen(plan) == {"stages.1.1.conv1": 2}


@pytest.mark.parametrize(
    ("options", "revision"), [({}, 1), (VGG, 1), (MOBILENET, 1), (ZEROED, 1), (RESNET, 2)]
)
def test_only_runs_with_targets_in_percent_have_another_revision(
    options: dict[str, Any], revision: int
) -> None:
    assert l1(**options).run_revision(budget(0.5)) == revision
