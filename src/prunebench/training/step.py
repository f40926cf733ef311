"""One optimizer step on one batch.

It works on tensors only, so that it can be captured: the CPU reads no tensor, and no Python number
changes between steps. The loss is the task's.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from prunebench.methods.base import Method, Run
from prunebench.training.optimizer import Optimizer
from prunebench.training.processes import Network
from prunebench.training.run import RunState

WHOLE = ((slice(None), 1.0),)


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

    def reset(self) -> None:
        """Reset the sums in place, since a captured step keeps adding to the same tensors."""
        self.loss.zero_()
        self.correct.zero_()
        self.images = 0


def train_step(
    run: RunState,
    method: Method[Any],
    optimizer: Optimizer,
    inputs: Tensor,
    targets: Tensor,
    sums: Sums,
    *,
    network: Network | None = None,
    parts: Sequence[tuple[slice, float]] = WHOLE,
) -> None:
    """Train on one batch: forward, loss and backward of each part, hooks, optimizer, masks.

    The whole loss is added to `sums`, so that a term of the method that is not finite is noticed
    too. The caller counts the images.
    """
    hooks, recipe = run.phase.hooks, run.recipe
    network = network or Network(run.model)
    optimizer.zero_grad()
    for number, (part, weight) in enumerate(parts, start=1):
        x, y = inputs[part], targets[part]
        with nullcontext() if number == len(parts) else network.without_reduction():
            # No cache: PyTorch clears it at the end of the outermost autocast block, which is the
            # loop's (`arithmetic`) and ends with the phase. The weights of the first step would
            # stay in it until then.
            with torch.autocast(
                run.device.type,
                torch.bfloat16,
                enabled=recipe.precision == "bf16",
                cache_enabled=False,
            ):
                loss, correct = run.task.loss(network.forward, x, y, recipe.label_smoothing)
            total = loss + method.loss_term(run) if "loss_term" in hooks else loss
            (total if weight == 1.0 else total * weight).backward()  # type: ignore[no-untyped-call]
        with torch.no_grad():
            sums.loss += total.detach() * len(y)
            if correct is not None:
                sums.correct += correct
    optimizer.clip()
    if "before_optimizer_step" in hooks:
        method.before_optimizer_step(run)
    optimizer.step()
    if "after_optimizer_step" in hooks:
        method.after_optimizer_step(run)
    apply_masks(run)


def apply_masks(run: Run) -> None:
    """Set masked weights to zero, in place."""
    with torch.no_grad():
        for name, mask in run.masks.items():
            run.params[name].mul_(mask)
