"""LAMP: the share of a weight in the larger weights of its layer.

Source: Lee et al., Layer-adaptive Sparsity for the Magnitude-based Pruning, arXiv 2010.07611. The
paper prunes single weights. For filters and input channels, the sum of the squares of their weights
takes the place of a weight's square.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from prunebench.channels.groups import ChannelGroup
from prunebench.criteria.base import AnyUnitCriterion, ScoringRun
from prunebench.criteria.weights import FilterCriterion


def lamp(squares: Tensor) -> Tensor:
    """Return each square over the sum of those at least as large, of the same shape.

    Of equal squares, the later ones count as larger. All scores are 0 where all squares are.
    """
    ascending = squares.flatten().sort(stable=True)
    at_least = ascending.values.flip(0).cumsum(0).flip(0)
    shares = ascending.values / at_least.clamp_min(torch.finfo(squares.dtype).tiny)
    return torch.zeros_like(shares).scatter(0, ascending.indices, shares).view(squares.shape)


class Lamp(FilterCriterion, AnyUnitCriterion):
    """The LAMP score of filters, input channels or single weights."""

    summary = "one-shot, smallest share of a square in the larger ones of its layer (Lee et al.)"
    default_allocation = "global"

    def of_rows(self, rows: Tensor) -> Tensor:
        """Return the score of each row of (units, weights) by the sum of its squares."""
        return lamp(rows.square().sum(dim=1))

    def channel_scores(
        self, run: ScoringRun, groups: Mapping[str, ChannelGroup]
    ) -> dict[str, Tensor]:
        """Return the score of each unit by the weights that read it."""
        return self.scores_of(run, groups, "in")

    def weight_scores(self, run: ScoringRun, weights: Mapping[str, str]) -> dict[str, Tensor]:
        """Return the score of each weight: the paper's."""
        return {layer: lamp(run.params[name].detach() ** 2) for layer, name in weights.items()}
