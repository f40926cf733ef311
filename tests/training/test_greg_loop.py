"""GReg's time lines and update counts, through the training loop itself."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import nn

from prunebench.core.errors import RunStoppedError
from prunebench.data.dataset import Dataset
from prunebench.experiments.phases import Budget, RatioKind
from prunebench.experiments.recipe import Schedule
from prunebench.methods.base import Run
from prunebench.methods.greg import FixReg, GReg1, GReg2, PenalizedRemoval
from prunebench.training.checkpoint import StopRequest
from prunebench.training.loop import Loop
from prunebench.training.progress import PlainProgress
from prunebench.training.run import RunState
from tests.training.conftest import MakeLoop, recipe
from tests.training.test_resume import assert_same, outcome

LAYER = "stages.0.0.conv1"
Watched = list[tuple[float, float]]  # lambda of pruned and of kept units, step by step


def watch(method: PenalizedRemoval[Any], layer: str = LAYER) -> Watched:
    """Return a list that takes, at each regularized step, what the step multiplies weights by."""
    seen: Watched = []
    step = method.before_optimizer_step

    def watched(run: Run) -> None:
        step(run)
        pruned = method.state["pruned"][layer]
        along = method.weight_penalty[f"{layer}.weight"].view(-1)
        seen.append((float(along[pruned].max()), float(along[~pruned].max())))

    method.before_optimizer_step = watched  # type: ignore[method-assign]
    return seen


def phases_of(
    method: PenalizedRemoval[Any], kind: RatioKind = "units_per_group", ratio: float = 0.5
) -> Any:
    recipes = {
        "regularize": recipe(epochs=None, lr=1e-3, schedule=Schedule()),
        "fine_tune": recipe(epochs=1),
    }
    return method.phases(recipes, Budget(kind=kind, ratio=ratio))


def steps_of(loop: Loop) -> dict[str, int]:
    """Steps of each phase, of its last row."""
    return {row.phase: row.step for row in loop.run.records.history if not row.event}


# --- the notes' examples E3 and E4
def test_time_line_of_greg_1(make_loop: MakeLoop) -> None:
    method = GReg1(GReg1.Options(interval_steps=2, delta=0.25, stabilize_steps=3))
    seen, loop = watch(method), make_loop(method, phases_of(method))
    loop.train()
    values = [0.25, 0.5, 0.75, 1.0, 1.25]
    assert seen == [(v, 0.0) for v in values for _ in range(2)] + [(1.25, 0.0)] * 2
    assert steps_of(loop) == {"regularize": 8, "stabilize": 4, "fine_tune": 8}
    assert loop.run.records.capped == []


def test_time_line_of_greg_2(make_loop: MakeLoop) -> None:
    options: dict[str, Any] = {"delta_pick": 0.125, "pick_ceiling": 0.25, "recover": -0.0625}
    method = GReg2(
        GReg2.Options(interval_steps=2, delta=0.25, stabilize_steps=3, ratio_stop=None, **options)
    )
    seen, loop = watch(method), make_loop(method, phases_of(method))
    loop.train()
    line = [(0.125, 0.125), (0.25, 0.25), (0.5, -0.0625), (0.75, -0.0625), (1.0, -0.0625)]
    assert seen == [pair for pair in line for _ in range(2)] + [(1.25, -0.0625)] * 4
    assert steps_of(loop) == {"regularize": 10, "stabilize": 4, "fine_tune": 8}
    assert loop.run.records.capped == []


def test_time_line_of_fixreg(make_loop: MakeLoop) -> None:
    method = FixReg(FixReg.Options(interval_steps=2, fixed_steps=5, stabilize_steps=3))
    seen, loop = watch(method), make_loop(method, phases_of(method))
    loop.train()
    assert seen == [(1.0, 0.0)] * 10
    assert steps_of(loop) == {"regularize": 6, "stabilize": 4, "fine_tune": 8}


# --- the counts of updates at the papers' increments
@pytest.fixture
def tiny_loop(dataset: Dataset) -> Callable[[PenalizedRemoval[Any]], Loop]:
    """A function from a method to its loop over two 1x1 convolutions, two images a step."""

    def network() -> nn.Module:
        with torch.random.fork_rng():
            torch.manual_seed(0)
            return nn.Sequential(
                nn.Conv2d(3, 2, 1, stride=4), nn.Conv2d(2, 2, 1), nn.Flatten(), nn.Linear(8, 4)
            )

    def make(method: PenalizedRemoval[Any]) -> Loop:
        plain = recipe(
            epochs=None, lr=1e-3, batch_size=2, schedule=Schedule(), augment={}, nesterov=False
        )
        recipes = {"regularize": plain, "fine_tune": plain.model_copy(update={"epochs": 1})}
        phases = method.phases(recipes, Budget(kind="units_per_group", ratio=0.5))[:2]
        run = RunState(
            seed=0,
            device=torch.device("cpu"),
            dataset=dataset,
            build=network,
            phases=tuple(phases),
            base_recipe=plain,
        )
        run.start_from(network())
        return Loop(run, method, progress=PlainProgress(), stop=StopRequest())

    return make


EVERY_STEP: dict[str, Any] = {"interval_steps": 1, "stabilize_steps": 0, "ratio_stop": None}
EVERY_STEP |= {"roles": ["stem", "inside"]}


@pytest.mark.slow
def test_greg_1_makes_10000_updates(
    tiny_loop: Callable[[PenalizedRemoval[Any]], Loop],
) -> None:
    method = GReg1(GReg1.Options(**EVERY_STEP))
    seen, loop = watch(method, "1"), tiny_loop(method)
    loop.train()
    assert steps_of(loop) == {"regularize": 9_999, "stabilize": 1}  # the 10,000th ends growth
    penalties = [pruned for pruned, _ in seen]
    found = [penalties[k - 1] for k in (10, 1000, 5000, 9999, 10_000)]
    assert found == pytest.approx([0.001, 0.10000112, 0.49997061, 0.9999535, 1.0000535], rel=1e-6)
    assert (penalties[-2] <= 1.0, penalties[-1] > 1.0) == (True, True)


@pytest.mark.slow
def test_greg_2_makes_1001_and_9900_updates(
    tiny_loop: Callable[[PenalizedRemoval[Any]], Loop],
) -> None:
    method = GReg2(GReg2.Options(**EVERY_STEP))
    seen, loop = watch(method, "1"), tiny_loop(method)
    loop.train()
    assert steps_of(loop) == {"regularize": 10_900, "stabilize": 1}
    assert len(seen) == 1001 + 9900
    assert seen[999][0] < 0.01
    assert seen[1000] == pytest.approx((0.01000996, 0.01000996), rel=1e-6)
    assert seen[1001] == pytest.approx((0.01010996, -1e-4), rel=1e-6)
    assert seen[-2][0] <= 1.0 < seen[-1][0]


# --- other units
UNITS: dict[type[PenalizedRemoval[Any]], dict[str, Any]] = {
    GReg1: {"delta": 0.4},
    GReg2: {"delta": 0.4, "delta_pick": 0.1, "pick_ceiling": 0.15},
    FixReg: {"fixed_steps": 5},
}


def unit_loop(
    kind: type[PenalizedRemoval[Any]], unit: str, make_loop: MakeLoop, **more: Any
) -> Loop:
    options = {
        "interval_steps": 2,
        "stabilize_steps": 2,
        "unit": unit,
        "layers": ["convolutions", "linear"],
    }
    method = kind(kind.Options(**options, **UNITS[kind]))
    budget_kind: RatioKind = "weights" if unit == "weight" else "units_per_group"
    return make_loop(method, phases_of(method, budget_kind), **more)


@pytest.mark.parametrize("kind", UNITS)
def test_masked_weights_are_zero_after_fine_tuning(
    kind: type[PenalizedRemoval[Any]], make_loop: MakeLoop
) -> None:
    loop = unit_loop(kind, "weight", make_loop)
    loop.train()
    run = loop.run
    assert steps_of(loop)["fine_tune"] == 8
    assert set(run.masks) == {n for n, p in run.params.items() if p.ndim > 1}
    for name, keep in run.masks.items():
        assert int(keep.sum()) == keep.numel() // 2
        assert run.params[name][~keep].eq(0).all()
        assert run.params[name][keep].ne(0).any()
    assert run.costs.macs() == run.base_macs


@pytest.mark.parametrize("unit", ["channel", "weight"])
@pytest.mark.parametrize("kind", UNITS)
def test_a_run_of_other_units_is_taken_up_again_in_every_phase(
    kind: type[PenalizedRemoval[Any]], unit: str, make_loop: MakeLoop, tmp_path: Any
) -> None:
    whole = unit_loop(kind, unit, make_loop)
    whole.train()
    before = 0
    for number, steps in enumerate(steps_of(whole).values()):
        folder = tmp_path / str(number)
        after = before + max(steps // 2, 1)
        with pytest.raises(RunStoppedError):
            unit_loop(kind, unit, make_loop, folder=folder, after=after).train()
        second = unit_loop(kind, unit, make_loop, folder=folder)
        second.train()
        assert_same(outcome(second), outcome(whole))
        before += steps
