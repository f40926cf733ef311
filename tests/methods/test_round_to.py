"""Kept widths are rounded up to a multiple, wherever a method decides them."""

from __future__ import annotations

from typing import Any

import pytest
from torch import nn

from prunebench import testing
from prunebench.experiments.phases import Budget, RatioKind
from prunebench.methods.registry import method_class
from prunebench.training.pruning import missed_ratio
from prunebench.training.run import RunState
from tests.methods.test_budgets import widths
from tests.methods.test_every_method import RECIPES
from tests.methods.test_targets import REMOVED, make, run
from tests.methods.test_targets import pruned as pruned_by

__all__ = ["run"]

ALL = ("stem", "inside")


def rounds(name: str) -> bool:
    return method_class(name).rounds_widths


def pruned(run: RunState, kind: RatioKind, ratio: float, **options: Any) -> list[int]:
    L1 = method_class("l1")
    testing.prune(L1(L1.Options(**options)), Budget(kind=kind, ratio=ratio), run)
    return [len(units) for units in run.kept.values()]


@pytest.fixture
def two_layers() -> RunState:
    """Layers of 16 and 12 channels on images of 4 x 4: 16 a + 16 a b + 2 b MACs, 3352 in all."""
    network = testing.named_layers(
        stem=nn.Conv2d(1, 16, 1),
        conv=nn.Conv2d(16, 12, 1),
        pool=nn.AdaptiveAvgPool2d(1),
        flatten=nn.Flatten(),
        fc=nn.Linear(12, 2),
    )
    return testing.start(network)


@pytest.mark.parametrize(
    ("ratio", "kept"),
    [
        (0.0, [16, 12]),
        (0.1, [16, 12]),  # 14 and 10 units are left
        (0.5, [8, 8]),  # 8 and 6
        (0.6, [8, 8]),  # 6 and 4
        (0.95, [8, 8]),  # 1 and 1
    ],
)
def test_widths_are_rounded_up_to_a_multiple_and_never_above_all(
    two_layers: RunState, ratio: float, kept: list[int]
) -> None:
    assert pruned(two_layers, "units_per_group", ratio, roles=ALL, round_to=8) == kept


@pytest.mark.parametrize(("round_to", "kept"), [(1, [11, 8]), (4, [12, 8]), (8, [16, 8])])
def test_each_width_that_meets_a_target_in_macs_is_rounded(
    two_layers: RunState, round_to: int, kept: list[int]
) -> None:
    # At most 1676 MACs: (11, 8) units have 176 + 1408 + 16 = 1600, and before it (11, 9) 1778.
    assert two_layers.base_macs == 16 * 16 + 16 * 16 * 12 + 2 * 12 == 3352
    assert pruned(two_layers, "macs", 0.5, roles=ALL, round_to=round_to) == kept


def test_a_run_with_rounded_widths_has_not_missed_its_ratio(two_layers: RunState) -> None:
    budget, L1 = Budget(kind="macs", ratio=0.5), method_class("l1")
    method = L1(L1.Options(roles=ALL, round_to=8))
    testing.prune(method, budget, two_layers)
    assert two_layers.costs.macs() > 0.5 * two_layers.base_macs
    assert missed_ratio(method, two_layers, budget) is None


@pytest.mark.parametrize(("ratio", "channels"), [(0.25, 16), (0.5, 8), (0.75, 8)])
def test_channels_of_grouped_convolutions_are_rounded(ratio: float, channels: int) -> None:
    network = testing.named_layers(
        stem=nn.Conv2d(1, 16, 1),
        grouped=nn.Conv2d(16, 16, 1, groups=4),  # units are its groups, of four channels
        pool=nn.AdaptiveAvgPool2d(1),
        flatten=nn.Flatten(),
        fc=nn.Linear(16, 2),
    )
    run = testing.start(network, grouped="whole")
    pruned(run, "units_per_group", ratio, roles=ALL, grouped="whole", round_to=8)
    assert len(run.params["grouped.weight"]) == len(run.params["stem.weight"]) == channels


@pytest.mark.parametrize("kind", ["units_global", "params", "activations"])
def test_widths_of_a_resnet_are_multiples(resnet_run: RunState, kind: RatioKind) -> None:
    pruned(resnet_run, kind, 0.3, round_to=8)
    assert {width % 8 for width in widths(resnet_run)} == {0}
    assert sum(widths(resnet_run)) < 3 * (16 + 32 + 64)


def test_rounds_start_from_rounded_widths(two_layers: RunState) -> None:
    assert pruned(two_layers, "units_per_group", 0.25, roles=ALL, round_to=8) == [16, 12]
    assert pruned(two_layers, "units_per_group", 0.5, roles=ALL, round_to=8) == [8, 8]
    assert pruned(two_layers, "units_per_group", 0.4, roles=ALL, round_to=8) == [8, 8]


def test_units_that_stay_get_no_penalty(resnet_run: RunState) -> None:
    GReg = method_class("greg_1")
    method = GReg(GReg.Options(round_to=8))
    budget = Budget(kind="units_per_group", ratio=0.6)
    testing.begin(method, budget, resnet_run, recipes=RECIPES)
    # 10 of 16, 20 of 32 and 39 of 64 would leave 6, 12 and 25 units, which become 8, 16 and 32.
    assert set(method.state["counts"].values()) == {8, 16, 32}
    assert {int(units.sum()) for units in method.state["pruned"].values()} == {8, 16, 32}


@pytest.mark.parametrize(("kind", "ratio"), [("units_per_group", 0.6), ("macs", 0.5)])
@pytest.mark.parametrize(("name", "options"), [(n, o) for n, o in REMOVED if rounds(n)])
def test_every_method_that_allows_it_rounds_widths(
    name: str, options: dict[str, Any], kind: RatioKind, ratio: float, run: RunState
) -> None:
    method = make(name, options | {"round_to": 4})
    pruned_by(method, name, Budget(kind=kind, ratio=ratio), run)
    assert {len(units) % 4 for units in run.kept.values()} == {0}
    assert run.costs.macs() < run.base_macs


@pytest.mark.parametrize("name", ["sfp", "soft_fpgm"])
def test_soft_pruning_of_groups_ends_at_rounded_widths(name: str, resnet_run: RunState) -> None:
    found = method_class(name)
    method = found(found.Options(scope="group", norms="decay", round_to=8))
    testing.train(method, Budget(kind="units_per_group", ratio=0.6), resnet_run)
    assert sorted({*widths(resnet_run)}) == [8, 16, 32]
