"""SGD and Adam with the learning rate in a tensor and moments by parameter name."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn
from torch.optim.adam import adam
from torch.optim.sgd import sgd

from prunebench.channels.removal import slice_tensor
from prunebench.experiments.recipe import Recipe


@dataclass
class Moments:
    """The state of an optimizer by parameter name; SGD only has `first`.

    Attributes
    ----------
    first
        Momenta, in the parameter's shape.
    second
        Adam's second moments, in the parameter's shape.
    steps
        Adam's number of steps, float32 ().
    """

    first: dict[str, Tensor] = field(default_factory=dict)
    second: dict[str, Tensor] = field(default_factory=dict)
    steps: dict[str, Tensor] = field(default_factory=dict)

    def sliced(self, cuts: Mapping[str, Sequence[tuple[int, Tensor]]]) -> Moments:
        """Return the moments after a removal, given kept indices by parameter and dimension."""
        first, second = (
            {name: slice_tensor(moment, list(cuts.get(name, []))) for name, moment in of.items()}
            for of in (self.first, self.second)
        )
        return Moments(first, second, self.steps)

    def tensors(self) -> Iterator[Tensor]:
        """Yield all tensors."""
        for of in (self.first, self.second, self.steps):
            yield from of.values()


class Optimizer:
    """A fused optimizer over named parameters.

    The learning rate is a tensor on the device, so that a captured step follows it. Moments start
    at zero, which gives the same bits as allocating them in the first step. Given `moments` of
    another kind of optimizer are ignored. The functional form of PyTorch's optimizers is used,
    because the classes load PyTorch's compiler at the first step, which takes longer than many runs
    on small images.
    """

    def __init__(
        self,
        params: Mapping[str, nn.Parameter],
        recipe: Recipe,
        moments: Moments | None = None,
    ) -> None:
        self.params, self.recipe = dict(params), recipe
        one = next(iter(self.params.values()))
        self.device = one.device
        # CUDA's fused optimizers read float32; on the CPU, float64 weights keep all digits of it.
        is_double = one.dtype == torch.float64 and self.device.type == "cpu"
        dtype = torch.float64 if is_double else torch.float32
        self.lr = torch.tensor(recipe.lr, dtype=dtype, device=self.device)
        self.moments = self._zeros()
        before = moments or Moments()
        if bool(before.second) == bool(self.moments.second):
            for own, taken in (
                (self.moments.first, before.first),
                (self.moments.second, before.second),
                (self.moments.steps, before.steps),
            ):
                for name, moment in taken.items():
                    own[name].copy_(moment)

    def _zeros(self) -> Moments:
        zeros = Moments({name: torch.zeros_like(p) for name, p in self.params.items()})
        if self.recipe.optimizer != "sgd":
            zeros.second = {name: torch.zeros_like(p) for name, p in self.params.items()}
            zeros.steps = {name: torch.zeros((), device=self.device) for name in self.params}
        return zeros

    def set_lr(self, lr: float) -> None:
        """Set the learning rate of the next steps."""
        self.lr.fill_(lr)

    def zero_grad(self) -> None:
        """Drop the gradients."""
        for parameter in self.params.values():
            parameter.grad = None

    def clip(self) -> None:
        """Scale all gradients down together if their norm exceeds the recipe's `clip_norm`."""
        if self.recipe.clip_norm is not None:
            torch.nn.utils.clip_grad_norm_(self.params.values(), self.recipe.clip_norm)

    @torch.no_grad()
    def step(self) -> None:
        """Update the parameters that have a gradient."""
        used = {name: p for name, p in self.params.items() if p.grad is not None}
        params = list(used.values())
        grads = [p.grad for p in params if p.grad is not None]
        first = [self.moments.first[name] for name in used]
        recipe = self.recipe
        if recipe.optimizer == "sgd":
            sgd(
                params,  # type: ignore[arg-type]
                grads,
                first,  # type: ignore[arg-type]
                fused=True,
                lr=self.lr,
                momentum=recipe.momentum,
                weight_decay=recipe.weight_decay,
                nesterov=recipe.nesterov,
                dampening=0.0,
                maximize=False,
            )
        else:
            adam(
                params,  # type: ignore[arg-type]
                grads,
                first,
                [self.moments.second[name] for name in used],
                [],
                [self.moments.steps[name] for name in used],
                fused=True,
                lr=self.lr,
                beta1=recipe.betas[0],
                beta2=recipe.betas[1],
                eps=recipe.eps,
                weight_decay=recipe.weight_decay,
                decoupled_weight_decay=recipe.optimizer == "adamw",
                amsgrad=False,
                maximize=False,
            )
