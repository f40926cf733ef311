"""OrthoReg's rounds through the training loop itself; E6 is an example of its notes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from prunebench.channels.plan import Plan
from prunebench.experiments.phases import Budget
from prunebench.experiments.recipe import Recipe
from prunebench.methods.base import Before, Run
from prunebench.methods.early_bird import EarlyBird
from prunebench.methods.orthoreg import OrthoReg
from prunebench.methods.registry import method_class
from prunebench.training.loop import Loop
from tests.training.conftest import STEPS_PER_EPOCH, MakeLoop, recipe
from tests.training.test_resume import assert_same, outcome

BNScale = method_class("bn_scale")
Fisher = method_class("fisher")

# Inside of blocks the narrow ResNet-8 has 4 + 8 + 16 filters, and 8 that no later layer adds to.
STREAMS = {"conv1", "stages.1.0.conv2"}
ROUNDS = [
    (0.5, 2, [24, 18]),  # 36 / 3 = 12 leave, then 24 / 4
    (0.75, 3, [18, 12, 9]),  # 36 / 2, 18 / 3, 12 / 4
    (0.3, 1, [26]),  # floor(10.8)
]


def count_inside(run: Run) -> int:
    """Return how many units are left inside of blocks."""
    return sum(len(units) for group, units in run.kept.items() if group not in STREAMS)


class Noting:
    """Notes how many units are left after each removal."""

    left: list[int]

    def after_removal(self, run: Run, plan: Plan, before: Before) -> None:
        self.left = [*getattr(self, "left", []), count_inside(run)]
        super().after_removal(run, plan, before)  # type: ignore[misc]


class NotingFisher(Noting, Fisher):
    pass


class NotingScales(Noting, BNScale):
    pass


class NotingOrthoReg(Noting, OrthoReg):
    pass


def run_through(make_loop: MakeLoop, method: Any, ratio: float, **more: Any) -> Loop:
    """Return a loop that has run; `more` are recipes by role, and settings of the loop."""
    given: dict[str, Recipe] = {role: recipe(epochs=1) for role in method.recipe_roles}
    given |= {role: more.pop(role) for role in method.recipe_roles if role in more}
    budget = Budget(kind="units_global", ratio=ratio)
    loop = make_loop(method, method.phases(given, budget), **more)
    loop.train()
    return loop


@pytest.mark.parametrize(("ratio", "rounds", "left"), ROUNDS)
@pytest.mark.parametrize("kind", [NotingFisher, NotingScales, NotingOrthoReg])
def test_every_round_removes_its_share(
    kind: Any, ratio: float, rounds: int, left: list[int], make_loop: MakeLoop
) -> None:
    method = kind(kind.Options(rounds=rounds))
    loop = run_through(make_loop, method, ratio)
    assert method.left == left
    trained = [row for row in loop.run.records.history if not row.event]
    assert [row.reportable for row in trained] == [False] * (len(trained) - 1) + [True]
    assert len(loop.run.records.plans) == rounds


def test_penalized_filters_become_orthogonal(make_loop: MakeLoop) -> None:
    # without weight decay, as in the paper; lambda ten times as large, since phases are short
    plain = {"penalized": recipe(epochs=8, weight_decay=0.0, nesterov=False)}
    means = {}
    for penalty in (0.0, 0.1):
        method = OrthoReg(OrthoReg.Options(penalty=penalty))
        loop = run_through(make_loop, method, 0.5, **plain)
        rows = [r for r in loop.run.records.diagnostics if r.quantity == "orthogonality"]
        assert {row.phase for row in rows} == {"penalize"}
        last = [row.value for row in rows if row.step == 8 * STEPS_PER_EPOCH]
        assert len(last) == 7
        means[penalty] = sum(last) / 7
        assert method.figures() == {"orthogonality": pytest.approx(means[penalty])}
    assert means[0.0] < 0.65
    assert means[0.1] > 0.85


def test_the_penalty_is_part_of_the_loss(make_loop: MakeLoop) -> None:
    first = []
    for penalty in (0.0, 1.0):
        loop = run_through(make_loop, OrthoReg(OrthoReg.Options(penalty=penalty)), 0.5)
        first.append(loop.run.records.history[0].train_loss)
    assert first[1] > first[0] + 10


def test_a_ticket_is_trained_on_along_its_schedule(make_loop: MakeLoop) -> None:
    method = EarlyBird(EarlyBird.Options(masks=2, distance=1.0))
    loop = run_through(make_loop, method, 0.5, search=recipe(epochs=4))
    rows = [(r.phase, r.epoch, r.event) for r in loop.run.records.history]
    assert rows == [
        ("search", 1, ""),
        ("search", 1, "pruned"),
        ("train", 2, ""),
        ("train", 3, ""),
        ("train", 4, ""),
    ]
    assert method.figures()["ticket_epoch"] == 1.0
    assert count_inside(loop.run) == 18
    distances = [r for r in loop.run.records.diagnostics if r.quantity == "mask_distance"]
    assert [(row.phase, row.step) for row in distances] == [("search", 8)]


def test_a_ticket_after_a_fixed_time_comes_from_the_best_epoch(make_loop: MakeLoop) -> None:
    options = {"draw": "fixed", "schedule": "anew", "ticket": "best", "criterion": "bn_scale"}
    method = EarlyBird(EarlyBird.Options(**options))
    loop = run_through(make_loop, method, 0.5, search=recipe(epochs=3))
    rows = loop.run.records.history
    assert [(r.phase, r.epoch, r.event) for r in rows] == [
        ("search", 1, ""),
        ("search", 2, ""),
        ("search", 3, ""),
        ("select", 0, "pruned"),
        ("train", 1, ""),
    ]
    best = max(row.val_accuracy for row in rows[:3])
    assert loop.run.records.plans[0].val_accuracy_before == best


def test_zeroed_filters_stay_zero_and_later_rounds_count_them(make_loop: MakeLoop) -> None:
    # A ResNet-20 has 84 filters within blocks, as many in their second convolutions, 4 in the stem
    method = Fisher(Fisher.Options(rounds=2, zeroed=("last",), targets="percent", samples=100))
    loop = run_through(make_loop, method, 0.5, blocks=3)
    run = loop.run
    zero = [name for name in run.masks if name.endswith("conv2.weight")]
    silent = sum(int((run.params[n] == 0).flatten(1).all(1).sum()) for n in zero)
    inside = sum(len(k) for n, k in run.kept.items() if n.endswith("conv1") and "." in n)
    assert zero
    # To 66 percent: floor(172 - 113.52) = 58 removed; to 49: floor(114 - 84.28) = 29 more
    assert 4 + inside + 84 - silent == 172 - 58 - 29
    assert all(torch.equal(run.params[n] * run.masks[n], run.params[n]) for n in run.masks)


BEST = {"draw": "fixed", "schedule": "anew", "ticket": "best"}
SETTINGS: dict[str, Any] = {
    "ticket of the best epoch": lambda: EarlyBird(EarlyBird.Options(**BEST)),
    "zeroed filters": lambda: Fisher(Fisher.Options(rounds=2, zeroed=("last",), samples=100)),
}


@pytest.mark.parametrize("after", [5, 12])  # steps: in the first phase that trains, and the next
@pytest.mark.parametrize("name", SETTINGS)
def test_settings_resume_to_the_same_bits(
    name: str, after: int, make_loop: MakeLoop, tmp_path: Path
) -> None:
    whole = run_through(make_loop, SETTINGS[name](), 0.5)
    here = {"folder": tmp_path / "run", "dead": True}
    with pytest.raises(SystemError):
        run_through(make_loop, SETTINGS[name](), 0.5, after=after, **here)
    second = run_through(make_loop, SETTINGS[name](), 0.5, **here)
    assert second.run.records.resumed_at
    assert_same(outcome(second), outcome(whole))
