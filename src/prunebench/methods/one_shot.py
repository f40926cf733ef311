"""Pruning by a criterion: score, remove, fine-tune; once, or in OrthoReg's rounds.

`l1` is the control of GReg's Table 1 (Wang et al., arXiv 2012.09243): at the same ratios it
removes exactly the filters that GReg-1 removes, at once, and fine-tunes them the same way.
`random` is the control that every table carries: ShrinkBench found it stronger than many papers
suggest. Where the other criteria come from stands beside them, in `weight_scores`,
`gradient_scores` and `curvature_scores`. OrthoReg's baselines (Lubana et al., arXiv 2009.05014)
are `fisher`, `tfo`, `l1` with the sum, `l2`, `rdt`, `bn_scale` and `grasp` in rounds, each followed
by the same retraining.

`l1` and `random` also prune input channels or single weights (option `unit`): single weights, layer
by layer or ranked together, are the control of GReg's unstructured pruning.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar

import torch
from torch import Tensor

from prunebench.channels.groups import ChannelGroup
from prunebench.channels.plan import Plan
from prunebench.criteria.base import Criterion, RandomScore, Run
from prunebench.criteria.curvature import GraSPScore, RDTScore
from prunebench.criteria.gradients import FisherScore, TaylorScore, TFOScore
from prunebench.criteria.masks import MaskFisherScore
from prunebench.criteria.weights import BNScaleScore, FPGMScore, L1Score, L2Score, median_count
from prunebench.experiments.phases import Budget, Phase, training
from prunebench.experiments.recipe import Recipe
from prunebench.methods.base import MethodOptions
from prunebench.methods.rounds import InRounds, RoundOptions
from prunebench.methods.unstructured import (
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


class OneShot(InRounds[RoundOptions]):
    """Select and remove at once, then fine-tune; or both in several rounds."""

    Options: ClassVar[type[MethodOptions]] = RoundOptions
    takes_widths = True

    def phases(self, recipes: Mapping[str, Recipe], budget: Budget) -> list[Phase]:
        """Return select, fine_tune; numbered from 1 where there are several rounds."""
        found, rounds = [], self.options.rounds
        for k, part in enumerate(self.budgets(budget), start=1):
            number = "" if rounds == 1 else f"_{k}"
            found.append(Phase(name=f"select{number}", then=part))
            reportable = 0.0 if k == rounds else None
            found.append(
                training(f"fine_tune{number}", recipes["fine_tune"], reportable_from=reportable)
            )
        return found

    def score(self, run: Run, groups: Mapping[str, ChannelGroup]) -> dict[str, Tensor]:
        """Return the scores of the criterion that the options are."""
        assert isinstance(self.options, Criterion)
        return self.options.scores(run, groups)


class UnitOptions(WeightOptions, RoundOptions):
    """What is pruned, and in how many rounds."""


class UnitOneShot(OneShot):
    """Pruning of filters, input channels or single weights."""

    Options = UnitOptions
    options: UnitOptions
    ratio_kinds = (*OneShot.ratio_kinds, "weights")

    def phases(self, recipes: Mapping[str, Recipe], budget: Budget) -> list[Phase]:
        """Return the phases; ValueError where unit, rounds and kind of ratio do not fit."""
        check_unit(self.options, budget)
        by_layer = self.options.unit == "weight" and budget.ratio is None
        if by_layer and self.options.rounds > 1:
            raise ValueError("layer_ratios of single weights are met at once, not in rounds")
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


class L1Options(L1Score, UnitOptions):
    """How |w| is taken together."""


class L1(UnitOneShot):
    """Units with the smallest absolute weights leave."""

    summary = "one-shot, smallest mean |w| of a filter (Li et al.; GReg's control)"
    Options = L1Options
    options: L1Options

    def score(self, run: Run, groups: Mapping[str, ChannelGroup]) -> dict[str, Tensor]:
        """Return the scores of each unit's filters or input channels."""
        return self.options.scores_of(run, groups, member_role(self.options))

    def score_weights(self, run: Run, layers: Mapping[str, str]) -> dict[str, Tensor]:
        """Return |w|."""
        return weight_magnitudes(run.params, layers)


class RandomOptions(RandomScore, UnitOptions):
    """What is pruned."""


class Random(UnitOneShot):
    """Units drawn at random leave, as many as elsewhere."""

    summary = "one-shot, filters drawn at random: the control"
    Options = RandomOptions

    def score_weights(self, run: Run, layers: Mapping[str, str]) -> dict[str, Tensor]:
        """Return uniform random numbers, a function of seed and layer."""
        return {
            name: torch.rand(run.params[weight].shape, generator=run.generator("weights", name)).to(
                run.device
            )
            for name, weight in layers.items()
        }


class L2Options(L2Score, RoundOptions):
    """No options of its own."""


class L2(OneShot):
    """Filters with the smallest Euclidean norm leave."""

    summary = "one-shot, smallest L2 norm of a filter"
    Options = L2Options


class BNScaleOptions(BNScaleScore, RoundOptions):
    """Whether scales are divided by the fan-in."""


class BNScale(OneShot):
    """Channels with the smallest batch-norm scale leave."""

    summary = "one-shot, smallest |gamma| of batch norm (Liu et al.)"
    Options = BNScaleOptions


class FPGMOptions(FPGMScore, RoundOptions):
    """How many filters leave by their norm."""


class FPGM(OneShot):
    """Filters nearest to all others leave."""

    summary = "one-shot, filters nearest to the geometric median (He et al.)"
    Options = FPGMOptions

    def pruned_count(self, n_units: int, ratio: float) -> int:
        """Return the count of FPGM's rounding."""
        assert isinstance(self.options, FPGMScore)
        return median_count(n_units, ratio, self.options.norm_rate)


class TaylorOptions(TaylorScore, RoundOptions):
    """Which images are looked at."""


class Taylor(OneShot):
    """Filters whose weights matter least to the loss, each on its own, leave."""

    summary = "one-shot, smallest sum of (w g)^2 of a filter (Molchanov et al.)"
    Options = TaylorOptions


class TFOOptions(TFOScore, RoundOptions):
    """Which images are looked at."""


class TFO(OneShot):
    """Channels whose batch-norm scale matters least to the loss leave."""

    summary = "one-shot, smallest (gamma g)^2 of batch norm (OrthoReg's baseline)"
    Options = TFOOptions


class FisherOptions(FisherScore, RoundOptions):
    """Which images are looked at."""


class Fisher(OneShot):
    """Filters whose removal changes the loss least, to first order, leave."""

    summary = "one-shot, smallest (sum of w g)^2 of a filter (OrthoReg's score and baseline)"
    Options = FisherOptions


class RDTOptions(RDTScore, RoundOptions):
    """Which images are looked at."""


class RDT(OneShot):
    """Filters to which the outputs are least sensitive leave."""

    summary = "one-shot, smallest sensitivity of the outputs (OrthoReg's baseline rdt)"
    Options = RDTOptions


class GraSPOptions(GraSPScore, RoundOptions):
    """Which images are looked at, and the temperature."""


class GraSP(OneShot):
    """Filters that hold the gradient back most leave."""

    summary = "one-shot, smallest sum of w (Hg) of a filter (Wang et al.; OrthoReg's baseline)"
    Options = GraSPOptions


class MaskFisherOptions(MaskFisherScore, RoundOptions):
    """Which images are looked at, and what a score is divided by."""


class MaskFisher(OneShot):
    """Units whose masks matter least to the loss, per saved cost, leave."""

    summary = "one-shot, smallest squared mask gradients of coupled units (Group Fisher's score)"
    Options = MaskFisherOptions
