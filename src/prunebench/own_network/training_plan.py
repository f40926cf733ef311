"""How a method trains on the user's loader: recipes for its roles, and phases that fit the epochs.

Methods bring the lengths of their papers, such as the 110,000 steps of GReg. If these take more
than half of the user's epochs, they are shortened as experiments with `epochs_scale` do: fewer
steps, larger increments. The last phase, fine-tuning, gets the epochs that are left.
"""

from __future__ import annotations

import glob
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from itertools import product
from pathlib import Path
from typing import Any

from torch import nn

from prunebench.core.errors import ConfigError
from prunebench.core.names import unknown_name
from prunebench.experiments.phases import Budget, Phase, Steps
from prunebench.experiments.recipe import Recipe
from prunebench.experiments.settings import Grows, Shrinks
from prunebench.experiments.validation import validate
from prunebench.methods.base import Method, MethodOptions, check_hooks

LR = 0.01
WEIGHT_DECAY = 1e-4
SHARE = 0.5  # of the epochs, at most, before the last phase
# Keys of a recipe that mean something here: images, their order and augmentation are the loader's.
KEYS = (
    "accumulation", "betas", "clip_norm", "compile", "eps", "frozen", "label_smoothing", "momentum",
    "nesterov", "norm_statistics", "optimizer", "precision", "schedule", "weight_decay",
)  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class Training:
    """What the user asks of training.

    Attributes
    ----------
    epochs
        Passes over the loader, pruning and fine-tuning together.
    recipe
        Further keys of a recipe.
    checkpoint
        Folder of checkpoints; None: a run that is stopped begins anew.
    quiet
        Whether to print nothing.
    """

    epochs: int
    lr: float = LR
    recipe: Mapping[str, Any] = field(default_factory=dict)
    checkpoint: Path | None = None
    quiet: bool = False

    def __post_init__(self) -> None:
        if isinstance(self.epochs, bool) or not isinstance(self.epochs, int) or self.epochs < 1:
            raise ConfigError(f"epochs: {self.epochs!r} is not a whole number of at least 1")
        for key in self.recipe:
            if key not in KEYS:
                raise ConfigError(f"recipe: {unknown_name('key', key, KEYS)}")

    def recipe_of(
        self, batch_size: int, epochs: int | None, frozen: tuple[str, ...], *, is_last: bool
    ) -> Recipe:
        """Return the recipe of a phase; the last one ends at a learning rate of 0 by default."""
        given = {
            "batch_size": batch_size,
            "lr": self.lr,
            "weight_decay": WEIGHT_DECAY,
            "epochs": epochs,
            "frozen": frozen,
            "schedule": {"kind": "cosine", "per": "step"} if is_last else {},
        }
        return validate(Recipe, {**given, **self.recipe}, "recipe")


def frozen_names(model: nn.Module) -> tuple[str, ...]:
    """Return the parameters that the user does not train, as patterns of their names."""
    return tuple(glob.escape(name) for name, p in model.named_parameters() if not p.requires_grad)


def fitted(
    method: type[Method[Any]],
    options: MethodOptions,
    budget: Budget,
    training: Training,
    *,
    name: str,
    batch_size: int,
    per_epoch: int,
    frozen: tuple[str, ...],
    given: Mapping[str, Any],
) -> tuple[Method[Any], tuple[Phase, ...]]:
    """Return the method, its lengths shortened if necessary, and its phases.

    Parameters
    ----------
    per_epoch
        Batches of the loader.
    given
        The options that the user has set: lengths among them stay.

    Raises
    ------
    ConfigError
        If recipes, options and budget do not go together, or the epochs are too few.
    """
    steps = training.epochs * per_epoch

    def made(scale: float) -> tuple[Method[Any], tuple[Phase, ...]]:
        own = options.shortened(scale) if scale < 1 else options
        if options.total_epochs is None:
            own = own.model_copy(update={"total_epochs": float(training.epochs)})
        found = method(own)
        return found, phases_of(found, budget, training, name, batch_size, frozen)

    chosen, phases = made(1.0)
    before = steps_before(phases)
    if before > SHARE * steps and not lengths(options).intersection(given):
        chosen, phases = made(SHARE * steps / before)
        before = steps_before(phases)
    if before >= steps:
        raise ConfigError(
            f"{name}: pruning takes {before} steps, and {training.epochs} epochs have {steps}; "
            f"give more epochs, or shorter {', '.join(sorted(lengths(options))) or 'phases'}"
        )
    check_hooks(chosen, phases)
    return chosen, phases


def phases_of(
    method: Method[Any],
    budget: Budget,
    training: Training,
    name: str,
    batch_size: int,
    frozen: tuple[str, ...],
) -> tuple[Phase, ...]:
    """Return the method's phases; ConfigError if the options do not go together.

    A role's recipe has a number of epochs unless the method decides the length of its phases.
    """
    roles = method.needed_roles()
    share = max(1, round(SHARE * training.epochs / max(1, len(roles) - 1)))
    numbers = [(None, share) for _ in roles[:-1]] + [(training.epochs,) for _ in roles[-1:]]
    problem = ""
    for epochs in product(*numbers):
        recipes = {
            role: training.recipe_of(batch_size, own, frozen, is_last=role == roles[-1])
            for role, own in zip(roles, epochs, strict=True)
        }
        try:
            return tuple(method.phases(recipes, budget))
        except ValueError as error:
            problem = problem or str(error)
    raise ConfigError(f"{name}: {problem}")


def steps_before(phases: tuple[Phase, ...]) -> int:
    """Return the steps of the phases before the last one that trains, if their number is fixed."""
    trained = [phase for phase in phases if phase.recipe is not None]
    return sum(phase.length.n for phase in trained[:-1] if isinstance(phase.length, Steps))


def lengths(options: MethodOptions) -> set[str]:
    """Return the names of the options that a shortened run changes."""
    return set(_marked(options))


def _marked(options: MethodOptions) -> Iterator[str]:
    for name, info in type(options).model_fields.items():
        if any(isinstance(mark, Shrinks | Grows) for mark in info.metadata):
            yield name
