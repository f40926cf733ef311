from __future__ import annotations

import warnings
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import nn

from prunebench import testing
from prunebench.channels.trace.tracer import trace
from prunebench.core.errors import TrainingError
from prunebench.experiments.phases import Budget, RatioKind
from prunebench.experiments.recipe import Recipe
from prunebench.methods.base import is_met
from prunebench.methods.epruner import (
    EPruner,
    EPrunerOptions,
    exemplars,
    preferences,
    similarities,
    sparse_projection,
)
from prunebench.models.registry import build
from prunebench.testing import named_layers
from prunebench.training.run import RunState

AUTO = Budget(kind="auto", ratio=None)
Floats = NDArray[np.float64]

BANK = np.array(
    [
        [1, 0, 0, 0],
        [0.9, 0.1, 0, 0],
        [1.1, 0, 0.1, 0],
        [0, 1, 0, 1],
        [0, 0.8, 0.1, 1],
        [0, 1.1, 0, 0.9],
        [-1, -1, 0, 0],
        [-0.9, -1.2, 0, 0.1],
    ]
)
LINE = np.array([[0.0], [1], [2.5], [10], [11], [12.5], [20]])
THREE = np.array([[0.0], [1], [5]])


def epruner(**options: Any) -> EPruner:
    return EPruner(EPrunerOptions(**options))


def labels(rows: Floats, kept: list[int]) -> list[int]:
    """The number of the exemplar that each filter is most similar to."""
    found: list[int] = similarities(rows)[:, kept].argmax(axis=1).tolist()
    return found


def winners(rows: Floats, beta: float, cluster: list[int]) -> Floats:
    """The refinement scores of a cluster: similarities to its members, preference included."""
    s = similarities(rows)
    np.fill_diagonal(s, preferences(s, beta))
    found: Floats = s[np.ix_(cluster, cluster)].sum(axis=0)
    return found


# --- example E1: eight filters of shape (2, 1, 2)
@pytest.mark.parametrize(
    ("beta", "kept", "clusters"),
    [
        (0.02, [0, 3, 4, 6], [0, 0, 0, 1, 2, 1, 3, 3]),
        (0.05, [0, 3, 6], [0, 0, 0, 1, 1, 1, 2, 2]),
        (0.25, [1, 3, 6], [0, 0, 0, 1, 1, 1, 2, 2]),
        (0.73, [1, 4, 6], [0, 0, 0, 1, 1, 1, 2, 2]),
        (1.5, [1, 4, 6], [0, 0, 0, 1, 1, 1, 2, 2]),
    ],
)
def test_exemplars_of_a_filter_bank(beta: float, kept: list[int], clusters: list[int]) -> None:
    assert exemplars(BANK, beta) == (kept, True)
    assert labels(BANK, kept) == clusters


def test_preferences_of_a_filter_bank() -> None:
    assert preferences(similarities(BANK), 0.73).round(4).tolist() == [
        -2.0622,
        -1.7995,
        -2.2156,
        -2.0513,
        -1.8104,
        -2.0586,
        -3.7412,
        -3.8398,
    ]


@pytest.mark.parametrize(
    ("cluster", "scores"),
    [
        ([0, 1, 2], [-2.1022, -1.8795, -2.2956]),
        ([3, 4, 5], [-2.1213, -1.9704, -2.1886]),
        ([6, 7], [-3.8012, -3.8998]),
    ],
)
def test_refinement_scores_of_a_filter_bank(cluster: list[int], scores: list[float]) -> None:
    assert winners(BANK, 0.73, cluster).round(4).tolist() == scores


# --- example E2: seven filters of one weight
@pytest.mark.parametrize(
    ("beta", "p", "kept", "clusters"),
    [
        (
            0.05,
            [-5, -4.05, -2.8125, -2.8125, -3.6125, -2.8125, -5],
            [1, 3, 5, 6],
            [0, 0, 0, 1, 1, 2, 3],
        ),
        (
            0.1,
            [-10, -8.1, -5.625, -5.625, -7.225, -5.625, -10],
            [1, 4, 6],
            [0, 0, 0, 1, 1, 1, 2],
        ),
        (
            0.5,
            [-50, -40.5, -28.125, -28.125, -36.125, -28.125, -50],
            [2, 3, 6],
            [0, 0, 0, 1, 1, 1, 2],
        ),
        (
            0.73,
            [-73, -59.13, -41.0625, -41.0625, -52.7425, -41.0625, -73],
            [2, 5],
            [0, 0, 0, 1, 1, 1, 1],
        ),
    ],
)
def test_exemplars_on_a_line(
    beta: float, p: list[float], kept: list[int], clusters: list[int]
) -> None:
    assert preferences(similarities(LINE), beta) == pytest.approx(p, rel=1e-12)
    assert exemplars(LINE, beta) == (kept, True)
    assert labels(LINE, kept) == clusters


@pytest.mark.parametrize(
    ("cluster", "scores"),
    [([0, 1, 2], [-57.25, -43.75, -36.625]), ([3, 4, 5], [-35.375, -39.375, -36.625])],
)
def test_refinement_scores_on_a_line(cluster: list[int], scores: list[float]) -> None:
    assert winners(LINE, 0.5, cluster) == pytest.approx(scores)


# --- example E3: messages by hand
def messages(s: Floats, r: Floats, a: Floats) -> tuple[Floats, Floats]:
    """One damped update of responsibilities and availabilities, as the paper's section reads."""
    n, new_r, new_a = len(s), np.empty_like(s), np.empty_like(s)
    for i, k in np.ndindex(n, n):
        new_r[i, k] = s[i, k] - max(a[i, j] + s[i, j] for j in range(n) if j != k)
    r = 0.5 * r + 0.5 * new_r
    for i, k in np.ndindex(n, n):
        others = sum(max(0.0, r[j, k]) for j in range(n) if j not in (i, k))
        new_a[i, k] = others if i == k else min(0.0, r[k, k] + others)
    return r, 0.5 * a + 0.5 * new_a


@pytest.mark.parametrize(
    ("iterations", "r", "a"),
    [
        (
            1,
            [[-0.5, 0.5, -12], [0.5, -0.5, -7.5], [-4.5, 4.5, -8]],
            [[0.25, 0, -4], [-0.25, 2.5, -4], [0, 0, 0]],
        ),
        (
            2,
            [[-0.75, 0.625, -18], [-0.5, -0.625, -12], [-6.75, 6.75, -12]],
            [[0.125, 0, -8], [-0.5, 4.9375, -8], [-0.375, 0, 0]],
        ),
    ],
)
def test_messages_by_hand(iterations: int, r: list[list[float]], a: list[list[float]]) -> None:
    s = similarities(THREE)
    np.fill_diagonal(s, preferences(s, 2.0))
    found = np.zeros((3, 3)), np.zeros((3, 3))
    for _ in range(iterations):
        found = messages(s, *found)
    assert found[0].tolist() == r
    assert found[1].tolist() == a


@pytest.mark.parametrize(("rows", "beta"), [(THREE, 2.0), (BANK, 0.73), (LINE, 0.1), (LINE, 0.73)])
def test_the_library_s_messages_are_ours(rows: Floats, beta: float) -> None:
    s = similarities(rows)
    np.fill_diagonal(s, preferences(s, beta))
    r, a = np.zeros_like(s), np.zeros_like(s)
    for _ in range(200):
        r, a = messages(s, r, a)
    emerged = np.flatnonzero(np.diag(r + a) > 0).tolist()
    clusters = [emerged.index(k) if k in emerged else s[k, emerged].argmax() for k in range(len(s))]
    refined = sorted(
        cluster[winners(rows, beta, cluster).argmax()]
        for cluster in ([k for k, c in enumerate(clusters) if c == n] for n in range(len(emerged)))
    )
    assert exemplars(rows, beta) == (refined, True)


def test_three_filters_have_one_exemplar() -> None:
    assert preferences(similarities(THREE), 2.0).tolist() == [-2, -2, -32]
    assert exemplars(THREE, 2.0) == ([1], True)
    assert labels(THREE, [1]) == [0, 0, 0]


# --- degenerate layers
@pytest.mark.parametrize(
    ("rows", "kept"),
    [
        ([[1.0, 2.0]], [0]),  # a single filter
        ([[0.0], [1.0]], [0, 1]),  # two: preferences -0.365 above the similarity -1
        ([[1.0, 2.0]] * 5, [0]),  # all the same
        ([[0.1, 0.7, 1 / 3]] * 16, [0]),
        ([[0.0, 0.0]] * 5, [0]),
    ],
)
def test_degenerate_layers_keep_a_filter(rows: list[list[float]], kept: list[int]) -> None:
    assert exemplars(np.array(rows), 0.73)[0] == kept


SQUARE = np.array([[0.0, 0], [0, 1], [1, 0], [1, 1]])  # nothing tells the corners apart


@pytest.mark.parametrize("beta", [1.5, 2.0])  # the library ends with no exemplar, and with one
def test_a_layer_that_does_not_settle_has_an_exemplar_all_the_same(beta: float) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        kept, converged = exemplars(SQUARE, beta)
    assert (len(kept), converged) == (1, False)


def test_layers_that_did_not_settle_are_counted() -> None:
    model = named_layers(stem=nn.Conv2d(1, 2, 1), conv=nn.Conv2d(2, 4, 1), head=nn.Conv2d(4, 2, 1))
    run, method = testing.start(model, image=(1, 1, 1)), epruner(beta=2)
    with torch.no_grad():
        run.params["conv.weight"].copy_(torch.tensor(SQUARE)[:, :, None, None])
    assert len(method.select(run, AUTO).removed["conv"]) == 3
    assert method.figures() == {"beta": 2, "layers_not_converged": 1}


# --- over a network
@pytest.fixture
def bank_run() -> RunState:
    """Stem 1 -> 2, convolution 2 -> 8 of 1x2, batch norm, head 8 -> 2: EPruner's example E4."""
    torch.manual_seed(0)
    model = named_layers(
        stem=nn.Conv2d(1, 2, 1),
        conv=nn.Conv2d(2, 8, (1, 2)),
        norm=nn.BatchNorm2d(8),
        head=nn.Conv2d(8, 2, 1),
        pool=nn.AdaptiveAvgPool2d(1),
        flatten=nn.Flatten(),
    )
    return testing.start(model, image=(1, 1, 3))


def fill_bank(run: RunState) -> None:
    """E1's filters, and a next layer of weights 10 o + i."""
    with torch.no_grad():
        run.params["conv.weight"].copy_(torch.tensor(BANK).reshape(8, 2, 1, 2))
        run.params["head.weight"].copy_(
            torch.tensor([[10.0 * o + i for i in range(8)] for o in range(2)])[:, :, None, None]
        )
        for tensor in run.model.norm.state_dict().values():
            tensor.fill_(7)
        run.params["head.bias"].fill_(7)


def test_centroids_keep_exemplars_and_what_reads_them(bank_run: RunState) -> None:
    fill_bank(bank_run)
    method = epruner()
    testing.train(method, [phase for phase in phases(method) if phase.recipe is None], bank_run)
    conv, norm, head = bank_run.model.conv, bank_run.model.norm, bank_run.model.head
    expected = torch.tensor(BANK[[1, 4, 6]], dtype=torch.float32)
    assert torch.equal(conv.weight.flatten(1), expected)
    assert head.weight.flatten(1).tolist() == [[1, 4, 6], [11, 14, 16]]
    assert head.bias.tolist() == [7, 7]
    assert {name: tensor.tolist() for name, tensor in norm.state_dict().items()} == {
        "weight": [1, 1, 1],
        "bias": [0, 0, 0],
        "running_mean": [0, 0, 0],
        "running_var": [1, 1, 1],
        "num_batches_tracked": 0,
    }


def test_biases_of_clustered_layers_start_anew(bank_run: RunState) -> None:
    fill_bank(bank_run)
    stem = bank_run.params["stem.bias"].tolist()
    with torch.no_grad():
        bank_run.params["conv.bias"].fill_(7)
    method = epruner()
    testing.prune(method, AUTO, bank_run)
    assert bank_run.params["conv.bias"].abs().max() <= 0.5  # the default's 1/sqrt(2 * 1 * 2)
    assert bank_run.params["stem.bias"].tolist() == stem


def test_reset_all_keeps_nothing_but_the_exemplars(bank_run: RunState) -> None:
    fill_bank(bank_run)
    method = epruner(reset_all=True, roles=("stem", "inside"))
    stem = bank_run.params["stem.weight"].flatten().tolist()
    testing.prune(method, AUTO, bank_run)
    kept = bank_run.kept["stem"].tolist()
    assert bank_run.params["stem.weight"].flatten().tolist() == [stem[k] for k in kept]
    assert bank_run.params["conv.weight"].shape[0] == 3
    assert bank_run.params["head.weight"].abs().max() < 1
    assert bank_run.params["head.bias"].abs().max() < 1
    assert bank_run.model.norm.running_var.eq(1).all()


def test_other_norms_of_a_resnet_keep_their_statistics(resnet_run: RunState) -> None:
    testing.backward(resnet_run)
    before = {name: t.clone() for name, t in resnet_run.model.state_dict().items()}
    method = epruner()
    testing.prune(method, AUTO, resnet_run)
    after = resnet_run.model.state_dict()
    untouched = [n for n in after if ".bn1." not in n and ".conv" not in n]
    assert all(torch.equal(after[name], before[name]) for name in untouched)
    assert after["stages.0.0.bn1.num_batches_tracked"] == 0
    assert after["stages.0.0.bn1.weight"].eq(1).all()
    assert after["stages.0.0.bn2.num_batches_tracked"] == 1


def test_random_takes_over_widths_alone(bank_run: RunState) -> None:
    fill_bank(bank_run)
    method = epruner(initialization="random")
    testing.prune(method, AUTO, bank_run)
    assert bank_run.kept["conv"].tolist() == [1, 4, 6]
    expected = testing.start(bank_run.model, image=(1, 1, 3))
    expected.initialize()
    assert all(torch.equal(bank_run.params[n], expected.params[n]) for n in bank_run.params)
    assert bank_run.params["head.weight"].abs().max() < 1
    assert bank_run.model.norm.running_var.eq(1).all()


def test_random_project_mixes_all_columns_of_the_next_layer(bank_run: RunState) -> None:
    fill_bank(bank_run)
    method = epruner(initialization="random_project")
    old = bank_run.params["head.weight"].detach().flatten(1)
    testing.prune(method, AUTO, bank_run)
    matrix = sparse_projection(8, 3, bank_run.generator("project", "conv", "head.weight"))
    assert torch.allclose(bank_run.params["head.weight"].flatten(1), old @ matrix)
    expected = torch.tensor(BANK[[1, 4, 6]], dtype=torch.float32)
    assert torch.equal(bank_run.params["conv.weight"].flatten(1), expected)


def test_random_project_keeps_the_exemplars_rows_of_the_next_layer(resnet_run: RunState) -> None:
    method = epruner(initialization="random_project", roles=("stream", "inside"), beta=1.5)
    old = resnet_run.params["stages.0.0.conv2.weight"].detach().clone()
    testing.prune(method, AUTO, resnet_run)
    inside, stream = resnet_run.kept["stages.0.0.conv1"], resnet_run.kept["conv1"]
    assert 0 < len(inside) < 16
    assert 0 < len(stream) < 16
    generator = resnet_run.generator("project", "stages.0.0.conv1", "stages.0.0.conv2.weight")
    matrix = sparse_projection(16 * 9, len(inside) * 9, generator)
    expected = (old[stream].flatten(1) @ matrix).reshape(-1, len(inside), 3, 3)
    found = resnet_run.params["stages.0.0.conv2.weight"]
    assert torch.allclose(found, expected, atol=1e-6)


def test_projection_is_sparse_and_keeps_squared_lengths_on_average() -> None:
    matrix = sparse_projection(144, 4000, torch.Generator().manual_seed(0))
    # q = 1/12 of the entries are not zero, each +-sqrt(12 / 4000)
    assert float((matrix != 0).float().mean()) == pytest.approx(1 / 12, rel=0.02)
    assert float(matrix.abs().max()) == pytest.approx((12 / 4000) ** 0.5)
    assert float(matrix.mean()) == pytest.approx(0, abs=1e-3)
    row = torch.ones(144)
    assert float((row @ matrix).square().sum()) == pytest.approx(144, rel=0.1)


def test_deep_layers_of_a_vgg_have_a_beta_of_their_own() -> None:
    torch.manual_seed(0)
    model = build("vgg16_x0_1", num_classes=10, in_channels=1)
    run = testing.start(model, image=(1, 8, 8))
    betas = {"stages.3.[12].*": 0.92, "stages.4.*": 0.92}
    method = epruner(layer_betas=betas, roles=("stem", "inside"))
    groups = method.candidates(run)
    assert len(groups) == 13
    assert [method.beta_of(name) for name in groups] == [0.73] * 8 + [0.92] * 5
    deep = list(groups)[8]
    rows = run.params[f"{deep}.weight"].detach().flatten(1).double().numpy()
    kept, _ = exemplars(rows, 0.92)
    removed = method.select(run, AUTO).removed[deep].tolist()
    assert sorted([*removed, *kept]) == list(range(groups[deep].n_units))


def test_the_first_pattern_that_fits_a_layer_gives_its_beta() -> None:
    betas = {"stages.3.*.conv2": 0.85, "stages.3.*": 0.9}
    method = epruner(beta=0.7, layer_betas=betas)
    layers = ("stages.2.5.conv2", "stages.3.0.conv1", "stages.3.0.conv2")
    assert [method.beta_of(layer) for layer in layers] == [0.7, 0.9, 0.85]


# --- a target instead of beta
@pytest.mark.parametrize("kind", ["macs", "params"])
@pytest.mark.parametrize("ratio", [0.0, 0.5, 0.7])
def test_beta_is_searched_for_a_target(resnet_run: RunState, kind: RatioKind, ratio: float) -> None:
    method, budget = epruner(), Budget(kind=kind, ratio=ratio)
    removed = method.select(resnet_run, budget).removed
    left = {name: len(units) for name, units in resnet_run.kept.items()}
    left |= {name: left[name] - len(units) for name, units in removed.items()}
    assert is_met(resnet_run, budget, left)
    one_more = [{**left, name: left[name] + 1} for name in removed]
    assert not ratio or not all(is_met(resnet_run, budget, other) for other in one_more)
    figures = method.figures()
    assert figures["exemplars_added"] == 0
    again = epruner(beta=figures["beta"]).select(resnet_run, AUTO).removed if ratio else {}
    assert again.keys() == removed.keys()
    assert all(torch.equal(again[name], removed[name]) for name in again)


@pytest.mark.parametrize("left", [2, 4, 7])
def test_a_layer_whose_exemplars_leave_at_once_keeps_the_worst_represented(
    bank_run: RunState, left: int
) -> None:
    # A zero filter is nearer to each of seven filters of equal norm than these are to each other:
    # just above beta 0.5 it is the only exemplar.
    bank = torch.cat([torch.zeros(1, 4), torch.eye(4), -torch.eye(4)[:3]])
    with torch.no_grad():
        bank_run.params["conv.weight"].copy_(bank.reshape(8, 2, 1, 2))
    run, kept = bank_run, {"conv": left}
    method = epruner()
    ratio = 1 - run.costs.macs(kept) / run.base_macs
    removed = method.select(run, Budget(kind="macs", ratio=ratio)).removed["conv"].tolist()
    assert len(removed) == 8 - left
    assert 0 not in removed
    assert method.figures()["beta"] == pytest.approx(0.5, abs=0.01)


def test_filters_of_negligible_norm_are_no_exemplars(bank_run: RunState) -> None:
    # The second filter, almost zero, is nearer to each other one than these to each other.
    star = 5 * np.concatenate([np.eye(4), -np.eye(4)])
    star[1] = [0.1, 0, 0, 0]
    with torch.no_grad():
        bank_run.params["conv.weight"].copy_(torch.tensor(star).reshape(8, 2, 1, 2))
    removed = epruner(beta=1.0).select(bank_run, AUTO).removed["conv"]
    assert removed.tolist() == [0, 2, 3, 4, 5, 6, 7]
    method = epruner(beta=1.0, negligible_norm=0.1)
    removed = method.select(bank_run, AUTO).removed["conv"]
    assert 1 in removed.tolist()
    assert len(removed) < 7
    assert method.figures()["filters_negligible"] == 1


def test_a_target_counts_filters_of_negligible_norm(resnet_run: RunState) -> None:
    with torch.no_grad():
        resnet_run.params["stages.0.0.conv1.weight"][:3] *= 0.001
    budget = Budget(kind="macs", ratio=0.5)
    plan = epruner(negligible_norm=0.1).select(resnet_run, budget)
    assert {0, 1, 2} <= set(plan.removed["stages.0.0.conv1"].tolist())
    left = {
        name: group.n_units - len(plan.removed.get(name, ()))
        for name, group in EPruner(EPrunerOptions()).candidates(resnet_run).items()
    }
    assert is_met(resnet_run, budget, left)


def test_betas_of_layers_keep_their_proportion_in_a_search(resnet_run: RunState) -> None:
    low = "stages.0.0.conv1"
    method = epruner(beta=0.5, layer_betas={low: 0.01})
    removed = method.select(resnet_run, Budget(kind="macs", ratio=0.5)).removed
    assert low not in removed
    assert len(removed) == 8


def test_a_target_beyond_the_largest_beta_is_named(resnet_run: RunState) -> None:
    sentence = r"ratio 0.99 of macs is out of reach; the largest is 0\.9\d+, at beta [\d.]+; use a "
    with pytest.raises(TrainingError, match=sentence):
        epruner().select(resnet_run, Budget(kind="macs", ratio=0.99))


def test_selection_repeats(resnet_run: RunState) -> None:
    method = epruner(beta=1.5)
    first, again = (method.select(resnet_run, AUTO).removed for _ in range(2))
    assert first.keys() == again.keys() == method.candidates(resnet_run).keys()
    assert all(torch.equal(first[name], again[name]) for name in first)


def test_selection_without_training(resnet_run: RunState) -> None:
    method = epruner(beta=1.5, fine_tune=False, recalibrate=8)
    assert method.needed_roles() == ()
    testing.train(method, AUTO, resnet_run)
    assert [row.event for row in resnet_run.records.history] == ["pruned", "recalibrated"]
    assert method.figures()["beta"] == 1.5


def test_the_pruned_network_can_be_traced_and_trained(resnet_run: RunState) -> None:
    method = epruner()
    testing.train(method, phases(method), resnet_run)
    graph = trace(resnet_run.model, resnet_run.example)
    assert {n: g.n_units for n, g in graph.groups.items()} == {
        name: len(units) for name, units in resnet_run.kept.items()
    }
    assert resnet_run.records.history[-1].step == 3  # one epoch


def phases(method: EPruner) -> list[Any]:
    recipe = Recipe(epochs=1, batch_size=4, lr=0.01, weight_decay=0.0)
    return method.phases({"fine_tune": recipe}, AUTO)
