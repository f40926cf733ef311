"""Pruning in rounds: how much leaves in each, so that all together meet one ratio.

Source: official code of OrthoReg (Lubana et al., arXiv 2009.05014), which prunes every criterion
in the same way. For a ratio p in n rounds, round k removes p / (k p + n (1 - p)) of the units then
present: n (1 - p) / (k p + n (1 - p)) are left, so every round removes less than the one before.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Annotated, TypeVar

from pydantic import Field, model_validator
from torch import Tensor

from prunebench.criteria.base import Run
from prunebench.experiments.phases import Budget
from prunebench.methods.base import Ratio
from prunebench.methods.global_ranking import GlobalRanking, RankingOptions


class RoundOptions(RankingOptions):
    """Options of methods that may prune in rounds."""

    rounds: Annotated[int, Field(ge=1)] = 1  # select, remove, train: so many times
    # Cumulative ratios after the rounds before the last, instead of the rule; the last is the
    # run's own
    thresholds: tuple[Ratio, ...] = ()

    @model_validator(mode="after")
    def _a_threshold_belongs_to_each_round(self) -> RoundOptions:
        if self.thresholds and len(self.thresholds) != self.rounds - 1:
            raise ValueError(
                f"{self.rounds} rounds need {self.rounds - 1} thresholds, not {self.thresholds}: "
                "the last round ends at the run's ratio"
            )
        if any(b <= a for a, b in zip(self.thresholds, self.thresholds[1:], strict=False)):
            raise ValueError(f"thresholds must rise, not {self.thresholds}")
        return self


R = TypeVar("R", bound=RoundOptions)


def round_ratio(ratio: float, k: int, rounds: int) -> float:
    """Return the fraction of the units then present that round k, from 1, removes.

    >>> round_ratio(0.5, 1, 2), round_ratio(0.5, 2, 2)
    (0.3333333333333333, 0.25)
    """
    return ratio / (k * ratio + rounds * (1 - ratio))


def gone_after(ratio: float, k: int, rounds: int) -> float:
    """Return the fraction of all units that have left after round k; `ratio` after the last.

    >>> [round(gone_after(0.75, k, 3), 4) for k in (1, 2, 3)]
    [0.5, 0.6667, 0.75]
    """
    return ratio if k == rounds else k * ratio / (k * ratio + rounds * (1 - ratio))


def threshold_ratios(thresholds: Sequence[float]) -> list[float]:
    """Return what each round removes of the units then present, from cumulative ratios.

    >>> [round(r, 6) for r in threshold_ratios([0.1, 0.5, 0.8])]
    [0.1, 0.444444, 0.6]
    """
    before = [0.0, *thresholds[:-1]]
    return [(t - b) / (1 - b) for b, t in zip(before, thresholds, strict=True)]


class InRounds(GlobalRanking[R]):
    """A method whose phases prune several times."""

    def round_ratios(self, ratio: float) -> list[float]:
        """Return what each round removes of the units then present."""
        options = self.options
        if options.thresholds:
            if ratio <= options.thresholds[-1]:
                raise ValueError(f"thresholds {options.thresholds} must lie below ratio {ratio}")
            return threshold_ratios([*options.thresholds, ratio])
        return [round_ratio(ratio, k, options.rounds) for k in range(1, options.rounds + 1)]

    def budgets(self, budget: Budget) -> list[Budget]:
        """Return what must have left after each round; ValueError where options do not fit."""
        options, rounds = self.options, self.options.rounds
        self.check(budget)
        if options.widths_from is not None and rounds > 1:
            raise ValueError("the widths of another run are taken over at once, not in rounds")
        if budget.ratio is None:
            if options.thresholds:
                raise ValueError("thresholds go with a ratio, not with layer_ratios")
            return [budget] * rounds
        self.round_ratios(budget.ratio)
        cumulative = [
            *(
                options.thresholds
                or (gone_after(budget.ratio, k, rounds) for k in range(1, rounds))
            ),
            budget.ratio,
        ]
        return [Budget(kind=budget.kind, ratio=ratio) for ratio in cumulative]

    def ratios_so_far(self, run: Run, budget: Budget) -> list[float]:
        """Return the round ratios up to the present round."""
        if self.options.rounds == 1:
            return super().ratios_so_far(run, budget)
        pruning = [phase for phase in run.phases if phase.then is not None]
        final = pruning[-1].then
        assert final is not None
        assert final.ratio is not None
        return self.round_ratios(final.ratio)[: self.present_round(run)]

    def present_round(self, run: Run) -> int:
        """Return the number of the round that the present phase ends, from 1."""
        names = [phase.name for phase in run.phases if phase.then is not None]
        return names.index(run.phase.name) + 1

    def allocate(self, run: Run, scores: Mapping[str, Tensor], budget: Budget) -> dict[str, int]:
        """Return the counts of the budget; ratios by layer come in the same rounds."""
        rounds = self.options.rounds
        if budget.kind != "auto" or rounds == 1:
            return super().allocate(run, scores, budget)
        k = self.present_round(run)
        return self._to_shares(
            run, {name: gone_after(self.options.layer_ratio(name), k, rounds) for name in scores}
        )
