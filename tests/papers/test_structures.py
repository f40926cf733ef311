from __future__ import annotations

import pytest
from pydantic import ValidationError

from prunebench.papers.cost_rules import QUANTITIES
from prunebench.papers.structures import CountedStructure, Formula, Thinned

BASE = {"architecture": "resnet20", "num_classes": 10, "image": (3, 32, 32)}


@pytest.mark.parametrize("ratios", [{}, {"ratio": 0.5, "keep": 0.5}])
def test_a_group_is_thinned_by_one_ratio(ratios: dict[str, float]) -> None:
    with pytest.raises(ValidationError, match="give either ratio or keep"):
        Thinned(groups=("*",), **ratios)


def test_a_closed_form_excludes_groups() -> None:
    formula = Formula(name="sfp_cifar", depth=20, keep=0.7)
    with pytest.raises(ValidationError, match="exclude each other"):
        CountedStructure(**BASE, formula=formula, thinned=(Thinned(groups=("*",), keep=0.5),))


def test_equal_structures_are_one_key() -> None:
    first, second = CountedStructure(**BASE), CountedStructure(**{**BASE, "image": [3, 32, 32]})
    assert {first: 1}[second] == 1


def test_every_quantity_is_named_in_words() -> None:
    assert len(set(QUANTITIES.values())) == len(QUANTITIES) == 13
