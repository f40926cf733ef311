"""Every method, criteria included, satisfies `prunebench.testing.check_method`."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from prunebench import testing
from prunebench.criteria.gradients import DataCriterion
from prunebench.criteria.registry import CRITERIA
from prunebench.experiments.phases import Budget
from prunebench.methods.registry import METHODS, method_class
from prunebench.training.run import RunState

AUTO = Budget(kind="auto", ratio=None)
GLOBAL = Budget(kind="units_global", ratio=0.4)
# small numbers of steps
GREG = {"interval_steps": 2, "delta": 0.25, "stabilize_steps": 3}
INCREG = {"A": 0.5, "ceiling": 1.0, "ceiling_factor": "none", "max_steps": 100}
INCREG |= {"loss_eval_steps": 2}
OPTIONS: dict[str, dict[str, Any]] = {
    "early_bird": {"distance": 1.0},
    "epruner": {"beta": 1.5},
    "fixreg": {"interval_steps": 2, "fixed_steps": 5, "stabilize_steps": 3},
    "greg_1": GREG,
    "greg_2": GREG | {"delta_pick": 0.125, "pick_ceiling": 0.25},
    "group_fisher": {"interval_steps": 2},
    "increg": INCREG,
    "increg_accuracy": INCREG | {"layer_ratios": {"conv": 0.5}, "border": 1e-6, "bound": 0.5},
    "orthoreg": {"rounds": 2, "criterion": {"fisher": {"samples": 6, "batch": 4}}},
    "orthoreg_from_base": {"criterion": {"fisher": {"samples": 6, "batch": 4}}},
}
BUDGETS = {
    "early_bird": GLOBAL,
    "epruner": AUTO,
    "group_fisher": Budget(kind="macs", ratio=0.4),
    "increg_accuracy": AUTO,
    "orthoreg": GLOBAL,
    "orthoreg_from_base": GLOBAL,
}
OWN_LENGTH = testing.RECIPE.model_copy(update={"epochs": None})
RECIPES = dict.fromkeys(("regularize", "prune", "loss_eval"), OWN_LENGTH)
RECIPES["search"] = testing.RECIPE.model_copy(update={"epochs": 6})
METHODS_THAT_PRUNE = sorted({*METHODS, *CRITERIA} - {"unpruned"})


def run_with_source() -> RunState:
    """Return a run that takes over the widths of another one."""
    half = {"stem": torch.arange(4), "block.conv1": torch.arange(3), "conv": torch.arange(4)}
    return testing.start(source_kept=half)


@pytest.mark.parametrize("name", METHODS_THAT_PRUNE)
def test_every_method_passes_the_check(name: str) -> None:
    kind = method_class(name)
    few = {"samples": 6, "batch": 4} if issubclass(kind.Options, DataCriterion) else {}
    testing.check_method(
        kind,
        few | OPTIONS.get(name, {}),
        BUDGETS.get(name, testing.HALF),
        start=run_with_source if name.startswith("scratch") else testing.start,
        recipes=RECIPES,
    )


@pytest.mark.parametrize("name", METHODS_THAT_PRUNE)
def test_every_method_ends_a_trial_of_two_steps_per_phase(name: str) -> None:
    kind = method_class(name)
    few = {"samples": 6, "batch": 4} if issubclass(kind.Options, DataCriterion) else {}
    method = kind(kind.Options.model_validate(few | OPTIONS.get(name, {})))
    recipes = dict.fromkeys(kind.recipe_roles, testing.RECIPE) | RECIPES
    trial = {role: recipe.limited(2, None) for role, recipe in recipes.items()}
    budget = BUDGETS.get(name, testing.HALF)
    run = testing.train(method, budget, run_with_source(), recipes=trial)
    assert run.records.history
    steps = [row.step for row in run.records.history if not row.event]
    assert max(steps, default=0) <= 4  # two phases may share a clock
