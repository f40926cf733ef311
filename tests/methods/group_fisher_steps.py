"""Steps of Group Fisher on networks that fit on a page."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from prunebench import testing
from prunebench.experiments.phases import Budget, Phase
from prunebench.experiments.recipe import Recipe
from prunebench.methods.group_fisher import GroupFisher
from prunebench.training.batches import portion
from prunebench.training.run import RunState


def fisher(**options: Any) -> GroupFisher:
    return GroupFisher(GroupFisher.Options(**options))


def phases(
    method: GroupFisher, recipe: Recipe, ratio: float = 0.5, kind: Any = "macs"
) -> list[Phase]:
    fine_tune = recipe.model_copy(update={"epochs": 1})
    return method.phases({"prune": recipe, "fine_tune": fine_tune}, Budget(kind=kind, ratio=ratio))


def begin(
    method: GroupFisher, run: RunState, recipe: Recipe, ratio: float = 0.0, kind: Any = "macs"
) -> None:
    """Start the first phase up to its first decision."""
    testing.begin(method, phases(method, recipe, ratio, kind), run)


def set_weights(model: nn.Module, **values: list[Any]) -> None:
    with torch.no_grad():
        for name, value in values.items():
            parameter = model.get_parameter(name.replace("__", "."))
            parameter.copy_(torch.tensor(value).reshape(parameter.shape))


def by_group(method: GroupFisher, values: Tensor) -> dict[str, list[float]]:
    assert method.gradients is not None
    return {name: values[place].tolist() for name, place in method.gradients.places.items()}


def scores(
    run: RunState, recipe: Recipe, x: Tensor, targets: list[float], **options: Any
) -> tuple[GroupFisher, dict[str, list[float]]]:
    """Return the method and its scores after a step that updates no weight.

    The loss is the mean over images of L_n = (y_n - t_n)^2 / 2; the scores are those that the
    examples print for the sum.
    """
    method = fisher(**options)
    begin(method, run, recipe)
    errors = run.model(x).flatten(1).sum(1) - torch.tensor(targets, dtype=x.dtype)
    (errors.square() / 2).mean().backward()
    run.portion = portion(len(errors))
    method.after_optimizer_step(run)
    return method, by_group(method, method.state["score"])
