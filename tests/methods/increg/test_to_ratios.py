from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import nn

from prunebench import testing
from prunebench.experiments.phases import Budget, Phase, Steps
from prunebench.experiments.recipe import Recipe
from prunebench.methods.base import Run
from prunebench.methods.increg.to_ratios import IncReg
from prunebench.testing import named_layers, recorded_operations
from prunebench.training.run import RunState

# Nothing that is trained with it moves: float32 has no such small differences.
STILL = Recipe(batch_size=4, lr=1e-30, weight_decay=1.0)
# One step of the notes' examples is A = 1, and the ceiling is the ceiling.
PLAIN = {"A": 1.0, "ceiling_factor": "none", "layers": ("conv*",), "loss_eval_steps": 0}
SHORT = {**PLAIN, "A": 0.5, "ceiling": 1.0, "layers": ("convolutions",), "max_steps": 100}


def increg(**options: Any) -> IncReg:
    return IncReg(IncReg.Options(**options))


def phases(method: IncReg, ratio: float = 0.5, *, kind: str = "units_per_group") -> list[Phase]:
    budget = Budget(kind=kind, ratio=None if kind == "auto" else ratio)  # type: ignore[arg-type]
    fine_tune = STILL.model_copy(update={"epochs": 1})
    recipes = {"regularize": STILL, "loss_eval": STILL, "fine_tune": fine_tune}
    return method.phases(recipes, budget)


def one_layer(weight: list[list[float]]) -> nn.Sequential:
    """A convolution 1x1 with the given weights between a stem and a classifier."""
    rows, columns = len(weight), len(weight[0])
    torch.manual_seed(0)
    model = named_layers(
        stem=nn.Conv2d(1, columns, 1),
        conv=nn.Conv2d(columns, rows, 1),
        flat=nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten()),
        head=nn.Linear(rows, 2),
    )
    with torch.no_grad():
        model.get_submodule("conv").weight.copy_(torch.tensor(weight)[:, :, None, None])
    return model


class Walk:
    """A run of IncReg in steps that move no weight, with its table after each step.

    `weights` are given to the convolution after so many steps.
    """

    def __init__(
        self,
        weight: list[list[float]],
        method: IncReg,
        *,
        ratio: float,
        weights: dict[int, list[float]] | None = None,
    ) -> None:
        self.method, self.weights = method, weights or {}
        self.penalty, self.rank, self.kept = list[Any](), list[Any](), list[Any]()
        run = testing.start(one_layer(weight), image=(1, 2, 2))
        self.run = testing.train(method, phases(method, ratio)[:1], run, after_step=self.look)

    def look(self, run: RunState) -> None:
        for name in ("penalty", "rank", "kept"):
            getattr(self, name).append(self.method.state[name][0].tolist())
        if run.clock in self.weights:
            with torch.no_grad():
                weight = run.params["conv.weight"]
                weight.copy_(torch.tensor(self.weights[run.clock]).view(weight.shape))


def near(values: list[float], digits: float = 5e-7) -> Any:
    return pytest.approx(values, abs=digits)


# --- the walks, through the loop
FOUR = [[0.9, -0.1, 0.4, 0.2], [0.3, 0.1, -0.1, -0.1]]  # column norms 1.2, 0.2, 0.5, 0.3


@pytest.fixture
def walk_of_four() -> Walk:
    return Walk(FOUR, increg(**PLAIN, ceiling=2.5), ratio=0.5)


def test_penalties_of_a_full_walk(walk_of_four: Walk) -> None:
    expected = [
        [0, 1, 0, 0.353553],
        [0, 2, 0, 0.707107],
        [0, 3, 0, 1.060660],
        [0, 3, 0, 2.060660],
        [0, 3, 0, 3.060660],
    ]
    for found, values in zip(walk_of_four.penalty, expected, strict=False):
        assert found == near(values)


def test_columns_are_pruned_one_after_the_other(walk_of_four: Walk) -> None:
    kept = [[int(k) for k in units] for units in walk_of_four.kept[:5]]
    assert kept == [[1, 1, 1, 1]] * 2 + [[1, 0, 1, 1]] * 2 + [[1, 0, 1, 0]]
    assert all([rank[0], rank[2], rank[3]] == [3, 2, 1] for rank in walk_of_four.rank[:4])


def test_the_layer_stops_and_its_unread_filters_are_removed(walk_of_four: Walk) -> None:
    run = walk_of_four.run
    assert run.records.history[-1].step == 25  # the first look after the fifth step
    assert walk_of_four.kept[-1] == [True, False, True, False]
    assert run.kept["stem"].tolist() == [0, 2]  # of 1x1 columns, each is a whole channel
    assert run.params["conv.weight"].flatten().tolist() == near([0.9, 0.4, 0.3, -0.1])
    assert run.records.capped == []
    # column 1 was pruned at 0.2, against a mean of (1.2 + 0.5 + 0.3) / 3 of the others, then
    # column 3 at 0.3, against (1.2 + 0.5) / 2: 2 / (0.3 + 0.352941)
    assert walk_of_four.method.figures() == {
        "prune_steps": 25,
        "magnitude_ratio": pytest.approx(3.063063, abs=5e-6),
    }


def test_without_roles_columns_stay_as_zeros() -> None:
    walk = Walk(FOUR, increg(**PLAIN, ceiling=2.5, roles=()), ratio=0.5)
    run = walk.run
    assert run.masks["conv.weight"][:, :, 0, 0].tolist() == [[True, False, True, False]] * 2
    assert run.params["conv.weight"][0].flatten().tolist() == near([0.9, 0, 0.4, 0])
    assert len(run.kept["stem"]) == 4


def test_rows_walk_as_columns_do() -> None:
    rows = [list(column) for column in zip(*FOUR, strict=True)]
    walk = Walk(rows, increg(**PLAIN, ceiling=2.5, unit="row"), ratio=0.5)
    assert walk.penalty[3] == near([0, 3, 0, 2.060660])
    assert walk.kept[4] == [True, False, True, False]
    assert walk.run.kept["conv"].tolist() == [0, 2]


class Preset(IncReg):
    """IncReg in the middle of a run."""

    rank: list[float]
    penalty: list[float]

    def before_phase(self, run: Run) -> None:
        super().before_phase(run)
        self.state["iteration"].fill_(6)  # the next is the seventh
        self.state["rank"].copy_(torch.tensor([self.rank]))
        self.state["penalty"].copy_(torch.tensor([self.penalty]))


def preset(penalty: list[float], **options: Any) -> Walk:
    method = Preset(IncReg.Options(**PLAIN, ceiling=2.5, **options))
    method.rank, method.penalty = [0, 1, 2, 3, 4, 5], penalty
    return Walk([[0.1, 0.2, 0.3, 0.9, 1.0, 1.1]], method, ratio=1 / 3)


def test_several_columns_overshoot_together() -> None:
    walk = preset([1.6, 2.2, 2.45, 0, 0, 0.3], pivot="R+1")
    assert walk.penalty[0] == near([2.6, 2.7, 2.7, 0, 0, 0])
    assert walk.kept[0] == [False, False, False, True, True, True]  # three, two were asked for
    assert walk.kept[-1] == walk.kept[0]
    assert walk.run.kept["stem"].tolist() == [3, 4, 5]


def test_with_the_pivot_one_rank_lower_one_column_is_pruned() -> None:
    walk = preset([1.6, 2.0, 2.3, 0, 0, 0.3])
    assert walk.penalty[0] == near([2.6, 2.353553, 2.3, 0, 0, 0])
    assert walk.kept[0] == [False, True, True, True, True, True]


def test_the_choice_changes_while_no_ceiling_is_reached() -> None:
    method = increg(**PLAIN, ceiling=1e6, max_steps=5)
    walk = Walk([[3, 1, 2, 4]], method, ratio=0.5, weights={1: [1, 3, 2, 4]})
    ranks = [[2, 0, 1, 3], [1, 1, 1, 3], [0.6667, 1.3333, 1, 3], [0.5, 1.5, 1, 3], [0.4, 1.6, 1, 3]]
    penalties = [
        [0, 1, 0.353553, 0],
        [1, 1.353553, 0.353553, 0],
        [2, 1.353553, 0.707107, 0],
        [3, 1.353553, 1.060660, 0],
        [4, 1.353553, 1.414214, 0],
    ]
    for found, values in zip(walk.rank, ranks, strict=True):
        assert found == near(values, 5e-5)
    for found, values in zip(walk.penalty, penalties, strict=True):
        assert found == near(values)
    assert walk.run.records.capped == ["prune"]
    # after the first epoch of three steps columns 0 and 2 are lowest, at the start 1 and 2 were
    changes = [row.value for row in walk.run.records.diagnostics if row.quantity == "rank_changes"]
    assert changes == [1, 0]


# --- variants
def test_the_last_column_stays_whatever_overshoots() -> None:
    # R + 1 gives the only one to stay u A (2 - 1) = 0.25 at first: both would reach 0.1
    walk = Walk([[1, 2]], increg(**PLAIN, ceiling=0.1, pivot="R+1"), ratio=0.5)
    assert walk.kept[0] == [False, True]
    assert walk.kept[-1] == [False, True]


def test_scheme_two_takes_its_base_from_the_progress() -> None:
    # norms 1..8, R = 4: k2 = 0.05 while nothing has gone, then 0.75 * 1 / 4 with R = 3
    walk = Walk(
        [[1, 2, 3, 4, 5, 6, 7, 8]],
        increg(**PLAIN, growth="discontinuous", ceiling=2, max_steps=3),
        ratio=0.5,
    )
    first = [1, 0.05 ** (1 / 3), 0.05 ** (2 / 3), 0.05, 0, 0, 0, 0]
    assert walk.penalty[0] == near(first)
    assert walk.kept[1][:2] == [False, True]
    third = [2, 2 * first[1] + 1, 2 * first[2] + 0.1875**0.5, 2 * 0.05 + 0.1875, 0, 0, 0, 0]
    assert walk.penalty[2] == near(third)


def test_increments_by_norm_follow_the_live_columns() -> None:
    # s = 1, 2, 4, 8, R = 2: 1 - (s - 1) / 3; then column 0 is pruned, R = 1: 1 - (s - 2) / 2
    walk = Walk([[1, 2, 4, 8]], increg(**PLAIN, growth="norms", ceiling=1, max_steps=2), ratio=0.5)
    assert walk.penalty[0] == near([1, 2 / 3, 0, 0])
    assert walk.kept[0] == [False, True, True, True]
    assert walk.penalty[1] == near([1, 2 / 3 + 1, 0, 0])


def test_the_control_penalizes_the_lowest_from_the_first_step_on() -> None:
    walk = Walk(FOUR, increg(**PLAIN, growth="constant", ceiling=2.5), ratio=0.5)
    assert walk.penalty[0] == [0, 2.5, 0, 2.5]
    assert walk.kept[1] == [True] * 4
    assert walk.kept[2] == [True, False, True, False]  # three steps, as 2.5 / A rounded up
    diagnostics = walk.run.records.diagnostics
    changes = [row.value for row in diagnostics if row.quantity == "rank_changes"]
    assert not any(changes)


def test_the_increment_may_shrink_down_to_1e_8() -> None:
    options = {**PLAIN, "A": 3e-8}
    walk = Walk(FOUR, increg(**options, A_decrease=1e-8, ceiling=1, max_steps=4), ratio=0.5)
    lowest = [penalty[1] for penalty in walk.penalty]
    assert lowest == pytest.approx([3e-8, 5e-8, 6e-8, 7e-8], rel=1e-6)


def test_the_ceiling_is_multiplied_as_the_released_files_are() -> None:
    assert increg().ceiling_at(0.2) == pytest.approx(6.130090, abs=5e-7)
    assert increg(ceiling_factor="none").ceiling_at(0.2) == 2.5
    prune = phases(increg(A=2.5e-4))[0]
    assert prune.length == Steps(735_630)  # thirty times 24 521, 6.13009 / 2.5e-4 rounded up


def test_the_weight_decay_is_the_increment_unless_one_is_given() -> None:
    walk = Walk([[1, 2]], increg(**{**PLAIN, "A": None}, max_steps=1), ratio=0.5)
    assert walk.penalty[0] == near([1.0, 0.0])  # of the recipe STILL
    recipes = dict.fromkeys(("regularize", "loss_eval"), Recipe(batch_size=4, lr=1, weight_decay=0))
    with pytest.raises(ValueError, match="option A is required if the recipe 'regularize'"):
        increg().phases(recipes, Budget(kind="units_per_group", ratio=0.5))


def test_a_shortened_run_reaches_the_same_ceiling_in_fewer_steps() -> None:
    whole = IncReg.Options(A_decrease=1e-9, max_steps=1000, loss_eval_steps=50)
    short = whole.shortened(0.1)
    assert short.largest_increment(2.5e-4) == pytest.approx(2.5e-3)
    assert (short.max_steps, short.loss_eval_steps) == (100, 5)
    assert short.A_decrease == pytest.approx(1e-7)
    assert (short.ceiling, whole.shortened(1.0)) == (whole.ceiling, whole)
    assert IncReg(short).hold(STILL.model_copy(update={"weight_decay": 2.5e-4}), 0.2) == 2453


def test_recipes_of_pruning_have_no_length() -> None:
    recipes = {"regularize": STILL, "loss_eval": STILL.model_copy(update={"epochs": 1})}
    with pytest.raises(ValueError, match="'loss_eval': the method decides its length"):
        increg().phases(recipes, Budget(kind="units_per_group", ratio=0.5))


def test_phases_after_pruning_train_as_usual() -> None:
    prune, loss_eval, fine_tune = phases(increg(loss_eval_steps=7))
    assert (prune.reportable_from, prune.until_finished) == (None, True)
    assert (loss_eval.length, loss_eval.optimizer) == (Steps(7), "carry")
    assert not loss_eval.hooks
    assert not fine_tune.hooks
    assert [p.name for p in phases(increg(loss_eval_steps=0))] == ["prune", "fine_tune"]


# --- on a network
def begin(method: IncReg, run: RunState, ratio: float = 0.5, kind: str = "units_per_group") -> None:
    testing.begin(method, phases(method, ratio, kind=kind), run)


def step(method: IncReg, run: RunState) -> None:
    testing.backward(run)
    method.before_optimizer_step(run)
    method.after_optimizer_step(run)


def test_the_penalty_adds_to_the_gradient_of_convolutions_alone(resnet_run: RunState) -> None:
    method = increg(**SHORT)
    begin(method, resnet_run)
    testing.backward(resnet_run)
    before = {name: p.grad.clone() for name, p in resnet_run.params.items()}
    method.before_optimizer_step(resnet_run)
    changed = {n for n, p in resnet_run.params.items() if not torch.equal(p.grad, before[n])}
    assert changed == {n for n, p in resnet_run.params.items() if p.ndim == 4}
    weight, penalty = resnet_run.params["conv1.weight"], method.state["penalty"][0, :9]
    added = weight.grad - before["conv1.weight"]
    torch.testing.assert_close(added, weight.detach() * penalty.view(1, 1, 3, 3))
    assert penalty.max() == 0.5


def test_every_layer_loses_half_of_its_columns(resnet_run: RunState) -> None:
    method = increg(**SHORT)
    columns = {n: p[0].numel() for n, p in resnet_run.params.items() if p.ndim == 4}
    testing.train(method, phases(method)[:1], resnet_run)
    assert resnet_run.records.capped == []
    assert resnet_run.masks.keys() == columns.keys()
    for name, mask in resnet_run.masks.items():
        goal = -(-columns[name] // 2)
        assert goal <= columns[name] - int(mask.any(dim=0).sum()) <= goal + 3, name


def test_pruned_columns_stay_zero_and_kept_columns_lose_their_penalty(
    resnet_run: RunState,
) -> None:
    method = increg(**SHORT)
    begin(method, resnet_run)
    for _ in range(25):
        step(method, resnet_run)
    state = method.state
    assert state["stopped"].all()
    assert state["penalty"][state["kept"]].eq(0).all()
    for row, name in enumerate(state["layers"]):
        norms = resnet_run.params[name].abs().sum(dim=0).flatten()
        assert torch.equal(norms == 0, ~state["kept"][row, : len(norms)]), name


def test_a_target_in_macs_stops_all_layers(resnet_run: RunState) -> None:
    method = increg(**SHORT, layer_rule="uniform")
    begin(method, resnet_run, 0.5, "macs")
    for _ in range(40):
        step(method, resnet_run)
    assert method.finished(resnet_run)
    others = resnet_run.costs.layer_macs()["fc.weight"]
    left = (float(method.cost_left()) + others) / resnet_run.base_macs
    assert 0.48 <= left <= 0.5


@pytest.mark.parametrize("growth", ["symmetric", "discontinuous", "norms", "constant"])
@pytest.mark.parametrize("kind", ["macs", "params"])
def test_a_target_is_exceeded_by_one_column_at_most(
    resnet_run: RunState, growth: str, kind: str
) -> None:
    method = increg(**SHORT, growth=growth, roles=())
    costs = resnet_run.costs.layer_macs()
    if kind == "params":
        costs = {name: p.numel() for name, p in resnet_run.params.items()}
    testing.train(method, phases(method, 0.5, kind=kind)[:1], resnet_run)
    masks = resnet_run.masks
    kept = {weight: float(mask.double().mean()) for weight, mask in masks.items()}
    left = sum(cost * kept.get(name, 1.0) for name, cost in costs.items())
    column = max(costs[name] / mask[0].numel() for name, mask in masks.items())
    assert -1e-6 <= 0.5 * sum(costs.values()) - left < column


def test_rows_meet_a_target_in_macs(resnet_run: RunState) -> None:
    method = increg(**SHORT, unit="row")
    testing.train(method, phases(method, 0.5, kind="macs")[:1], resnet_run)
    macs, params = resnet_run.costs.layer_macs(), resnet_run.params
    left = sum(own * float(params[w].ne(0).double().mean()) for w, own in macs.items())
    assert 0.49 * resnet_run.base_macs <= left <= 0.5 * resnet_run.base_macs


@pytest.fixture
def chain_run() -> RunState:
    """stem 1 -> 4, a 4 -> 4, b 4 -> 2 with the weights of FOUR, head 2 -> 2."""
    torch.manual_seed(0)
    model = named_layers(
        stem=nn.Conv2d(1, 4, 1),
        a=nn.Conv2d(4, 4, 1),
        b=nn.Conv2d(4, 2, 1),
        head=nn.Conv2d(2, 2, 1),
        pool=nn.AdaptiveAvgPool2d(1),
        flatten=nn.Flatten(),
    )
    run = testing.start(model, image=(1, 2, 2))
    with torch.no_grad():
        run.params["b.weight"].copy_(torch.tensor(FOUR).view(2, 4, 1, 1))
    return run


def test_unread_filters_become_zero_at_the_next_look(chain_run: RunState) -> None:
    run, method = chain_run, increg(**SHORT | {"ceiling": 0.5})
    begin(method, run)
    step(method, run)  # 0.5 for the lowest of each layer is the ceiling
    assert run.params["a.weight"].flatten(1).any(dim=1).all()
    method.decide(run)
    used = run.params["a.weight"].flatten(1).any(dim=1)
    assert used.tolist() == [True, False, True, True]
    assert method.state["layers"] == ["a.weight", "b.weight", "head.weight"]
    assert method.state["row_share"].flatten().tolist() == [0.25, 0.5, 0.0]


def test_with_a_target_in_macs_unread_filters_count_at_once(chain_run: RunState) -> None:
    method = increg(**SHORT | {"ceiling": 0.5}, layer_rule="uniform")
    begin(method, chain_run, 0.5, "macs")
    step(method, chain_run)
    assert method.state["row_share"].flatten().tolist() == [0.25, 0.5, 0.0]
    # 16 * 3/4 * 3/4 of a, 8 * 3/4 * 1/2 of b, 4 * 1/2 of head
    assert float(method.cost_left()) == 4 * (9 + 3 + 2)


def test_rows_are_pruned_as_whole_filters(resnet_run: RunState) -> None:
    method = increg(**SHORT, unit="row")
    testing.train(method, phases(method)[:1], resnet_run)
    inside = {n: len(u) for n, u in resnet_run.kept.items() if n.endswith("conv1") and "." in n}
    sizes = {"0": 16, "1": 32, "2": 64}
    for name, left in inside.items():
        half = sizes[name.split(".")[1]] // 2
        assert half - 2 <= left <= half, name
    # filters of a sum stay as zeros: other filters make the same channels
    stream = resnet_run.masks["stages.0.0.conv2.weight"].flatten(1).any(dim=1)
    assert 6 <= int(stream.sum()) <= 8


def test_ratio_zero_changes_nothing(resnet_run: RunState) -> None:
    method = increg(**SHORT)
    testing.train(method, phases(method, 0.0)[:1], resnet_run)
    assert (resnet_run.clock, resnet_run.masks) == (0, {})
    assert resnet_run.costs.macs() == resnet_run.base_macs


def test_penalties_and_shares_are_logged(resnet_run: RunState) -> None:
    method = increg(**SHORT | {"ceiling": 3.0})
    testing.train(method, phases(method)[:1], resnet_run)
    rows = resnet_run.records.diagnostics
    logged = {(row.step, row.layer, row.quantity): row.value for row in rows}
    assert {quantity for _, _, quantity in logged} == {
        "penalty",
        "penalty_max",
        "pruned_share",
        "rank_changes",
        "magnitude_ratio",
    }
    assert logged[3, "conv1", "penalty_max"] == 1.5  # after three steps of 0.5
    last = max(step for step, *_ in logged)
    assert logged[last, "conv1", "pruned_share"] == pytest.approx(5 / 9)
    assert logged[last, "conv1", "penalty_max"] == 0
    assert method.figures()["prune_steps"] == resnet_run.clock


# --- steps that can be captured
@pytest.mark.parametrize("growth", ["symmetric", "discontinuous", "norms", "constant"])
@pytest.mark.parametrize("kind", ["units_per_group", "macs"])
def test_steps_read_nothing_on_the_host_and_repeat(
    growth: str, kind: str, resnet_run: RunState
) -> None:
    method = increg(**SHORT, growth=growth)
    begin(method, resnet_run, 0.5, kind)
    testing.backward(resnet_run)
    steps = []
    for _ in range(2):
        method.decide(resnet_run)
        with recorded_operations() as operations:
            method.before_optimizer_step(resnet_run)
            method.after_optimizer_step(resnet_run)
        steps.append(list(operations))
    assert steps[0] == steps[1]
    assert len(steps[0]) > 0


def test_state_is_updated_in_place(resnet_run: RunState) -> None:
    method = increg(**SHORT)
    begin(method, resnet_run)

    def addresses() -> dict[str, int]:
        tensors = {k: v for k, v in method.state.items() if isinstance(v, torch.Tensor)}
        return {name: tensor.data_ptr() for name, tensor in tensors.items()}

    before = addresses()
    step(method, resnet_run)
    method.decide(resnet_run)
    step(method, resnet_run)
    method.after_epoch(resnet_run)
    assert addresses() == before
