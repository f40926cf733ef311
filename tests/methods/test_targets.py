"""Every method meets a target in a cost of the network to one unit."""

from __future__ import annotations

from typing import Any

import pytest

from prunebench import testing
from prunebench.core.errors import TrainingError
from prunebench.criteria.gradients import DataCriterion
from prunebench.criteria.registry import CRITERIA
from prunebench.data.random_state import seeded
from prunebench.experiments.phases import Budget, RatioKind
from prunebench.measure.macs import count_macs
from prunebench.methods.base import Method, is_met
from prunebench.methods.registry import METHODS, method_class
from prunebench.models.cifar_resnet import CifarResNet
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
ZEROS_COUNT: list[tuple[RatioKind, float]] = [
    ("macs", 0.5),
    ("macs", 0.7),
    ("params", 0.5),
    ("params", 0.7),
]
TARGETS = [*ZEROS_COUNT, ("activations", 0.3)]


def make(name: str, options: dict[str, Any]) -> Method[Any]:
    found = method_class(name)
    few = {"samples": 6, "batch": 4} if issubclass(found.Options, DataCriterion) else {}
    short = {key: value for key, value in OPTIONS.get(name, {}).items() if key != "rounds"}
    return found(found.Options.model_validate(few | short | options))


@pytest.fixture
def run() -> RunState:
    """A run of ResNet-8 with a quarter of its channels, three steps an epoch."""
    with seeded(0):
        network = CifarResNet(1, num_classes=4, in_channels=1, width=0.25)
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


# Filters of single layers and columns become zero: theoretical MACs and parameters count.
ZEROED: list[tuple[str, dict[str, Any]]] = [
    *((name, {"scope": "layer", "norms": norms}) for name in SOFT for norms in ("keep", "decay")),
    *((name, {"unit": unit}) for name in COLUMNS for unit in ("column", "row")),
    *(("increg", {"growth": growth}) for growth in ("constant", "discontinuous", "norms")),
    ("l1_columns", {"layer_rule": "uniform", "roles": ()}),
]


@pytest.mark.parametrize(("kind", "ratio"), ZEROS_COUNT)
@pytest.mark.parametrize(("name", "options"), ZEROED)
def test_zeros_meet_a_target_to_one_unit(
    name: str, options: dict[str, Any], kind: RatioKind, ratio: float, run: RunState
) -> None:
    method, first = make(name, options), run.base_params
    sizes = {weight: parameter.shape for weight, parameter in run.params.items()}
    macs, whole = run.costs.layer_macs(), run.base_macs if kind == "macs" else first
    pruned(method, name, Budget(kind=kind, ratio=ratio), run)
    now = run.costs.layer_macs()
    if kind == "macs":
        kept = {w: float(keep.double().mean()) for w, keep in run.masks.items()}
        left = sum(own * kept.get(weight, 1.0) for weight, own in now.items())
    else:
        left = run.costs.params() - sum(int((~keep).sum()) for keep in run.masks.values())
    # A filter that nothing reads any more leaves with its last column.
    unit = max(
        2 * (macs[w] if kind == "macs" else sizes[w].numel()) / min(len(sizes[w]), sizes[w][1])
        for w in macs
        if len(sizes[w]) == 4
    )
    assert -1e-6 <= (1 - ratio) * whole - left <= unit


def test_a_target_out_of_reach_is_refused_before_training(run: RunState) -> None:
    method, steps = make("orthoreg_from_base", {"rounds": 3}), []
    sentence = (
        "^phase 'penalize_1': ratio 0.97 of macs is out of reach; the largest is 0.8082, with "
    )
    with pytest.raises(TrainingError, match=sentence):
        testing.train(method, Budget(kind="macs", ratio=0.97), run, after_step=steps.append)
    assert steps == []


@pytest.mark.parametrize("name", [*OTHERS, *SOFT, *COLUMNS])
def test_a_target_beyond_the_last_units_names_the_largest(name: str, run: RunState) -> None:
    method = make(name, {"layers": ("stages.2.*",)} if name in (*SOFT, *COLUMNS) else {})
    sentence = r"ratio 0.999 of macs .* the largest is 0\.\d+, "
    with pytest.raises(TrainingError, match=sentence) as caught:
        testing.train(method, Budget(kind="macs", ratio=0.999), run, recipes=RECIPES)
    assert "\n" not in str(caught.value)
    assert run.clock == 0
