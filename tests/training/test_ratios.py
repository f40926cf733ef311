"""Every method and every kind of ratio that it takes: what was asked for is what has left."""

from __future__ import annotations

import pytest
import torch

from prunebench.channels.costs import costs_of
from prunebench.channels.predicted_latency import PredictedLatency
from prunebench.channels.trace.tracer import trace
from prunebench.experiments.phases import Budget, RatioKind
from prunebench.methods.base import MethodOptions, is_met
from prunebench.methods.registry import method_class, method_paths
from prunebench.training.loop import Loop
from prunebench.training.pruning import missed_ratio
from prunebench.training.run import RunState
from tests.channels.latency_tables import product_table
from tests.training.conftest import MakeLoop, fresh_network, recipe
from tests.training.test_resume import OPTIONS, ROLES

RATIO = 0.6
RATIOS: dict[RatioKind, float] = {
    "activations": 0.3,  # the residual stream keeps most of these
    "units_global": 0.5,  # of 36 or 44 units: no fraction is left over in a round
}
ROUNDED_DOWN = ("asfp", "asrfp", "fpgm", "sfp", "soft_fpgm", "srfp")
SINGLE_WEIGHTS = {"scope": "weight", "unit": "weight"}  # the options that ask for them
GROUPS = {"scope": "group", "norms": "decay"}  # for kinds that count removed filters alone


def options_for(name: str, kind: RatioKind) -> MethodOptions:
    """Default options in short schedules; single weights where the ratio is one of weights."""
    options = method_class(name).Options
    short = {k: v for k, v in OPTIONS.get(name, {}).items() if k not in {*SINGLE_WEIGHTS, "norms"}}
    own = SINGLE_WEIGHTS if kind == "weights" else {}
    own = GROUPS if kind in ("activations", "latency") else own
    return options(**short | {k: v for k, v in own.items() if k in options.model_fields})


CELLS = [
    (name, kind)
    for name in sorted(set(method_paths()) - {"unpruned"})  # which takes ratio 0 alone
    for kind in method_class(name).ratio_kinds
    # without a ratio the method decides; who always takes another run's widths has none either
    if kind != "auto" and options_for(name, kind).widths_from is None
]


def trained(name: str, kind: RatioKind, ratio: float, make_loop: MakeLoop) -> Loop:
    method = method_class(name)(options_for(name, kind))
    recipes = {role: recipe(**{"epochs": 1} | ROLES.get(role, {})) for role in method.recipe_roles}
    loop = make_loop(method, method.phases(recipes, Budget(kind=kind, ratio=ratio)))
    if kind == "latency":
        loop.run.latency = PredictedLatency(product_table(fresh_network(), (3, 8, 8)))
    loop.train()
    return loop


@pytest.mark.parametrize(("name", "kind"), CELLS)
def test_ratio_0_removes_nothing(name: str, kind: RatioKind, make_loop: MakeLoop) -> None:
    run = trained(name, kind, 0.0, make_loop).run
    assert {group: len(units) for group, units in run.kept.items()} == run.sizes
    assert all(bool(keep.all()) for keep in run.masks.values())
    assert run.costs.macs() == run.base_macs
    assert run.costs.params() == run.base_params


@pytest.mark.parametrize(("name", "kind"), CELLS)
def test_what_was_asked_for_has_left_to_a_unit(
    name: str, kind: RatioKind, make_loop: MakeLoop
) -> None:
    ratio = RATIOS.get(kind, RATIO)
    loop = trained(name, kind, ratio, make_loop)
    run, spare = loop.run, loop.method.tolerance
    left = {group: len(units) for group, units in run.kept.items()}
    assert min(left.values()) >= 1
    missed = missed_ratio(loop.method, run, Budget(kind=kind, ratio=ratio))
    if name in ROUNDED_DOWN and kind == "units_per_group":
        assert missed is not None
        assert 0.5 <= missed < 0.9 * RATIO  # 2 of 4, 4 of 8, 9 of 16
    else:
        assert missed is None
    if run.masks:
        assert_share_masked(loop, kind)
    elif kind == "units_per_group":
        for group in loop.method.candidates(run):
            n = run.sizes[group]
            assert abs(n - left[group] - min(RATIO * n, n - 1)) <= spare
    else:
        left = {group: left[group] for group in loop.method.candidates(run)}
        budget = Budget(kind=kind, ratio=ratio)
        start(run)
        assert is_met(run, budget, left)
        lost = [group for group, n in left.items() if n < run.sizes[group]]
        assert not all(is_met(run, budget, {**left, name: left[name] + spare}) for name in lost)


def start(run: RunState) -> None:
    """Let the run see the network that it started from."""
    run.costs = costs_of(trace(fresh_network(), run.example))
    run.kept = {name: torch.arange(n) for name, n in run.sizes.items()}


def assert_share_masked(loop: Loop, kind: RatioKind) -> None:
    """What is masked inside of layers, and what of it could be removed, against all weights."""
    run, spare = loop.run, loop.method.tolerance
    first = dict(fresh_network().named_parameters())
    gone = {w: 1 - int(keep.sum()) / first[w].numel() for w, keep in run.masks.items()}
    unit = {w: 1 / first[w].numel() if kind == "weights" else one_of(first[w]) for w in gone}
    assert gone
    if kind == "weights" and loop.method.options.allocation == "global":
        pruned = sum(share * first[weight].numel() for weight, share in gone.items())
        asked = RATIO * sum(first[weight].numel() for weight in gone)
        assert asked - 1 <= pruned + 1e-6 <= asked + 1e-6  # ranked together, rounded down
        return
    if kind not in ("macs", "params"):
        assert all(abs(share - RATIO) <= spare * unit[w] for w, share in gone.items())
        return
    start(run)
    sizes = {weight: first[weight].numel() for weight in gone}
    costs = run.costs.layer_macs() if kind == "macs" else sizes
    whole = run.base_macs if kind == "macs" else run.base_params
    saved = sum(costs[w] * share for w, share in gone.items())
    # to rounding: the shares of columns are no binary fractions
    assert -1e-6 <= saved - RATIO * whole <= spare * sum(costs[w] * unit[w] for w in gone)


def one_of(weight: torch.Tensor) -> float:
    """Return the share of a weight that a filter or a column has, whichever is more."""
    rows, columns = weight.flatten(1).shape
    return max(1 / rows, 1 / columns)
