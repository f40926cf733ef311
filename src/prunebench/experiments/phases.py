"""What a method does over time, as data: a list of phases.

A phase trains with a recipe for a length, or only selects; at its end it may prune to a budget.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal, get_args

from prunebench.experiments.recipe import Recipe

RatioKind = Literal["units_per_group", "units_global", "macs", "params", "weights", "auto"]
RATIO_KINDS: tuple[str, ...] = get_args(RatioKind)
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
    """What must have left by the end of a phase, against the network the run started from."""

    kind: RatioKind
    ratio: float | None  # fraction removed, in [0, 1); None: the method decides ("auto")

    def __post_init__(self) -> None:
        if (self.kind == "auto") != (self.ratio is None):
            raise ValueError(f"ratio {self.ratio} does not go with ratio_kind {self.kind!r}")
        if self.ratio is not None and not 0 <= self.ratio < 1:
            raise ValueError(f"ratio must lie in [0, 1), not {self.ratio}")


@dataclass(frozen=True, kw_only=True)
class Phase:
    """One stretch of a run. Without recipe and length it only selects and prunes."""

    name: str
    recipe: Recipe | None = None
    length: Length | None = None
    until_finished: bool = False  # ends at the first `decide` after which `finished`; length caps
    start: Literal["current", "fresh", "best", "accepted"] = "current"
    optimizer: Literal["new", "carry"] = "new"  # carry: momenta, sliced along at removals
    clock: Literal["new", "continue"] = "new"  # continue: epochs, schedule and length count on
    hooks: frozenset[HookName] = frozenset()  # nothing else is called
    keep_best: bool = False  # fills the slot "best" by validation accuracy
    reportable_from: float | None = 0.0  # share of the phase after which epochs count; None: never
    then: Budget | None = None

    def __post_init__(self) -> None:
        if (self.recipe is None) != (self.length is None):
            raise ValueError(f"phase {self.name!r}: recipe and length are given together or not")


def is_past(share: float, t: int, epochs: float) -> bool:
    """Whether epoch t, from 0, comes after `share` of the phase; the last one always does.

    One rule for the loop, which reports epochs past a share, and for methods whose schedules end
    there: PGMPF's t >= share * epochs. The last epoch is for phases too short to have one by it.

    >>> is_past(0.95, 189, 200), is_past(0.95, 190, 200), is_past(0.95, 9, 10)
    (False, True, True)
    """
    return t >= share * epochs or t + 1 >= epochs


def training(name: str, recipe: Recipe, **more: object) -> Phase:
    """Return the phase that trains with `recipe` for the recipe's own number of epochs."""
    if recipe.epochs is None:
        raise ValueError(f"phase {name!r}: its recipe says no number of epochs")
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
