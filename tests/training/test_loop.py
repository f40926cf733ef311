from __future__ import annotations

import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from prunebench.channels.plan import Plan
from prunebench.core.errors import TrainingError
from prunebench.data.dataset import Split
from prunebench.experiments.phases import Budget, Epochs, Phase, Steps, training
from prunebench.experiments.recipe import Schedule
from prunebench.methods.base import Before, Run
from prunebench.training.loop import Loop
from prunebench.training.processes import Alone, Network
from tests.training.conftest import MakeLoop, Phases, recipe

BUDGET = Budget(kind="units_per_group", ratio=0.5)
FIRST = "stages.0.0.conv1"
PLAIN = recipe(schedule=Schedule(), augment={})


class Recording(Phases):
    """Notes each call of its hooks as (hook, clock, epoch)."""

    interval = Steps(3)

    def __init__(self, phases: list[Phase]) -> None:
        super().__init__(phases)
        self.calls: list[tuple[str, int, int]] = []

    def note(self, hook: str, run: Run) -> None:
        self.calls.append((hook, run.clock, run.epoch))

    def before_phase(self, run: Run) -> None:
        self.note("before_phase", run)

    def decide(self, run: Run) -> None:
        self.note("decide", run)

    def finished(self, run: Run) -> bool:
        return run.clock >= 6

    def before_optimizer_step(self, run: Run) -> None:
        self.note("before", run)

    def after_epoch(self, run: Run) -> None:
        self.note("after_epoch", run)

    def select(self, run: Run, budget: Budget) -> Plan:
        self.note("select", run)
        return Plan(removed={FIRST: torch.tensor([1])})

    def after_removal(self, run: Run, plan: Plan, before: Before) -> None:
        self.note("after_removal", run)


def run_through(make_loop: MakeLoop, phases: list[Phase], method: Any = None) -> Loop:
    loop = make_loop(method or Phases(phases), phases)
    loop.train()
    return loop


def test_only_the_hooks_of_a_phase_are_called(make_loop: MakeLoop) -> None:
    method = Recording([])
    run_through(make_loop, [training("train", recipe(epochs=1))], method)
    assert method.calls == [("before_phase", 0, 0)]


def test_decisions_come_before_the_steps_that_are_multiples_of_the_interval(
    make_loop: MakeLoop,
) -> None:
    method = Recording([])
    hooks = frozenset({"decide", "before_optimizer_step", "after_epoch"})
    phase = Phase(name="p", recipe=recipe(epochs=None), length=Steps(9), hooks=hooks)
    run_through(make_loop, [phase], method)
    decisions = [clock for hook, clock, _ in method.calls if hook == "decide"]
    assert decisions == [0, 3, 6]
    # the epoch of eight steps ends after step 7; the phase one step later
    assert [call for call in method.calls if call[0] == "after_epoch"] == [
        ("after_epoch", 8, 0),
        ("after_epoch", 9, 1),
    ]


def test_a_phase_ends_at_the_decision_that_finishes_it(make_loop: MakeLoop) -> None:
    method = Recording([])
    hooks = frozenset({"decide", "before_optimizer_step"})
    phase = Phase(
        name="p",
        recipe=recipe(epochs=None),
        length=Steps(100),
        hooks=hooks,
        until_finished=True,
        then=BUDGET,
    )
    loop = run_through(make_loop, [phase], method)
    assert sum(hook == "before" for hook, *_ in method.calls) == 6
    assert method.calls[-2:] == [("select", 6, 0), ("after_removal", 6, 0)]
    assert loop.run.records.capped == []


def test_a_phase_that_reaches_its_cap_says_so(make_loop: MakeLoop) -> None:
    phase = Phase(
        name="p",
        recipe=recipe(epochs=None),
        length=Steps(5),
        hooks=frozenset({"decide"}),
        until_finished=True,
    )
    assert run_through(make_loop, [phase], Recording([])).run.records.capped == ["p"]


def test_every_epoch_and_every_removal_has_a_row(make_loop: MakeLoop) -> None:
    phase = training("p", recipe(), then=BUDGET)
    loop = run_through(make_loop, [phase], Recording([]))
    rows = [(r.epoch, r.step, r.event) for r in loop.run.records.history]
    assert rows == [(1, 8, ""), (2, 16, ""), (2, 16, "pruned")]
    assert loop.run.records.epochs_trained == 2.0


def test_a_loss_that_is_not_finite_names_phase_and_epoch(make_loop: MakeLoop) -> None:
    phase = training("blow_up", recipe(lr=1e30, epochs=3, schedule=Schedule()))
    with pytest.raises(TrainingError, match=r"phase 'blow_up', epoch 1: the loss is (nan|inf)"):
        run_through(make_loop, [phase])


class Momenta(Phases):
    """Notes the momenta that a removal leaves, and those the next phase starts with."""

    def select(self, run: Run, budget: Budget) -> Plan:
        return Plan(removed={FIRST: torch.tensor([1])})


def test_a_batch_larger_than_the_training_data_is_named(
    make_loop: MakeLoop, capsys: pytest.CaptureFixture[str]
) -> None:
    phase = Phase(name="one", recipe=recipe(batch_size=481, epochs=1), length=Epochs(1))
    loop = make_loop(Phases([phase]), [phase])
    loop.train()
    assert loop.run.clock == 1
    words = "phase 'one': batch_size is 481, but synthetic has 480 training images: every step"
    assert words in capsys.readouterr().out


def test_a_single_training_image_is_no_batch(make_loop: MakeLoop) -> None:
    phase = Phase(name="one", recipe=recipe(), length=Epochs(1))
    loop = make_loop(Phases([phase]), [phase])
    train = loop.run.dataset.train
    assert isinstance(train, Split)
    loop.run.dataset = replace(loop.run.dataset, train=Split(train.images[:1], train.labels[:1]))
    with pytest.raises(TrainingError, match=r"phase 'one': synthetic has 1 training images"):
        loop.train()


def test_carried_momenta_are_cut_along(make_loop: MakeLoop) -> None:
    phases = [
        training("first", recipe(epochs=1), then=BUDGET),
        Phase(name="next", recipe=recipe(), length=Steps(1), optimizer="carry"),
    ]
    loop = make_loop(Momenta(phases), phases[:1])
    loop.train()
    name = f"{FIRST}.weight"
    assert loop.moments.first[name].shape == loop.run.params[name].shape == (3, 4, 3, 3)
    assert float(loop.moments.first[name].abs().sum()) > 0


def test_a_carried_momentum_adds_to_the_next_gradient(make_loop: MakeLoop) -> None:
    def momentum_after(optimizer: Any) -> Tensor:
        step = Phase(name="next", recipe=PLAIN, length=Steps(1), optimizer=optimizer)
        loop = make_loop(Phases([]), [training("first", PLAIN), step])
        loop.train()
        return loop.moments.first["conv1.weight"]

    first = run_through(make_loop, [training("first", PLAIN)]).moments.first["conv1.weight"]
    difference = momentum_after("carry") - momentum_after("new")
    torch.testing.assert_close(difference, 0.9 * first)


def test_a_continued_clock_counts_on(make_loop: MakeLoop) -> None:
    phases = [
        Phase(name="search", recipe=recipe(epochs=4), length=Epochs(1)),
        Phase(name="train", recipe=recipe(epochs=4), length=Epochs(3), clock="continue"),
    ]
    rows = run_through(make_loop, phases).run.records.history
    assert [(r.phase, r.epoch) for r in rows] == [
        ("search", 1),
        ("train", 2),
        ("train", 3),
    ]


def test_a_longer_phase_stretches_its_recipes_schedule(make_loop: MakeLoop) -> None:
    drops = recipe(epochs=2, schedule=Schedule(kind="milestones", milestones=(1.0,)))
    phase = Phase(name="train", recipe=drops, length=Epochs(4))
    rows = run_through(make_loop, [phase]).run.records.history
    assert [row.lr for row in rows] == pytest.approx([0.05, 0.05, 0.005, 0.005])


def test_a_phase_of_a_trial_ends_early_with_its_schedule(make_loop: MakeLoop) -> None:
    cosine = Schedule(kind="cosine", per="step")
    short = recipe(epochs=2, schedule=cosine, max_steps=4)  # of 16 steps, 8 in each epoch
    loop = run_through(make_loop, [training("p", short, then=BUDGET)], Recording([]))
    rows = [(r.step, r.event) for r in loop.run.records.history]
    assert rows == [(4, ""), (4, "pruned")]
    assert loop.run.records.epochs_trained == pytest.approx(4 * 64 / 480)
    last = loop.run.records.history[0]
    assert last.lr == pytest.approx(cosine.factor_at(0.75, 1.0) * 0.05)  # step 3 of 4
    assert last.reportable


def test_phases_of_a_trial_that_share_a_clock_have_as_many_steps_each(make_loop: MakeLoop) -> None:
    short = recipe(epochs=4, max_steps=3)
    phases = [
        Phase(name="search", recipe=short, length=Epochs(1)),
        Phase(name="train", recipe=short, length=Epochs(3), clock="continue"),
        Phase(name="again", recipe=short, length=Epochs(3)),
    ]
    rows = run_through(make_loop, phases).run.records.history
    assert {r.phase: r.step for r in rows} == {"search": 3, "train": 6, "again": 3}


def test_a_phase_may_start_from_the_best_epoch_before(make_loop: MakeLoop) -> None:
    phases = [
        training("train", recipe(), keep_best=True, then=BUDGET),
        Phase(name="back", start="best"),
    ]
    loop = run_through(make_loop, phases, Momenta(phases))
    assert len(loop.run.kept[FIRST]) == 4  # the removal is undone
    best = max(row.val_accuracy for row in loop.run.records.history if not row.event)
    assert loop.run.accuracies()[0] == best


def test_the_best_epoch_is_that_of_the_phase_s_last_run(make_loop: MakeLoop) -> None:
    good, spoilt = recipe(lr=0.05), recipe(lr=1e-9)
    phases = [
        training("train", good, keep_best=True),
        training("train", spoilt, start="fresh", keep_best=True),
        Phase(name="back", start="best"),
    ]
    loop = run_through(make_loop, phases)
    accuracies = [row.val_accuracy for row in loop.run.records.history]
    assert max(accuracies[2:]) < max(accuracies[:2])
    assert loop.run.accuracies()[0] == max(accuracies[2:])


def test_a_start_that_nobody_kept_is_named(make_loop: MakeLoop) -> None:
    with pytest.raises(TrainingError, match=r"'back' starts from 'accepted': none kept"):
        run_through(make_loop, [Phase(name="back", start="accepted")])


def test_a_fresh_start_has_the_first_weights_again(make_loop: MakeLoop) -> None:
    phases = [training("train", recipe(), then=BUDGET), Phase(name="again", start="fresh")]
    loop = make_loop(Momenta(phases), phases)
    first: dict[str, Tensor] = {n: p.detach().clone() for n, p in loop.run.params.items()}
    loop.train()
    assert all(torch.equal(first[name], p) for name, p in loop.run.params.items())


class Looking(Phases):
    """Looks at what the stem puts out."""

    def attach(self, run: Run) -> list[Any]:
        return [run.model.conv1.register_forward_hook(lambda *_: None)]  # type: ignore[union-attr]


def test_a_method_that_looks_into_passes_sees_whole_batches(make_loop: MakeLoop) -> None:
    settings = recipe(accumulation=2)
    phase = training("look", settings, hooks=frozenset({"attach"}))
    with pytest.raises(
        TrainingError, match="'look': Looking hooks into forward passes and does not declare"
    ):
        run_through(make_loop, [phase], Looking([phase]))
    run_through(make_loop, [training("plain", settings)], Looking([]))


class InParts(Looking):
    sees_parts = True


class First(Alone):
    rank, world = 0, 2

    def network(self, model: nn.Module, forward: Any, example: Tensor) -> Network:
        return Network(model)  # nothing is compiled


def test_passes_that_are_compiled_in_several_processes_are_not_looked_into(
    make_loop: MakeLoop,
) -> None:
    phase = training("look", recipe(compile=True), hooks=frozenset({"attach"}))
    loop = make_loop(InParts([phase]), [phase])
    loop.parallel = First()
    with pytest.raises(TrainingError, match=r"InParts hooks .* it needs compile: false"):
        loop.train()


class Zeroing(Phases):
    """Zeroes the stem's first filter."""

    def select(self, run: Run, budget: Budget) -> Plan:
        keep = torch.ones(4, 3, 3, 3, dtype=torch.bool)
        keep[0] = False
        return Plan(zeroed={"conv1.weight": keep}, removed={FIRST: torch.tensor([2])})


def test_what_is_zeroed_stays_zero_and_the_rest_is_trained(make_loop: MakeLoop) -> None:
    phases = [Phase(name="select", then=BUDGET), training("fine_tune", PLAIN)]
    loop = make_loop(Zeroing(phases), phases)
    before = loop.run.params["conv1.weight"].detach().clone()
    loop.train()
    after = loop.run.params["conv1.weight"]
    assert torch.equal(after[0], torch.zeros(3, 3, 3))
    assert not torch.isclose(after[1:], before[1:]).any()
    assert loop.run.params[f"{FIRST}.weight"].shape == (3, 4, 3, 3)


def test_training_does_not_load_the_compiler(tmp_path: Path) -> None:
    """It takes more than a second, in each of a hundred short jobs."""
    code = f"""
import sys, torch
from pathlib import Path
from prunebench.data.dataset import prepare
from prunebench.experiments.machine import Machine
from prunebench.experiments.spec import BaseSpec, data_path
from prunebench.experiments.recipe import Recipe
from prunebench.training.progress import PlainProgress
from prunebench.training.train import train_base
results = Path({str(tmp_path)!r})
prepare("synthetic", Path("unused"), data_path(results, "synthetic"))
recipe = Recipe(epochs=1, batch_size=256, lr=0.1, weight_decay=0.0)
spec = BaseSpec(dataset="synthetic", architecture="resnet20_x0_25", recipe_name="short",
                recipe=recipe, seed=0, threads=1)
machine = Machine(device="cpu", checkpoint_seconds=0.0)
train_base(spec, results, machine=machine, progress=PlainProgress())
sys.exit("torch._dynamo" in sys.modules)
"""
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_every_step_sees_the_weights_of_the_step_before(
    precision: str, make_loop: MakeLoop
) -> None:
    settings = recipe(precision=precision, schedule=Schedule(), epochs=3)
    rows = run_through(make_loop, [training("train", settings)]).run.records.history
    losses = [row.train_loss for row in rows]
    assert losses[-1] < 0.6 * losses[0]  # with the first weights 2.12 remain 2.13 in bf16
