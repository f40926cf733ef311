"""Pruning in rounds: how much each round removes, so that all rounds together meet one ratio.

Source: official code of OrthoReg (Lubana et al., arXiv 2009.05014), which prunes by every criterion
in the same rounds. For a ratio p in n rounds, round k removes p / (k p + n (1 - p)) of the units
then present. After it, n (1 - p) / (k p + n (1 - p)) of all units remain, so every round removes
fewer units than the one before.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import TypeVar

from pydantic import Field, model_validator
from torch import Tensor

from prunebench.experiments.phases import Budget
from prunebench.experiments.settings import Count
from prunebench.methods.base import Ratio, Run
from prunebench.methods.global_ranking import GlobalRanking, RankingOptions


class RoundOptions(RankingOptions):
    """Options of methods that can prune in several rounds."""

    rounds: Count = Field(1, description="Number of rounds; each selects, removes and trains.")
    thresholds: tuple[Ratio, ...] = Field(
        (),
        description="Cumulative ratios after each round but the last, which ends at the run's "
        "ratio; empty: OrthoReg's rule.",
    )

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
    """Return the fraction of all units removed after round k; `ratio` after the last.

    >>> [round(gone_after(0.75, k, 3), 4) for k in (1, 2, 3)]
    [0.5, 0.6667, 0.75]
    """
    return ratio if k == rounds else k * ratio / (k * ratio + rounds * (1 - ratio))


def threshold_ratios(thresholds: Sequence[float]) -> list[float]:
    """Return the fraction of present units that each round removes, from cumulative ratios.

    >>> [round(r, 6) for r in threshold_ratios([0.1, 0.5, 0.8])]
    [0.1, 0.444444, 0.6]
    """
    before = [0.0, *thresholds[:-1]]
    return [(t - b) / (1 - b) for b, t in zip(before, thresholds, strict=True)]


class InRounds(GlobalRanking[R]):
    """A method that can prune in several rounds."""

    def round_ratios(self, ratio: float) -> list[float]:
        """Return the fraction of the units then present that each round removes."""
        options = self.options
        if options.thresholds:
            if ratio <= options.thresholds[-1]:
                raise ValueError(f"thresholds {options.thresholds} must lie below ratio {ratio}")
            return threshold_ratios([*options.thresholds, ratio])
        return [round_ratio(ratio, k, options.rounds) for k in range(1, options.rounds + 1)]

    def numbered_rounds(self, budget: Budget) -> Iterator[tuple[str, Budget, bool]]:
        """Yield each round: the suffix of its phases' names, its budget, whether it is the last.

        The suffix counts from "_1"; it is empty for a single round.
        """
        budgets = self.budgets(budget)
        for k, part in enumerate(budgets, start=1):
            yield "" if len(budgets) == 1 else f"_{k}", part, k == len(budgets)

    def budgets(self, budget: Budget) -> list[Budget]:
        """Return the budget of each round; ValueError if the options do not go together."""
        options, rounds = self.options, self.options.rounds
        self.check(budget)
        if options.widths_from is not None and rounds > 1:
            raise ValueError("widths_from takes the widths in one round; set rounds to 1")
        if budget.ratio is None and options.thresholds:
            raise ValueError("thresholds go with a ratio, not with layer_ratios")
        if rounds == 1:
            return [budget]
        if budget.ratio is None:
            return [replace(budget, round=k) for k in range(1, rounds + 1)]
        removed = self.round_ratios(budget.ratio)
        cumulative = options.thresholds or [
            gone_after(budget.ratio, k, rounds) for k in range(1, rounds)
        ]
        return [
            replace(budget, ratio=ratio, round=k, round_ratios=tuple(removed[:k]))
            for k, ratio in enumerate([*cumulative, budget.ratio], start=1)
        ]

    def allocate(self, run: Run, scores: Mapping[str, Tensor], budget: Budget) -> dict[str, int]:
        """Return the counts of the budget; `layer_ratios` are reached in the same rounds."""
        rounds = self.options.rounds
        if budget.kind != "auto" or rounds == 1:
            return super().allocate(run, scores, budget)
        return self._to_shares(
            run,
            {
                name: gone_after(self.options.layer_ratio(name), budget.round, rounds)
                for name in scores
            },
        )
