from __future__ import annotations

import json
import math

import pytest

from prunebench.report.training_cost import training_costs

from .conftest import few_runs, history

TWICE = json.dumps(
    {
        "phase": ["a", "a", "b", "b", "c"],
        "epoch": [1, 1, 1, 1, 1],
        "event": ["", "pruned", "", "pruned", ""],
        "train_loss": [None] * 5,
        "val_accuracy": [None] * 5,
        "test_accuracy": [None] * 5,
    }
)


@pytest.mark.parametrize(
    ("run", "cost"),
    [
        # all after the removal, at half the multiply-accumulates
        ({"history": history([], ["fine_tune"] * 12)}, 6.0),
        ({"history": history(["train"] * 12, [])}, 12.0),
        # 5.5 epochs of regularization in six rows, then 12 of fine-tuning: 5.5 + 12 / 2
        ({"epochs": 17.5, "history": history(["regularize"] * 6, ["fine_tune"] * 12)}, 11.5),
        # early_bird trains on in a phase of another name: 4 + 8 / 2
        ({"fine_tune_epochs": 8.0, "history": history(["search"] * 4, ["train"] * 8)}, 8.0),
        ({"epochs": 0.0, "fine_tune_epochs": math.nan, "history": history([], [])}, 0.0),
        ({"speedup_macs": 1.0, "history": history(["train"] * 12, [], "recalibrated")}, 12.0),
    ],
)
def test_epochs_after_the_removal_cost_less(run: dict[str, object], cost: float) -> None:
    assert training_costs(few_runs(run)).tolist() == [cost]


@pytest.mark.parametrize("cell", [TWICE, math.nan])
def test_cost_is_unknown_between_removals_and_without_a_history(cell: object) -> None:
    assert training_costs(few_runs({"history": cell})).isna().all()
