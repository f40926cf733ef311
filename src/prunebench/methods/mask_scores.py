"""Group Fisher's importance as a criterion: squared mask gradients, summed over images.

Source: Liu et al., Group Fisher Pruning, arXiv 2108.00708, section 3. The method `group_fisher`
sums them while the network trains and lets one unit leave at a time; here they are those of the
network as it is, batch norm in its running statistics, for one-shot pruning, rounds and tickets.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

import torch
from torch import Tensor

from prunebench.channels.costs import Costs
from prunebench.channels.groups import ChannelGroup
from prunebench.methods.gradients import DataCriterion, batch_gradients
from prunebench.methods.mask_gradients import MaskGradients, readers
from prunebench.methods.run import Run

# What a score is divided by. memory: the output elements that leave with a unit; macs: its
# multiply-accumulates; none: nothing
Normalize = Literal["memory", "macs", "none"]


def saved_by_a_unit(
    costs: Costs, group: str, normalize: Normalize, left: Mapping[str, int] | None = None
) -> int:
    """Return what a score is divided by, for one image; `left` are the units of each group."""
    if normalize == "none":
        return 1
    cost = costs.unit_cost(group, left)
    return cost.macs if normalize == "macs" else cost.activations


class MaskFisherScore(DataCriterion):
    """sum over images of (sum over copies of the mask of dL/dm)^2, per saved cost."""

    combine: Literal["joint"] = "joint"  # a mask's copies are summed before the square
    normalize: Normalize = "memory"  # of the present network

    def scores(self, run: Run, groups: Mapping[str, ChannelGroup]) -> dict[str, Tensor]:
        """Return the normalized score of each unit; ModelError where a mask has no gradient."""
        counted = {name: readers(group) for name, group in groups.items()}
        gradients = MaskGradients(run.model, groups, counted, self.batch)
        gradients.check_called(run.example)
        total = torch.zeros_like(gradients.table[0])
        trained = {name: p for name, p in run.params.items() if p.requires_grad}
        handles = gradients.watch()
        try:
            for images, _ in batch_gradients(run, trained, self.needs):
                total.add_(gradients.squares(), alpha=images**2)  # of the batch's mean loss
        finally:
            for handle in handles:
                handle.remove()
        return {
            name: total[place] / saved_by_a_unit(run.costs, name, self.normalize)
            for name, place in gradients.places.items()
        }
