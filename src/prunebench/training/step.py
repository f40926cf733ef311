"""One optimizer step, in tensors alone: no host read, no number that changes between steps."""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from prunebench.core.recipe import Recipe
from prunebench.methods.base import Method, Run
from prunebench.training.optimizer import Optimizer


@dataclass
class Sums:
    """Sums over the steps of an epoch, on the device."""

    loss: Tensor  # float64 (): summed over images
    correct: Tensor  # int64 ()
    images: int = 0

    @classmethod
    def zero(cls, device: torch.device) -> Sums:
        """Return empty sums."""
        return cls(
            torch.zeros((), dtype=torch.float64, device=device),
            torch.zeros((), dtype=torch.int64, device=device),
        )


def train_step(
    run: Run,
    method: Method,  # type: ignore[type-arg]
    optimizer: Optimizer,
    recipe: Recipe,
    inputs: Tensor,
    labels: Tensor,
    sums: Sums,
) -> None:
    """Train on one batch: forward, loss, backward, hooks and optimizer, masks.

    `sums` takes the whole loss, so that a term of the method that is not finite is noticed too.
    """
    hooks = run.phase.hooks
    optimizer.zero_grad()
    with torch.autocast(inputs.device.type, torch.bfloat16, enabled=recipe.precision == "bf16"):
        logits = run.model(inputs)
        loss = F.cross_entropy(logits.float(), labels, label_smoothing=recipe.label_smoothing)
    total = loss + method.loss_term(run) if "loss_term" in hooks else loss
    total.backward()  # type: ignore[no-untyped-call]
    if "before_optimizer_step" in hooks:
        method.before_optimizer_step(run)
    optimizer.step()
    if "after_optimizer_step" in hooks:
        method.after_optimizer_step(run)
    apply_masks(run)
    with torch.no_grad():
        sums.loss += total.detach() * len(labels)
        sums.correct += (logits.argmax(dim=1) == labels).sum()
    sums.images += len(labels)


def apply_masks(run: Run) -> None:
    """Set what is masked to zero, in place."""
    with torch.no_grad():
        for name, mask in run.masks.items():
            run.params[name].mul_(mask)
