"""Random scores: the control for every other criterion.

ShrinkBench found random pruning stronger than many papers suggest (Blalock et al., What is the
State of Neural Network Pruning?, arXiv 2003.03033).
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from prunebench.channels.groups import ChannelGroup
from prunebench.criteria.base import AnyUnitCriterion, ScoringRun


class Random(AnyUnitCriterion):
    """Uniform random numbers in [0, 1), a function of seed, phase and group; no `combine`."""

    summary = "one-shot, filters drawn at random: the control"

    def scores(self, run: ScoringRun, groups: Mapping[str, ChannelGroup]) -> dict[str, Tensor]:
        """Return a random number for each unit."""
        return {
            name: torch.rand(g.n_units, generator=run.generator("score", name)).to(run.device)
            for name, g in groups.items()
        }

    def channel_scores(
        self, run: ScoringRun, groups: Mapping[str, ChannelGroup]
    ) -> dict[str, Tensor]:
        """Return the same numbers as for filters."""
        return self.scores(run, groups)

    def weight_scores(self, run: ScoringRun, weights: Mapping[str, str]) -> dict[str, Tensor]:
        """Return a random number for each weight."""
        return {
            layer: torch.rand(
                run.params[weight].shape, generator=run.generator("weights", layer)
            ).to(run.device)
            for layer, weight in weights.items()
        }
