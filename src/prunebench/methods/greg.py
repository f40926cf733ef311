"""What a penalty may lie on, behind one face: filters, input channels, single weights.

An L2 penalty on what is going to leave: the frame of GReg-1, GReg-2 and FixReg.

Every few steps the penalties lambda change; each step adds lambda * w to the gradient. When they
change no more the network settles for a while, then what was chosen leaves. What is chosen, how
lambda moves and when it stops is each method's own (`greg`).

Growing regularization: an L2 penalty that rises until what will be removed is small.

Source: Wang, Qin, Zhang, Fu, Neural Pruning via Growing Regularization, arXiv 2012.09243, and its
official code. GReg-1 chooses the filters with the smallest mean |w| of each layer before any
training and raises their penalty lambda by a constant every few steps. GReg-2 first raises all
filters' alike: flat directions of the loss give way sooner, so that the smallest filters by then
say more; these are chosen and pushed on, and the others relieved. Beyond a ceiling lambda stays as
it is while the network settles, then the chosen filters leave. FixReg, the code's control, sets
lambda to the ceiling at once.

Where paper and code differ, the code made the printed numbers and is the default:
- growth stops early once pruned weights are a thousandth of the kept ones (`ratio_stop`; null: the
  paper). GReg-1 asks this of all layers, GReg-2 of each; for single weights it is not asked.
- GReg-2 picks at the update that brings lambda to tau' (>=), where Algorithm 1 looks before the
  increment, one update later. The smoothed ratio also runs while picking, on what would be pruned.
- What GReg-2 keeps gets a penalty of -1e-4 (`recover`; null: the paper's -gamma).
- What leaves is what was chosen, where the paper says the smallest by then.
Followed too: counts are rounded up, and lambda is summed up in float32, so that 10,000 updates of
1e-4 exceed 1. How many leave of each layer is fixed by the base network, also for GReg-2.
"""

from __future__ import annotations

import functools
from collections.abc import Iterable, Mapping
from typing import Annotated, Protocol, TypeVar

import numpy as np
import torch
from pydantic import Field, model_validator
from torch import Tensor
from torch.utils.hooks import RemovableHandle

from prunebench.channels.groups import ChannelGraph, MemberRole
from prunebench.channels.plan import Plan
from prunebench.channels.unit_weights import mean_magnitude, members_with, unit_rows
from prunebench.criteria.base import Run
from prunebench.experiments.phases import Budget, Phase, Steps, training
from prunebench.experiments.recipe import Recipe
from prunebench.experiments.settings import Grows, Positive, Shrinks
from prunebench.methods.base import Before, Method, check_scores
from prunebench.methods.unstructured import (
    WeightOptions,
    check_unit,
    member_role,
    smallest,
    weight_counts,
    weight_layers,
    weight_name,
    zeroing,
)

Tensors = Mapping[str, Tensor]
Names = Iterable[str]


class Units(Protocol):
    """Scores, penalties and the end of one kind of unit; tensors are by group or layer."""

    def scores(
        self, params: Tensors, graph: ChannelGraph, names: Iterable[str]
    ) -> dict[str, Tensor]:
        """Return the mean absolute weight of each unit."""

    def spread(self, params: Tensors, graph: ChannelGraph, penalty: Tensors) -> dict[str, Tensor]:
        """Return, by weight, the tensor that each step multiplies it with."""

    def fill(self, spread: Tensors, graph: ChannelGraph, penalty: Tensors) -> None:
        """Copy the penalties into what `spread` has returned, in place."""

    def plan(self, graph: ChannelGraph, pruned: Tensors) -> Plan:
        """Return the plan by which the units leave that are True in `pruned`."""


class SliceUnits:
    """Units of coupled groups: filters (role "out") or input channels (role "in").

    Tensors have the shape (units,). A unit that several layers produce, or read, has the mean over
    all of their slices, and all of them are penalized.
    """

    def __init__(self, role: MemberRole) -> None:
        self.role = role

    def scores(
        self, params: Tensors, graph: ChannelGraph, names: Iterable[str]
    ) -> dict[str, Tensor]:
        """Return the mean |w| of each unit's slices; the paper's L1 norm in order."""
        return {n: mean_magnitude(unit_rows(params, graph.groups[n], self.role)) for n in names}

    def spread(self, params: Tensors, graph: ChannelGraph, penalty: Tensors) -> dict[str, Tensor]:
        """Return zeros that broadcast over each weight: one number per slice."""
        found: dict[str, Tensor] = {}
        for name, values in penalty.items():
            for member in members_with(graph.groups[name], self.role):
                weight = params[member.parameters[0]]
                shape = [1] * weight.ndim
                shape[member.dim] = -1
                zeros = values.new_zeros(weight.shape[member.dim]).view(shape)
                found.setdefault(member.parameters[0], zeros)
        return found

    def fill(self, spread: Tensors, graph: ChannelGraph, penalty: Tensors) -> None:
        """Give every slice the penalty of its unit."""
        for name, values in penalty.items():
            for member in members_with(graph.groups[name], self.role):
                along = spread[member.parameters[0]].view(-1)
                along[member.index.to(values.device)] = values[:, None]

    def plan(self, graph: ChannelGraph, pruned: Tensors) -> Plan:
        """Return a removal."""
        return Plan(removed={name: units.nonzero()[:, 0].cpu() for name, units in pruned.items()})


class EntryUnits:
    """Single weights; tensors have a weight's shape."""

    def scores(self, params: Tensors, graph: ChannelGraph, names: Names) -> dict[str, Tensor]:
        """Return |w|."""
        return {name: params[weight_name(name, params)].detach().abs() for name in names}

    def spread(self, params: Tensors, graph: ChannelGraph, penalty: Tensors) -> dict[str, Tensor]:
        """Return the penalties themselves."""
        return {weight_name(name, params): values for name, values in penalty.items()}

    def fill(self, spread: Tensors, graph: ChannelGraph, penalty: Tensors) -> None:
        """Do nothing: steps read the penalties where they are."""

    def plan(self, graph: ChannelGraph, pruned: Tensors) -> Plan:
        """Return masks."""
        return zeroing(graph.shapes, pruned)


Count = Annotated[int, Field(ge=1)]


class PenalizedRemovalOptions(WeightOptions):
    """Options of all three methods: the official code's defaults, and its README's for CIFAR."""

    ceiling: Positive = 1.0  # tau: what lambda grows beyond
    interval_steps: Count = 10  # K_u; ImageNet: 5
    # K_s; ImageNet: 40,000
    stabilize_steps: Annotated[int, Field(ge=0), Shrinks()] = 10_000


P = TypeVar("P", bound=PenalizedRemovalOptions)


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


class GRegOptions(PenalizedRemovalOptions):
    """Options of GReg-1."""

    # added to lambda at each update; in a shortened run lambda passes the ceiling as surely
    delta: Annotated[Positive, Grows(most="ceiling")] = 1e-4
    ratio_stop: Positive | None = 1000.0  # smoothed magnitude ratio that ends growth; None: paper


class GReg2Options(GRegOptions):
    """Options of GReg-2."""

    # added to every unit's lambda while picking
    delta_pick: Annotated[Positive, Grows(most="pick_ceiling")] = 1e-5
    pick_ceiling: Positive = 0.01  # tau': where lambda stands when the units are picked
    # lambda of the kept units afterwards; None: minus the recipe's weight decay, the paper
    recover: Annotated[float, Field(le=0)] | None = -1e-4

    @model_validator(mode="after")
    def _picking_comes_first(self) -> GReg2Options:
        if self.pick_ceiling >= self.ceiling:
            raise ValueError(
                f"pick_ceiling {self.pick_ceiling} must lie below the ceiling {self.ceiling}"
            )
        return self


class FixRegOptions(PenalizedRemovalOptions):
    """Options of FixReg."""

    # under the penalty, before K_s; official code
    fixed_steps: Annotated[Count, Shrinks()] = 50_000


def raise_penalty(penalty: Tensor, pruned: Tensor, delta: float) -> None:
    """Add delta to the penalty of the pruned units, in place; Algorithm 1 and Eq. 2.

    Both have one shape, float32 and bool.
    """
    penalty.add_(pruned.to(penalty.dtype) * delta)


def relieve(penalty: Tensor, pruned: Tensor, recover: float) -> None:
    """Set the penalty of the kept units, in place; Eq. 9, second case."""
    penalty.masked_fill_(~pruned, recover)


@functools.cache
def count_updates(start: float, delta: float, goal: float, *, beyond: bool) -> tuple[int, float]:
    """Return how many float32 updates bring lambda to the goal, or beyond it, and its value then.

    >>> count_updates(0.0, 0.25, 1.0, beyond=True), count_updates(0.0, 0.25, 1.0, beyond=False)
    ((5, 1.25), (4, 1.0))
    """
    penalty, step, top, count = np.float32(start), np.float32(delta), np.float32(goal), 0
    if step <= np.spacing(top) / 2:
        raise ValueError(f"in float32, steps of {delta} never exceed {goal}")
    while penalty < top or (beyond and penalty == top):
        penalty, count = penalty + step, count + 1
    return count, float(penalty)


class GReg1(PenalizedRemoval[GRegOptions]):
    """GReg-1: what leaves is chosen from the base network, and the rest never penalized."""

    summary = "growing regularization of the smallest filters, then removal (Wang et al.)"
    Options = GRegOptions

    def regularize_steps(self) -> int:
        """Return the step after the last update, were lambda alone to end the growth."""
        return (self.most_updates() - 1) * self.options.interval_steps + 1

    def most_updates(self) -> int:
        """Return how many updates bring lambda beyond the ceiling."""
        return count_updates(0.0, self.options.delta, self.options.ceiling, beyond=True)[0]

    def move(self, run: Run, names: Iterable[str], scores: Mapping[str, Tensor]) -> None:
        """Raise the penalty of what was chosen."""
        for name in names:
            raise_penalty(
                self.state["penalty"][name], self.state["pruned"][name], self.options.delta
            )

    def is_done(self, name: str, largest: float) -> bool:
        """Whether the layer whose ratio came last stops growing; strict in the ceiling, float32.

        The code's ratio stop asks for the ratios of all layers, as they are when a layer is
        visited: later layers have their last update's, stopped ones that of their end. So the
        last layer may stop an update or two before the others.
        """
        return self.are_small(self.state["ratio"].values()) or self.is_beyond(largest)

    def are_small(self, ratios: Iterable[float]) -> bool:
        """Whether all magnitude ratios have reached `ratio_stop`."""
        stop = self.options.ratio_stop
        return self.is_measured and stop is not None and all(ratio >= stop for ratio in ratios)

    def is_beyond(self, largest: float) -> bool:
        """Whether a penalty is larger than the ceiling."""
        return largest > float(np.float32(self.options.ceiling))


class GReg2(GReg1):
    """GReg-2: all are penalized alike at first, what is smallest then is chosen.

    Layers that lose nothing are not penalized. All others are picked at the same update, since
    their penalties are the same until then; `pruned` is what would be picked, until it is.
    """

    summary = "growing regularization that picks while it grows: Hessian-aware (Wang et al.)"
    Options = GReg2Options
    options: GReg2Options

    def picking(self) -> tuple[int, float]:
        """Return the updates that picking takes and where they bring lambda."""
        return count_updates(0.0, self.options.delta_pick, self.options.pick_ceiling, beyond=False)

    def most_updates(self) -> int:
        """Return how many updates bring lambda beyond the ceiling, picking included."""
        updates, penalty = self.picking()
        return (
            updates
            + count_updates(penalty, self.options.delta, self.options.ceiling, beyond=True)[0]
        )

    def move(self, run: Run, names: Iterable[str], scores: Mapping[str, Tensor]) -> None:
        """Raise all penalties while picking; afterwards those of what was picked; Eq. 9."""
        state, options = self.state, self.options
        left = self.picking()[0] - state["updates"]  # updates of picking after this one
        for name in names:
            penalty, pruned = state["penalty"][name], state["pruned"][name]
            if left < 0:
                raise_penalty(penalty, pruned, options.delta)
                relieve(penalty, pruned, self.recover(run))
            else:
                penalty.add_(options.delta_pick)
            if left == 0 or (left > 0 and self.is_measured):
                pruned.copy_(smallest(scores[name], state["counts"][name]))

    def recover(self, run: Run) -> float:
        """Return the penalty of what is kept after the pick."""
        if self.options.recover is not None:
            return self.options.recover
        assert run.phase.recipe is not None
        return -run.phase.recipe.weight_decay

    def is_done(self, name: str, largest: float) -> bool:
        """Whether a picked layer's own ratio is large enough, or its penalty beyond the ceiling."""
        is_picked = self.state["updates"] >= self.picking()[0]
        is_small = is_picked and self.are_small([self.state["ratio"].get(name, 0.0)])
        return is_small or self.is_beyond(largest)


class FixReg(PenalizedRemoval[FixRegOptions]):
    """FixReg: the chosen units get the whole penalty from the first step on; official code."""

    summary = "control: GReg-1's filters under a constant penalty, then removal"
    Options = FixRegOptions

    def regularize_steps(self) -> int:
        """Return the step after the first update beyond `fixed_steps`, where the code settles."""
        interval = self.options.interval_steps
        return (self.options.fixed_steps // interval + 1) * interval + 1

    def move(self, run: Run, names: Iterable[str], scores: Mapping[str, Tensor]) -> None:
        """Set the penalty of what was chosen to the ceiling."""
        for name in names:
            penalty, pruned = self.state["penalty"][name], self.state["pruned"][name]
            penalty.masked_fill_(pruned, self.options.ceiling)

    def is_done(self, name: str, largest: float) -> bool:
        """Whether this update comes after more than `fixed_steps`."""
        steps = (self.state["updates"] - 1) * self.options.interval_steps
        return bool(steps > self.options.fixed_steps)
