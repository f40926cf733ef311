"""IncReg to an accuracy: prune a little, retrain, accept or go back, and repeat.

Source: the multi-stage branch of IncReg's code (MultiStage_RegCol_2), in its given-accuracy mode.
Each layer has a step, the ratio at which all convolutions together lose half of their computation;
`layer_ratios` sets the steps, and without it IncReg's rule does. A stage that prunes a share x
raises each ratio by x / 0.5 times the step. It is accepted if the mean of its three best accuracies
while retraining is at most 0.0005 below the border. The code starts at x = 0.2. After a failed
stage it returns to the last accepted network and tries a smaller x.

The network at the start counts as accepted: the code does not say what happens if the first stage
fails. Accuracies are those of the validation split after each epoch of retraining. The code tests
every 500 or 1000 iterations and lowers its learning rate by those tests; here a recipe does.
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

TOLERANCE = 5e-4  # by which an accepted accuracy may be below the border
SMALLEST_SHARE = 0.01  # a stage that would prune less ends the search
STEPS_SAVE = 0.5  # share of the computation that the steps save together


class IncRegAccuracyOptions(IncRegOptions):
    """Options of IncReg to an accuracy."""

    border: Annotated[float, Field(gt=0, le=1)] | None = Field(
        None,
        description="Validation accuracy, as a fraction, that a pruned network must reach "
        "(default: the accuracy at the start).",
    )
    bound: Annotated[float, Field(gt=0, lt=1)] = Field(
        0.9, description="Largest pruning ratio of a layer (default: the code on ImageNet)."
    )


def best_three(accuracies: list[float]) -> float:
    """Return the mean of the three best accuracies, or of all if there are fewer.

    >>> best_three([0.5, 0.25, 1.0, 0.75])
    0.75
    """
    best = sorted(accuracies)[-3:]
    return sum(best) / len(best)


class IncRegAccuracy(IncReg):
    """IncReg in stages; the accuracy decides how much is pruned.

    The state has, beside IncReg's: `steps`, `targets` and `accepted`, ratios by layer (the steps,
    the target of the current stage, the ratios accepted last); `border` and `accepted_accuracy`;
    `x`, the share of the current stage; and `accuracies` of its retraining.
    """

    summary = "IncReg in stages, as far as the accuracy on the validation split permits"
    Options = IncRegAccuracyOptions
    ratio_kinds = ("auto",)
    decides_ratio = True
    needs_validation = True
    options: IncRegAccuracyOptions

    def phases(self, recipes: Mapping[str, Recipe], budget: Budget) -> list[Phase]:
        """Return prune, loss_eval and retrain of a stage, go_back, and the final fine_tune."""
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
        """Begin the search, a stage or its retraining."""
        if run.phase.name == "prune":
            if "steps" not in self.state:
                self.begin_search(run)
            self.begin(run, self.state["targets"], self.state["x"])
        elif run.phase.name == "retrain":
            self.state["accuracies"] = []

    def begin_search(self, run: Run) -> None:
        """Find the steps, and accept the network as it is."""
        layers = self.layers(run)
        if self.options.layer_ratios:
            steps = {path: self.options.layer_ratio(path) for path in layers}
        else:
            steps = self.shares_for(run, layers, Budget(kind="macs", ratio=STEPS_SAVE))
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
        """Set the targets of the next stage: a share x above the accepted ratios."""
        state, bound = self.state, self.options.bound
        state["x"] = x
        # Rounded, so that 0.2 + 0.1 of ten columns is three.
        state["targets"] = {
            path: max(before, round(min(before + x / STEPS_SAVE * state["steps"][path], bound), 9))
            for path, before in state["accepted"].items()
        }

    def after_epoch(self, run: Run) -> None:
        """Record the accuracy while retraining; log penalties while pruning."""
        if run.phase.name == "retrain":
            self.state["accuracies"].append(run.validate())
        super().after_epoch(run)

    def next_phase(self, run: Run, index: int) -> int | None:
        """Return the next phase; after retraining, that is prune, go_back or fine_tune."""
        names = [phase.name for phase in run.phases]
        if run.phase.name == "go_back":
            return names.index("prune")
        if run.phase.name != "retrain":
            return index + 1
        return names.index(self.verdict(run))

    def verdict(self, run: Run) -> str:
        """Accept the stage or not, set the next one's targets, and return the next phase's name."""
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
        """Return IncReg's figures over all stages, and the number of stages as `prune_stages`."""
        return {**super().figures(), "prune_stages": self.state.get("stages", 0)}
