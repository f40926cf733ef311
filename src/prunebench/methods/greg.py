"""GReg: neural pruning via growing regularization (GReg-1, GReg-2, and the control FixReg).

Source: Wang, Qin, Zhang, Fu, Neural Pruning via Growing Regularization, arXiv 2012.09243, and its
official code.

An L2 penalty lambda grows on the units that will be removed until their weights are small. GReg-1
chooses the filters with the smallest mean |w| of each layer before any training and raises their
lambda by a constant every few steps. GReg-2 first raises the lambda of all filters: those in flat
directions of the loss shrink sooner, so the magnitudes carry information about the Hessian when
the smallest filters are picked; then it keeps raising the lambda of these and relieves the others.
Once lambda exceeds a ceiling it stays constant while the network settles, then the chosen filters
are removed and the network is fine-tuned. FixReg, the control in the official code, sets lambda to
the ceiling at once.

The growth rule is `raise_penalty`: the `move` of each class applies it, and `is_done` ends it.

Where paper and code differ, the default follows the code, which produced the printed numbers:

- Growth ends early once the pruned weights are a thousandth of the kept ones (`ratio_stop`; null
  follows the paper). GReg-1 requires this of all layers, GReg-2 of each layer by itself; single
  weights are not tested.
- GReg-2 picks at the update that brings lambda to tau' (>=). Algorithm 1 tests lambda before the
  increment, one update later. The smoothed ratio also runs while picking, for the units that would
  be picked at that moment.
- The kept filters of GReg-2 get a penalty of -1e-4 (`recover`; null follows the paper: -gamma, the
  negative weight decay).
- The units chosen by the schedule are removed. The paper removes the smallest ones at the end.

As in the code, counts are rounded up, and lambda accumulates in float32, so that 10,000 updates of
1e-4 exceed 1. The base network fixes the number of units that each layer loses, for GReg-2 too.
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
from prunebench.channels.unit_weights import along, mean_magnitude, members_with, unit_rows
from prunebench.experiments.phases import (
    Budget,
    Phase,
    RatioKind,
    Steps,
    training,
    training_for,
)
from prunebench.experiments.recipe import Recipe
from prunebench.experiments.settings import Count, Grows, Positive, Shrinks
from prunebench.methods.base import Before, Method, Run, check_scores
from prunebench.methods.unstructured import (
    WeightOptions,
    check_unit,
    member_role,
    smallest,
    weight_counts,
    weight_layers,
    weight_name,
    zeroed_layers,
    zeroing,
)


class PenalizedRemovalOptions(WeightOptions):
    """Options of all three methods."""

    ceiling: Positive = Field(
        1.0,
        description="Penalty lambda that growth must exceed, the paper's tau (default: official "
        "code).",
    )
    interval_steps: Count = Field(
        10,
        description="Steps between two updates of lambda, the paper's K_u (default: the code's "
        "README for CIFAR; ImageNet: 5).",
    )
    stabilize_steps: Annotated[int, Field(ge=0), Shrinks()] = Field(
        10_000,
        description="Steps with constant lambda before removal, the paper's K_s (default: the "
        "code's README for CIFAR; ImageNet: 40,000).",
    )


class GRegOptions(PenalizedRemovalOptions):
    """Options of GReg-1."""

    delta: Annotated[Positive, Grows(most="ceiling")] = Field(
        1e-4,
        description="Increase of lambda at each update (default: official code). In a shortened "
        "run it grows, so that lambda still exceeds the ceiling.",
    )
    ratio_stop: Positive | None = Field(
        1000.0,
        description="Smoothed magnitude ratio, kept over pruned weights, that ends growth early "
        "(default: official code; null: the paper, which has no such stop).",
    )


class GReg2Options(GRegOptions):
    """Options of GReg-2."""

    delta_pick: Annotated[Positive, Grows(most="pick_ceiling")] = Field(
        1e-5,
        description="Increase of the lambda of all units at each update of the picking stage "
        "(default: official code).",
    )
    pick_ceiling: Positive = Field(
        0.01,
        description="Penalty lambda at which the units are picked, the paper's tau' (default: "
        "official code).",
    )
    recover: Annotated[float, Field(le=0)] | None = Field(
        -1e-4,
        description="Penalty lambda of the kept units after the pick (default: official code; "
        "null: minus the recipe's weight decay, as in the paper).",
    )

    @model_validator(mode="after")
    def _check_pick_ceiling(self) -> GReg2Options:
        if self.pick_ceiling >= self.ceiling:
            raise ValueError(
                f"pick_ceiling {self.pick_ceiling} must lie below the ceiling {self.ceiling}"
            )
        return self


class FixRegOptions(PenalizedRemovalOptions):
    """Options of FixReg."""

    fixed_steps: Annotated[Count, Shrinks()] = Field(
        50_000,
        description="Steps under the constant penalty, before `stabilize_steps` (default: official "
        "code).",
    )


def raise_penalty(penalty: Tensor, pruned: Tensor, delta: float) -> None:
    """Add delta to the penalty of the pruned units, in place: the growth rule; Alg. 1, Eq. 2.

    `penalty` is float32, `pruned` a bool tensor of the same shape.
    """
    penalty.add_(pruned.to(penalty.dtype) * delta)


def relieve(penalty: Tensor, pruned: Tensor, recover: float) -> None:
    """Set the penalty of the kept units to `recover`, in place; Eq. 9, second case."""
    penalty.masked_fill_(~pruned, recover)


@functools.cache
def count_updates(start: float, delta: float, goal: float, *, beyond: bool) -> tuple[int, float]:
    """Return how many float32 updates bring lambda to the goal, and its value after them.

    With `beyond`, lambda must exceed the goal. Raises ValueError if delta vanishes in float32.

    >>> count_updates(0.0, 0.25, 1.0, beyond=True), count_updates(0.0, 0.25, 1.0, beyond=False)
    ((5, 1.25), (4, 1.0))
    """
    penalty, step, top, count = np.float32(start), np.float32(delta), np.float32(goal), 0
    if step <= np.spacing(top) / 2:
        raise ValueError(f"in float32, steps of {delta} never exceed {goal}")
    while penalty < top or (beyond and penalty == top):
        penalty, count = penalty + step, count + 1
    return count, float(penalty)


def magnitude_ratio(scores: Tensor, pruned: Tensor) -> Tensor:
    """Return the mean score of the kept units over that of the pruned ones; official code.

    Both tensors have the same shape; `pruned` is bool. If all pruned scores are zero, the result
    is a very large number, not infinity.

    >>> magnitude_ratio(torch.tensor([3.0, 1.0, 5.0]), torch.tensor([False, True, False]))
    tensor(4.)
    """
    kept = ~pruned
    small = (scores * pruned).sum().clamp_min(1e-30)
    return (scores * kept).sum() / kept.sum() * pruned.sum() / small


def smoothed(before: float | None, new: float) -> float:
    """Return 0.9 before + 0.1 new, or `new` if it is the first value; official code.

    >>> smoothed(None, 2.0), smoothed(2.0, 4.0)
    (2.0, 2.2)
    """
    return new if before is None else 0.9 * before + 0.1 * new


Tensors = Mapping[str, Tensor]  # by group (filters, input channels) or by layer (single weights)


class Units(Protocol):
    """The operations on one kind of unit that the methods need."""

    def scores(self, params: Tensors, graph: ChannelGraph, names: Iterable[str]) -> Tensors:
        """Return the mean absolute weight of each unit, by group or layer."""

    def by_weight(self, params: Tensors, graph: ChannelGraph, penalty: Tensors) -> Tensors:
        """Return, by weight, a tensor for the penalties that broadcasts to the weight's shape."""

    def fill(self, by_weight: Tensors, graph: ChannelGraph, penalty: Tensors) -> None:
        """Copy the penalties into the tensors that the method `by_weight` returned, in place."""

    def plan(self, graph: ChannelGraph, pruned: Tensors) -> Plan:
        """Return the plan that prunes the units that are True in `pruned`."""


class SliceUnits:
    """Units of coupled groups: filters (role "out") or input channels (role "in").

    Scores, penalties and masks have the shape (units,). A unit that several layers produce, or
    read, has the mean over all of its slices as its score, and all of them are penalized.
    """

    def __init__(self, role: MemberRole) -> None:
        self.role = role

    def scores(
        self, params: Tensors, graph: ChannelGraph, names: Iterable[str]
    ) -> dict[str, Tensor]:
        """Return the mean |w| of each unit's slices; it ranks units as the paper's L1 norm does."""
        return {n: mean_magnitude(unit_rows(params, graph.groups[n], self.role)) for n in names}

    def by_weight(
        self, params: Tensors, graph: ChannelGraph, penalty: Tensors
    ) -> dict[str, Tensor]:
        """Return zeros, one number per slice, that broadcast over each weight."""
        found: dict[str, Tensor] = {}
        for name, values in penalty.items():
            for member in members_with(graph.groups[name], self.role):
                weight = params[member.parameters[0]]
                zeros = values.new_zeros(weight.shape[member.dim])
                found.setdefault(member.parameters[0], along(zeros, member.dim, weight.ndim))
        return found

    def fill(self, by_weight: Tensors, graph: ChannelGraph, penalty: Tensors) -> None:
        """Give every slice the penalty of its unit."""
        for name, values in penalty.items():
            for member in members_with(graph.groups[name], self.role):
                slices = by_weight[member.parameters[0]].view(-1)
                slices[member.index.to(values.device)] = values[:, None]

    def plan(self, graph: ChannelGraph, pruned: Tensors) -> Plan:
        """Return the removal of the pruned units."""
        return Plan(removed={name: units.nonzero()[:, 0].cpu() for name, units in pruned.items()})


class EntryUnits:
    """Single weights: scores, penalties and masks have the shape of the layer's weight."""

    def scores(
        self, params: Tensors, graph: ChannelGraph, names: Iterable[str]
    ) -> dict[str, Tensor]:
        """Return |w|."""
        return {name: params[weight_name(name, params)].detach().abs() for name in names}

    def by_weight(
        self, params: Tensors, graph: ChannelGraph, penalty: Tensors
    ) -> dict[str, Tensor]:
        """Return the penalties themselves."""
        return {weight_name(name, params): values for name, values in penalty.items()}

    def fill(self, by_weight: Tensors, graph: ChannelGraph, penalty: Tensors) -> None:
        """Do nothing: `by_weight` holds the penalties themselves."""

    def plan(self, graph: ChannelGraph, pruned: Tensors) -> Plan:
        """Return masks that zero the pruned weights."""
        return zeroing(graph.shapes, pruned)


P = TypeVar("P", bound=PenalizedRemovalOptions)


class PenalizedRemoval(Method[P]):
    """Choose units, shrink them with a penalty, remove them, fine-tune.

    The state has entries by group or layer that loses units: `counts`, the number of units it
    loses; `pruned` (bool) and `penalty`, of shape (units,) or of the weight's shape; `ratio`, the
    smoothed magnitude ratio, which is not measured for single weights (nor in the code: too slow).
    `done` lists the groups or layers whose penalty no longer moves; `updates` counts the updates.
    """

    recipe_roles = ("regularize", "fine_tune")
    ratio_kinds = (*Method.ratio_kinds, "weights")
    takes_widths = True

    def __init__(self, options: P) -> None:
        super().__init__(options)
        self.interval = Steps(options.interval_steps)
        self.weight_penalty: Tensors = {}  # weight -> lambda, broadcasts to the weight's shape
        self.is_measured = options.unit != "weight"
        self.units: Units = SliceUnits(member_role(options)) if self.is_measured else EntryUnits()

    def regularize_steps(self) -> int:
        """Return the largest number of steps of the phase in which the penalty moves."""
        raise NotImplementedError

    def move(self, run: Run, names: Iterable[str], scores: Tensors) -> None:
        """Change the penalties of these layers in place; `scores` are of the current weights."""
        raise NotImplementedError

    def is_done(self, name: str, largest: float) -> bool:
        """Return whether a layer's penalty no longer moves; called in network order.

        `largest` is the layer's largest penalty.
        """
        raise NotImplementedError

    def phases(self, recipes: Mapping[str, Recipe], budget: Budget) -> list[Phase]:
        """Return regularize, stabilize, fine_tune.

        The step at which the penalty stops moving is the first of stabilize, not the last of
        regularize. Therefore stabilize has one step more than K_s: 12 steps in all in the example
        of GReg's tests.
        """
        check_unit(self.options, budget)
        recipe = recipes["regularize"]
        return [
            training_for(
                "regularize",
                recipe,
                Steps(self.regularize_steps()),
                until_finished=True,
                hooks=frozenset({"attach", "decide", "before_optimizer_step", "after_epoch"}),
                reportable_from=None,
            ),
            training_for(
                "stabilize",
                recipe,
                Steps(self.options.stabilize_steps + 1),
                optimizer="carry",
                hooks=frozenset({"attach", "before_optimizer_step", "after_epoch"}),
                reportable_from=None,
                then=budget,
            ),
            training("fine_tune", recipes["fine_tune"]),
        ]

    def before_phase(self, run: Run) -> None:
        """Choose the units of all layers, with penalty 0; Alg. 1, lines 2-4."""
        if run.phase.name != "regularize":
            return
        budget = self.budget(run)
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
        self.state = {
            "counts": counts,
            "pruned": {name: smallest(scores[name], count) for name, count in counts.items()},
            "penalty": {n: torch.zeros_like(scores[n], dtype=torch.float32) for n in counts},
            "ratio": {},
            "done": [],
            "updates": 0,
        }

    def attach(self, run: Run) -> list[RemovableHandle]:
        """Broadcast the penalties over the weights that they multiply."""
        self.weight_penalty = self.units.by_weight(run.params, run.graph, self.state["penalty"])
        self.units.fill(self.weight_penalty, run.graph, self.state["penalty"])
        return []

    def decide(self, run: Run) -> None:
        """Move the penalties, then find the layers whose penalty has stopped."""
        state = self.state
        moving = [name for name in state["pruned"] if name not in state["done"]]
        if not moving:
            return
        state["updates"] += 1
        scores = self.units.scores(run.params, run.graph, moving)
        self.move(run, moving, scores)
        measured = []
        for name in moving:
            largest = state["penalty"][name].max()
            ratio = largest
            if self.is_measured:
                ratio = magnitude_ratio(scores[name], state["pruned"][name]).float()
            measured.append(torch.stack([ratio, largest]))
        # One synchronization for all layers.
        for name, (ratio, largest) in zip(moving, torch.stack(measured).tolist(), strict=True):
            if self.is_measured:
                state["ratio"][name] = smoothed(state["ratio"].get(name), ratio)
            if self.is_done(name, largest):
                state["done"].append(name)
        self.units.fill(self.weight_penalty, run.graph, state["penalty"])

    def finished(self, run: Run) -> bool:
        """Return whether the penalties of all layers have stopped moving."""
        return len(self.state["done"]) == len(self.state["pruned"])

    def before_optimizer_step(self, run: Run) -> None:
        """Add lambda * w to the gradients of the weights; biases and batch norm get no penalty."""
        for name, penalty in self.weight_penalty.items():
            weight = run.params[name]
            assert weight.grad is not None
            weight.grad.addcmul_(weight.detach(), penalty)

    def after_epoch(self, run: Run) -> None:
        """Log the largest penalty and the magnitude ratio, not smoothed, of each layer."""
        pruned = self.state["pruned"]
        scores = self.units.scores(run.params, run.graph, pruned)
        for name, penalty in self.state["penalty"].items():
            run.log(name, "penalty", penalty.max())
            if name in pruned:
                run.log(name, "magnitude_ratio", magnitude_ratio(scores[name], pruned[name]))

    def select(self, run: Run, budget: Budget) -> Plan:
        """Return the plan for the chosen units; record how small they are now."""
        pruned, penalty = self.state["pruned"], self.state["penalty"]
        if pruned:
            scores = self.units.scores(run.params, run.graph, pruned)
            ratios = [magnitude_ratio(scores[name], pruned[name]) for name in pruned]
            self.state["figures"] = {
                "magnitude_ratio": float(torch.stack(ratios).min()),
                "penalty": max(float(largest.max()) for largest in penalty.values()),
            }
        return self.units.plan(run.graph, pruned)

    def chooses_widths(self, kind: RatioKind) -> bool:
        """Return as for any method; False for unit "weight"."""
        return self.options.unit != "weight" and super().chooses_widths(kind)

    def zeroed_weights(self, run: Run) -> list[str] | None:
        """Return the pruned weights for unit "weight"."""
        return zeroed_layers(run, self.options)

    def after_removal(self, run: Run, plan: Plan, before: Before) -> None:
        """Drop the state except for the figures."""
        self.weight_penalty = {}
        self.state = {"figures": self.state.get("figures", {})}

    def figures(self) -> dict[str, float]:
        """Return the smallest magnitude ratio of the layers and the largest penalty at removal.

        Removing units that are still large does harm: a ratio below about 20 means that the
        penalty was too small for the learning rate and the number of steps.
        """
        return dict(self.state.get("figures", {}))


class GReg1(PenalizedRemoval[GRegOptions]):
    """GReg-1: units are chosen by the base network's weights; only these are penalized."""

    summary = "growing L2 penalty on the smallest filters, then removal (Wang et al.)"
    Options = GRegOptions

    def regularize_steps(self) -> int:
        """Return the step after the last update if only the ceiling ends the growth."""
        return (self.most_updates() - 1) * self.options.interval_steps + 1

    def most_updates(self) -> int:
        """Return how many updates bring lambda beyond the ceiling."""
        return count_updates(0.0, self.options.delta, self.options.ceiling, beyond=True)[0]

    def move(self, run: Run, names: Iterable[str], scores: Tensors) -> None:
        """Raise the penalty of the chosen units; Eq. 2."""
        for name in names:
            raise_penalty(
                self.state["penalty"][name], self.state["pruned"][name], self.options.delta
            )

    def is_done(self, name: str, largest: float) -> bool:
        """Return whether all ratios are large enough or the penalty exceeds the ceiling.

        The code's ratio stop compares the ratios of all layers at the time a layer is visited:
        layers visited later still have the ratio of their last update, stopped layers the one at
        which they stopped. So the last layer may stop an update or two before the others.
        """
        return self.are_small(self.state["ratio"].values()) or self.is_beyond(largest)

    def are_small(self, ratios: Iterable[float]) -> bool:
        """Return whether all magnitude ratios have reached `ratio_stop`."""
        stop = self.options.ratio_stop
        return self.is_measured and stop is not None and all(ratio >= stop for ratio in ratios)

    def is_beyond(self, largest: float) -> bool:
        """Return whether a penalty exceeds the ceiling, compared in float32."""
        return largest > float(np.float32(self.options.ceiling))


class GReg2(GReg1):
    """GReg-2: all units are penalized alike at first; the smallest are picked while it grows.

    Layers that lose no units are not penalized. All others are picked at the same update, since
    their penalties are equal until then. Until the pick, `pruned` holds the units that would be
    picked now.
    """

    summary = "growing L2 penalty that picks filters as it grows, Hessian-aware (Wang et al.)"
    Options = GReg2Options
    options: GReg2Options

    def picking(self) -> tuple[int, float]:
        """Return the number of updates of the picking stage and lambda after them."""
        return count_updates(0.0, self.options.delta_pick, self.options.pick_ceiling, beyond=False)

    def most_updates(self) -> int:
        """Return how many updates bring lambda beyond the ceiling, picking included."""
        updates, penalty = self.picking()
        delta, ceiling = self.options.delta, self.options.ceiling
        return updates + count_updates(penalty, delta, ceiling, beyond=True)[0]

    def move(self, run: Run, names: Iterable[str], scores: Tensors) -> None:
        """Raise all penalties while picking, afterwards those of the picked units; Eq. 9."""
        state, options = self.state, self.options
        remaining = self.picking()[0] - state["updates"]  # updates of picking after this one
        for name in names:
            penalty, pruned = state["penalty"][name], state["pruned"][name]
            if remaining < 0:
                raise_penalty(penalty, pruned, options.delta)
                relieve(penalty, pruned, self.recover(run))
            else:
                penalty.add_(options.delta_pick)
            if remaining == 0 or (remaining > 0 and self.is_measured):
                pruned.copy_(smallest(scores[name], state["counts"][name]))

    def recover(self, run: Run) -> float:
        """Return the penalty of the kept units after the pick."""
        if self.options.recover is not None:
            return self.options.recover
        assert run.phase.recipe is not None
        return -run.phase.recipe.weight_decay

    def is_done(self, name: str, largest: float) -> bool:
        """Return whether the layer's own ratio is large enough or its penalty past the ceiling.

        The ratio counts only once the layer's units have been picked.
        """
        is_picked = self.state["updates"] >= self.picking()[0]
        is_small = is_picked and self.are_small([self.state["ratio"].get(name, 0.0)])
        return is_small or self.is_beyond(largest)


class FixReg(PenalizedRemoval[FixRegOptions]):
    """FixReg: the chosen units get the full penalty from the first step on; official code."""

    summary = "control: GReg-1's filters under a constant penalty, then removal"
    Options = FixRegOptions

    def regularize_steps(self) -> int:
        """Return the step after the first update beyond `fixed_steps`, at which the code stops."""
        interval = self.options.interval_steps
        return (self.options.fixed_steps // interval + 1) * interval + 1

    def move(self, run: Run, names: Iterable[str], scores: Tensors) -> None:
        """Set the penalty of the chosen units to the ceiling."""
        for name in names:
            penalty, pruned = self.state["penalty"][name], self.state["pruned"][name]
            penalty.masked_fill_(pruned, self.options.ceiling)

    def is_done(self, name: str, largest: float) -> bool:
        """Return whether this update comes after more than `fixed_steps` steps."""
        steps = (self.state["updates"] - 1) * self.options.interval_steps
        return bool(steps > self.options.fixed_steps)
