"""Growing regularization: an L2 penalty that rises until the filters to be removed are small.

Source: Wang, Qin, Zhang, Fu, Neural Pruning via Growing Regularization, arXiv 2012.09243, and its
official code. Before any training, the filters with the smallest mean |w| of each layer are
chosen. Every few steps their penalty lambda grows by a constant; it is added to the gradient as
lambda * w. Beyond a ceiling it stays as it is while the network settles, then the filters leave.

Paper and code agree but for this: the code stops early once pruned weights are a thousandth of
the kept ones (option `ratio_stop`, on by default: it made the printed numbers), and it removes
the filters chosen at the start, where the paper says the smallest ones by then. The code is
followed in both, in the rounding of counts, and in summing lambda up in float32, so that 10,000
updates of 1e-4 exceed 1.
"""

from __future__ import annotations

import functools
from collections.abc import Mapping
from typing import Annotated

import numpy as np
import torch
from pydantic import Field
from torch import Tensor
from torch.utils.hooks import RemovableHandle

from prunebench.channels.groups import ChannelGroup
from prunebench.channels.plan import Plan
from prunebench.core.phases import Budget, Phase, Steps, training
from prunebench.core.recipe import Positive, Recipe
from prunebench.methods.allocation import lowest
from prunebench.methods.base import Before, Method, MethodOptions, Run
from prunebench.methods.importance import mean_magnitude, producers, unit_rows

Count = Annotated[int, Field(ge=1)]


class GRegOptions(MethodOptions):
    """Options of GReg-1, with the official code's defaults and its README's for CIFAR."""

    delta: Positive = 1e-4  # added to lambda at each update
    ceiling: Positive = 1.0  # tau: a layer's lambda grows until it is larger
    interval_steps: Count = 10  # K_u; ImageNet: 5
    stabilize_steps: Annotated[int, Field(ge=0)] = 10_000  # K_s; ImageNet: 40,000
    ratio_stop: Positive | None = 1000.0  # smoothed magnitude ratio that ends growth; None: paper


def raise_penalty(penalty: Tensor, pruned: Tensor, delta: float) -> None:
    """Add delta to the penalty of the pruned units, in place; Algorithm 1 and Eq. 2.

    Both have the shape (units,), float32 and bool.
    """
    penalty.add_(pruned.to(penalty.dtype) * delta)


@functools.cache
def updates_above(delta: float, ceiling: float) -> int:
    """Return the number of float32 updates after which lambda is larger than the ceiling.

    >>> updates_above(1e-4, 1.0), updates_above(0.25, 1.0)
    (10000, 5)
    """
    penalty, step, count = np.float32(0), np.float32(delta), 0
    if step <= np.spacing(np.float32(ceiling)) / 2:
        raise ValueError(f"in float32, steps of {delta} never exceed {ceiling}")
    while penalty <= np.float32(ceiling):
        penalty, count = penalty + step, count + 1
    return count


def magnitude_ratio(scores: Tensor, pruned: Tensor) -> Tensor:
    """Return the mean score of the kept units over that of the pruned ones; official code.

    >>> magnitude_ratio(torch.tensor([3.0, 1.0, 5.0]), torch.tensor([False, True, False]))
    tensor(4.)
    """
    kept = ~pruned
    return (scores * kept).sum() / kept.sum() * pruned.sum() / (scores * pruned).sum()


def smoothed(before: float | None, new: float) -> float:
    """Return 0.9 before + 0.1 new, and the first value as it is; official code.

    >>> smoothed(None, 2.0), smoothed(2.0, 4.0)
    (2.0, 2.2)
    """
    return new if before is None else 0.9 * before + 0.1 * new


class GReg1(Method[GRegOptions]):
    """GReg-1: the filters are chosen once, from the base network, and the others never penalized.

    State, by group that loses units: `pruned` and `penalty`, (units,); `ratio`, the smoothed
    magnitude ratio; `done` lists the groups whose penalty has stopped growing.
    """

    summary = "growing regularization of the smallest filters, then removal (Wang et al.)"
    Options = GRegOptions
    recipe_roles = ("regularize", "fine_tune")

    def __init__(self, options: GRegOptions) -> None:
        super().__init__(options)
        self.interval = Steps(options.interval_steps)
        self.spread: dict[str, Tensor] = {}  # weight -> lambda, broadcast over its filters

    def phases(self, recipes: Mapping[str, Recipe], budget: Budget) -> list[Phase]:
        """Return regularize, stabilize, fine_tune.

        The first is capped where lambda alone would end it. The step at which growth ends is not
        taken in it, so stabilize has one step more than K_s: 12 in all in the notes' example.
        """
        options, recipe = self.options, recipes["regularize"]
        if recipe.epochs is not None:
            raise ValueError("the penalty decides how long 'regularize' is; its recipe must not")
        last_update = (updates_above(options.delta, options.ceiling) - 1) * options.interval_steps
        return [
            Phase(
                name="regularize",
                recipe=recipe,
                length=Steps(last_update + 1),
                until_finished=True,
                hooks=frozenset({"attach", "decide", "before_optimizer_step", "after_epoch"}),
                reportable_from=None,
            ),
            Phase(
                name="stabilize",
                recipe=recipe,
                length=Steps(options.stabilize_steps + 1),
                optimizer="carry",
                hooks=frozenset({"attach", "before_optimizer_step"}),
                reportable_from=None,
                then=budget,
            ),
            training("fine_tune", recipes["fine_tune"]),
        ]

    def score(self, run: Run, groups: Mapping[str, ChannelGroup]) -> dict[str, Tensor]:
        """Return the mean absolute weight of each unit's filters; the paper's L1 norm in order."""
        return {name: mean_magnitude(unit_rows(run.params, g)) for name, g in groups.items()}

    def before_phase(self, run: Run) -> None:
        """Choose the filters of all layers, with no penalty yet; Algorithm 1, lines 2-4."""
        if run.phase.name != "regularize":
            return
        scores = self.score(run, self.candidates(run))
        counts = self.allocate(run, scores, _budget(run))
        pruned = {}
        for name in (name for name, count in counts.items() if count):
            pruned[name] = torch.zeros_like(scores[name], dtype=torch.bool)
            pruned[name][lowest(scores[name], counts[name]).to(run.device)] = True
        penalty = {name: torch.zeros_like(p, dtype=torch.float32) for name, p in pruned.items()}
        self.state = {"pruned": pruned, "penalty": penalty, "ratio": {}, "done": []}

    def attach(self, run: Run) -> list[RemovableHandle]:
        """Lay the penalties out as the weights they are multiplied with."""
        self.spread = {}
        for name, penalty in self.state["penalty"].items():
            for member in producers(run.graph.groups[name]):
                weight = run.params[member.parameters[0]]
                shape = [1] * weight.ndim
                shape[member.dim] = -1
                zeros = penalty.new_zeros(weight.shape[member.dim]).view(shape)
                self.spread.setdefault(member.parameters[0], zeros)
        self.fill(run)
        return []

    def fill(self, run: Run) -> None:
        """Copy the penalties of the state into the tensors that steps read."""
        for name, penalty in self.state["penalty"].items():
            for member in producers(run.graph.groups[name]):
                along = self.spread[member.parameters[0]].view(-1)
                along[member.index.to(penalty.device)] = penalty[:, None]

    def decide(self, run: Run) -> None:
        """Raise the penalties that grow, then see layer by layer which have grown enough."""
        state = self.state
        growing = [name for name in state["pruned"] if name not in state["done"]]
        if not growing:
            return
        scores = self.score(run, {name: run.graph.groups[name] for name in growing})
        facts = []
        for name in growing:
            self.grow(name)
            ratio = magnitude_ratio(scores[name], state["pruned"][name])
            facts.append(torch.stack([ratio.float(), state["penalty"][name].max()]))
        for name, (new, largest) in zip(growing, torch.stack(facts).tolist(), strict=True):
            state["ratio"][name] = smoothed(state["ratio"].get(name), new)
            if self.has_grown(largest):
                state["done"].append(name)
        self.fill(run)

    def grow(self, name: str) -> None:
        """Raise a layer's penalty once."""
        state = self.state
        raise_penalty(state["penalty"][name], state["pruned"][name], self.options.delta)

    def has_grown(self, largest: float) -> bool:
        """Whether the layer whose ratio came last stops growing; strict in the ceiling, float32.

        The code's ratio stop asks for the ratios of all layers, as they are when a layer is
        visited: later layers have their last update's, stopped ones that of their end. So the
        last layer may stop an update or two before the others.
        """
        stop = self.options.ratio_stop
        is_small = stop is not None and all(ratio >= stop for ratio in self.state["ratio"].values())
        return is_small or largest > float(np.float32(self.options.ceiling))

    def finished(self, run: Run) -> bool:
        """Whether no layer's penalty grows any more."""
        return len(self.state["done"]) == len(self.state["pruned"])

    def before_optimizer_step(self, run: Run) -> None:
        """Add lambda * w to the gradients of the filters; biases and batch norm get none."""
        for name, penalty in self.spread.items():
            weight = run.params[name]
            assert weight.grad is not None
            weight.grad.addcmul_(weight.detach(), penalty)

    def after_epoch(self, run: Run) -> None:
        """Log the penalty and the magnitude ratio of each layer."""
        for name, penalty in self.state["penalty"].items():
            run.log(name, "penalty", penalty.max())
        for name, ratio in self.state["ratio"].items():
            run.log(name, "magnitude_ratio", torch.tensor(ratio, device=run.device))

    def select(self, run: Run, budget: Budget) -> Plan:
        """Return the filters chosen at the start; official code."""
        pruned = self.state["pruned"].items()
        return Plan(removed={name: units.nonzero()[:, 0].cpu() for name, units in pruned})

    def after_removal(self, run: Run, plan: Plan, before: Before) -> None:
        """Note how small the removed filters were; nothing else is needed any more."""
        ratios = [
            float(magnitude_ratio(mean_magnitude(unit_rows(before.tensors, group)), pruned))
            for name, pruned in self.state["pruned"].items()
            for group in [before.graph.groups[name]]
        ]
        largest = [float(penalty.max()) for penalty in self.state["penalty"].values()]
        self.spread = {}
        self.state = {}
        if ratios:
            self.state["figures"] = {"magnitude_ratio": min(ratios), "penalty": max(largest)}

    def figures(self) -> dict[str, float]:
        """Return, at removal, the smallest magnitude ratio of the layers and the largest penalty.

        Filters that were still large do harm when they leave: a ratio below about 20 says that
        the penalty was too small for the learning rate and the number of steps.
        """
        return dict(self.state.get("figures", {}))


def _budget(run: Run) -> Budget:
    """Return what is pruned at the end of a later phase."""
    return next(phase.then for phase in run.phases if phase.then is not None)
