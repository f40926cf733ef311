from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import nn

from prunebench import testing
from prunebench.experiments.phases import Budget, Phase
from prunebench.experiments.recipe import Recipe
from prunebench.methods.sfp import SoftFPGM
from prunebench.testing import named_layers, recorded_operations
from prunebench.training.run import RunState

# Example X8: sums of distances to the others 4.680, 5.743, 6.304, 3.946; norms 0.5, 2, 2, 1.414.
X8 = torch.tensor([[0.5, 0.0], [2.0, 0.0], [0.0, 2.0], [1.0, 1.0]])


def fpgm(**options: Any) -> SoftFPGM:
    return SoftFPGM(SoftFPGM.Options(**options))


def train_phase(method: SoftFPGM, ratio: float, epochs: int = 2) -> Phase:
    recipe = Recipe(epochs=epochs, batch_size=4, lr=0.05, weight_decay=0.0)
    budget = Budget(kind="units_per_group", ratio=ratio)
    (train,) = method.phases({"base": recipe}, budget)
    return train


def x8_run() -> RunState:
    net = named_layers(
        stem=nn.Conv2d(2, 4, 1, bias=False), head=nn.Conv2d(4, 2, 1), flatten=nn.Flatten()
    )
    with torch.no_grad():
        net.stem.weight.copy_(X8[..., None, None])
    return testing.start(net, image=(2, 1, 1))


def zero_rows(run: RunState, weight: str) -> list[int]:
    zero = (run.params[weight].flatten(1) == 0).all(dim=1)
    return [int(row) for row in zero.nonzero()[:, 0]]


@pytest.mark.parametrize(("norm_rate", "row"), [(1.0, 3), (0.75, 0)])
def test_the_nearest_to_all_others_or_the_shortest_becomes_zero(norm_rate: float, row: int) -> None:
    run, method = x8_run(), fpgm(norm_rate=norm_rate)
    testing.begin(method, [train_phase(method, 0.25)], run)
    assert zero_rows(run, "stem.weight") == [row]


@pytest.mark.parametrize(
    ("norm_rate", "counts"), [(1.0, {16: 6, 32: 12, 64: 25}), (0.7, {16: 5, 32: 12, 64: 25})]
)
def test_both_parts_are_rounded_down(
    norm_rate: float, counts: dict[int, int], resnet_run: RunState
) -> None:
    # of 16: int(6.4) by distance, or int(4.8) by norm and int(1.6) by distance
    method = fpgm(norm_rate=norm_rate)
    testing.train(method, [train_phase(method, 0.4)], resnet_run)
    convs = [n for n, p in resnet_run.params.items() if p.ndim == 4]
    assert {len(resnet_run.params[n]): len(zero_rows(resnet_run, n)) for n in convs} == counts
    assert set(resnet_run.masks) == set(convs)


@pytest.mark.parametrize(
    ("ratio", "norm_rate", "pruned"),
    [
        (0.1, 1.0, 2),  # int(20 * 0.1), although 1 - (1 - 0.1) is 0.09999999999999998
        (0.2, 0.9, 1 + 2),  # int(20 (1 - 0.9)) is 1
    ],
)
def test_counts_are_those_of_the_codes_floating_point(
    ratio: float, norm_rate: float, pruned: int
) -> None:
    net = named_layers(
        stem=nn.Conv2d(2, 20, 1, bias=False), head=nn.Conv2d(20, 2, 1), flatten=nn.Flatten()
    )
    run, method = testing.start(net, image=(2, 1, 1)), fpgm(norm_rate=norm_rate, layers=("stem",))
    testing.train(method, [train_phase(method, ratio)], run)
    assert len(zero_rows(run, "stem.weight")) == pruned


def test_zero_filters_get_no_gradient_until_the_next_choice() -> None:
    run, method = x8_run(), fpgm()
    train = train_phase(method, 0.25, epochs=1)
    assert train.hooks == {"after_epoch", "before_optimizer_step"}
    seen, tensors = [], []

    def spy(run: RunState) -> None:
        gradient = run.params["stem.weight"].grad
        assert gradient is not None
        seen.append(gradient.flatten(1).ne(0).any(dim=1).tolist())
        tensors.append(method.state["kept"]["stem.weight"])

    testing.train(method, [train], run, before_step=spy)
    assert seen == [[True, True, True, False]] * 3
    with torch.no_grad():
        run.params["stem.weight"].copy_(X8.flip(0)[..., None, None])
    method.after_epoch(run)
    held = method.state["kept"]["stem.weight"]
    assert all(tensor is held for tensor in tensors)  # a captured step reads this tensor
    assert held.flatten(1).all(dim=1).tolist() == [False, True, True, True]


def test_steps_read_nothing_on_the_host(resnet_run: RunState) -> None:
    method = fpgm()
    testing.begin(method, [train_phase(method, 0.25)], resnet_run)
    testing.backward(resnet_run)
    with recorded_operations() as operations:
        method.before_optimizer_step(resnet_run)
    assert [name for name, _ in operations] == ["mul_"] * 19  # convolutions


def test_momentum_alone_moves_a_zero_filter() -> None:
    run, method = x8_run(), fpgm()
    train = train_phase(method, 0.25)
    testing.begin(method, [train], run)
    weight = run.params["stem.weight"]
    optimizer = torch.optim.SGD([weight], lr=0.1, momentum=0.9)
    optimizer.state[weight]["momentum_buffer"] = torch.ones_like(weight)
    weight.grad = torch.ones_like(weight)
    method.before_optimizer_step(run)
    optimizer.step()
    assert weight[3].flatten().tolist() == pytest.approx([-0.09, -0.09])


def test_the_criterion_ranks_no_single_weights() -> None:
    with pytest.raises(ValueError, match="scope"):
        SoftFPGM.Options(scope="weight")
