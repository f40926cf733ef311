"""A run without data sets or files, driven by the places that the training loop gives to hooks."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn

from prunebench import testing
from prunebench.channels.plan import Plan
from prunebench.experiments.phases import Phase
from prunebench.experiments.recipe import Recipe
from prunebench.methods.base import Method
from prunebench.models.registry import build
from prunebench.training.pruning import apply_plan
from prunebench.training.run import RunState


class FakeRun(RunState):
    """A run with the calls of tests that are still to be rewritten on `prunebench.testing`."""

    def __init__(self, model: nn.Module, example: Tensor) -> None:
        vars(self).update(vars(testing.start(model, image=tuple(example.shape[1:]))))
        self.per_epoch = 3

    @property
    def steps(self) -> int:
        return sum(
            max((r["step"] for r in self.records.history if r["phase"] == p.name), default=0)
            for p in self.phases
        )

    def train(self, method: Method[Any], phases: list[Phase]) -> None:
        testing.train(method, phases, self)

    def begin(self, method: Method[Any], phase: Phase) -> None:
        testing.begin(method, [phase], self)

    def apply(self, method: Method[Any], plan: Plan) -> None:
        before = apply_plan(self, plan).before
        method.after_removal(self, plan, before)


named = testing.named_layers


def small_resnet(dtype: torch.dtype = torch.float32) -> FakeRun:
    torch.manual_seed(0)
    model = build("resnet20", num_classes=10, in_channels=1).to(dtype)
    return FakeRun(model, torch.zeros(1, 1, 8, 8, dtype=dtype))


@pytest.fixture
def resnet_run() -> FakeRun:
    """ResNet-20 on 8x8 images, epochs of three steps."""
    return small_resnet()


@pytest.fixture
def resnet_run_float64() -> FakeRun:
    """The same in double precision."""
    return small_resnet(torch.float64)


@pytest.fixture
def recipe() -> Recipe:
    """A recipe that leaves the number of epochs to the method."""
    return Recipe(batch_size=4, lr=0.01, weight_decay=0.0)


@pytest.fixture
def bank_run() -> FakeRun:
    """Stem 1 -> 2, convolution 2 -> 8 of 1x2, batch norm, head 8 -> 2: EPruner's example E4."""
    torch.manual_seed(0)
    model = named(
        stem=nn.Conv2d(1, 2, 1),
        conv=nn.Conv2d(2, 8, (1, 2)),
        norm=nn.BatchNorm2d(8),
        head=nn.Conv2d(8, 2, 1),
        pool=nn.AdaptiveAvgPool2d(1),
        flatten=nn.Flatten(),
    )
    return FakeRun(model, torch.zeros(1, 1, 1, 3))
