from __future__ import annotations

import pytest
from pydantic import ValidationError

from prunebench.papers.cost_rules import QUANTITIES
from prunebench.papers.structures import CountedStructure, Cut, Formula, Thinned

BASE = {"architecture": "resnet20", "num_classes": 10, "image": (3, 32, 32)}


@pytest.mark.parametrize("numbers", [{}, {"ratio": 0.5, "keep": 0.5}, {"keep": 0.5, "units": 8}])
def test_a_group_is_thinned_by_one_number(numbers: dict[str, float]) -> None:
    with pytest.raises(ValidationError, match="give one of ratio, keep and units"):
        Thinned(groups=("*",), **numbers)


def test_a_closed_form_excludes_groups() -> None:
    formula = Formula(name="sfp_cifar", depth=20, keep=0.7)
    with pytest.raises(ValidationError, match="exclude each other"):
        CountedStructure(**BASE, formula=formula, thinned=(Thinned(groups=("*",), keep=0.5),))


def test_cut_convolutions_exclude_groups() -> None:
    cut = Cut(what="filters", ratios={"conv1": 0.1})
    with pytest.raises(ValidationError, match="exclude each other"):
        CountedStructure(**BASE, cut=cut, thinned=(Thinned(groups=("*",), keep=0.5),))


def test_equal_structures_are_one_key() -> None:
    first, second = CountedStructure(**BASE), CountedStructure(**{**BASE, "image": [3, 32, 32]})
    assert {first: 1}[second] == 1


def test_every_quantity_is_named_in_words() -> None:
    assert len(set(QUANTITIES.values())) == len(QUANTITIES) == 15
