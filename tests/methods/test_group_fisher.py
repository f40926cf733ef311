from __future__ import annotations

import io

import pytest
import torch
from torch import Tensor, nn

from prunebench import testing
from prunebench.core.errors import MethodError, TrainingError
from prunebench.experiments.phases import Budget, Steps
from prunebench.experiments.recipe import Recipe
from prunebench.methods.group_fisher import GroupFisher, least_important
from prunebench.models.cifar_resnet import CifarResNet
from prunebench.testing import named_layers, recorded_operations
from prunebench.training.batches import portion
from prunebench.training.run import RunState
from tests.channels.conftest import TwoBlocks

from .group_fisher_steps import begin, by_group, fisher, phases, scores, set_weights


# --- the score
@pytest.fixture
def two_layer_run() -> RunState:
    """Example E1: 1x1 convolutions of weights (1, -1, 2) and (1, 2, -1), a ReLU between."""
    layers = {"conv1": nn.Conv2d(1, 3, 1, bias=False), "conv2": nn.Conv2d(3, 1, 1, bias=False)}
    model = named_layers(conv1=layers["conv1"], relu=nn.ReLU(), conv2=layers["conv2"]).double()
    set_weights(model, conv1__weight=[1.0, -1, 2], conv2__weight=[1.0, 2, -1])
    return testing.start(model, image=(1, 1, 2))


X1 = torch.tensor([[[[1.0, 2.0]]], [[[-1.0, 3.0]]]], dtype=torch.float64)


def test_score_is_squared_after_the_sum_over_space(two_layer_run: RunState, recipe: Recipe) -> None:
    # mask gradients: image 0 (-9, 0, 18); image 1 (-6, -4, 12)
    method, found = scores(two_layer_run, recipe, X1, [0, 1])
    assert found == {"conv1": [117, 16, 468]}
    groups = method.candidates(two_layer_run)
    assert method.delta(two_layer_run, groups).tolist() == [2, 2, 2]  # 4 for both images
    assert least_important(method.state["score"], torch.full((3,), 4), torch.ones(3) > 0) == (1, 4)


def test_macs_of_a_unit_of_two_layers(two_layer_run: RunState, recipe: Recipe) -> None:
    method = fisher(normalize="macs")
    begin(method, two_layer_run, recipe)
    # 2 in each layer; 8 for both images
    assert method.delta(two_layer_run, method.candidates(two_layer_run)).tolist() == [4, 4, 4]


def test_scores_of_several_steps_add_up(two_layer_run: RunState, recipe: Recipe) -> None:
    method = fisher()
    begin(method, two_layer_run, recipe)
    two_layer_run.portion = portion(1)
    for image, target in ((0, 0.0), (1, 1.0)):  # as smaller batches: the same images, the same sum
        z = two_layer_run.model(X1[image : image + 1]).sum()
        ((z - target).square() / 2).backward()
        method.after_optimizer_step(two_layer_run)
    assert method.state["score"].tolist() == [117, 16, 468]


class Stream(nn.Module):
    """Example E2: r = relu(c0 x), o = r + c2 relu(c1 r), y = c3 o."""

    def __init__(self) -> None:
        super().__init__()
        self.c0, self.c1 = nn.Conv2d(1, 2, 1, bias=False), nn.Conv2d(2, 1, 1, bias=False)
        self.c2, self.c3 = nn.Conv2d(1, 2, 1, bias=False), nn.Conv2d(2, 1, 1, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        r = self.c0(x).relu()
        y: Tensor = self.c3(r + self.c2(self.c1(r).relu()))
        return y


@pytest.fixture
def stream_run() -> RunState:
    model = Stream().double()
    set_weights(model, c0__weight=[1.0, 2], c1__weight=[1.0, 1], c2__weight=[1.0, -1])
    set_weights(model, c3__weight=[1.0, 1.5])
    return testing.start(model, image=(1, 1, 1))


X2 = torch.tensor([1.0, 2.0], dtype=torch.float64).reshape(2, 1, 1, 1)


def test_score_is_squared_after_the_sum_over_coupled_layers(
    stream_run: RunState, recipe: Recipe
) -> None:
    # c1 (-0.75, -1.5), (-3, -6) and c3 (6, -2.25), (24, -9): sums (5.25, -3.75), (21, -15)
    method, found = scores(stream_run, recipe, X2, [1, 2])
    assert found == {"c0": [468.5625, 239.0625], "c1": [86.0625]}
    memory = {"c0": [2, 2], "c1": [1]}
    macs = {"c0": [4, 4], "c1": [4]}
    for normalize, expected in (("memory", memory), ("macs", macs), ("none", {"c0": [1, 1]})):
        method.options = fisher(normalize=normalize, protect_last=False).options
        saved = by_group(method, method.delta(stream_run, method.candidates(stream_run)))
        assert saved == {"c1": [1], **expected}


def test_normalized_scores_of_a_stream(stream_run: RunState, recipe: Recipe) -> None:
    method, _ = scores(stream_run, recipe, X2, [1, 2], protect_last=False)
    delta = method.delta(stream_run, method.candidates(stream_run)) * 2  # two images
    assert (method.state["score"] / delta).tolist() == [117.140625, 59.765625, 43.03125]


class Behind(nn.Module):
    """A stem that hands on its input, then other layers: the input itself has no units."""

    def __init__(self, channels: int, **layers: nn.Module) -> None:
        super().__init__()
        self.stem = nn.Conv2d(channels, channels, 1, bias=False)
        nn.init.dirac_(self.stem.weight)
        for name, layer in layers.items():
            self.add_module(name, layer)


class GroupedBehind(Behind):
    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.child(self.grouped(self.stem(x)))
        return y


@pytest.fixture
def grouped_run() -> RunState:
    """Example E3: four inputs in two groups, four outputs, a 1x1 child of weights 1."""
    model = GroupedBehind(4, grouped=nn.Conv2d(4, 4, 1, groups=2), child=nn.Conv2d(4, 1, 1))
    set_weights(model, grouped__weight=[[1.0, 1], [1, -1], [2, 0], [0, 1]])
    set_weights(model, grouped__bias=[1.0, 2, -1, 0], child__weight=[1.0] * 4, child__bias=[0.0])
    return testing.start(model.double(), image=(4, 1, 1))


X3 = torch.tensor([[1.0, 2, 3, 4], [0, 1, -1, 2]], dtype=torch.float64)[..., None, None]


def test_a_grouped_convolution_loses_whole_groups(grouped_run: RunState, recipe: Recipe) -> None:
    # in the layer (4, 20), (0, 0), in its child (10, 18), (3, -1): sums (14, 38), (3, -1)
    _, found = scores(grouped_run, recipe, X3, [12, 1])
    assert found == {"stem": [205, 1445]}


class Levels(Behind):
    """Example E4: one 1x1 convolution on two levels, of two pixels and of one."""

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(x)
        large, small = self.head(x[..., :2]), self.head(x[..., 2:])
        total: Tensor = large.sum((2, 3)) - 2 * small.sum((2, 3))
        return total


def test_calls_of_a_shared_layer_add_up_before_the_square(recipe: Recipe) -> None:
    # mask gradients -12 and 24
    model = Levels(1, head=nn.Conv2d(1, 1, 1, bias=False))
    set_weights(model, head__weight=[1.0])
    run = testing.start(model.double(), image=(1, 1, 3))
    x = torch.tensor([[[[1.0, 2.0, 3.0]]]], dtype=torch.float64)
    assert scores(run, recipe, x, [1])[1] == {"stem": [144]}


# --- decisions
def test_least_important_unit_is_one_that_is_kept_and_saves_something() -> None:
    scores_, delta = torch.tensor([1.0, 0.5, 6.0, 3.0]), torch.tensor([1.0, 0.0, 4.0, 2.0])
    kept = torch.tensor([False, True, True, True])
    assert least_important(scores_, delta, kept) == (2, 1.5)  # a tie with the last
    assert least_important(scores_, delta, ~kept) == (0, 1.0)


@pytest.fixture
def started(resnet_run: RunState, recipe: Recipe) -> tuple[RunState, GroupFisher]:
    """ResNet-20 after one step's backward pass, with momenta of its own."""
    method = fisher(interval_steps=1)
    begin(method, resnet_run, recipe, ratio=0.5)
    testing.backward(resnet_run)
    method.after_optimizer_step(resnet_run)
    resnet_run.clock = 1
    return resnet_run, method


def silent_columns(run: RunState, method: GroupFisher) -> list[Tensor]:
    """Return what reads silent units."""
    columns = []
    for name, group in method.candidates(run).items():
        assert method.gradients is not None
        silent = (~method.state["kept"][method.gradients.places[name]]).nonzero()[:, 0]
        for member in group.members:
            if member.role == "in" and len(silent):
                weight = run.params[member.parameters[0]].movedim(member.dim, 0)
                columns.append(weight[member.index[silent].flatten()])
    return columns


def test_a_decision_silences_the_least_important_unit_at_once(
    started: tuple[RunState, GroupFisher],
) -> None:
    run, method = started
    assert method.gradients is not None
    expected = method.state["score"] / method.delta(run, method.candidates(run))
    method.decide(run)
    assert method.state["kept"].logical_not().nonzero().tolist() == [[int(expected.argmin())]]
    assert method.state["score"].eq(0).all()
    columns = silent_columns(run, method)
    assert len(columns) > 0
    assert all(column.eq(0).all() for column in columns)


def test_a_shortened_run_prunes_several_units_per_decision(
    resnet_run: RunState, recipe: Recipe
) -> None:
    method = fisher(interval_steps=1, units_at_once=3, normalize="none")
    begin(method, resnet_run, recipe, ratio=0.5)
    testing.backward(resnet_run)
    method.after_optimizer_step(resnet_run)
    resnet_run.clock = 1
    expected = method.state["score"].topk(3, largest=False).indices
    method.decide(resnet_run)
    chosen = method.state["kept"].logical_not().nonzero()[:, 0]
    assert chosen.tolist() == sorted(expected.tolist())
    assert method.state["score"].eq(0).all()
    assert all(column.eq(0).all() for column in silent_columns(resnet_run, method))


def test_silent_units_stay_silent_while_others_train(
    started: tuple[RunState, GroupFisher],
) -> None:
    run, method = started
    method.decide(run)
    optimizer = torch.optim.SGD(run.params.values(), lr=0.1, momentum=0.9)
    for _ in range(3):
        testing.backward(run)
        optimizer.step()
        assert any(column.ne(0).any() for column in silent_columns(run, method))
        method.after_optimizer_step(run)
        assert all(column.eq(0).all() for column in silent_columns(run, method))


def test_silent_units_do_not_count_and_are_not_chosen_again(
    started: tuple[RunState, GroupFisher],
) -> None:
    run, method = started
    for decisions in range(1, 6):
        method.decide(run)
        assert int(method.state["kept"].sum()) == sum(run.sizes.values()) - decisions
        assert sum(method.state["left"].values()) == sum(run.sizes.values()) - decisions
        testing.backward(run)
        method.after_optimizer_step(run)
        assert method.state["score"][~method.state["kept"]].eq(0).all()


def test_a_silent_unit_is_no_longer_computed(started: tuple[RunState, GroupFisher]) -> None:
    run, method = started
    for _ in range(4):
        method.decide(run)
        testing.backward(run)
        method.after_optimizer_step(run)
    run.model.eval()
    x = torch.randn(2, 1, 8, 8)
    before = run.model(x)
    testing.prune(method, run.phase.then, run)
    assert sum(len(units) for units in run.kept.values()) == sum(run.sizes.values()) - 4
    assert torch.allclose(run.model.eval()(x), before, atol=1e-5)


def test_scores_that_are_not_numbers_stop_the_run(started: tuple[RunState, GroupFisher]) -> None:
    run, method = started
    method.state["score"][3] = float("nan")
    with pytest.raises(TrainingError, match="'prune', step 1: the least score of all units is nan"):
        method.decide(run)


# --- over time
@pytest.fixture
def two_block_run() -> RunState:
    """Example E5: a residual network of two blocks on 8x8 pixels."""
    torch.manual_seed(0)
    return testing.start(TwoBlocks(), image=(3, 8, 8))


@pytest.mark.parametrize("normalize", ["memory", "macs", "none"])
@pytest.mark.parametrize(
    ("kind", "ratio"), [("macs", 0.5), ("macs", 0.9), ("params", 0.6), ("units_global", 0.4)]
)
def test_a_target_is_met_within_a_unit(
    kind: str, ratio: float, normalize: str, recipe: Recipe
) -> None:
    torch.manual_seed(0)
    network = CifarResNet(1, num_classes=4, in_channels=1, width=0.25)
    run = testing.start(network, image=(1, 8, 8))
    method, lefts = fisher(interval_steps=1, normalize=normalize), []

    def look(run: RunState) -> None:
        if run.phase.name == "prune":
            lefts.append(dict(method.state["left"]))

    total = sum(run.sizes.values())
    before = run.costs
    testing.train(method, phases(method, recipe, ratio, kind), run, before_step=look)
    assert run.records.capped == []
    assert min(len(units) for units in run.kept.values()) >= 1
    if kind == "units_global":
        assert sum(len(units) for units in run.kept.values()) == total - int(ratio * total)
        return
    last, cost = lefts[-1], {"macs": before.macs, "params": before.params}[kind]
    now = {"macs": run.costs.macs, "params": run.costs.params}[kind]()
    assert now <= (1 - ratio) * cost() < cost(last)
    assert sum(last.values()) == sum(len(units) for units in run.kept.values()) + 1


def test_one_decision_prunes_as_many_units_as_the_target_needs(recipe: Recipe) -> None:
    torch.manual_seed(0)
    network = CifarResNet(1, num_classes=4, in_channels=1, width=0.25)
    run = testing.start(network, image=(1, 8, 8))
    before, seen = run.costs.macs(), []
    method = fisher(interval_steps=1, units_at_once=10_000)

    def look(run: RunState) -> None:
        if run.phase.name == "prune":
            seen.append(run.costs.macs(method.state["left"]))

    testing.train(method, phases(method, recipe, 0.5, "macs"), run, before_step=look)
    assert seen == [before]  # one step, then all units are pruned at once
    assert 0.4 * before < run.costs.macs() <= 0.5 * before


def test_one_unit_is_pruned_every_d_steps(two_block_run: RunState, recipe: Recipe) -> None:
    method, seen, trained = fisher(interval_steps=3), [], []

    def look(run: RunState) -> None:
        trained.append(run.phase.name)
        if run.phase.name == "prune":
            seen.append(sum(run.sizes.values()) - sum(method.state["left"].values()))

    testing.train(
        method, phases(method, recipe, 4 / 28, "units_global"), two_block_run, before_step=look
    )
    # the fourth unit is pruned before step 12, and pruning ends
    assert seen == [0, 0, 0, 1, 1, 1, 2, 2, 2, 3, 3, 3]
    assert trained == ["prune"] * 12 + ["fine_tune"] * 3


def test_ratio_zero_changes_nothing(resnet_run: RunState, recipe: Recipe) -> None:
    method = fisher()
    before = {name: p.detach().clone() for name, p in resnet_run.params.items()}
    testing.train(method, phases(method, recipe, ratio=0.0)[:1], resnet_run)
    assert resnet_run.clock == 0
    assert all(torch.equal(before[name], p) for name, p in resnet_run.params.items())
    assert resnet_run.costs.macs() == resnet_run.base_macs


def test_a_target_out_of_reach_is_named(resnet_run: RunState, recipe: Recipe) -> None:
    sentence = (
        "'prune': ratio 0.99 of macs is out of reach; the largest is 0.959, with one unit left in "
        "each of 9 groups"
    )
    with pytest.raises(TrainingError, match=sentence):
        begin(fisher(coupled=False), resnet_run, recipe, ratio=0.99)


def test_the_released_code_takes_the_last_unit_which_nothing_can_remove(
    stream_run: RunState, recipe: Recipe
) -> None:
    method, _ = scores(stream_run, recipe, X2, [1, 2], protect_last=False)
    stream_run.clock = 25
    method.decide(stream_run)  # the only unit inside: 43 is the least of the example
    assert method.state["left"] == {"c0": 2, "c1": 0}
    with pytest.raises(MethodError, match="all 1 units of 'c1' are removed; one must stay"):
        testing.prune(method, Budget(kind="macs", ratio=0.5), stream_run)


def test_the_last_unit_stays(stream_run: RunState, recipe: Recipe) -> None:
    method, _ = scores(stream_run, recipe, X2, [1, 2])
    stream_run.clock = 25
    method.decide(stream_run)
    assert method.state["left"] == {"c0": 1, "c1": 1}
    assert method.state["kept"].tolist() == [True, False, True]  # 59.8 is less than 117.1


def test_the_target_decides_how_long_pruning_is(resnet_run: RunState, recipe: Recipe) -> None:
    method = fisher()
    prune, fine_tune = phases(method, recipe)
    assert method.interval == Steps(25)
    assert prune.until_finished
    assert [p.reportable_from for p in (prune, fine_tune)] == [None, 0.0]
    units = sum(resnet_run.sizes.values())
    assert method.phase_length(resnet_run, prune) == Steps(25 * units + 1)
    assert method.phase_length(resnet_run, fine_tune) == fine_tune.length


@pytest.mark.parametrize(
    ("change", "kind", "sentence"),
    [
        ({"epochs": 3}, "macs", "'prune': the method decides its length"),
        (
            {},
            "units_per_group",
            "'units_per_group'; allowed: macs, params, activations, latency, units_global",
        ),
    ],
)
def test_unsuitable_recipes_and_ratio_kinds_are_refused(
    change: dict[str, int], kind: str, sentence: str, recipe: Recipe
) -> None:
    with pytest.raises(ValueError, match=sentence):
        phases(fisher(), recipe.model_copy(update=change), kind=kind)


def test_kept_units_of_all_groups_are_logged(two_block_run: RunState, recipe: Recipe) -> None:
    method = fisher(interval_steps=1)
    testing.train(method, phases(method, recipe, 4 / 28, "units_global"), two_block_run)
    rows = two_block_run.records.diagnostics
    assert {row.quantity for row in rows} == {"kept_units"}
    logged = [(row.layer, row.value) for row in rows]
    assert logged[:4] == [("stem", 4), ("b1c1", 6), ("b2c1", 8), ("b2c2", 10)]
    # at the start, after the epoch (decisions before steps 1, 2), at the end (before steps 3, 4)
    assert [sum(value for _, value in logged[i : i + 4]) for i in (0, 4, 8)] == [28, 26, 24]
    assert len(logged) == 12


def test_the_interval_is_among_the_figures() -> None:
    assert fisher(interval_steps=10).figures() == {"interval_steps": 10.0}


# --- steps that can be captured
def whole_step(run: RunState, method: GroupFisher, x: Tensor, labels: Tensor) -> None:
    run.model.zero_grad()
    nn.functional.cross_entropy(run.model(x), labels).backward()
    method.after_optimizer_step(run)


def test_steps_read_nothing_on_the_host_and_repeat(
    started: tuple[RunState, GroupFisher],
) -> None:
    run, method = started
    x, labels, steps = torch.randn(4, 1, 8, 8), torch.arange(4), []
    for _ in range(2):
        method.decide(run)
        whole_step(run, method, x, labels)  # the first decision makes no new tensors either
        with recorded_operations() as operations:
            whole_step(run, method, x, labels)
        steps.append(list(operations))
    assert steps[0] == steps[1]
    assert "mul_" in [name for name, _ in steps[0]]
    assert method.state["score"].sum() > 0


def test_decisions_write_in_place(started: tuple[RunState, GroupFisher]) -> None:
    run, method = started
    assert method.gradients is not None

    def addresses() -> list[int]:
        read = [method.state["score"], method.gradients.table, *method.columns.values()]
        return [tensor.data_ptr() for tensor in [*read, *run.params.values()]]

    before = addresses()
    method.decide(run)
    assert addresses() == before


def test_attach_restores_tensors_outside_of_state(started: tuple[RunState, GroupFisher]) -> None:
    run, method = started
    method.decide(run)
    file = io.BytesIO()
    torch.save(method.state, file)
    file.seek(0)
    resumed = fisher(interval_steps=1)
    resumed.state = torch.load(file, weights_only=True)
    resumed.attach(run)
    assert resumed.columns.keys() == method.columns.keys()
    assert all(torch.equal(resumed.columns[n], method.columns[n]) for n in method.columns)
    assert sum(int((columns == 0).sum()) for columns in resumed.columns.values()) >= 1
