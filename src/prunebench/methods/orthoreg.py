"""OrthoReg: train filters until they are nearly orthonormal, then prune by an ordinary score.

Source: Lubana, Trivedi, Hougen, Dick, Hero, OrthoReg: Robust Network Pruning Using Orthonormality
Regularization, arXiv 2009.05014, and its official code; the penalty stands in `orthonormality`,
the score in `gradient_scores` (fisher), the rounds in `rounds`, what is counted in
`global_ranking`. The network is trained with the penalty, pruned, retrained without; where more
rounds follow, a short phase with the penalty comes before each. The weight decay is 0 while the
penalty is on: that stands in the recipe "penalized" (24 epochs at 0.1 and one at 0.01).

The code's first release, of the day of the paper, penalizes the fully trained network; the newest
starts from random weights. The newest is followed here, and the first is the method
`orthoreg_from_base`. The README says that the paper used Adam; the code has SGD alone.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar

import torch
from torch import Tensor
from torch.utils.hooks import RemovableHandle

from prunebench.channels.groups import ChannelGroup
from prunebench.core.phases import Budget, Phase, training
from prunebench.core.recipe import Recipe
from prunebench.methods.base import Start
from prunebench.methods.criteria import ChosenCriterion
from prunebench.methods.gradient_scores import FisherScore
from prunebench.methods.orthonormality import (
    Orthonormality,
    PenaltyOptions,
    log_orthogonality,
)
from prunebench.methods.rounds import InRounds, RoundOptions
from prunebench.methods.run import Run

PENALIZED = frozenset({"attach", "loss_term", "after_epoch"})


class OrthoRegOptions(PenaltyOptions, RoundOptions):
    """Options of OrthoReg."""

    criterion: ChosenCriterion = FisherScore()


class OrthoReg(InRounds[OrthoRegOptions]):
    """From random weights: the penalty, then rounds of pruning and retraining.

    State: `orthogonality`, the mean over layers at the end of the last penalized epoch.
    """

    summary = "filters trained to be orthonormal, then pruned in rounds (Lubana et al.)"
    Options = OrthoRegOptions
    start: ClassVar[Start] = "fresh"
    recipe_roles = ("penalized", "retrain", "fine_tune")

    def phases(self, recipes: Mapping[str, Recipe], budget: Budget) -> list[Phase]:
        """Return (penalize, retrain) for each round; the last trains with `fine_tune` instead.

        At the end of each penalized phase filters leave.
        """
        found, rounds = [], self.options.rounds
        for k, part in enumerate(self.budgets(budget), start=1):
            number = "" if rounds == 1 else f"_{k}"
            found.append(
                training(
                    f"penalize{number}",
                    recipes["penalized"],
                    hooks=PENALIZED,
                    reportable_from=None,
                    then=part,
                )
            )
            if k < rounds:
                found.append(training(f"retrain{number}", recipes["retrain"], reportable_from=None))
        return [*found, training("fine_tune", recipes["fine_tune"])]

    def score(self, run: Run, groups: Mapping[str, ChannelGroup]) -> dict[str, Tensor]:
        """Return the scores of the chosen criterion."""
        return self.options.criterion.scores(run, groups)

    def before_phase(self, run: Run) -> None:
        """Log how orthogonal the layers are before the penalty works on them."""
        if "loss_term" in run.phase.hooks:
            log_orthogonality(run)

    def attach(self, run: Run) -> list[RemovableHandle]:
        """Lay the penalty out for the present structure."""
        self.penalty = Orthonormality(run, self.options)
        return []

    def loss_term(self, run: Run) -> Tensor:
        """Return lambda R."""
        return self.penalty.term(run.params)

    def after_epoch(self, run: Run) -> None:
        """Log lambda R and how orthogonal the layers are."""
        with torch.no_grad():
            run.log("all", "penalty", self.loss_term(run))
        self.state["orthogonality"] = float(torch.stack(log_orthogonality(run)).mean())

    def figures(self) -> dict[str, float]:
        """Return how orthogonal the layers were when the last filters left, on average."""
        return dict(self.state)


class OrthoRegFromBase(OrthoReg):
    """From the trained base network, as the code's first release."""

    summary = "OrthoReg that starts from the base network (the code's first release)"
    start = "base"
