from __future__ import annotations

import pytest
import torch

from prunebench.channels.plan import Plan


def test_plan_is_empty_by_default():
    assert Plan().removed == {}
    assert Plan().zeroed == {}


@pytest.mark.parametrize(
    ("units", "message"),
    [
        (torch.tensor([1, 2, 1]), "listed twice"),
        (torch.tensor([1.0]), "int64"),
        (torch.tensor([[1]]), "one-dimensional"),
        (torch.tensor([-1]), "negative"),
    ],
)
def test_units_that_are_no_set_of_indices_are_refused(units, message):
    with pytest.raises(ValueError, match=message):
        Plan(removed={"conv": units})


def test_mask_that_is_not_bool_is_refused():
    with pytest.raises(ValueError, match="must be bool"):
        Plan(zeroed={"conv.weight": torch.ones(2)})
