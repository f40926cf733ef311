"""Every method, stopped in every phase, gracefully and not, ends with the same bits."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import torch

from prunebench.core.errors import RunStoppedError
from prunebench.experiments.phases import Budget
from prunebench.methods.base import Method
from prunebench.methods.registry import method_class, method_paths
from prunebench.report.runs_csv import is_fixed
from prunebench.training.loop import Loop
from tests.training.conftest import STEPS_PER_EPOCH, MakeLoop, recipe

INCREG = {"A": 0.5, "ceiling": 1.0, "ceiling_factor": "none", "loss_eval_steps": 5}
# Schedules short enough for a test; the algorithms are whole.
OPTIONS: dict[str, dict[str, Any]] = {
    "fixreg": {"fixed_steps": 9, "interval_steps": 2, "stabilize_steps": 4},
    "increg": INCREG,
    "increg_accuracy": {**INCREG, "bound": 0.2},
    "early_bird": {"masks": 2, "distance": 1.0, "penalty": 0.01},
    "fisher": {"rounds": 2, "samples": 100},
    "grasp": {"samples": 10},
    "greg_1": {"delta": 0.2, "interval_steps": 2, "stabilize_steps": 4},
    "group_fisher": {"interval_steps": 2},
    "greg_2": {
        "delta": 0.2,
        "delta_pick": 0.1,
        "pick_ceiling": 0.3,
        "interval_steps": 2,
        "stabilize_steps": 4,
    },
    "hrank": {"samples": 100},
    "lamp": {"unit": "weight"},
    "asfp": {"scope": "weight"},
    "asrfp": {"scope": "group", "norms": "decay"},
    "random": {"unit": "weight"},
    "mask_fisher": {"samples": 100},
    "orthoreg": {"rounds": 2, "criterion": {"fisher": {"samples": 100}}},
    "orthoreg_from_base": {"criterion": "l2"},
    "rdt": {"samples": 100},
    "srfp": {"scope": "layer"},
    "taylor": {"samples": 100},
    "tfo": {"samples": 100},
}
ROLES = {role: {"epochs": None, "lr": 0.01} for role in ("regularize", "loss_eval", "prune")}


def make_method(name: str) -> Method[Any]:
    found = method_class(name)
    return found(found.Options(**OPTIONS.get(name, {})))


def loop_of(name: str, make_loop: MakeLoop, **more: Any) -> Loop:
    method = make_method(name)
    is_weights = "weight" in OPTIONS.get(name, {}).values()
    budget = Budget(kind="weights" if is_weights else "units_per_group", ratio=0.5)
    if method.decides_ratio:
        budget = Budget(kind="auto", ratio=None)
    elif budget.kind not in method.ratio_kinds:
        budget = Budget(kind="macs", ratio=0.5)
    recipes = {role: recipe(**ROLES.get(role, {})) for role in method.recipe_roles}
    kept = {"stages.0.0.conv1": torch.tensor([0, 2])} if method.options.widths_from else None
    return make_loop(method, method.phases(recipes, budget), source_kept=kept, **more)


def outcome(loop: Loop) -> dict[str, Any]:
    """What must come out the same; figures are columns of their own in runs.csv."""
    run = loop.run
    assert not [name for name in loop.method.figures() if is_fixed(name)]
    rows = [row._replace(seconds=None)._asdict() for row in run.records.history]
    return {
        "weights": run.model.state_dict(),
        "masks": run.masks,
        "kept": run.kept,
        "history": rows,
        "diagnostics": [row._asdict() for row in run.records.diagnostics],
        "figures": loop.method.figures(),
        "capped": run.records.capped,
        "epochs": run.records.epochs_trained,
    }


def assert_same(a: Any, b: Any) -> None:
    if isinstance(a, Mapping):
        assert list(a) == list(b)
        for key in a:
            assert_same(a[key], b[key])
    elif isinstance(a, torch.Tensor):
        assert torch.equal(a, b)
    else:
        assert a == b


def phase_steps(loop: Loop) -> list[int]:
    """Return how many steps each phase that trains has taken."""
    ends = {row.phase: row.step for row in loop.run.records.history if not row.event}
    clocks = {phase.name: phase.clock for phase in loop.run.phases}
    steps, last = [], 0
    for name, end in ends.items():
        steps.append(end - last if clocks[name] == "continue" else end)
        last = end
    return steps


@pytest.fixture(scope="module")
def wholes() -> dict[str, Loop]:
    """Runs that nothing has stopped, by method; a test adds the one that it needs."""
    return {}


@pytest.mark.parametrize("dead", [False, True], ids=["stopped", "dropped dead"])
@pytest.mark.parametrize("name", sorted(set(method_paths()) - {"unpruned"}))
def test_a_run_taken_up_again_ends_with_the_same_bits(
    name: str, dead: bool, make_loop: MakeLoop, wholes: dict[str, Loop], tmp_path: Path
) -> None:
    if name not in wholes:
        wholes[name] = loop_of(name, make_loop)
        wholes[name].train()
    whole, before = wholes[name], 0
    for number, steps in enumerate(phase_steps(whole)):
        here = {"folder": tmp_path / str(number), "dead": dead}
        # in mid-epoch where the phase is long enough, and beyond its first checkpoint
        first = loop_of(name, make_loop, after=before + max(steps // 2, 3), **here)
        with pytest.raises(SystemError if dead else RunStoppedError):
            first.train()
        second = loop_of(name, make_loop, **here)
        second.train()
        assert second.run.records.resumed_at[0] != [whole.run.phases[0].name, 0]
        assert_same(outcome(second), outcome(whole))
        before += steps


@pytest.mark.parametrize("after", [STEPS_PER_EPOCH, 2 * STEPS_PER_EPOCH])
def test_a_run_stopped_between_epochs_or_phases_goes_on(
    after: int, make_loop: MakeLoop, tmp_path: Path
) -> None:
    whole = loop_of("greg_1", make_loop)
    whole.train()
    with pytest.raises(RunStoppedError, match="stopped by signal 15"):
        loop_of("greg_1", make_loop, after=after, folder=tmp_path).train()
    second = loop_of("greg_1", make_loop, folder=tmp_path)
    second.train()
    assert_same(outcome(second), outcome(whole))


def test_the_same_seed_gives_the_same_bits(make_loop: MakeLoop) -> None:
    first, second = loop_of("srfp", make_loop), loop_of("srfp", make_loop)
    first.train()
    torch.rand(7)  # a running global generator would notice
    second.train()
    assert_same(outcome(second), outcome(first))
