"""The step against the loop that anyone would write, in plain PyTorch."""

from __future__ import annotations

from contextlib import nullcontext
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from prunebench.experiments.phases import Phase, Steps
from prunebench.measure.precision import arithmetic
from prunebench.methods.base import Method, MethodOptions, Run
from prunebench.training.batches import Batching, draw_epoch, portion
from prunebench.training.optimizer import Optimizer
from prunebench.training.run import generator
from prunebench.training.step import Sums, train_step
from tests.training.conftest import MakeLoop, fresh_network, recipe

MEAN, STD = (0.5, 0.5, 0.5), (0.25, 0.25, 0.25)


class Decay(Method[MethodOptions]):
    """Adds half of the stem's squares to the loss."""

    def loss_term(self, run: Run) -> Tensor:
        return 0.5 * run.params["conv1.weight"].square().sum()


def batches_of(loop: Any, settings: Any) -> list[tuple[Tensor, Tensor]]:
    split = loop.run.dataset.train
    epoch = draw_epoch(
        split,
        settings.augment,
        mean=MEAN,
        std=STD,
        batching=Batching(len(split), settings.batch_size),
        generator=generator(0, "test"),
    )
    return [epoch.chunk(k) for k in range(3)]


def plain_training(
    model: nn.Module, batches: list[tuple[Tensor, Tensor]], settings: Any, decay: bool
) -> list[float]:
    """Train as a script would; return the losses."""
    kinds: dict[str, Any] = {
        "sgd": lambda p: torch.optim.SGD(
            p, lr=0.05, momentum=0.9, weight_decay=1e-3, nesterov=True, foreach=False
        ),
        "adamw": lambda p: torch.optim.AdamW(p, lr=0.001, weight_decay=1e-3, foreach=False),
    }
    optimizer = kinds[settings.optimizer](model.parameters())
    losses = []
    for x, y in batches:
        optimizer.zero_grad()
        total = 0.0
        for part, weight in portion(len(y), accumulation=settings.accumulation).parts:
            loss = F.cross_entropy(model(x[part]), y[part], label_smoothing=0.1)
            if decay:
                loss = loss + 0.5 * model.conv1.weight.square().sum()  # type: ignore[operator,union-attr]
            (loss * weight).backward()
            total += loss.item() * weight
        nn.utils.clip_grad_norm_(model.parameters(), settings.clip_norm)
        optimizer.step()
        losses.append(total)
    return losses


@pytest.mark.parametrize("decay", [False, True])
@pytest.mark.parametrize("accumulation", [1, 2])
@pytest.mark.parametrize("optimizer", ["sgd", "adamw"])
def test_steps_are_those_of_a_plain_loop(
    optimizer: str, accumulation: int, decay: bool, make_loop: MakeLoop
) -> None:
    settings = recipe(
        optimizer=optimizer,
        nesterov=optimizer == "sgd",
        accumulation=accumulation,
        clip_norm=2.0,
        label_smoothing=0.1,
    )
    hooks = frozenset({"loss_term"} if decay else set())
    phase = Phase(name="p", recipe=settings, length=Steps(3), hooks=hooks)
    loop = make_loop(Decay(MethodOptions()), [phase])
    reference = fresh_network().to(memory_format=torch.channels_last)
    batches = batches_of(loop, settings)
    losses = plain_training(reference, batches, settings, decay)
    ours, sums = Optimizer(loop.run.params, settings), Sums.zero(loop.run.device)
    ours.set_lr(0.05 if optimizer == "sgd" else 0.001)  # Adam's steps magnify rounding errors
    found = []
    for x, y in batches:
        sums.reset()
        parts = portion(len(y), accumulation=accumulation).parts
        train_step(loop.run, loop.method, ours, x, y, sums, parts=parts)
        found.append(float(sums.loss) / len(y))
    assert found == pytest.approx(losses, rel=1e-5)
    for name, parameter in reference.named_parameters():
        torch.testing.assert_close(loop.run.params[name], parameter, rtol=1e-3, atol=1e-4)


def test_accumulation_gives_the_gradient_of_the_whole_batch_without_batch_norm(
    make_loop: MakeLoop,
) -> None:
    settings = recipe(batch_size=64)
    phase = Phase(name="p", recipe=settings, length=Steps(3))
    loop = make_loop(Decay(MethodOptions()), [phase])
    loop.run.model.eval()  # the running statistics are the same for all parts
    x, y = batches_of(loop, settings)[0]
    gradients = []
    for parts in (portion(64).parts, portion(64, accumulation=5).parts):
        optimizer = Optimizer(loop.run.params, settings)
        optimizer.set_lr(0.0)
        sums = Sums.zero(loop.run.device)
        train_step(loop.run, loop.method, optimizer, x, y, sums, parts=parts)
        gradients.append((loop.run.params["conv1.weight"].grad, float(sums.loss)))
    torch.testing.assert_close(gradients[0][0], gradients[1][0], rtol=1e-4, atol=1e-6)
    assert gradients[0][1] == pytest.approx(gradients[1][1])


def test_steps_in_bf16_see_the_weights_of_the_step_before(make_loop: MakeLoop) -> None:
    settings = recipe(precision="bf16")
    phase = Phase(name="p", recipe=settings, length=Steps(3))
    weights = []
    # Within a block of autocast, as the loop makes one, PyTorch would keep weights it has cast.
    for block in (nullcontext(), arithmetic(torch.device("cpu"), "fp32")):
        loop = make_loop(Decay(MethodOptions()), [phase])
        optimizer, sums = Optimizer(loop.run.params, settings), Sums.zero(loop.run.device)
        optimizer.set_lr(0.05)
        with block:
            for x, y in batches_of(loop, settings):
                train_step(loop.run, loop.method, optimizer, x, y, sums)
        weights.append(loop.run.model.state_dict())
    assert all(torch.equal(tensor, weights[1][name]) for name, tensor in weights[0].items())
