"""Training in bf16: forward passes compute in bf16, and all that is kept or summed is fp32.

The steps run in PyTorch's autocast on the CPU, with or without instructions for bf16.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn.modules.module import register_module_forward_hook
from torch.utils._pytree import tree_leaves

from prunebench import testing
from prunebench.criteria.gradients import DataCriterion
from prunebench.criteria.registry import CRITERIA
from prunebench.methods.registry import METHODS, method_class
from prunebench.training.run import RunState
from tests.methods.test_every_method import AUTO, BUDGETS, OPTIONS, RECIPES, run_with_source

FLOATS = (torch.float32, torch.float64)


def kept(run: RunState, state: Any) -> Iterator[Tensor]:
    """Yield all floating-point tensors of a run and of a method's state."""
    parameters = run.params.values()
    gradients = [parameter.grad for parameter in parameters]
    for leaf in tree_leaves((run.model.state_dict(), gradients, state)):
        if isinstance(leaf, Tensor) and leaf.is_floating_point():
            yield leaf


@pytest.fixture
def computed() -> Iterator[set[torch.dtype]]:
    """The types of the outputs of convolutions that train."""
    found: set[torch.dtype] = set()

    def note(module: nn.Module, args: Any, output: Tensor) -> None:
        if isinstance(module, nn.Conv2d) and module.training and output.requires_grad:
            found.add(output.dtype)

    handle = register_module_forward_hook(note)
    yield found
    handle.remove()


@pytest.mark.parametrize("name", sorted({*METHODS, *CRITERIA}))
def test_a_method_keeps_fp32_in_bf16_training(name: str, computed: set[torch.dtype]) -> None:
    kind = method_class(name)
    few = {"samples": 6, "batch": 4} if issubclass(kind.Options, DataCriterion) else {}
    budget = AUTO if name == "unpruned" else BUDGETS.get(name, testing.HALF)
    start = run_with_source() if name.startswith("scratch") else testing.start()
    method = kind(kind.Options.model_validate(few | OPTIONS.get(name, {})))
    bf16 = {"precision": "bf16"}
    recipes = {
        role: RECIPES.get(role, testing.RECIPE).model_copy(update=bf16)
        for role in kind.recipe_roles
    }
    steps: list[int] = []

    def look(run: RunState) -> None:
        steps.append(run.clock)
        for tensor in kept(run, method.state):
            assert tensor.dtype in FLOATS
            assert bool(tensor.isfinite().all())

    computed.clear()
    testing.train(method, budget, start, recipes=recipes, after_step=look)
    assert computed == (set() if name == "unpruned" else {torch.bfloat16})
    assert bool(steps) == (name != "unpruned")
