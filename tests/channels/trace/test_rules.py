from __future__ import annotations

import torch

from prunebench.channels.trace.rules import tensors
from prunebench.channels.trace.rules.registry import RULES, rule_of


def test_rules_are_sorted_by_operation():
    assert list(RULES) == sorted(RULES)


def test_every_rule_belongs_to_an_operation_of_torch():
    names = [name.removeprefix("aten.") for name in RULES if name.startswith("aten.")]
    assert [name for name in names if not hasattr(torch.ops.aten, name)] == []


def test_rule_is_found_by_operation():
    assert rule_of(torch.ops.aten.cat.default) is tensors.cat
    assert rule_of(torch.ops.aten.cumprod.default) is None
