"""Network slimming: train with an L1 penalty on batch-norm scales, then remove small scales.

Source: Liu et al., Learning Efficient Convolutional Networks through Network Slimming,
arXiv 1708.06519. As in the official code, the subgradient of the penalty is added to the gradients
of all scales. The scales of all layers are ranked together, also for a target in MACs. Differences:

- The paper's ResNet drops channels of a residual sum for each block that reads them. Here a sum's
  channels, if `roles` allow it, are removed from all of its layers, by the scale of the first one.
- `pretrained` is not in the paper: the run starts from the base network, for comparisons in a few
  epochs.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from pydantic import Field
from torch import Tensor
from torch.utils.hooks import RemovableHandle

from prunebench.channels.groups import ChannelGroup
from prunebench.channels.unit_weights import scale_members, scale_names
from prunebench.criteria.weights import BNScale
from prunebench.experiments.phases import Budget, Phase, training
from prunebench.experiments.recipe import Recipe
from prunebench.experiments.settings import NonNegative, Positive
from prunebench.methods.allocation import Allocation
from prunebench.methods.base import Method, MethodOptions, Run, Start


class SlimmingOptions(MethodOptions):
    """Options of network slimming."""

    sparsity: NonNegative = Field(
        1e-4, description="Strength lambda of the penalty (the paper's VGGNet; ResNet: 1e-5)."
    )
    initial_scale: Positive | None = Field(
        0.5,
        description="Value that every gamma starts from, if the run starts from random weights "
        "(default: the paper; null: as the network is initialized).",
    )
    pretrained: bool = Field(
        False, description="Start from the base network instead of random weights (the paper's)."
    )
    allocation: Allocation = Field(
        "global", description="Distribution of a ratio of costs; global: the paper's ranking."
    )


def subgradient(scales: Tensor, sparsity: float) -> Tensor:
    """Return the subgradient of sparsity * sum |gamma| (Eq. 1), shape (units,); 0 at 0."""
    return sparsity * scales.sign()


class Slimming(Method[SlimmingOptions]):
    """Train with the penalty, prune by |gamma|, fine-tune."""

    summary = "L1 penalty on batch-norm scales in training, then pruning by them (Liu et al.)"
    Options = SlimmingOptions
    start = "fresh"
    recipe_roles = ("sparsify", "fine_tune")

    def starts_from(self) -> Start:
        """Return fresh, or base if the option says so."""
        return "base" if self.options.pretrained else "fresh"

    def phases(self, recipes: Mapping[str, Recipe], budget: Budget) -> list[Phase]:
        """Return sparsify, at whose end units are removed, and fine_tune."""
        hooks = frozenset({"attach", "before_optimizer_step"})
        sparsify = recipes["sparsify"]
        return [
            training("sparsify", sparsify, hooks=hooks, reportable_from=None, then=budget),
            training("fine_tune", recipes["fine_tune"]),
        ]

    def score(self, run: Run, groups: Mapping[str, ChannelGroup]) -> dict[str, Tensor]:
        """Return |gamma| of each unit."""
        return BNScale().scores(run, groups)

    def before_phase(self, run: Run) -> None:
        """Set the initial scales; TrainingError if a group has no batch norm."""
        if run.phase.name != "sparsify":
            return
        for group in self.candidates(run).values():
            scale_members(run.model, group)
        if self.starts_from() == "fresh" and self.options.initial_scale is not None:
            with torch.no_grad():
                for name in scale_names(run.model):
                    run.params[name].fill_(self.options.initial_scale)

    def attach(self, run: Run) -> list[RemovableHandle]:
        """Look up the scales."""
        self.scales = [run.params[name] for name in sorted(scale_names(run.model))]
        return []

    def before_optimizer_step(self, run: Run) -> None:
        """Add the subgradient to the gradients of the scales."""
        for scales in self.scales:
            assert scales.grad is not None
            scales.grad.add_(subgradient(scales.detach(), self.options.sparsity))
