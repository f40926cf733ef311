"""Controls: the base network itself, and smaller networks trained from scratch.

`unpruned` evaluates the base network, which gives it a row in the tables, or trains it as long as
pruned networks are fine-tuned. The others train a smaller network from fresh weights.

Source: Liu et al., "Rethinking the Value of Network Pruning", arXiv 1810.05270. Scratch-E trains
as many epochs as the base network had; Scratch-B gets the base network's computation, that is
epochs × base MACs / pruned MACs. The source caps Scratch-B at twice the epochs for large networks;
here the cap is an option. Both use the widths that another run has found. `uniform_width` prunes
the same share of every layer; the difference to it is the value of a method's widths.
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
from prunebench.experiments.phases import Budget, Epochs, Length, Phase, training
from prunebench.experiments.recipe import Recipe
from prunebench.methods.base import Before, Method, MethodOptions, O, Rule, Run


class UnprunedOptions(MethodOptions):
    """Options of the base network."""

    fine_tune: bool = Field(
        False,
        description="Train the base network on, like pruned ones after the removal: what the "
        "training alone changes.",
    )


class Unpruned(Method[UnprunedOptions]):
    """The base network, evaluated as it is or after the fine-tuning of pruned ones."""

    summary = "control: the base network, not pruned"
    Options = UnprunedOptions
    ratios = (0.0,)
    rounds_widths = False

    def needed_roles(self) -> tuple[str, ...]:
        """Return no role without fine-tuning."""
        return self.recipe_roles if self.options.fine_tune else ()

    def phases(self, recipes: Mapping[str, Recipe], budget: Budget) -> list[Phase]:
        """Return fine_tune, or no phases."""
        return [training("fine_tune", recipes["fine_tune"])] if self.options.fine_tune else []


class Base(Method[MethodOptions]):
    """Training of a base network from fresh weights; used by the base stage, not registered."""

    summary = "training without pruning"
    start = "fresh"
    recipe_roles = ("base",)

    def phases(self, recipes: Mapping[str, Recipe], budget: Budget) -> list[Phase]:
        """Return train."""
        return [training("train", recipes["base"])]


class ScratchOptions(MethodOptions):
    """Options of Scratch-E and Scratch-B."""

    widths_from: str = Field(
        "l1/default",
        description="Run whose widths are used, as method/setting, at the same ratio and seed.",
    )
    longest: Annotated[float, Field(ge=1)] = Field(
        2.0,
        description="Scratch-B's cap on the training, as a multiple of the base recipe's epochs "
        "(default: Liu et al. for large networks).",
    )


def scratch_b_epochs(epochs: float, base_macs: int, macs: int, longest: float) -> float:
    """Return the epochs that cost as much computation as the base network's training.

    The result is at most `longest` times `epochs`.

    >>> scratch_b_epochs(20, 400, 100, 2.0), scratch_b_epochs(20, 300, 200, 2.0)
    (40.0, 30.0)
    """
    return epochs * min(base_macs / macs, longest)


class FromScratch(Method[O]):
    """Prune first, then train the smaller network from fresh weights with the base recipe."""

    start = "fresh"
    recipe_roles = ("base",)

    def phases(self, recipes: Mapping[str, Recipe], budget: Budget) -> list[Phase]:
        """Return widths, train."""
        return [Phase(name="widths", then=budget), training("train", recipes["base"])]

    def after_removal(self, run: Run, plan: Plan, before: Before) -> None:
        """Initialize the smaller network: initial weights depend on the fan-in."""
        run.initialize()


class UniformOptions(MethodOptions):
    """Options of the uniformly thinner network."""

    roles: tuple[Rule, ...] = Field(
        ("stem", "stream", "inside"),
        description="Rules that select the groups that may be pruned (default: all).",
    )


class UniformWidth(FromScratch[UniformOptions]):
    """Remove the same share of every group's units, then train from fresh weights.

    With a ratio_kind that counts a cost, this is the share that meets the budget. It does not
    matter which units are removed, since the weights are fresh.
    """

    summary = "control: a uniformly thinner network trained from scratch for the base's epochs"
    Options = UniformOptions

    def score(self, run: Run, groups: Mapping[str, ChannelGroup]) -> dict[str, Tensor]:
        """Return each unit's relative position in its group, so that any ranking is uniform."""
        return {name: torch.arange(1, g.n_units + 1) / g.n_units for name, g in groups.items()}


class ScratchE(FromScratch[ScratchOptions]):
    """Another run's widths, trained from fresh weights for the base recipe's epochs."""

    summary = "control: another run's widths trained from scratch for the base's epochs"
    Options = ScratchOptions
    takes_widths = True

    def select(self, run: Run, budget: Budget) -> Plan:
        """Return the removal of all units that the followed run did not keep."""
        assert run.source_kept is not None
        removed = {n: kept_units(run.sizes[n], kept) for n, kept in run.source_kept.items()}
        return Plan(removed={name: units for name, units in removed.items() if len(units)})


class ScratchB(ScratchE):
    """Another run's widths, trained from fresh weights with the base network's computation."""

    summary = "control: another run's widths trained from scratch with the base's computation"

    def phase_length(self, run: Run, phase: Phase) -> Length:
        """Return the base recipe's epochs times the speedup, up to the cap."""
        assert isinstance(phase.length, Epochs)
        macs = run.costs.macs()
        return Epochs(scratch_b_epochs(phase.length.n, run.base_macs, macs, self.options.longest))
