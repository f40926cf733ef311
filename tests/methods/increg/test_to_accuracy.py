from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from prunebench import testing
from prunebench.core.errors import RunStoppedError, TrainingError
from prunebench.data.dataset import Split
from prunebench.experiments.phases import Budget, Phase
from prunebench.experiments.recipe import Recipe
from prunebench.methods.base import Run
from prunebench.methods.increg.to_accuracy import IncRegAccuracy
from prunebench.training.run import RunState
from tests.methods.increg.test_to_ratios import STILL, one_layer

COLUMNS = [[1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 7.0, 8.0, 9.0, 10.0]]
OPTIONS = {
    "A": 1.0,
    "ceiling": 2.0,
    "ceiling_factor": "none",
    "layers": ("conv*",),
    "loss_eval_steps": 2,
    "layer_ratios": {"conv": 0.5},
    "border": 0.9,
}


class Scripted(IncRegAccuracy):
    """The search with accuracies that are given: of the start, then of each stage."""

    def __init__(self, options: Any, accuracies: list[float]) -> None:
        super().__init__(options)
        self.script, self.shares, self.columns = accuracies, list[float](), list[int]()

    def before_phase(self, run: Run) -> None:
        super().before_phase(run)
        if run.phase.name == "prune":
            self.shares.append(self.state["x"])

    def verdict(self, run: Run) -> str:
        self.columns.append(run.params["conv.weight"].shape[1])
        self.state["accuracies"] = [self.script[self.state["stages"]]]
        return super().verdict(run)


def phases(method: IncRegAccuracy, recipe: Recipe = STILL) -> list[Phase]:
    recipes = {role: recipe for role in ("regularize", "loss_eval")}
    recipes["fine_tune"] = recipe.model_copy(update={"epochs": 1})
    return method.phases(recipes, Budget(kind="auto", ratio=None))


def start() -> RunState:
    return testing.start(one_layer(COLUMNS), image=(1, 2, 2))


def search(accuracies: list[float], **options: Any) -> tuple[Scripted, RunState]:
    method = Scripted(IncRegAccuracy.Options(**{**OPTIONS, **options}), accuracies)
    return method, testing.train(method, phases(method), start())


def columns_left(run: RunState) -> int:
    return run.params["conv.weight"].shape[1]


def test_a_stage_that_is_good_enough_is_followed_by_a_larger_one() -> None:
    # x = 0.2 prunes 0.2 / 0.5 * 0.5 of 10; 10 (0.91 - 0.9) = 0.1 makes it 3, 0.05 then 3.5: 4.
    # That fails; 0.05 (0.905 - 0.9) / (0.905 - 0.705) is below 0.01.
    method, run = search([0.91, 0.905, 0.705])
    assert method.shares == pytest.approx([0.2, 0.1, 0.05])
    assert method.columns == [8, 7, 6]
    assert columns_left(run) == 7  # what was accepted last
    assert method.figures()["prune_stages"] == 3


def test_a_failed_stage_is_tried_again_smaller() -> None:
    # accepted at 0.94; 0.2 more ends at 0.86: 0.2 * (0.94 - 0.9) / (0.94 - 0.86) = 0.1
    method, run = search([0.94, 0.86, 0.9, 0.5])
    assert method.shares == pytest.approx([0.2, 0.2, 0.1, 0.01])
    assert method.columns == [8, 6, 7, 6]
    assert columns_left(run) == 7


def test_the_border_is_met_within_a_twentieth_of_a_percent() -> None:
    assert search([0.8996, 0.1])[0].figures()["prune_stages"] == 2
    assert search([0.8994])[0].figures()["prune_stages"] == 1


def test_a_first_stage_that_fails_leaves_the_network_whole() -> None:
    method, run = search([0.1], border=0.99)
    assert (method.figures()["prune_stages"], columns_left(run)) == (1, 10)
    assert run.masks == {}


def test_the_bound_ends_the_search() -> None:
    method, run = search([1.0] * 9, bound=0.55)
    # 2, 4, then 0.55 of 10 rounded up
    assert method.columns == [8, 6, 4]
    assert columns_left(run) == 4


def test_the_ceiling_follows_the_stage() -> None:
    options = {**OPTIONS, "ceiling_factor": "staged", "ceiling": 2.5}
    method = IncRegAccuracy(IncRegAccuracy.Options(**options))
    found = [method.ceiling_at(x) for x in (0.05, 0.1)]
    assert found == pytest.approx([2.5, 2.5 * 1.893722], abs=5e-6)


def test_only_the_last_fine_tuning_is_a_result() -> None:
    _, run = search([0.1])
    rows = run.records.history
    assert {row.phase for row in rows if row.reportable} == {"fine_tune"}


def test_the_border_is_the_accuracy_at_the_start_unless_given() -> None:
    method = IncRegAccuracy(IncRegAccuracy.Options(**{**OPTIONS, "border": None}))
    run = start()
    accuracy = run.validate()
    testing.train(method, phases(method), run)
    assert method.state["border"] == accuracy
    assert 0 <= accuracy <= 1


def test_steps_come_from_the_rule_where_none_are_given() -> None:
    method = IncRegAccuracy(
        IncRegAccuracy.Options(**{**OPTIONS, "layer_ratios": {}, "layers": ("convolutions",)})
    )
    run = testing.train(method, phases(method), start())
    macs = run.costs.layer_macs({"stem": 10})
    saved = sum(macs[f"{path}.weight"] * step for path, step in method.state["steps"].items())
    assert saved == pytest.approx(0.5 * run.base_macs)


def test_without_a_validation_split_nothing_can_be_decided() -> None:
    data = testing.toy_data(shape=(1, 2, 2))
    data = replace(data, val=Split(data.val.images[:0], data.val.labels[:0]))
    method, run = (
        IncRegAccuracy(IncRegAccuracy.Options(**OPTIONS)),
        testing.start(one_layer(COLUMNS), data),
    )
    with pytest.raises(TrainingError, match=r"'prune': the data set has no validation split"):
        testing.train(method, phases(method), run)


# --- stopped anywhere
MOVING = Recipe(batch_size=4, lr=0.01, weight_decay=0.01)
SCRIPT = [0.94, 0.86, 0.9, 0.5]


def moving(**more: Any) -> tuple[Scripted, RunState]:
    method = Scripted(IncRegAccuracy.Options(**OPTIONS), SCRIPT)
    return method, testing.train(method, phases(method, MOVING), start(), **more)


def test_a_search_stopped_in_any_of_its_stretches_ends_with_the_same_bits(tmp_path: Path) -> None:
    steps: list[int] = []
    method, whole = moving(after_step=lambda run: steps.append(run.clock))
    for after in range(5, len(steps), 7):
        folder = tmp_path / str(after)
        folder.mkdir()
        with pytest.raises(RunStoppedError):
            moving(stop_after=after, folder=folder)
        resumed, again = moving(folder=folder)
        assert again.records.resumed_at
        state, expected = again.model.state_dict(), whole.model.state_dict()
        assert all(torch.equal(state[name], expected[name]) for name in expected)
        assert again.kept["stem"].tolist() == whole.kept["stem"].tolist()
        assert [r.step for r in again.records.history] == [r.step for r in whole.records.history]
        assert resumed.figures() == method.figures()
