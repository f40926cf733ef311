"""The phases of a run, as data: the stages that a method goes through, in order.

A phase trains with a recipe for a given length, or only selects; at its end it may prune to a
budget and estimate the statistics of batch norm again.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal, TypeGuard, get_args

from prunebench.core.names import unknown_name
from prunebench.experiments.recipe import Recipe

RatioKind = Literal[
    "units_per_group",
    "units_global",
    "macs",
    "params",
    "activations",
    "latency",
    "weights",
    "auto",
]
RATIO_KINDS: tuple[str, ...] = get_args(RatioKind)
# Kinds that count a cost of the whole network, a function of the units kept in each group
CostKind = Literal["macs", "params", "activations", "latency"]
COST_KINDS: tuple[CostKind, ...] = get_args(CostKind)
HookName = Literal[
    "attach", "decide", "loss_term", "before_optimizer_step", "after_optimizer_step", "after_epoch"
]


@dataclass(frozen=True)
class Steps:
    """A length or an interval in optimizer steps."""

    n: int

    def steps(self, per_epoch: int) -> int:
        """Return the number of steps."""
        return self.n


@dataclass(frozen=True)
class Epochs:
    """A length or an interval in passes over the training split; may be fractional."""

    n: float

    def steps(self, per_epoch: int) -> int:
        """Return the number of steps, at least one.

        >>> Epochs(2.5).steps(17)
        43
        """
        return max(1, math.ceil(round(self.n * per_epoch, 6)))


Length = Steps | Epochs


@dataclass(frozen=True, kw_only=True)
class Budget:
    """The fraction to remove by the end of a phase, of the network that the run started from."""

    kind: RatioKind
    ratio: float | None  # fraction removed, in [0, 1); None if the method decides ("auto")
    round: int = 1  # pruning round that ends with this budget, from 1
    # Fraction of the units then present that each round so far removes; empty: a single round
    round_ratios: tuple[float, ...] = ()

    def __post_init__(self) -> None:
        if (self.kind == "auto") != (self.ratio is None):
            raise ValueError(f"ratio {self.ratio} cannot be combined with ratio_kind {self.kind!r}")
        if self.ratio is not None and not 0 <= self.ratio < 1:
            raise ValueError(f"ratio {self.ratio} is not in [0, 1)")


@dataclass(frozen=True, kw_only=True)
class Phase:
    """One stage of a run. Without recipe and length nothing is trained."""

    name: str
    recipe: Recipe | None = None
    length: Length | None = None
    # Ends at the first `decide` after which `finished` holds, at the latest after `length`.
    until_finished: bool = False
    # fresh: the whole network with new weights; best, accepted: the network kept in that slot.
    start: Literal["current", "fresh", "best", "accepted"] = "current"
    # carry: keeps the momenta of the phase before; removals slice them too.
    optimizer: Literal["new", "carry"] = "new"
    # continue: epochs, schedule and length count on from the phase before.
    clock: Literal["new", "continue"] = "new"
    hooks: frozenset[HookName] = frozenset()  # the only hooks that are called
    keep_best: bool = False  # keeps the network of the best validation accuracy in the slot "best"
    # Share of the phase after which epochs may be reported as the result; None: never.
    reportable_from: float | None = 0.0
    then: Budget | None = None  # the budget to prune to at the end
    # Training images on which the last step estimates the statistics of batch norm again; 0: none
    recalibrate: int = 0

    def __post_init__(self) -> None:
        if self.recalibrate < 0 or self.recalibrate == 1:
            raise ValueError(
                f"phase {self.name!r}: recalibrate {self.recalibrate} is not 0 or at least 2 images"
            )
        if (self.recipe is None) != (self.length is None):
            raise ValueError(f"phase {self.name!r}: recipe and length must be given together")
        for hook in self.hooks:
            if hook not in get_args(HookName):
                raise ValueError(
                    f"phase {self.name!r}: {unknown_name('hook', hook, get_args(HookName))}"
                )


def is_cost(kind: RatioKind) -> TypeGuard[CostKind]:
    """Whether a kind of ratio counts a cost of the whole network."""
    return kind in COST_KINDS


def is_past(share: float, t: int, epochs: float) -> bool:
    """Whether epoch t, from 0, comes after `share` of the phase; the last epoch always does.

    PGMPF's rule, t >= share * epochs, shared by the loop, which reports epochs past a share, and by
    methods whose schedules end there. The last epoch counts so that a phase too short for the rule
    has one.

    >>> is_past(0.95, 189, 200), is_past(0.95, 190, 200), is_past(0.95, 9, 10)
    (False, True, True)
    """
    return t >= share * epochs or t + 1 >= epochs


def training(name: str, recipe: Recipe, **more: object) -> Phase:
    """Return a phase that trains with `recipe` for the number of epochs in the recipe."""
    if recipe.epochs is None:
        raise ValueError(f"phase {name!r}: its recipe does not set epochs")
    return Phase(name=name, recipe=recipe, length=Epochs(recipe.epochs), **more)  # type: ignore[arg-type]


def training_for(name: str, recipe: Recipe, length: Length, **more: object) -> Phase:
    """Return a phase that trains with `recipe` for a length that the method decides.

    Raises ValueError if the recipe sets a number of epochs too.
    """
    if recipe.epochs is not None:
        raise ValueError(
            f"phase {name!r}: the method decides its length; its recipe must not set epochs"
        )
    return Phase(name=name, recipe=recipe, length=length, **more)  # type: ignore[arg-type]
