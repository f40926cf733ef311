"""The recorded step, with a recorder that calls where a GPU would replay."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch

from prunebench.experiments.phases import Phase, Steps, training
from prunebench.measure.cuda_graphs import WARM_UP
from prunebench.methods.base import Run
from prunebench.training.loop import Loop
from tests.training.conftest import MakeLoop, Phases, recipe
from tests.training.test_resume import assert_same, loop_of, outcome


class CallingRecorder:
    """Repeats by calling; counts what happens."""

    def __init__(self) -> None:
        self.warmed = self.recorded = self.replayed = 0

    def warm_up(self, function: Callable[[], None]) -> None:
        self.warmed += 1
        function()

    def record(self, function: Callable[[], None]) -> Callable[[], None]:
        self.recorded += 1

        def replay() -> None:
            self.replayed += 1
            function()

        return replay


def recording(loop: Loop) -> CallingRecorder:
    """Have a loop record its steps; return the recorder."""
    recorder = CallingRecorder()
    loop.recorder = recorder
    return recorder


@pytest.mark.parametrize("name", ["asrfp", "greg_1", "group_fisher", "l1"])
def test_a_recorded_run_ends_with_the_bits_of_an_eager_one(name: str, make_loop: MakeLoop) -> None:
    eager, recorded = loop_of(name, make_loop), loop_of(name, make_loop)
    recorder = recording(recorded)
    eager.train()
    recorded.train()
    assert recorder.replayed > recorder.recorded > 0
    assert_same(outcome(recorded), outcome(eager))


def test_the_last_batch_of_an_epoch_is_eager_and_the_warm_up_leaves_no_trace(
    make_loop: MakeLoop,
) -> None:
    settings = recipe(optimizer="adam", nesterov=False, clip_norm=1.0, accumulation=2)
    phases = [training("train", settings)]
    eager, recorded = (make_loop(Phases(phases), phases) for _ in range(2))
    recorder = recording(recorded)
    eager.train()
    recorded.train()
    assert (recorder.warmed, recorder.recorded) == (WARM_UP, 1)
    assert recorder.replayed == 2 * 7  # of eight steps an epoch the last has 32 images
    assert_same(outcome(recorded), outcome(eager))


class Decides(Phases):
    """Multiplies the stem's gradient by a penalty that every decision raises, in a way."""

    interval = Steps(2)

    def __init__(self, phases: list[Phase], how: str) -> None:
        super().__init__(phases)
        self.how = how

    def before_phase(self, run: Run) -> None:
        self.state = {"penalty": torch.ones(()), "steps": 0}

    def decide(self, run: Run) -> None:
        if self.how == "in place":
            self.state["penalty"] += 1
        else:
            self.state["penalty"] = self.state["penalty"] + 1

    def before_optimizer_step(self, run: Run) -> None:
        gradient = run.params["conv1.weight"].grad
        assert gradient is not None
        gradient *= self.state["penalty"]
        if self.how == "counts":
            self.state["steps"] += 1
        if self.how == "logs":
            run.log("conv1", "penalty", self.state["penalty"])
        if self.how == "replaces":
            self.state["penalty"] = self.state["penalty"] * 1.5


def decided(make_loop: MakeLoop, how: str, record: bool) -> tuple[Loop, CallingRecorder]:
    phase = Phase(
        name="p",
        recipe=recipe(),
        length=Steps(7),
        hooks=frozenset({"decide", "before_optimizer_step"}),
    )
    loop = make_loop(Decides([phase], how), [phase])
    recorder = recording(loop) if record else CallingRecorder()
    loop.train()
    return loop, recorder


@pytest.mark.parametrize(
    ("how", "recordings"),
    [("in place", 1), ("anew", 4), ("logs", 0), ("counts", 0), ("replaces", 0)],
)
def test_what_a_graph_cannot_repeat_is_recorded_again_or_stays_eager(
    how: str, recordings: int, make_loop: MakeLoop
) -> None:
    eager, _ = decided(make_loop, how, record=False)
    loop, recorder = decided(make_loop, how, record=True)
    assert recorder.recorded == recordings
    assert_same(outcome(loop), outcome(eager))
    assert_same(loop.method.state, eager.method.state)


@pytest.mark.gpu
def test_a_graph_trains_as_eager_steps_do() -> None:
    from prunebench.measure.cuda_graphs import CudaGraphs

    device = torch.device("cuda")
    weight, seen = torch.zeros(3, device=device), torch.ones(3, device=device)
    recorder = CudaGraphs(device)

    def step() -> None:
        weight.add_(seen)

    recorder.warm_up(step)
    weight.zero_()
    replay = recorder.record(step)
    for _ in range(4):
        replay()
    assert weight.tolist() == [4.0, 4.0, 4.0]


@pytest.mark.gpu
@pytest.mark.parametrize("name", ["asrfp", "greg_1", "group_fisher", "l1"])
def test_a_graph_gives_the_losses_of_eager_steps(name: str, make_loop: MakeLoop) -> None:
    from prunebench.measure.cuda_graphs import CudaGraphs

    device = torch.device("cuda")
    losses = []
    for record in (False, True):
        loop = loop_of(name, make_loop, device=device)
        loop.recorder = CudaGraphs(device) if record else None
        loop.train()
        rows = [row for row in loop.run.records.history if not row.event]
        losses.append([row.train_loss for row in rows])
    assert losses[1] == pytest.approx(losses[0], rel=1e-3)
