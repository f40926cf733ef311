"""One-shot pruning: every criterion as a method that selects, removes and fine-tunes.

`one_shot` makes the method from the criterion: its options are the criterion's and those of every
one-shot method. It can also prune in OrthoReg's rounds. A criterion that scores single weights
gets the option `unit` too: filters, input channels or single weights.

Controls and baselines of the papers: `random` is the control of every table. `l1` is that of GReg's
Table 1 (Wang et al., arXiv 2012.09243): at the same ratios it removes exactly the filters that
GReg-1 removes, at once, and fine-tunes them the same way; with unit "weight", by layer or ranked
globally, it is the control of GReg's unstructured pruning. OrthoReg's baselines (Lubana et al.,
arXiv 2009.05014) are `fisher`, `tfo`, `l1` with the sum, `l2`, `rdt`, `bn_scale` and `grasp` in
rounds, each followed by the same retraining.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import cache
from typing import Any, ClassVar

from pydantic import create_model
from torch import Tensor

from prunebench.channels.groups import ChannelGroup
from prunebench.channels.plan import Plan
from prunebench.core.errors import ConfigError
from prunebench.criteria.base import AnyUnitCriterion, Criterion
from prunebench.experiments.phases import Budget, Phase, RatioKind
from prunebench.experiments.recipe import Recipe
from prunebench.methods.allocation import Allocation
from prunebench.methods.base import MethodOptions, Run
from prunebench.methods.fine_tuning import FineTuneOptions
from prunebench.methods.rounds import InRounds, RoundOptions
from prunebench.methods.unstructured import (
    WeightOptions,
    check_unit,
    smallest,
    weight_counts,
    weight_layers,
    without_masked,
    zeroed_layers,
    zeroing,
)


class OneShotOptions(RoundOptions, FineTuneOptions):
    """Options of every one-shot method; `one_shot` adds those of the criterion."""

    def __reduce__(self) -> tuple[Callable[..., Any], tuple[Any, ...]]:
        # pickle cannot find a class made by `one_shot` by its name
        return _restored, (type(self).__mro__[1], dict(self))


class OneShot(InRounds[OneShotOptions]):
    """Select and remove units, then fine-tune unless told otherwise; once, or in several rounds."""

    Options: ClassVar[type[MethodOptions]] = OneShotOptions
    takes_widths = True

    @property
    def criterion(self) -> Criterion:
        """Return the criterion: the options are one, with its own fields."""
        assert isinstance(self.options, Criterion)
        return self.options

    def needed_roles(self) -> tuple[str, ...]:
        """Return no role without fine-tuning."""
        return self.recipe_roles if self.options.fine_tune else ()

    def phases(self, recipes: Mapping[str, Recipe], budget: Budget) -> list[Phase]:
        """Return select, recalibrate, fine_tune; numbered from 1 if there are several rounds."""
        found = []
        for number, part, is_last in self.numbered_rounds(budget):
            found.append(Phase(name=f"select{number}", then=part))
            reportable = 0.0 if is_last else None
            found += self.options.after_removal(recipes, number, reportable_from=reportable)
        return found

    def score(self, run: Run, groups: Mapping[str, ChannelGroup]) -> dict[str, Tensor]:
        """Return the criterion's scores."""
        what = f"{type(self).__module__}.{type(self).__qualname__} {self.options!r} {[*groups]}"
        return run.scored(what, lambda: self.criterion.scores(run, groups))

    def pruned_count(self, n_units: int, ratio: float) -> int:
        """Return the criterion's own count, if it has one; otherwise the usual count."""
        if isinstance(self.options, Criterion):
            own = self.options.removed_count(n_units, ratio)
            if own is not None:
                return own
        return super().pruned_count(n_units, ratio)


class AnyUnitOptions(WeightOptions, OneShotOptions):
    """Options of one-shot methods that prune filters, input channels or single weights."""


class AnyUnitOneShot(OneShot):
    """One-shot pruning of filters, input channels or single weights."""

    Options = AnyUnitOptions
    options: AnyUnitOptions
    ratio_kinds = (*OneShot.ratio_kinds, "weights")

    @property
    def criterion(self) -> AnyUnitCriterion:
        """Return the criterion."""
        assert isinstance(self.options, AnyUnitCriterion)
        return self.options

    def phases(self, recipes: Mapping[str, Recipe], budget: Budget) -> list[Phase]:
        """Return the phases; ValueError if unit, rounds and kind of ratio do not go together."""
        check_unit(self.options, budget)
        by_layer = self.options.unit == "weight" and budget.ratio is None
        if by_layer and self.options.rounds > 1:
            raise ValueError("layer_ratios of single weights are met in one round; set rounds to 1")
        return super().phases(recipes, budget)

    def chooses_widths(self, kind: RatioKind) -> bool:
        """Return as for any method; False for unit "weight"."""
        return self.options.unit != "weight" and super().chooses_widths(kind)

    def zeroed_weights(self, run: Run) -> list[str] | None:
        """Return the pruned weights for unit "weight"."""
        return zeroed_layers(run, self.options)

    def score(self, run: Run, groups: Mapping[str, ChannelGroup]) -> dict[str, Tensor]:
        """Return the criterion's scores of filters or input channels."""
        if self.options.unit == "channel":
            return self.criterion.channel_scores(run, groups)
        return super().score(run, groups)

    def select(self, run: Run, budget: Budget) -> Plan:
        """Return the units to remove, or masks of single weights."""
        if self.options.unit != "weight":
            return super().select(run, budget)
        layers = weight_layers(run.graph, self.options)
        scores = without_masked(run, self.criterion.weight_scores(run, layers))
        counts = weight_counts(scores, budget, self.options)
        return zeroing(
            run.params, {name: smallest(scores[name], n) for name, n in counts.items() if n}
        )


@cache
def one_shot(criterion: type[Criterion]) -> type[OneShot]:
    """Return the one-shot method of a criterion.

    Raises
    ------
    ConfigError
        If the criterion has an option whose name every one-shot method uses already.
    """
    base = AnyUnitOneShot if issubclass(criterion, AnyUnitCriterion) else OneShot
    name = criterion.__name__
    for field in criterion.model_fields:
        if field in base.Options.model_fields:
            raise ConfigError(
                f"the criterion {name}: its option {field!r} is an option of one-shot methods"
            )
    allocation: Any = (Allocation, criterion.default_allocation)
    options = create_model(
        f"{name}Options",
        __base__=(criterion, base.Options),
        __module__=__name__,
        allocation=allocation,
    )
    own = {"Options": options, "summary": criterion.summary, "revision": criterion.revision}
    return type(name, (base,), {**own, "__module__": __name__, "__doc__": criterion.__doc__})


def _restored(criterion: type[Criterion], values: dict[str, Any]) -> MethodOptions:
    return one_shot(criterion).Options(**values)
