"""Rounds as in OrthoReg's code; E6 is an example of its notes."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

from prunebench.experiments.phases import Budget
from prunebench.experiments.recipe import Recipe
from prunebench.methods.global_ranking import percent_after
from prunebench.methods.registry import method_class
from prunebench.methods.rounds import gone_after, round_ratio, threshold_ratios
from prunebench.models.registry import build
from prunebench.testing import prune, start
from prunebench.training.run import RunState

L1 = method_class("l1")

# E6: ratio, rounds, what each round removes of what is there
ROUNDS = [
    (0.5, 2, [1 / 3, 1 / 4]),
    (0.75, 3, [1 / 2, 1 / 3, 1 / 4]),
    (0.75, 5, [0.375, 0.272727, 0.214286, 0.176471, 0.15]),
    (0.3, 1, [0.3]),
]


def l1(**options: Any) -> L1:
    return L1(L1.Options(**options))


def phases(method: L1, budget: Budget) -> list[Any]:
    recipe = Recipe(epochs=1, batch_size=4, lr=0.01, weight_decay=0.0)
    return method.phases({"fine_tune": recipe}, budget)


@pytest.mark.parametrize(("ratio", "rounds", "removed"), ROUNDS)
def test_round_ratios_of_example_e6(ratio: float, rounds: int, removed: list[float]) -> None:
    found = [round_ratio(ratio, k, rounds) for k in range(1, rounds + 1)]
    assert found == pytest.approx(removed, abs=5e-7)


@pytest.mark.parametrize(("ratio", "kept"), [(0.5, [2 / 3, 1 / 2]), (0.75, [0.5, 0.3333, 0.25])])
def test_what_is_kept_in_example_e6(ratio: float, kept: list[float]) -> None:
    n = len(kept)
    found = [1 - gone_after(ratio, k, n) for k in range(1, n + 1)]
    assert found == pytest.approx(kept, abs=5e-5)


@pytest.mark.parametrize(("ratio", "percents"), [(0.5, [66, 49]), (0.75, [50, 33, 24])])
def test_truncated_percentages_of_example_e6(ratio: float, percents: list[int]) -> None:
    n = len(percents)
    ratios = [round_ratio(ratio, k, n) for k in range(1, n + 1)]
    assert [percent_after(ratios[:k]) for k in range(1, n + 1)] == percents


def test_thresholds_of_example_e6() -> None:
    assert threshold_ratios([0.1, 0.5, 0.8]) == pytest.approx([0.1, 0.444444, 0.6], abs=5e-7)
    method = l1(rounds=3, thresholds=(0.1, 0.5))
    assert method.round_ratios(0.8) == pytest.approx([0.1, 0.444444, 0.6], abs=5e-7)
    found = phases(method, Budget(kind="macs", ratio=0.8))
    assert [phase.then.ratio for phase in found if phase.then] == [0.1, 0.5, 0.8]


def test_the_last_round_ends_at_the_ratio_to_the_bit() -> None:
    for ratio in (0.1, 0.3, 0.7, 0.9):
        assert [b.ratio for b in l1(rounds=7).budgets(Budget(kind="macs", ratio=ratio))][
            -1
        ] == ratio


def test_one_shot_is_one_round() -> None:
    budget = Budget(kind="units_per_group", ratio=0.5)
    assert [phase.name for phase in phases(l1(), budget)] == ["select", "fine_tune"]


def test_only_the_last_rounds_epochs_may_be_reported() -> None:
    found = phases(l1(rounds=2), Budget(kind="units_per_group", ratio=0.5))
    assert [(phase.name, phase.reportable_from) for phase in found] == [
        ("select_1", 0.0),
        ("fine_tune_1", None),
        ("select_2", 0.0),
        ("fine_tune_2", 0.0),
    ]


def run_through(run: RunState, method: L1, budget: Budget) -> list[dict[str, Tensor]]:
    """Prune in all rounds, without training; return the kept units after each."""
    return [dict(prune(method, part, run).kept) for part in method.budgets(budget)]


def test_vgg_13_of_example_e6() -> None:
    # 2944 filters: 981 leave, then 490
    torch.manual_seed(0)
    model = build("vgg13", num_classes=10, in_channels=3)
    run = start(model, image=(3, 8, 8))
    method = l1(rounds=2, roles=("stem", "inside"), protected_share=0.05)
    found = run_through(run, method, Budget(kind="units_global", ratio=0.5))
    assert [sum(map(len, kept.values())) for kept in found] == [1963, 1473]


def test_shares_of_groups_come_in_rounds_too(resnet_run: RunState) -> None:
    # of 16 channels: ceil(16 / 3) leave, then 8 in all
    budget = Budget(kind="units_per_group", ratio=0.5)
    found = run_through(resnet_run, l1(rounds=2), budget)
    assert [len(kept["stages.0.0.conv1"]) for kept in found] == [10, 8]


def test_ratios_by_layer_come_in_rounds_too(resnet_run: RunState) -> None:
    method = l1(rounds=2, layer_ratios={"stages.0.*": 0.5, "stages.1.*": 0.75})
    found = run_through(resnet_run, method, Budget(kind="auto", ratio=None))
    # 0.75 in two rounds: 0.6, then 0.75 of 32
    assert [len(kept["stages.1.0.conv1"]) for kept in found] == [12, 8]
    assert [len(kept["stages.0.0.conv1"]) for kept in found] == [10, 8]
    assert [len(kept["stages.2.0.conv1"]) for kept in found] == [64, 64]


def test_multiply_accumulates_fall_in_rounds_too(resnet_run: RunState) -> None:
    start = resnet_run.base_macs
    run_through(resnet_run, l1(rounds=3), Budget(kind="macs", ratio=0.5))
    assert 0.495 * start <= resnet_run.costs.macs() <= 0.5 * start


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({"rounds": 2, "thresholds": (0.6,)}, r"\(0.6,\) must lie below ratio 0.5"),
        ({"rounds": 2, "widths_from": "greg_1"}, "takes the widths in one round"),
        ({"zeroed": ("last",)}, r"zeroed \('last',\) goes with ratio_kind 'units_global', not"),
        ({"count": "channels"}, "count 'channels' goes with ratio_kind 'units_global', not 'macs'"),
        ({"targets": "percent"}, "targets 'percent' goes with ratio_kind 'units_global'"),
    ],
)
def test_options_that_do_not_fit_the_ratio_are_named(
    options: dict[str, Any], sentence: str
) -> None:
    with pytest.raises(ValueError, match=sentence):
        phases(l1(**options), Budget(kind="macs", ratio=0.5))


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({"rounds": 3, "thresholds": (0.1,)}, "3 rounds need 2 thresholds"),
        ({"rounds": 3, "thresholds": (0.5, 0.1)}, "thresholds must rise"),
    ],
)
def test_thresholds_are_checked(options: dict[str, Any], sentence: str) -> None:
    with pytest.raises(ValueError, match=sentence):
        l1(**options)


def test_single_weights_leave_in_rounds_too(resnet_run: RunState) -> None:
    method = l1(rounds=2, unit="weight")
    run_through(resnet_run, method, Budget(kind="weights", ratio=0.5))
    mask = resnet_run.masks["stages.0.0.conv1.weight"]
    assert int((~mask).sum()) == mask.numel() // 2


def test_ratios_of_single_weights_by_layer_come_at_once() -> None:
    method = l1(rounds=2, unit="weight", layer_ratios={"*": 0.5})
    with pytest.raises(ValueError, match="met in one round"):
        phases(method, Budget(kind="auto", ratio=None))
