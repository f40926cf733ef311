"""SGD whose learning rate is a tensor and whose momenta are kept by parameter name."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn
from torch.optim.sgd import sgd

from prunebench.core.recipe import Recipe


class Optimizer:
    """Fused SGD over named parameters.

    The learning rate is a tensor on the device, so that a captured step obeys it. Momenta start
    at zero, which gives the same bits as allocating them in the first step. The functional form
    of PyTorch's SGD is used: the class loads PyTorch's compiler at the first step, which takes
    longer than many a run on small images.
    """

    def __init__(
        self,
        params: Mapping[str, nn.Parameter],
        recipe: Recipe,
        momenta: Mapping[str, Tensor] | None = None,
    ) -> None:
        self.params, self.recipe = dict(params), recipe
        self.lr = torch.tensor(recipe.lr, device=next(iter(self.params.values())).device)
        self.momenta = {name: torch.zeros_like(p) for name, p in self.params.items()}
        for name, momentum in (momenta or {}).items():
            self.momenta[name].copy_(momentum)

    def set_lr(self, lr: float) -> None:
        """Set the learning rate of the steps to come."""
        self.lr.fill_(lr)

    def zero_grad(self) -> None:
        """Drop the gradients."""
        for parameter in self.params.values():
            parameter.grad = None

    @torch.no_grad()
    def step(self) -> None:
        """Update the parameters that have a gradient."""
        used = {name: p for name, p in self.params.items() if p.grad is not None}
        sgd(
            list(used.values()),
            [p.grad for p in used.values() if p.grad is not None],
            [self.momenta[name] for name in used],
            fused=True,
            lr=self.lr,
            momentum=self.recipe.momentum,
            weight_decay=self.recipe.weight_decay,
            nesterov=self.recipe.nesterov,
            dampening=0.0,
            maximize=False,
        )
