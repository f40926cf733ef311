"""IncReg to an accuracy: prune a little, retrain, accept or go back, until no stage is accepted.

Source: the multi-stage branch of IncReg's code (MultiStage_RegCol_2), in its given-accuracy mode.
`layer_ratios` are each layer's steps: the ratios that save half of all convolutions together. A
stage prunes a share x of everything, so its ratios rise by x / 0.5 of the steps. It is accepted if
the mean of its three best accuracies while retraining is no more than 0.0005 below the border. The
code starts at x = 0.2; after a stage that failed it goes back to what was accepted last and tries
less. The network at the start counts as accepted: the code says nothing about a first stage that
fails. Accuracies are of the validation split after each epoch of retraining; the code tests every
500 or 1000 iterations, and lowers its learning rate by those tests, where here a recipe does.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated

from pydantic import Field

from prunebench.experiments.phases import Budget, Phase, training
from prunebench.experiments.recipe import Recipe
from prunebench.methods.base import Run
from prunebench.methods.increg.formulas import next_share, smaller_share
from prunebench.methods.increg.penalty_table import IncRegOptions
from prunebench.methods.increg.to_ratios import RATIO_STAGE, IncReg

TOLERANCE = 5e-4  # below the border, as a fraction
SMALLEST_SHARE = 0.01  # a stage that would prune less ends the search
HALF = 0.5  # what the steps save together


class IncRegAccuracyOptions(IncRegOptions):
    """Options with the border that a pruned network must reach."""

    border: Annotated[float, Field(gt=0, le=1)] | None = None  # None: the accuracy at the start
    bound: Annotated[float, Field(gt=0, lt=1)] = 0.9  # largest ratio of a layer


class IncRegAccuracy(IncReg):
    """IncReg in stages; what is pruned at the end follows from the accuracy.

    State beside IncReg's: `steps`, `targets` and `accepted`, a ratio by layer: the steps, what the
    present stage prunes to, and what was accepted; `border`, `accepted_accuracy`; `x`, the share of
    the present stage; `accuracies` of its retraining.
    """

    summary = "IncReg in stages, as far as the accuracy on the validation split allows"
    Options = IncRegAccuracyOptions
    ratio_kinds = ("auto",)
    options: IncRegAccuracyOptions

    def phases(self, recipes: Mapping[str, Recipe], budget: Budget) -> list[Phase]:
        """Return a stage's prune, loss_eval, retrain, then go_back, and the last fine_tune."""
        return [
            *self.stage(recipes, budget),
            training(
                "retrain",
                recipes["fine_tune"],
                hooks=frozenset({"after_epoch"}),
                reportable_from=None,
            ),
            Phase(name="go_back", start="accepted"),
            training("fine_tune", recipes["fine_tune"], start="accepted"),
        ]

    def before_phase(self, run: Run) -> None:
        """Begin the search, a stage, or its retraining."""
        if run.phase.name == "prune":
            if "steps" not in self.state:
                self.begin_search(run)
            self.begin(run, self.state["targets"], self.state["x"])
        elif run.phase.name == "retrain":
            self.state["accuracies"] = []

    def begin_search(self, run: Run) -> None:
        """Find the steps, and take the network as it is for accepted."""
        layers = self.layers(run)
        if self.options.layer_ratios:
            steps = {path: self.options.layer_ratio(path) for path in layers}
        else:
            steps = self.shares_for_macs(run, layers, HALF)
        accuracy, border = run.validate(), self.options.border
        self.state |= {
            "steps": steps,
            "accepted": dict.fromkeys(steps, 0.0),
            "accepted_accuracy": accuracy,
            "border": accuracy if border is None else border,
            "stages": 0,
        }
        run.keep("accepted")
        self.aim(RATIO_STAGE)

    def aim(self, x: float) -> None:
        """Set what the next stage prunes to: x more than what is accepted."""
        state, bound = self.state, self.options.bound
        state["x"] = x
        # Rounded, so that 0.2 + 0.1 of ten columns are three.
        state["targets"] = {
            path: max(before, round(min(before + x / HALF * state["steps"][path], bound), 9))
            for path, before in state["accepted"].items()
        }

    def after_epoch(self, run: Run) -> None:
        """Note the accuracy while retraining, penalties while pruning."""
        if run.phase.name == "retrain":
            self.state["accuracies"].append(run.validate())
        super().after_epoch(run)

    def next_phase(self, run: Run, index: int) -> int | None:
        """Return the next phase; after retraining, a new stage, the way back, or the end."""
        names = [phase.name for phase in run.phases]
        if run.phase.name == "go_back":
            return names.index("prune")
        if run.phase.name != "retrain":
            return index + 1
        return names.index(self.verdict(run))

    def verdict(self, run: Run) -> str:
        """Accept the stage or not, aim at the next one, and name the phase that follows."""
        state = self.state
        state["stages"] += 1
        accuracy = best_three(state["accuracies"])
        if accuracy >= state["border"] - TOLERANCE:
            state |= {"accepted": state["targets"], "accepted_accuracy": accuracy}
            run.keep("accepted")
            self.aim(next_share(accuracy, state["border"]))
            return "fine_tune" if state["targets"] == state["accepted"] else "prune"
        x = smaller_share(state["x"], state["accepted_accuracy"], accuracy, state["border"])
        if x < SMALLEST_SHARE:
            return "fine_tune"
        self.aim(x)
        return "go_back"

    def figures(self) -> dict[str, float]:
        """Return the steps of pruning in all stages, and how many stages there were."""
        return {**super().figures(), "prune_stages": self.state.get("stages", 0)}


def best_three(accuracies: list[float]) -> float:
    """Return the mean of the three best, of all where there are fewer.

    >>> best_three([0.5, 0.25, 1.0, 0.75])
    0.75
    """
    best = sorted(accuracies)[-3:]
    return sum(best) / len(best)
