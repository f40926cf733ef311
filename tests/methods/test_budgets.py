"""Budgets that any criterion meets, on a live network."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import nn

from prunebench import testing
from prunebench.core.errors import TrainingError
from prunebench.experiments.phases import Budget, RatioKind
from prunebench.methods.registry import method_class
from prunebench.training.run import RunState

L1 = method_class("l1")


def l1(**options: Any) -> L1:
    return L1(L1.Options(**options))


def prune(run: RunState, kind: RatioKind, ratio: float | None, **options: Any) -> None:
    method = l1(**options)
    testing.prune(method, Budget(kind=kind, ratio=ratio), run)


def is_inside(name: str) -> bool:
    return name.startswith("stages.") and name.endswith("conv1")


def widths(run: RunState) -> list[int]:
    """Units left within the blocks of ResNet-20: three stages of three."""
    return [len(units) for name, units in run.kept.items() if is_inside(name)]


@pytest.mark.parametrize("allocation", ["uniform", "global"])
@pytest.mark.parametrize("ratio", [0.0, 0.3, 0.5, 0.8])
def test_multiply_accumulates_fall_to_the_target(
    resnet_run: RunState, ratio: float, allocation: str
) -> None:
    start = resnet_run.base_macs
    prune(resnet_run, "macs", ratio, allocation=allocation)
    left = resnet_run.costs.macs()
    assert left <= (1 - ratio) * start
    assert left >= (1 - ratio) * start - 0.005 * start  # a unit of ResNet-20 is less


def test_activations_fall_to_the_target() -> None:
    network = testing.named_layers(
        stem=nn.Conv2d(1, 8, 1),
        conv=nn.Conv2d(8, 6, 1),
        pool=nn.AdaptiveAvgPool2d(1),
        flatten=nn.Flatten(),
        fc=nn.Linear(6, 2),
    )
    run = testing.start(network)  # images of 4 x 4: 16 outputs a channel, and 2 of the last layer
    assert run.base_cost("activations") == 16 * 8 + 16 * 6 + 2 == 226
    prune(run, "activations", 0.5, roles=("stem", "inside"))
    # At most 113: seven channels have 7 * 16 + 2 = 114, six 98. Uniform: 5/8 and 3/6 are removed.
    assert [len(run.kept[name]) for name in ("stem", "conv")] == [3, 3]
    assert run.cost("activations") == 98


@pytest.mark.parametrize("allocation", ["uniform", "global"])
def test_parameters_fall_to_the_target(resnet_run: RunState, allocation: str) -> None:
    start = resnet_run.base_params
    prune(resnet_run, "params", 0.6, allocation=allocation)
    assert 0.395 * start <= resnet_run.costs.params() <= 0.4 * start


def test_a_uniform_target_keeps_the_proportions(resnet_run: RunState) -> None:
    prune(resnet_run, "macs", 0.5)
    found = widths(resnet_run)
    assert max(found[:3]) - min(found[:3]) <= 1
    assert abs(found[3] - 2 * found[0]) <= 2
    assert abs(found[6] - 4 * found[0]) <= 4


def test_a_budget_counts_from_the_start_of_the_run(resnet_run: RunState) -> None:
    start = resnet_run.base_macs
    prune(resnet_run, "macs", 0.25)
    prune(resnet_run, "macs", 0.5)
    assert 0.495 * start <= resnet_run.costs.macs() <= 0.5 * start
    before = resnet_run.costs.macs()
    prune(resnet_run, "macs", 0.4)  # reached long ago
    assert resnet_run.costs.macs() == before


@pytest.mark.parametrize(("first", "second"), [(0.5, 0.5), (0.25, 0.5), (0.95, 0.97)])
def test_global_units_are_counted_over_all_rounds(
    resnet_run: RunState, first: float, second: float
) -> None:
    total = 3 * (16 + 32 + 64)
    assert total == sum(widths(resnet_run))
    prune(resnet_run, "units_global", first)
    assert sum(widths(resnet_run)) == total - int(first * total)
    prune(resnet_run, "units_global", second)
    assert sum(widths(resnet_run)) == total - int(second * total)
    assert min(widths(resnet_run)) >= 1


def test_global_ranking_takes_the_lowest_of_all(resnet_run: RunState) -> None:
    low, *others = [name for name in resnet_run.sizes if is_inside(name)]
    with torch.no_grad():
        for name in others:
            resnet_run.params[f"{name}.weight"].add_(10.0)
    prune(resnet_run, "units_global", 15 / 336)
    assert len(resnet_run.kept[low]) == 1
    assert all(len(resnet_run.kept[name]) == resnet_run.sizes[name] for name in others)


def test_ratios_by_layer(resnet_run: RunState) -> None:
    ratios = {"stages.0.*": 0.75, "stages.1.0.*": 0.0, "stages.1.*": 0.5}
    prune(resnet_run, "auto", None, layer_ratios=ratios)
    assert widths(resnet_run) == [4, 4, 4, 32, 16, 16, 64, 64, 64]  # GReg's lists, by place


def test_groups_that_are_skipped_stay_whole(resnet_run: RunState) -> None:
    prune(resnet_run, "units_per_group", 0.5, roles=("inside", "not stages.2.*"))
    assert widths(resnet_run) == [8, 8, 8, 16, 16, 16, 64, 64, 64]


def test_widths_of_another_run_come_before_the_ratio(resnet_run: RunState) -> None:
    resnet_run.source_kept = dict(resnet_run.kept) | {
        "stages.0.0.conv1": torch.tensor([15]),
        "stages.2.2.conv1": torch.arange(5, 50),
    }
    prune(resnet_run, "units_per_group", 0.5)
    assert widths(resnet_run) == [1, 16, 16, 32, 32, 32, 64, 64, 45]
    weight = resnet_run.params["stages.0.0.conv1.weight"]
    assert resnet_run.kept["stages.0.0.conv1"].tolist() != [15]  # l1's choice, not the source's
    assert len(weight) == 1


def test_widths_are_reached_in_rounds(resnet_run: RunState) -> None:
    source = dict(resnet_run.kept)
    for left in (12, 4, 6):
        resnet_run.source_kept = source | {"stages.0.0.conv1": torch.arange(left)}
        prune(resnet_run, "units_per_group", 0.5)
    assert widths(resnet_run)[0] == 4  # units do not come back


def test_widths_of_groups_that_roles_leave_alone_are_refused(resnet_run: RunState) -> None:
    resnet_run.source_kept = dict(resnet_run.kept) | {"conv1": torch.arange(8)}
    sentence = r"has pruned 'conv1', which roles \['inside'\] exclude here"
    with pytest.raises(TrainingError, match=sentence):
        prune(resnet_run, "units_per_group", 0.5)


def test_a_target_that_roles_do_not_reach_is_named(resnet_run: RunState) -> None:
    sentence = (
        r"'select': ratio 0.99 of macs is out of reach; the largest is 0.959, with one unit left "
        "in each of 9 groups; use a smaller ratio or more roles"
    )
    with pytest.raises(TrainingError, match=sentence):
        prune(resnet_run, "macs", 0.99)
