"""An L2 penalty on what is going to leave: the frame of GReg-1, GReg-2 and FixReg.

Every few steps the penalties lambda change; each step adds lambda * w to the gradient. When they
change no more the network settles for a while, then what was chosen leaves. What is chosen, how
lambda moves and when it stops is each method's own (`greg`).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Annotated, TypeVar

import torch
from pydantic import Field
from torch import Tensor
from torch.utils.hooks import RemovableHandle

from prunebench.channels.plan import Plan
from prunebench.core.phases import Budget, Phase, Steps, training
from prunebench.core.recipe import Positive, Recipe
from prunebench.core.shortening import Shrinks
from prunebench.methods.base import Before, Method
from prunebench.methods.contract import check_scores
from prunebench.methods.penalized import EntryUnits, SliceUnits, Units
from prunebench.methods.run import Run
from prunebench.methods.weights import (
    WeightOptions,
    check_unit,
    member_role,
    smallest,
    weight_counts,
    weight_layers,
)

Count = Annotated[int, Field(ge=1)]


class PenaltyOptions(WeightOptions):
    """Options of all three methods: the official code's defaults, and its README's for CIFAR."""

    ceiling: Positive = 1.0  # tau: what lambda grows beyond
    interval_steps: Count = 10  # K_u; ImageNet: 5
    # K_s; ImageNet: 40,000
    stabilize_steps: Annotated[int, Field(ge=0), Shrinks()] = 10_000


P = TypeVar("P", bound=PenaltyOptions)


def magnitude_ratio(scores: Tensor, pruned: Tensor) -> Tensor:
    """Return the mean score of the kept units over that of the pruned ones; official code.

    Both of one shape. Pruned units that are all zero give a very large number, not infinity.

    >>> magnitude_ratio(torch.tensor([3.0, 1.0, 5.0]), torch.tensor([False, True, False]))
    tensor(4.)
    """
    kept = ~pruned
    small = (scores * pruned).sum().clamp_min(1e-30)
    return (scores * kept).sum() / kept.sum() * pruned.sum() / small


def smoothed(before: float | None, new: float) -> float:
    """Return 0.9 before + 0.1 new, and the first value as it is; official code.

    >>> smoothed(None, 2.0), smoothed(2.0, 4.0)
    (2.0, 2.2)
    """
    return new if before is None else 0.9 * before + 0.1 * new


class PenalizedRemoval(Method[P]):
    """Choose units, make them small by a penalty, remove them, fine-tune.

    State, by group or layer that loses units: `counts`, how many; `pruned` and `penalty`, (units,)
    or of a weight's shape; `ratio`, the smoothed magnitude ratio, not measured for single weights
    (nor in the code: too slow); `done` lists those whose penalty has stopped moving; `updates`.
    """

    recipe_roles = ("regularize", "fine_tune")
    ratio_kinds = (*Method.ratio_kinds, "weights")
    takes_widths = True

    def __init__(self, options: P) -> None:
        super().__init__(options)
        self.interval = Steps(options.interval_steps)
        self.spread: dict[str, Tensor] = {}  # weight -> lambda, broadcast over it
        self.is_measured = options.unit != "weight"
        self.units: Units = SliceUnits(member_role(options)) if self.is_measured else EntryUnits()

    # --- what a method fills in
    def regularize_steps(self) -> int:
        """Return the most steps of the phase in which the penalty moves."""
        raise NotImplementedError

    def move(self, run: Run, names: Iterable[str], scores: Mapping[str, Tensor]) -> None:
        """Change the penalties of these layers in place; `scores` are of the present weights."""
        raise NotImplementedError

    def is_done(self, name: str, largest: float) -> bool:
        """Whether a layer's penalty, `largest` at most, moves no more; asked in network order."""
        raise NotImplementedError

    # --- over time
    def phases(self, recipes: Mapping[str, Recipe], budget: Budget) -> list[Phase]:
        """Return regularize, stabilize, fine_tune.

        The step at which the penalty stops is not taken in the first, so stabilize has one step
        more than K_s: 12 in all in the example of GReg's tests.
        """
        check_unit(self.options, budget)
        recipe = recipes["regularize"]
        if recipe.epochs is not None:
            raise ValueError("the penalty decides how long 'regularize' is; its recipe must not")
        return [
            Phase(
                name="regularize",
                recipe=recipe,
                length=Steps(self.regularize_steps()),
                until_finished=True,
                hooks=frozenset({"attach", "decide", "before_optimizer_step", "after_epoch"}),
                reportable_from=None,
            ),
            Phase(
                name="stabilize",
                recipe=recipe,
                length=Steps(self.options.stabilize_steps + 1),
                optimizer="carry",
                hooks=frozenset({"attach", "before_optimizer_step", "after_epoch"}),
                reportable_from=None,
                then=budget,
            ),
            training("fine_tune", recipes["fine_tune"]),
        ]

    def before_phase(self, run: Run) -> None:
        """Choose the units of all layers, with no penalty yet; Algorithm 1, lines 2-4."""
        if run.phase.name != "regularize":
            return
        budget = next(phase.then for phase in run.phases if phase.then is not None)
        if self.options.unit == "weight":
            names = list(weight_layers(run.graph, self.options))
            scores = self.units.scores(run.params, run.graph, names)
            counts = weight_counts(scores, budget, self.options)
        else:
            groups = self.candidates(run)
            scores = self.units.scores(run.params, run.graph, groups)
            check_scores(self, groups, scores)
            counts = self.allocate(run, scores, budget)
        counts = {name: count for name, count in counts.items() if count}
        pruned = {name: smallest(scores[name], count) for name, count in counts.items()}
        self.state = {
            "counts": counts,
            "pruned": pruned,
            "penalty": {n: torch.zeros_like(scores[n], dtype=torch.float32) for n in counts},
            "ratio": {},
            "done": [],
            "updates": 0,
        }

    def attach(self, run: Run) -> list[RemovableHandle]:
        """Lay the penalties out as the weights they are multiplied with."""
        self.spread = self.units.spread(run.params, run.graph, self.state["penalty"])
        self.units.fill(self.spread, run.graph, self.state["penalty"])
        return []

    def decide(self, run: Run) -> None:
        """Move the penalties, then see layer by layer which have moved enough."""
        state = self.state
        moving = [name for name in state["pruned"] if name not in state["done"]]
        if not moving:
            return
        state["updates"] += 1
        scores = self.units.scores(run.params, run.graph, moving)
        self.move(run, moving, scores)
        facts = []
        for name in moving:
            largest = state["penalty"][name].max()
            ratio = largest
            if self.is_measured:
                ratio = magnitude_ratio(scores[name], state["pruned"][name]).float()
            facts.append(torch.stack([ratio, largest]))
        for name, (ratio, largest) in zip(moving, torch.stack(facts).tolist(), strict=True):
            if self.is_measured:
                state["ratio"][name] = smoothed(state["ratio"].get(name), ratio)
            if self.is_done(name, largest):
                state["done"].append(name)
        self.units.fill(self.spread, run.graph, state["penalty"])

    def finished(self, run: Run) -> bool:
        """Whether no layer's penalty moves any more."""
        return len(self.state["done"]) == len(self.state["pruned"])

    def before_optimizer_step(self, run: Run) -> None:
        """Add lambda * w to the gradients of the weights; biases and batch norm get none."""
        for name, penalty in self.spread.items():
            weight = run.params[name]
            assert weight.grad is not None
            weight.grad.addcmul_(weight.detach(), penalty)

    def after_epoch(self, run: Run) -> None:
        """Log the penalty and the magnitude ratio of each layer, as it is and not smoothed."""
        pruned = self.state["pruned"]
        scores = self.units.scores(run.params, run.graph, pruned)
        for name, penalty in self.state["penalty"].items():
            run.log(name, "penalty", penalty.max())
            if name in pruned:
                run.log(name, "magnitude_ratio", magnitude_ratio(scores[name], pruned[name]))

    # --- afterwards
    def select(self, run: Run, budget: Budget) -> Plan:
        """Return the units chosen before; note how small they are now."""
        pruned, penalty = self.state["pruned"], self.state["penalty"]
        if pruned:
            scores = self.units.scores(run.params, run.graph, pruned)
            ratios = [magnitude_ratio(scores[name], pruned[name]) for name in pruned]
            self.state["figures"] = {
                "magnitude_ratio": float(torch.stack(ratios).min()),
                "penalty": max(float(largest.max()) for largest in penalty.values()),
            }
        return self.units.plan(run.graph, pruned)

    def after_removal(self, run: Run, plan: Plan, before: Before) -> None:
        """Forget everything but the figures."""
        self.spread = {}
        self.state = {"figures": self.state.get("figures", {})}

    def figures(self) -> dict[str, float]:
        """Return, at removal, the smallest magnitude ratio of the layers and the largest penalty.

        Units that were still large do harm when they leave: a ratio below about 20 says that the
        penalty was too small for the learning rate and the number of steps.
        """
        return dict(self.state.get("figures", {}))
