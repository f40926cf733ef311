"""A criterion as an option of a method."""

from __future__ import annotations

from typing import Any

import pytest

from prunebench.core.errors import ConfigError
from prunebench.criteria.choice import ChosenCriterion
from prunebench.criteria.gradients import Fisher
from prunebench.experiments.settings import Settings
from prunebench.experiments.validation import validate


class Chooses(Settings):
    criterion: ChosenCriterion = Fisher()


@pytest.mark.parametrize(
    ("given", "wanted"),
    [
        ("l1", {"l1": {"combine": "joint", "norm": "mean"}}),
        ({"l1": {"norm": "sum"}}, {"l1": {"combine": "joint", "norm": "sum"}}),
    ],
)
def test_a_criterion_is_chosen_by_name_or_with_options(given: Any, wanted: Any) -> None:
    chosen = Chooses(criterion=given)
    assert chosen.model_dump(mode="json") == {"criterion": wanted}
    assert Chooses.model_validate(chosen.model_dump(mode="json")) == chosen


@pytest.mark.parametrize(
    ("given", "sentence"),
    [
        ("fischer", "criterion: unknown criterion 'fischer'; did you mean fisher?"),
        ({"fisher": {"sample": 3}}, "unknown option of fisher 'sample'; did you mean samples?"),
        ({"fisher": {"samples": 0}}, "criterion.samples: must be at least 1, not 0"),
        ({"l1": {"norm": "max"}}, "criterion.norm: unknown value 'max'"),
        ({"l1": {}, "l2": {}}, "expected a criterion's name, or name: options, found"),
        (3, "expected a criterion's name, or name: options, found 3"),
    ],
)
def test_a_wrong_choice_is_one_sentence(given: Any, sentence: str) -> None:
    with pytest.raises(ConfigError) as error:
        validate(Chooses, {"criterion": given}, "file")
    assert sentence in str(error.value)
