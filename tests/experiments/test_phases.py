from __future__ import annotations

from typing import Any

import pytest

from prunebench.experiments.phases import Budget, Epochs, Phase, Steps, training
from prunebench.experiments.recipe import Recipe

RECIPE = Recipe(epochs=3, batch_size=64, lr=0.1, weight_decay=0)


@pytest.mark.parametrize(
    ("length", "steps"),
    [
        (Steps(7), 7),
        (Epochs(2), 34),
        (Epochs(2.5), 43),  # 2.5 x 17 = 42.5
        (Epochs(0.1 + 0.2), 6),  # 5.1
        (Epochs(3 * (1 / 17)), 3),  # 3 despite rounding
        (Epochs(0.001), 1),
    ],
)
def test_length_in_steps_at_17_steps_per_epoch(length: Steps | Epochs, steps: int) -> None:
    assert length.steps(17) == steps


@pytest.mark.parametrize(
    ("budget", "message"),
    [
        ({"kind": "macs", "ratio": 1.0}, r"ratio 1\.0 is not in \[0, 1\)"),
        ({"kind": "macs", "ratio": -0.1}, r"ratio -0\.1 is not in \[0, 1\)"),
        ({"kind": "auto", "ratio": 0.5}, "ratio 0.5 cannot be combined with ratio_kind 'auto'"),
        ({"kind": "macs", "ratio": None}, "ratio None cannot be combined with ratio_kind 'macs'"),
    ],
)
def test_an_impossible_budget_is_rejected(budget: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Budget(**budget)


@pytest.mark.parametrize("parts", [{"recipe": RECIPE}, {"length": Steps(1)}])
def test_recipe_and_length_must_be_given_together(parts: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="phase 'soft': recipe and length must be given together"):
        Phase(name="soft", **parts)


def test_a_misspelt_hook_is_rejected() -> None:
    hooks: Any = frozenset({"before_optimiser_step"})
    message = "unknown hook 'before_optimiser_step'; did you mean before_optimizer_step"
    with pytest.raises(ValueError, match=message):
        Phase(name="train", hooks=hooks)


def test_training_has_the_length_of_its_recipe() -> None:
    phase = training("fine_tune", RECIPE, keep_best=True)
    assert (phase.length, phase.recipe, phase.keep_best) == (Epochs(3), RECIPE, True)


def test_training_without_epochs_is_rejected() -> None:
    endless = RECIPE.model_copy(update={"epochs": None})
    with pytest.raises(ValueError, match="phase 'train': its recipe does not set epochs"):
        training("train", endless)
