from __future__ import annotations

from pathlib import Path

import pytest

from prunebench import testing
from prunebench.core.errors import RunStoppedError, TrainingError
from prunebench.experiments.phases import Budget
from prunebench.methods.group_fisher import GroupFisher, GroupFisherOptions
from prunebench.methods.registry import method_class
from prunebench.training.run import RunState

BUDGET = Budget(kind="macs", ratio=0.4)
PER_EPOCH = 3  # steps on the toy data
RECIPES = {"prune": testing.RECIPE.model_copy(update={"epochs": None})}


def fisher(total: float | None) -> GroupFisher:
    return GroupFisher(GroupFisherOptions(interval_steps=1, total_epochs=total))


def steps(run: RunState) -> dict[str, int]:
    """The steps of each phase."""
    return {row.phase: row.step for row in run.records.history if not row.event}


def test_last_phase_gets_the_epochs_that_are_left() -> None:
    pruned = steps(testing.train(fisher(None), BUDGET, recipes=RECIPES))
    assert pruned["fine_tune"] == PER_EPOCH  # of the recipe
    assert pruned["prune"] % PER_EPOCH  # ends within an epoch
    run = testing.train(fisher(4.0), BUDGET, recipes=RECIPES)
    assert steps(run) == {
        "prune": pruned["prune"],
        "fine_tune": 4 * PER_EPOCH - pruned["prune"],
    }
    assert run.records.epochs_trained == pytest.approx(4.0)
    assert run.records.epochs_before == pytest.approx(pruned["prune"] / PER_EPOCH)


def test_resumed_run_has_the_same_length(tmp_path: Path) -> None:
    whole = testing.train(fisher(4.0), BUDGET, recipes=RECIPES)
    with pytest.raises(RunStoppedError):
        testing.train(
            fisher(4.0), BUDGET, recipes=RECIPES, folder=tmp_path, stop_after=4 * PER_EPOCH - 2
        )
    resumed = testing.train(fisher(4.0), BUDGET, recipes=RECIPES, folder=tmp_path)
    assert steps(resumed) == steps(whole)


def test_pruning_may_not_take_all_epochs() -> None:
    with pytest.raises(
        TrainingError, match=r"phase 'fine_tune': total_epochs is 0\.3, but .* took 1\.\d+ epochs"
    ):
        testing.train(fisher(0.3), BUDGET, recipes=RECIPES)


def test_one_phase_takes_them_all() -> None:
    l1 = method_class("l1")
    run = testing.train(l1(l1.Options(total_epochs=2)), testing.HALF)
    assert steps(run) == {"fine_tune": 2 * PER_EPOCH}


def test_shortened_run_has_a_share_of_them() -> None:
    assert fisher(3.0).options.shortened(0.5).total_epochs == 1.5
