"""SGD whose learning rate is a tensor and whose momenta are kept by parameter name."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from prunebench.core.recipe import Recipe


class Optimizer:
    """Fused SGD over named parameters.

    The learning rate is a tensor on the device, so that a captured step obeys it. Momenta start
    at zero, which gives the same bits as allocating them in the first step.
    """

    def __init__(
        self,
        params: Mapping[str, nn.Parameter],
        recipe: Recipe,
        momenta: Mapping[str, Tensor] | None = None,
    ) -> None:
        self.params = dict(params)
        device = next(iter(self.params.values())).device
        self.lr = torch.tensor(recipe.lr, device=device)
        self.sgd = torch.optim.SGD(
            self.params.values(),
            lr=self.lr,
            momentum=recipe.momentum,
            weight_decay=recipe.weight_decay,
            nesterov=recipe.nesterov,
            fused=True,
        )
        for name, parameter in self.params.items():
            buffer = torch.zeros_like(parameter)
            if momenta and name in momenta:
                buffer.copy_(momenta[name])
            self.sgd.state[parameter]["momentum_buffer"] = buffer

    @property
    def momenta(self) -> dict[str, Tensor]:
        """Return the momenta by parameter name."""
        return {n: self.sgd.state[p]["momentum_buffer"] for n, p in self.params.items()}

    def set_lr(self, lr: float) -> None:
        """Set the learning rate of the steps to come."""
        self.lr.fill_(lr)

    def zero_grad(self) -> None:
        """Drop the gradients."""
        self.sgd.zero_grad(set_to_none=True)

    def step(self) -> None:
        """Update the parameters."""
        self.sgd.step()
