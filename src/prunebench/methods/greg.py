"""Growing regularization: an L2 penalty that rises until what will be removed is small.

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
from typing import Annotated

import numpy as np
from pydantic import Field, model_validator
from torch import Tensor

from prunebench.core.recipe import Positive
from prunebench.core.shortening import Grows, Shrinks
from prunebench.methods.penalty import Count, PenalizedRemoval, PenaltyOptions
from prunebench.methods.run import Run
from prunebench.methods.weights import smallest


class GRegOptions(PenaltyOptions):
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


class FixRegOptions(PenaltyOptions):
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
def climb(start: float, delta: float, goal: float, *, beyond: bool) -> tuple[int, float]:
    """Return how many float32 updates bring lambda to the goal, or beyond it, and its value then.

    >>> climb(0.0, 0.25, 1.0, beyond=True), climb(0.0, 0.25, 1.0, beyond=False)
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
        return climb(0.0, self.options.delta, self.options.ceiling, beyond=True)[0]

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
        return climb(0.0, self.options.delta_pick, self.options.pick_ceiling, beyond=False)

    def most_updates(self) -> int:
        """Return how many updates bring lambda beyond the ceiling, picking included."""
        updates, penalty = self.picking()
        return updates + climb(penalty, self.options.delta, self.options.ceiling, beyond=True)[0]

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
