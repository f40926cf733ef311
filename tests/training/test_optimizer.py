from __future__ import annotations

import pytest
import torch
from torch import nn

from prunebench.training.optimizer import Optimizer
from tests.training.conftest import recipe


@pytest.mark.parametrize("nesterov", [False, True])
@pytest.mark.parametrize("momentum", [0.0, 0.9])
def test_steps_are_those_of_plain_sgd(momentum: float, nesterov: bool) -> None:
    if nesterov and not momentum:
        pytest.skip("Nesterov needs a momentum")
    settings = {"momentum": momentum, "nesterov": nesterov, "weight_decay": 1e-3}
    ours, theirs = (nn.Parameter(torch.linspace(-1, 1, 50)) for _ in range(2))
    optimizer = Optimizer({"w": ours}, recipe(**settings))
    plain = torch.optim.SGD([theirs], lr=0.1, **settings)
    for lr in (0.1, 0.1, 0.01):
        ours.grad, theirs.grad = ours.detach().cos(), theirs.detach().cos()
        plain.param_groups[0]["lr"] = lr
        optimizer.set_lr(lr)
        optimizer.step()
        plain.step()
    torch.testing.assert_close(ours, theirs, rtol=1e-6, atol=1e-7)


def test_momenta_are_taken_over_by_name() -> None:
    parameter = nn.Parameter(torch.zeros(2))
    optimizer = Optimizer({"w": parameter}, recipe(), {"w": torch.tensor([1.0, 2.0])})
    assert optimizer.momenta["w"].tolist() == [1.0, 2.0]


def test_a_recipe_without_momentum_that_asks_for_nesterov_is_refused() -> None:
    with pytest.raises(ValueError, match="nesterov needs a momentum"):
        recipe(momentum=0.0, nesterov=True)
