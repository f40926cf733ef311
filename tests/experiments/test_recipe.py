from __future__ import annotations

from typing import Any

import pytest
from pydantic import ValidationError

from prunebench.experiments.recipe import Recipe, Schedule


def recipe(**more: Any) -> Recipe:
    return Recipe(**{"batch_size": 64, "lr": 0.1, "weight_decay": 5e-4, **more})


@pytest.mark.parametrize(
    ("schedule", "epoch", "lr"),
    [
        ({}, 7.5, 0.1),
        ({"kind": "milestones", "milestones": [10, 15]}, 9.99, 0.1),
        ({"kind": "milestones", "milestones": [10, 15]}, 10.0, 0.01),
        ({"kind": "milestones", "milestones": [10, 15], "factor": 0.5}, 15.0, 0.025),
        ({"kind": "exponential", "factor": 0.5}, 3.9, 0.0125),
        ({"kind": "exponential", "factor": 0.25, "per": "step"}, 0.5, 0.05),
        ({"kind": "cosine"}, 0.0, 0.1),
        ({"kind": "cosine"}, 10.9, 0.05),  # per epoch: half of 20 epochs have begun
        ({"kind": "cosine", "per": "step"}, 20.0, 0.0),
        ({"warmup_epochs": 4}, 1.0, 0.025),
        ({"warmup_epochs": 4, "kind": "milestones", "milestones": [2]}, 3.0, 0.0075),
        # ResNet-110 of SFP's code: 0.01 in the first epoch, then 0.1
        ({"warmup_epochs": 1, "warmup_from": 0.1, "warmup": "constant"}, 0.9, 0.01),
        ({"warmup_epochs": 1, "warmup_from": 0.1, "warmup": "constant"}, 1.0, 0.1),
        # EPruner on ImageNet: five warm-up epochs, drops at 30, 60 and 80
        ({"warmup_epochs": 5, "kind": "milestones", "milestones": [30, 60, 80]}, 2.5, 0.05),
        ({"warmup_epochs": 5, "kind": "milestones", "milestones": [30, 60, 80]}, 80.0, 1e-4),
        # Group Fisher's MobileNet-V2: times 0.98 at each epoch
        ({"kind": "exponential", "factor": 0.98}, 2.7, 0.09604),
    ],
)
def test_the_learning_rate_follows_its_schedule(
    schedule: dict[str, Any], epoch: float, lr: float
) -> None:
    assert recipe(schedule=schedule).lr_at(epoch, 20) == pytest.approx(lr, abs=1e-12)


@pytest.mark.parametrize(("step", "lr"), [(0, 1e-4), (250, 0.05005), (500, 0.1), (9000, 0.1)])
def test_a_warmup_may_be_given_in_steps_and_start_above_zero(step: int, lr: float) -> None:
    # Group Fisher's detectors: 500 steps from 0.001; halfway 0.001 + 0.999 / 2 = 0.5005
    schedule = {"warmup_steps": 500, "warmup_from": 0.001}
    assert recipe(schedule=schedule).lr_at(0.0, 20, step) == pytest.approx(lr, abs=1e-12)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"schedule": {"warmup_steps": 5, "warmup_epochs": 1}}, "cannot be combined"),
        ({"schedule": {"warmup_epochs": 1, "warmup": "constant"}}, "needs warmup_from above 0"),
        ({"optimizer": "adam", "nesterov": True}, "nesterov needs the optimizer 'sgd', not 'adam'"),
        ({"batch_size": 6, "accumulation": 4}, "batch_size 6 in 4 parts leaves fewer than two"),
        (
            {"augment": {"resized_crop": {"scale": [1, 0.5]}}},
            "scale must be a range from low to high",
        ),
        ({"augment": {"jitter": 1}}, "augment.jitter"),
        (
            {"augment": {"resized_crop": {}, "random_crop": True}},
            "resized_crop and random_crop cannot be combined",
        ),
        ({"optimizer": "sdg"}, "optimizer"),
    ],
)
def test_settings_that_exclude_each_other_are_rejected(
    settings: dict[str, Any], message: str
) -> None:
    with pytest.raises(ValidationError, match=message):
        recipe(**settings)


def test_a_cosine_schedule_needs_a_phase_of_known_length() -> None:
    with pytest.raises(ValueError, match="cosine schedule needs a phase of known length"):
        recipe(schedule={"kind": "cosine"}).lr_at(1, None)


@pytest.mark.parametrize(
    ("schedule", "message"),
    [
        ({"kind": "milestones"}, "milestones must be given if and only if"),
        ({"milestones": [1]}, "milestones must be given if and only if"),
        ({"kind": "milestones", "milestones": [3, 2]}, "milestones must be in rising order"),
    ],
)
def test_milestones_need_their_kind_and_rise(schedule: dict[str, Any], message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        Schedule(**schedule)


def test_batch_size_lr_and_weight_decay_have_no_default() -> None:
    with pytest.raises(ValidationError) as error:
        Recipe()  # type: ignore[call-arg]
    missing = [entry["loc"] for entry in error.value.errors() if entry["type"] == "missing"]
    assert missing == [("batch_size",), ("lr",), ("weight_decay",)]


def test_a_recipe_is_frozen() -> None:
    with pytest.raises(ValidationError, match="frozen"):
        recipe().lr = 0.2  # type: ignore[misc]


def test_a_number_may_be_text_since_yaml_reads_5e_4_as_text() -> None:
    assert recipe(weight_decay="5e-4").weight_decay == 0.0005
