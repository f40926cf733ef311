from __future__ import annotations

import pytest
import torch
from torch import nn

from prunebench.training.optimizer import Moments, Optimizer
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
    optimizer = Optimizer({"w": parameter}, recipe(), Moments({"w": torch.tensor([1.0, 2.0])}))
    assert optimizer.moments.first["w"].tolist() == [1.0, 2.0]


def test_a_recipe_without_momentum_that_asks_for_nesterov_is_refused() -> None:
    with pytest.raises(ValueError, match="nesterov needs a momentum"):
        recipe(momentum=0.0, nesterov=True)


@pytest.mark.parametrize(
    ("name", "theirs"), [("adam", torch.optim.Adam), ("adamw", torch.optim.AdamW)]
)
def test_steps_are_those_of_plain_adam(name: str, theirs: type[torch.optim.Adam]) -> None:
    ours, plain = (nn.Parameter(torch.linspace(-1, 1, 50)) for _ in range(2))
    optimizer = Optimizer(
        {"w": ours},
        recipe(optimizer=name, nesterov=False, betas=(0.8, 0.99), eps=1e-6, weight_decay=0.1),
    )
    reference = theirs([plain], lr=0.1, betas=(0.8, 0.99), eps=1e-6, weight_decay=0.1)
    for lr in (0.1, 0.1, 0.01):
        ours.grad, plain.grad = ours.detach().cos(), plain.detach().cos()
        reference.param_groups[0]["lr"] = lr
        optimizer.set_lr(lr)
        optimizer.step()
        reference.step()
    torch.testing.assert_close(ours, plain, rtol=1e-5, atol=1e-6)


def test_adams_moments_are_cut_along_and_taken_over() -> None:
    weight = nn.Parameter(torch.zeros(3, 2))
    settings = recipe(optimizer="adam", nesterov=False, weight_decay=0)
    optimizer = Optimizer({"w": weight}, settings)
    weight.grad = torch.arange(6.0).reshape(3, 2)
    optimizer.step()
    smaller = nn.Parameter(weight.detach()[[0, 2]])
    moments = optimizer.moments.sliced({"w": [(0, torch.tensor([0, 2]))]})
    after = Optimizer({"w": smaller}, settings, moments).moments
    # a tenth of the gradient, and a thousandth of its square, after one step
    torch.testing.assert_close(after.first["w"], torch.tensor([[0, 0.1], [0.4, 0.5]]))
    torch.testing.assert_close(after.second["w"], torch.tensor([[0, 0.001], [0.016, 0.025]]))
    assert after.steps["w"].item() == 1


def test_moments_of_another_kind_of_optimizer_are_not_taken_over() -> None:
    parameter = nn.Parameter(torch.zeros(2))
    momenta = Moments({"w": torch.ones(2)})
    adam = Optimizer({"w": parameter}, recipe(optimizer="adam", nesterov=False), momenta)
    assert adam.moments.first["w"].tolist() == [0, 0]
    sgd = Optimizer({"w": parameter}, recipe(), adam.moments)
    assert sgd.moments.second == {}


@pytest.mark.parametrize(("norm", "expected"), [(10.0, [6.0, 8.0]), (5.0, [3.0, 4.0])])
def test_gradients_are_scaled_down_together_to_a_norm(norm: float, expected: list[float]) -> None:
    a, b = (nn.Parameter(torch.zeros(1)) for _ in range(2))
    a.grad, b.grad = torch.tensor([6.0]), torch.tensor([8.0])  # the norm of both is 10
    Optimizer({"a": a, "b": b}, recipe(clip_norm=norm)).clip()
    found = torch.cat((a.grad, b.grad))
    torch.testing.assert_close(found, torch.tensor(expected), rtol=1e-5, atol=0)
