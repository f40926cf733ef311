"""OrthoReg; E1 ... E7 are the hand-checkable examples of its notes."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn

from prunebench import testing
from prunebench.experiments.phases import Budget, Epochs
from prunebench.experiments.recipe import Recipe
from prunebench.methods.orthoreg import (
    Orthonormality,
    OrthonormalityOptions,
    OrthoReg,
    OrthoRegFromBase,
    filter_matrix,
    gram,
    gram_penalty,
    layer_factors,
    layer_kind,
    orthogonality,
    penalized_layers,
    term_factors,
)
from prunebench.models.registry import build
from prunebench.testing import named_layers, recorded_operations
from prunebench.training.run import RunState

from .projected_resnet import resnet34, small

W = [[0.5, 0.5, 0.0], [0.5, -1.0, 0.5]]
BIAS = [0.5, -1.0]
WITH_BIAS = [[0.5, 0.5, 0.0, 0.5], [0.5, -1.0, 0.5, -1.0]]
HALF = Budget(kind="units_global", ratio=0.5)


def gradient(matrix: list[list[float]], kind: Any) -> tuple[float, list[list[float]]]:
    rows = torch.tensor(matrix, dtype=torch.float64, requires_grad=True)
    value = gram_penalty(rows, kind)
    value.backward()
    assert rows.grad is not None
    return float(value.detach()), rows.grad.tolist()


# --- E1 and E2: the penalty of one layer
@pytest.mark.parametrize(
    ("matrix", "kind", "difference"),
    [
        (W, "row", [[-0.5, -0.25], [-0.25, 0.5]]),
        (W, "column", [[-0.5, -0.25, 0.25], [-0.25, 0.25, -0.5], [0.25, -0.5, -0.75]]),
        (WITH_BIAS, "row", [[-0.25, -0.75], [-0.75, 1.5]]),
    ],
)
def test_differences_from_the_identity_of_examples_e1_and_e2(
    matrix: list[list[float]], kind: Any, difference: list[list[float]]
) -> None:
    found = gram(torch.tensor(matrix), kind)
    assert (found - torch.eye(len(found))).tolist() == difference


def test_row_gram_of_example_e1() -> None:
    assert gradient(W, "row") == (1.5, [[-2.0, 1.0, -1.0], [0.0, -3.0, 1.0]])


def test_column_gram_of_example_e1() -> None:
    assert gradient(W, "column") == (3.5, [[-2.0, 0.0, 0.0], [2.0, -4.0, 2.0]])


def test_row_gram_with_bias_of_example_e2() -> None:
    wanted = [[-2.0, 1.0, -1.0, 1.0], [0.0, -3.0, 1.0, -3.0]]
    assert gradient(WITH_BIAS, "row") == (3.25, wanted)


def test_degree_of_orthogonality_of_example_e1() -> None:
    # row Gram [[0.5, -0.25], [-0.25, 1.5]]: 2.0 / 2.5; the column Gram, 3x3, is larger
    assert float(orthogonality(torch.tensor(W))) == pytest.approx(0.8)
    assert float(orthogonality(torch.eye(3)[:2])) == 1.0


def test_the_smaller_gram_says_how_orthogonal_a_layer_is() -> None:
    # columns of the transpose are the rows above
    assert float(orthogonality(torch.tensor(W).T)) == pytest.approx(0.8)


def test_a_gram_that_is_the_identity_has_no_gradient() -> None:
    assert gradient([[1.0, 0.0], [0.0, 1.0]], "row") == (0.0, [[0.0, 0.0], [0.0, 0.0]])


def test_examples_hold_in_a_network_with_a_layers_factor() -> None:
    # n is 3 for the stem's filters and for the inputs of the convolution behind: c = 1/2 each
    net = named_layers(
        stem=nn.Conv2d(1, 3, 1, bias=False), conv=nn.Conv2d(3, 2, 1), head=nn.Conv2d(2, 2, 1)
    )
    run = testing.start(net, image=(1, 1, 1))
    with torch.no_grad():
        run.params["stem.weight"].copy_(torch.tensor([1.0, 0.0, 0.0]).view(3, 1, 1, 1))
        run.params["conv.weight"].copy_(torch.tensor(W)[..., None, None])
        run.params["conv.bias"].copy_(torch.tensor(BIAS))
    term = Orthonormality(run, OrthonormalityOptions(penalty=0.1, gram={"pointwise": "row"})).term(
        run.params
    )
    term.backward()
    assert float(term.detach()) == pytest.approx(0.1 * 3.25 / 2)
    weight, bias = run.params["conv.weight"].grad, run.params["conv.bias"].grad
    assert weight is not None
    assert bias is not None
    wanted = 0.05 * torch.tensor([[-2.0, 1.0, -1.0, 1.0], [0.0, -3.0, 1.0, -3.0]])
    torch.testing.assert_close(weight.flatten(1), wanted[:, :3])
    torch.testing.assert_close(bias, wanted[:, 3])
    assert run.params["stem.weight"].grad.tolist() == [[[[0.0]]]] * 3  # its column is a unit vector
    assert run.params["head.weight"].grad is None


# --- E3: factors of the layers
def factors_by_kind(model: nn.Module, image: int) -> dict[tuple[str, int], float]:
    """Return the factors by kind and number of filters."""
    run = testing.start(model, image=(3, image, image))
    roles = penalized_layers(run)
    shapes = {w: (*filter_matrix(run.params, w).shape, run.params[w].shape[1]) for w in roles}
    found = term_factors(shapes, roles, OrthonormalityOptions())
    return {(layer_kind(roles[w]), shapes[w][0]): c for w, c in found.items()}


def test_factors_of_vgg_13() -> None:
    found = factors_by_kind(build("vgg13", num_classes=100, in_channels=3), 32)
    # sum of roots: 161.137085
    assert found == pytest.approx(
        {
            ("stem", 64): 0.049647,
            ("other", 64): 0.049647,
            ("other", 128): 0.070212,
            ("other", 256): 0.099294,
            ("other", 512): 0.140423,
        },
        abs=5e-7,
    )
    assert sum(layer_factors([64, 64, 128, 128, 256, 256, 512, 512, 512, 512])) == pytest.approx(1)


def test_factors_of_mobilenet_v1() -> None:
    found = factors_by_kind(build("mobilenet_v1", num_classes=100, in_channels=3), 32)
    # sum of roots: 477.754401; the pointwise layer of 64 filters reads 32 channels
    assert found["stem", 32] == pytest.approx(0.011841, abs=5e-7)
    assert found["depthwise", 64] == pytest.approx(0.016745, abs=5e-7)
    assert found["depthwise", 1024] == pytest.approx(0.066980, abs=5e-7)
    assert found["pointwise", 64] == pytest.approx(0.011841, abs=5e-7)
    assert found["pointwise", 1024] == pytest.approx(0.066980, abs=5e-7)


def test_factors_of_resnet_34() -> None:
    found = factors_by_kind(resnet34(), 8)
    # sum of roots with the shortcuts': 509.587878; a shortcut has its block's first layer's factor
    widths = {64: 0.015699, 128: 0.022202, 256: 0.031398, 512: 0.044403}
    wanted = {("stem", 64): widths[64]}
    wanted |= {("other", n): c for n, c in widths.items()}
    wanted |= {("shortcut", n): c for n, c in widths.items() if n > 64}
    assert found == pytest.approx(wanted, abs=5e-7)


def test_a_shortcuts_own_factor_is_an_option() -> None:
    run = testing.start(small(), image=(3, 4, 4))
    roles = penalized_layers(run)
    shapes = {w: (*filter_matrix(run.params, w).shape, run.params[w].shape[1]) for w in roles}
    found = term_factors(shapes, roles, OrthonormalityOptions(shortcut_factor="own"))
    # stem 4, two layers of 4, four of 8, the shortcut min(8, 4)
    assert list(found.values()) == pytest.approx(layer_factors([4, 4, 4, 8, 8, 4, 8, 8]))
    assert sum(found.values()) == pytest.approx(1)


# --- the term of a whole network
def plain_term(run: RunState, options: OrthonormalityOptions) -> Tensor:
    """The definition, layer by layer."""
    roles = penalized_layers(run)
    matrices = {w: run.params[w].flatten(1) for w in roles}
    for w in roles:
        bias = run.params.get(w.replace("weight", "bias"))
        if bias is not None:
            matrices[w] = torch.cat([matrices[w], bias[:, None]], dim=1)
    shapes = {w: (*m.shape, run.params[w].shape[1]) for w, m in matrices.items()}
    c = term_factors(shapes, roles, options)
    terms = [
        c[w] * gram_penalty(m, options.gram[layer_kind(roles[w])]) for w, m in matrices.items()
    ]
    return options.penalty * torch.stack(terms).sum()


@pytest.mark.parametrize("name", ["vgg13_x0_25", "mobilenet_v1_x0_25", "resnet20"])
@pytest.mark.parametrize("memory", [torch.contiguous_format, torch.channels_last])
def test_layers_taken_together_give_the_plain_sum(name: str, memory: torch.memory_format) -> None:
    torch.manual_seed(0)
    model = build(name, num_classes=10, in_channels=3).double().to(memory_format=memory)
    run = testing.start(model, image=(3, 8, 8))
    options = OrthonormalityOptions()
    weights = list(penalized_layers(run))
    found = Orthonormality(run, options).term(run.params)
    wanted = plain_term(run, options)
    torch.testing.assert_close(found, wanted)
    params = [run.params[w] for w in weights]
    for a, b in zip(
        torch.autograd.grad(found, params), torch.autograd.grad(wanted, params), strict=True
    ):
        torch.testing.assert_close(a, b)


@pytest.mark.parametrize(
    ("name", "size"), [("vgg13", 989.0), ("mobilenet_v1", 1880.0), ("resnet34", 732.0)]
)
def test_the_penalty_of_the_frameworks_weights_has_the_size_of_the_notes(
    name: str, size: float
) -> None:
    torch.manual_seed(0)
    model = resnet34() if name == "resnet34" else build(name, num_classes=100, in_channels=3)
    run = testing.start(model, image=(3, 8, 8))
    found = Orthonormality(run, OrthonormalityOptions(penalty=1.0)).term(run.params)
    assert float(found.detach()) == pytest.approx(size, rel=0.01)


def test_steps_read_nothing_on_the_host_and_repeat(resnet_run: RunState, recipe: Recipe) -> None:
    method = orthoreg()
    testing.begin(method, phases(method, recipe), resnet_run)
    steps = []
    for _ in range(2):
        resnet_run.model.zero_grad()
        with recorded_operations() as operations:
            method.loss_term(resnet_run).backward()
        steps.append(list(operations))
    assert steps[0] == steps[1]
    # six shapes in ResNet-20: one product each on the way forward, two on the way back
    assert sum(name == "baddbmm" for name, _ in steps[0]) == 6
    assert sum(name == "bmm" for name, _ in steps[0]) == 12


# --- phases
def orthoreg(**options: Any) -> OrthoReg:
    return OrthoReg(OrthoReg.Options(**options))


def phases(method: OrthoReg, recipe: Recipe, budget: Budget = HALF) -> list[Any]:
    given = {role: recipe.model_copy(update={"epochs": 1}) for role in method.recipe_roles}
    given["penalized"] = given["penalized"].model_copy(update={"epochs": 25})
    return method.phases(given, budget)


def test_one_round_is_penalize_and_fine_tune(recipe: Recipe) -> None:
    penalize, fine_tune = phases(orthoreg(), recipe)
    assert penalize.length == Epochs(25)
    assert penalize.then == HALF
    assert "loss_term" in penalize.hooks
    assert fine_tune.hooks == frozenset()


def test_every_round_but_the_first_comes_after_retraining(recipe: Recipe) -> None:
    found = phases(orthoreg(rounds=3), recipe, Budget(kind="units_global", ratio=0.75))
    assert [p.name for p in found] == [
        "penalize_1",
        "retrain_1",
        "penalize_2",
        "retrain_2",
        "penalize_3",
        "fine_tune",
    ]
    assert [p.then.ratio for p in found if p.then] == pytest.approx([0.5, 2 / 3, 0.75])
    assert [p.reportable_from for p in found] == [None] * 5 + [0.0]
    assert ["loss_term" in p.hooks for p in found] == [True, False] * 3


def test_both_starts_of_the_official_code_can_be_reached() -> None:
    assert (OrthoReg.start, OrthoRegFromBase.start) == ("fresh", "base")


def test_ratio_zero_changes_nothing(resnet_run: RunState) -> None:
    plan = orthoreg(criterion="l1").select(resnet_run, Budget(kind="units_global", ratio=0.0))
    assert (plan.removed, plan.zeroed) == ({}, {})


def test_the_score_is_an_option(resnet_run: RunState) -> None:
    method = orthoreg(criterion="l1")
    groups = method.candidates(resnet_run)
    name, group = next(iter(groups.items()))
    wanted = resnet_run.params[group.producers[0]].abs().mean(dim=(1, 2, 3))
    torch.testing.assert_close(method.score(resnet_run, groups)[name], wanted.detach())


def logged(run: RunState) -> dict[tuple[str, str], float]:
    """Return the diagnostics since the last call, by layer and quantity."""
    run.records.diagnostics.clear()
    run.records.flush(run.phase.name)
    return {(row.layer, row.quantity): row.value for row in run.records.diagnostics}


def test_a_penalized_phase_logs_how_orthogonal_layers_were_before(
    resnet_run: RunState, recipe: Recipe
) -> None:
    method = orthoreg()
    penalize, fine_tune = phases(method, recipe)
    testing.begin(method, [fine_tune], resnet_run)
    assert logged(resnet_run) == {}
    testing.begin(method, [penalize], resnet_run)
    assert [what for _, what in logged(resnet_run)] == ["orthogonality"] * 19


def test_an_epoch_logs_penalty_and_orthogonality(resnet_run: RunState, recipe: Recipe) -> None:
    method = orthoreg()
    testing.begin(method, phases(method, recipe), resnet_run)
    logged(resnet_run)
    method.after_epoch(resnet_run)
    found = logged(resnet_run)
    layers = [layer for layer, what in found if what == "orthogonality"]
    assert len(layers) == 19  # all convolutions of ResNet-20
    term = float(method.loss_term(resnet_run).detach())
    assert found["all", "penalty"] == pytest.approx(term)
    mean = sum(found[layer, "orthogonality"] for layer in layers) / 19
    assert method.figures() == {"orthogonality": pytest.approx(mean)}
