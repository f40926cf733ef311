"""One-shot pruning by a criterion: score, remove, fine-tune.

`l1` is the control of GReg's Table 1 (Wang et al., arXiv 2012.09243): at the same ratios it
removes exactly the filters that GReg-1 removes, at once, and fine-tunes them the same way; the
criterion goes back to Li et al. (arXiv 1608.08710). `random` is the control that every table
carries: ShrinkBench found it stronger than many papers suggest.

Both also prune input channels or single weights (option `unit`): single weights, layer by layer or
ranked together, are the control of GReg's unstructured pruning.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from prunebench.channels.groups import ChannelGroup
from prunebench.channels.plan import Plan
from prunebench.core.phases import Budget, Phase, training
from prunebench.core.recipe import Recipe
from prunebench.methods.base import Method, MethodOptions, Run
from prunebench.methods.importance import mean_magnitude, unit_rows
from prunebench.methods.weights import (
    WeightOptions,
    check_unit,
    member_role,
    smallest,
    weight_counts,
    weight_layers,
    weight_magnitudes,
    without_masked,
    zeroing,
)


class OneShot(Method[MethodOptions]):
    """Select and remove at once, then fine-tune."""

    takes_widths = True

    def phases(self, recipes: Mapping[str, Recipe], budget: Budget) -> list[Phase]:
        """Return select, fine_tune."""
        return [Phase(name="select", then=budget), training("fine_tune", recipes["fine_tune"])]


class UnitOneShot(OneShot):
    """One-shot pruning of filters, input channels or single weights."""

    Options = WeightOptions
    options: WeightOptions
    ratio_kinds = (*OneShot.ratio_kinds, "weights")

    def phases(self, recipes: Mapping[str, Recipe], budget: Budget) -> list[Phase]:
        """Return select, fine_tune; ValueError where unit and kind of ratio do not fit."""
        check_unit(self.options, budget)
        return super().phases(recipes, budget)

    def score_weights(self, run: Run, layers: Mapping[str, str]) -> dict[str, Tensor]:
        """Return the importance of each weight by layer, of the weight's shape."""
        raise NotImplementedError

    def select(self, run: Run, budget: Budget) -> Plan:
        """Return the units that leave, or masks of single weights."""
        if self.options.unit != "weight":
            return super().select(run, budget)
        layers = weight_layers(run.graph, self.options)
        scores = without_masked(run, self.score_weights(run, layers))
        counts = weight_counts(scores, budget, self.options)
        return zeroing(
            run.params, {name: smallest(scores[name], n) for name, n in counts.items() if n}
        )


class L1(UnitOneShot):
    """Units with the smallest mean absolute weight leave."""

    summary = "one-shot, smallest mean |w| of a filter (Li et al.; GReg's control)"

    def score(self, run: Run, groups: Mapping[str, ChannelGroup]) -> dict[str, Tensor]:
        """Return the mean absolute weight of each unit's filters or input channels."""
        role = member_role(self.options)
        return {name: mean_magnitude(unit_rows(run.params, g, role)) for name, g in groups.items()}

    def score_weights(self, run: Run, layers: Mapping[str, str]) -> dict[str, Tensor]:
        """Return |w|."""
        return weight_magnitudes(run.params, layers)


class Random(UnitOneShot):
    """Units drawn at random leave, as many as elsewhere."""

    summary = "one-shot, filters drawn at random: the control"

    def score(self, run: Run, groups: Mapping[str, ChannelGroup]) -> dict[str, Tensor]:
        """Return uniform random numbers, a function of seed and group."""
        return {
            name: torch.rand(g.n_units, generator=run.generator("score", name))
            for name, g in groups.items()
        }

    def score_weights(self, run: Run, layers: Mapping[str, str]) -> dict[str, Tensor]:
        """Return uniform random numbers, a function of seed and layer."""
        return {
            name: torch.rand(run.params[weight].shape, generator=run.generator("weights", name)).to(
                run.device
            )
            for name, weight in layers.items()
        }
