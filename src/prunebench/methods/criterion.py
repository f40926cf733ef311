"""What a criterion is: settings that give each unit of a coupled group a number.

The same criterion ranks units for any method: one-shot pruning, OrthoReg's rounds, Early-Bird
tickets. A criterion leaves the network as it was: modes, buffers, gradients, requires_grad.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Literal

import torch
from torch import Tensor

from prunebench.channels.groups import ChannelGroup
from prunebench.core.recipe import Settings
from prunebench.methods.run import Run

Combine = Literal["joint", "sum", "mean", "first"]


class Criterion(Settings):
    """Options that every criterion has; each criterion's own class adds its own."""

    # How a unit's score is made where several layers produce it. joint: of all their weights as
    # if they were one filter's (sums before squares); sum, mean: of the layers' scores;
    # first: of the first layer alone
    combine: Combine = "joint"

    def scores(self, run: Run, groups: Mapping[str, ChannelGroup]) -> dict[str, Tensor]:
        """Return the importance of each unit by group, shape (units,); higher is kept."""
        raise NotImplementedError


class RandomScore(Criterion):
    """Uniform random numbers; `combine` means nothing here."""

    def scores(self, run: Run, groups: Mapping[str, ChannelGroup]) -> dict[str, Tensor]:
        """Return numbers in [0, 1), a function of seed, phase and group."""
        return {
            name: torch.rand(g.n_units, generator=run.generator("score", name))
            for name, g in groups.items()
        }


def combined(rows: Sequence[Tensor], combine: Combine, score: Callable[[Tensor], Tensor]) -> Tensor:
    """Return one score per unit, shape (units,), from one (units, entries) per layer.

    `score` takes (units, entries) to (units,).

    >>> rows = [torch.tensor([[1.0, 2.0]]), torch.tensor([[-1.0, 3.0]])]
    >>> [float(combined(rows, how, lambda r: r.sum(1) ** 2)) for how in ("joint", "sum", "mean")]
    [25.0, 13.0, 6.5]
    """
    match combine:
        case "joint":
            return score(torch.cat(list(rows), dim=1))
        case "first":
            return score(rows[0])
        case "sum":
            return torch.stack([score(layer) for layer in rows]).sum(dim=0)
        case "mean":
            return torch.stack([score(layer) for layer in rows]).mean(dim=0)
