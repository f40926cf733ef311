"""One-shot pruning by a criterion: score, remove, fine-tune.

`l1` is the control of GReg's Table 1 (Wang et al., arXiv 2012.09243): at the same ratios it
removes exactly the filters that GReg-1 removes, at once, and fine-tunes them the same way; the
criterion goes back to Li et al. (arXiv 1608.08710). `random` is the control that every table
carries: ShrinkBench found it stronger than many papers suggest.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from prunebench.channels.groups import ChannelGroup
from prunebench.core.phases import Budget, Phase, training
from prunebench.core.recipe import Recipe
from prunebench.methods.base import Method, MethodOptions, Run
from prunebench.methods.importance import mean_magnitude, unit_rows


class OneShot(Method[MethodOptions]):
    """Select and remove at once, then fine-tune."""

    takes_widths = True

    def phases(self, recipes: Mapping[str, Recipe], budget: Budget) -> list[Phase]:
        """Return select, fine_tune."""
        return [Phase(name="select", then=budget), training("fine_tune", recipes["fine_tune"])]


class L1(OneShot):
    """Filters with the smallest mean absolute weight leave."""

    summary = "one-shot, smallest mean |w| of a filter (Li et al.; GReg's control)"

    def score(self, run: Run, groups: Mapping[str, ChannelGroup]) -> dict[str, Tensor]:
        """Return the mean absolute weight of each unit's filters."""
        return {name: mean_magnitude(unit_rows(run.params, g)) for name, g in groups.items()}


class Random(OneShot):
    """Filters drawn at random leave, as many as elsewhere."""

    summary = "one-shot, filters drawn at random: the control"

    def score(self, run: Run, groups: Mapping[str, ChannelGroup]) -> dict[str, Tensor]:
        """Return uniform random numbers, a function of seed and group."""
        return {
            name: torch.rand(g.n_units, generator=run.generator("score", name))
            for name, g in groups.items()
        }
