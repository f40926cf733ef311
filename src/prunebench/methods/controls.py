"""The base network: how it is trained, and as a run of its own, so that tables have its row.

Training a smaller network from scratch: the controls of every comparison.

Source: Liu et al., "Rethinking the Value of Network Pruning", arXiv 1810.05270. Scratch-E trains
as many epochs as the base network had; Scratch-B gets the base network's computation, that is
epochs × base MACs / pruned MACs. The source caps Scratch-B at twice the epochs for large
networks; here the cap is an option. Both take over the widths that another run has found;
`uniform_width` has the plainest ones, the same share of every layer: what a method's widths are
worth is the difference.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated

import torch
from pydantic import Field
from torch import Tensor

from prunebench.channels.groups import ChannelGroup
from prunebench.channels.plan import Plan
from prunebench.channels.removal import kept_units
from prunebench.criteria.base import Run
from prunebench.experiments.phases import Budget, Epochs, Length, Phase, training
from prunebench.experiments.recipe import Recipe
from prunebench.methods.base import Before, Method, MethodOptions, O, Rule


class Unpruned(Method[MethodOptions]):
    """No phases: the base network is evaluated as it is."""

    summary = "the base network, for its row in the tables"
    recipe_roles = ()
    ratios = (0.0,)

    def phases(self, recipes: Mapping[str, Recipe], budget: Budget) -> list[Phase]:
        """Return no phases."""
        return []


class Base(Method[MethodOptions]):
    """Plain training from fresh weights: what the base stage does; no method of the registry."""

    summary = "plain training"
    start = "fresh"
    recipe_roles = ("base",)

    def phases(self, recipes: Mapping[str, Recipe], budget: Budget) -> list[Phase]:
        """Return train."""
        return [training("train", recipes["base"])]


class ScratchOptions(MethodOptions):
    """Options of both controls that take widths over."""

    widths_from: str = "l1/default"
    longest: Annotated[float, Field(ge=1)] = 2.0  # Scratch-B: at most so many times the epochs


def scratch_b_epochs(epochs: float, base_macs: int, macs: int, longest: float) -> float:
    """Return the epochs that cost as much as the base network's, at most `longest` times them.

    >>> scratch_b_epochs(20, 400, 100, 2.0), scratch_b_epochs(20, 300, 200, 2.0)
    (40.0, 30.0)
    """
    return epochs * min(base_macs / macs, longest)


class FromScratch(Method[O]):
    """A smaller network, fresh weights, the base recipe's epochs."""

    start = "fresh"
    recipe_roles = ("base",)

    def phases(self, recipes: Mapping[str, Recipe], budget: Budget) -> list[Phase]:
        """Return widths, train."""
        return [Phase(name="widths", then=budget), training("train", recipes["base"])]

    def after_removal(self, run: Run, plan: Plan, before: Before) -> None:
        """Draw weights for the small network: the large one's fan-in does not fit it."""
        run.initialize()


class UniformOptions(MethodOptions):
    """Options of the uniformly thinner network: all its layers are thinner."""

    roles: tuple[Rule, ...] = ("stem", "stream", "inside")


class UniformWidth(FromScratch[UniformOptions]):
    """The same share of every group's units, fresh weights, the base recipe's epochs.

    With ratio_kind macs or params, the share that meets the budget. Which units leave is nothing,
    since the weights are new.
    """

    summary = "control: a uniformly thinner network trained from scratch, the base's epochs"
    Options = UniformOptions

    def score(self, run: Run, groups: Mapping[str, ChannelGroup]) -> dict[str, Tensor]:
        """Return each unit's place in its group as a share, so that all rankings are uniform."""
        return {name: torch.arange(1, g.n_units + 1) / g.n_units for name, g in groups.items()}


class ScratchE(FromScratch[ScratchOptions]):
    """The found widths, fresh weights, the base recipe's epochs."""

    summary = "control: another run's widths trained from scratch, the base's epochs"
    Options = ScratchOptions
    takes_widths = True

    def select(self, run: Run, budget: Budget) -> Plan:
        """Return the complement of what the followed run kept."""
        assert run.source_kept is not None
        removed = {n: kept_units(run.sizes[n], kept) for n, kept in run.source_kept.items()}
        return Plan(removed={name: units for name, units in removed.items() if len(units)})


class ScratchB(ScratchE):
    """The found widths, fresh weights, the base network's computation."""

    summary = "control: another run's widths trained from scratch, the base's computation"

    def phase_length(self, run: Run, phase: Phase) -> Length:
        """Stretch the base recipe's epochs by the speedup, up to the cap."""
        assert isinstance(phase.length, Epochs)
        macs = run.costs.macs()
        return Epochs(scratch_b_epochs(phase.length.n, run.base_macs, macs, self.options.longest))
