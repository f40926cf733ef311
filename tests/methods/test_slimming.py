from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import nn

from prunebench.core.errors import TrainingError
from prunebench.experiments.phases import Budget
from prunebench.methods.slimming import Slimming, subgradient
from prunebench.testing import (
    HALF,
    backward,
    begin,
    check_method,
    named_layers,
    prune,
    start,
    train,
)

SCALES = ("norm.weight", "block.norm1.weight", "block.norm2.weight", "norm2.weight")


def slimming(sparsity: float = 0.25) -> Slimming:
    return Slimming(Slimming.Options(sparsity=sparsity))


def test_subgradient_is_the_sign_times_lambda() -> None:
    assert subgradient(torch.tensor([2.0, -1.0, 0.0]), 0.25).tolist() == [0.25, -0.25, 0.0]


def test_the_subgradient_is_added_to_the_gradients_of_all_scales_and_of_nothing_else() -> None:
    method = slimming()
    run = begin(method, HALF)
    backward(run)
    before = {name: p.grad.clone() for name, p in run.params.items()}
    method.before_optimizer_step(run)  # all scales are 0.5 at the beginning
    added = {name: p.grad - before[name] for name, p in run.params.items()}
    for name, difference in added.items():
        expected = torch.full_like(difference, 0.25 if name in SCALES else 0.0)
        torch.testing.assert_close(difference, expected)


@pytest.mark.parametrize(
    ("options", "expected"),
    [({}, 0.5), ({"initial_scale": None}, 1.0), ({"pretrained": True}, 1.0)],
)
def test_scales_of_a_fresh_network_start_at_the_paper_s_value(
    options: dict[str, Any], expected: float
) -> None:
    run = begin(Slimming(Slimming.Options.model_validate(options)), HALF)
    for name in SCALES:
        assert run.params[name].tolist() == [expected] * len(run.params[name])


def test_channels_with_small_scales_are_removed() -> None:
    run = start()
    with torch.no_grad():
        run.params["block.norm1.weight"].copy_(torch.tensor([3.0, -1.0, 2.0, 0.0, -4.0, 1.0]))
    assert prune(slimming(), HALF, run).kept["block.conv1"].tolist() == [0, 2, 4]


def test_the_penalty_makes_scales_smaller() -> None:
    scales = [train(slimming(s), HALF).params["norm.weight"].abs().sum() for s in (0.0, 1.0)]
    assert scales[1] < scales[0]


def test_scales_of_all_layers_are_ranked_together() -> None:
    run = start()
    with torch.no_grad():
        run.params["block.norm1.weight"].fill_(0.1)
        run.params["norm.weight"].fill_(1.0)
    kept = prune(slimming(), Budget(kind="macs", ratio=0.3), run).kept
    assert len(kept["block.conv1"]) < 6
    assert len(kept["conv"]) == 8


def test_it_starts_from_the_base_network_on_demand() -> None:
    assert slimming().starts_from() == "fresh"
    assert Slimming(Slimming.Options(pretrained=True)).starts_from() == "base"


def test_a_group_without_batch_norm_stops_before_training() -> None:
    net = named_layers(
        stem=nn.Conv2d(1, 3, 1),
        conv=nn.Conv2d(3, 4, 1),
        pool=nn.AdaptiveAvgPool2d(1),
        flat=nn.Flatten(),
        head=nn.Linear(4, 2),
    )
    with pytest.raises(TrainingError, match="group 'conv' has no batch norm"):
        begin(slimming(), HALF, start(net))


def test_it_meets_the_requirements_of_every_method_from_the_base_too() -> None:
    check_method(Slimming, {"pretrained": True})
