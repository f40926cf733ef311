"""Every method meets a target in MACs or parameters to one unit."""

from __future__ import annotations

from typing import Any

import pytest

from prunebench import testing
from prunebench.criteria.gradients import DataCriterion
from prunebench.criteria.registry import CRITERIA
from prunebench.data.random_state import seeded
from prunebench.experiments.phases import Budget, RatioKind
from prunebench.measure.macs import count_macs
from prunebench.methods.base import Method, is_met
from prunebench.methods.registry import METHODS, method_class
from prunebench.models.registry import build
from prunebench.training.run import RunState
from tests.methods.test_every_method import OPTIONS, RECIPES

SOFT = ("asfp", "asrfp", "sfp", "soft_fpgm", "srfp")
COLUMNS = ("increg", "l1_columns")
# increg_accuracy prunes as far as the accuracy permits; these controls take the widths of a run
WITHOUT = ("increg_accuracy", "scratch_b", "scratch_e", "unpruned")
OTHERS = sorted({*METHODS, *CRITERIA} - {*SOFT, *COLUMNS, *WITHOUT})
# Filters or input channels leave the network. Other methods leave zeros: see below.
REMOVED: list[tuple[str, dict[str, Any]]] = [
    *((name, {}) for name in OTHERS),
    *((name, {"scope": "group", "norms": "decay"}) for name in SOFT),
    *((name, {"allocation": "global"}) for name in ("fisher", "greg_1", "l2")),
    ("sfp", {"allocation": "global", "scope": "group", "norms": "decay"}),
    *((name, {"rounds": 3}) for name in ("l1", "orthoreg_from_base", "taylor")),
    ("epruner", {"layer_betas": {"stages.2.*": 0.2}}),
    ("greg_2", {"unit": "channel"}),
    ("group_fisher", {"normalize": "macs", "units_at_once": 5}),
    ("l1", {"roles": ("stem", "stream", "inside")}),
]
TRAINED = ("fixreg", "greg_1", "greg_2", "group_fisher", "increg")  # others only select
TARGETS: list[tuple[RatioKind, float]] = [
    ("macs", 0.5),
    ("macs", 0.7),
    ("params", 0.5),
    ("params", 0.7),
]


def make(name: str, options: dict[str, Any]) -> Method[Any]:
    found = method_class(name)
    few = {"samples": 6, "batch": 4} if issubclass(found.Options, DataCriterion) else {}
    short = {key: value for key, value in OPTIONS.get(name, {}).items() if key != "rounds"}
    return found(found.Options.model_validate(few | short | options))


@pytest.fixture
def run() -> RunState:
    """A run of ResNet-20 with a quarter of its channels, three steps an epoch."""
    with seeded(0):
        network = build("resnet20_x0_25", num_classes=4, in_channels=1)
    return testing.start(network, image=(1, 8, 8))


def pruned(method: Method[Any], name: str, budget: Budget, run: RunState) -> None:
    if name in TRAINED or getattr(method.options, "rounds", 1) > 1:
        testing.train(method, budget, run, recipes=RECIPES)
    else:
        testing.prune(method, budget, run)


@pytest.mark.parametrize(("kind", "ratio"), TARGETS)
@pytest.mark.parametrize(("name", "options"), REMOVED)
def test_a_target_is_met_to_one_unit(
    name: str, options: dict[str, Any], kind: RatioKind, ratio: float, run: RunState
) -> None:
    budget, before = Budget(kind=kind, ratio=ratio), run.costs
    pruned(make(name, options), name, budget, run)
    assert run.records.capped == []
    left = {group: len(units) for group, units in run.kept.items()}
    macs, params = count_macs(run.model, run.example).total, run.model.parameters()
    assert (macs, sum(p.numel() for p in params)) == (before.macs(left), before.params(left))
    run.costs, lost = before, [group for group, n in left.items() if n < run.sizes[group]]
    assert is_met(run, budget, left)
    assert not all(is_met(run, budget, {**left, group: left[group] + 1}) for group in lost)
