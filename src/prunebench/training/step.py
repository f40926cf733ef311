"""One optimizer step, in tensors alone: no host read, no number that changes between steps."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from prunebench.experiments.recipe import Recipe
from prunebench.methods.base import Method, Run
from prunebench.training.optimizer import Optimizer

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
        """Empty the sums in place: a recorded step goes on adding to them."""
        self.loss.zero_()
        self.correct.zero_()
        self.images = 0


@dataclass(frozen=True)
class Network:
    """How a step calls the network: as it is, compiled, or as one of several processes.

    `without_reduction` is the context in which a backward pass keeps its gradients to itself, for
    all parts of a batch but the last.
    """

    forward: Callable[[Tensor], Tensor]
    without_reduction: Callable[[], AbstractContextManager[None]] = nullcontext


def train_step(
    run: Run,
    method: Method,  # type: ignore[type-arg]
    optimizer: Optimizer,
    recipe: Recipe,
    inputs: Tensor,
    labels: Tensor,
    sums: Sums,
    *,
    network: Network | None = None,
    parts: Sequence[tuple[slice, float]] = WHOLE,
) -> None:
    """Train on one batch: forward, loss, backward of each part, hooks and optimizer, masks.

    `sums` takes the whole loss, so that a term of the method that is not finite is noticed too;
    the number of images in it is the caller's.
    """
    hooks = run.phase.hooks
    network = network or Network(run.model)
    optimizer.zero_grad()
    for number, (part, weight) in enumerate(parts, start=1):
        x, y = inputs[part], labels[part]
        with nullcontext() if number == len(parts) else network.without_reduction():
            # No cache: PyTorch empties it where the outermost block ends, and the loop's own block
            # (`arithmetic`) ends with the phase; until then the first step's weights would stay.
            with torch.autocast(
                x.device.type,
                torch.bfloat16,
                enabled=recipe.precision == "bf16",
                cache_enabled=False,
            ):
                logits = network.forward(x)
                loss = F.cross_entropy(logits.float(), y, label_smoothing=recipe.label_smoothing)
            total = loss + method.loss_term(run) if "loss_term" in hooks else loss
            (total if weight == 1.0 else total * weight).backward()  # type: ignore[no-untyped-call]
        with torch.no_grad():
            sums.loss += total.detach() * len(y)
            sums.correct += (logits.argmax(dim=1) == y).sum()
    optimizer.clip()
    if "before_optimizer_step" in hooks:
        method.before_optimizer_step(run)
    optimizer.step()
    if "after_optimizer_step" in hooks:
        method.after_optimizer_step(run)
    apply_masks(run)


def apply_masks(run: Run) -> None:
    """Set what is masked to zero, in place."""
    with torch.no_grad():
        for name, mask in run.masks.items():
            run.params[name].mul_(mask)
