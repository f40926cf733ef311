"""Criteria that need gradients; E4 and E5 are examples of OrthoReg's notes."""

from __future__ import annotations

from collections.abc import Mapping

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from prunebench import testing
from prunebench.channels.groups import ChannelGroup
from prunebench.core.errors import TrainingError
from prunebench.criteria import gradients as gradient_scores
from prunebench.criteria.gradients import (
    TFO,
    DataCriterion,
    Fisher,
    Taylor,
    mean_gradients,
    squared_sum,
    sum_of_squares,
)
from prunebench.criteria.weights import L1, L2, BNScale
from prunebench.testing import named_layers
from prunebench.training.run import RunState
from tests.methods.projected_resnet import small

WEIGHTS = [[1.0, -2.0, 0.5], [0.5, 0.5, -1.0]]
GRADIENTS = [[0.1, 0.2, -0.4], [-0.2, 0.3, 0.1]]
FEW = {"samples": 10, "batch": 4}


def net(*, bias: bool) -> nn.Sequential:
    """Stem 1 -> 3, convolution 3 -> 2, batch norm, classifier."""
    torch.manual_seed(0)
    return named_layers(
        stem=nn.Conv2d(1, 3, 1),
        conv=nn.Conv2d(3, 2, 1, bias=bias),
        norm=nn.BatchNorm2d(2),
        flatten=nn.Flatten(),
        fc=nn.Linear(8, 3),
    )


def example_run(*, bias: bool = False) -> RunState:
    """The weights of E4, gamma and beta of E5."""
    run = testing.start(net(bias=bias), image=(1, 2, 2))
    with torch.no_grad():
        run.params["conv.weight"].copy_(torch.tensor(WEIGHTS)[..., None, None])
        run.params["norm.weight"].copy_(torch.tensor([0.8, -0.3]))
        run.params["norm.bias"].copy_(torch.tensor([0.1, 0.4]))
        if bias:
            run.params["conv.bias"].copy_(torch.tensor([0.5, -0.5]))
    return run


@pytest.fixture
def example_gradients(monkeypatch: pytest.MonkeyPatch) -> None:
    """The examples' gradients, whatever images there are."""
    given = {
        "conv.weight": torch.tensor(GRADIENTS)[..., None, None],
        "conv.bias": torch.tensor([0.2, 0.4]),
        "norm.weight": torch.tensor([0.05, 0.2]),
    }
    monkeypatch.setattr(
        gradient_scores,
        "mean_gradients",
        lambda run, params, needs: {name: given[name] for name in params},
    )


def conv_group(run: RunState) -> dict[str, ChannelGroup]:
    return {"conv": run.graph.groups["conv"]}


# --- E4
@pytest.mark.usefixtures("example_gradients")
def test_fisher_of_example_e4() -> None:
    run = example_run()
    # inner sums -0.5 and -0.05
    found = Fisher().scores(run, conv_group(run))["conv"]
    assert found.tolist() == pytest.approx([0.25, 0.0025])


@pytest.mark.usefixtures("example_gradients")
def test_fisher_with_biases_of_example_e4() -> None:
    run = example_run(bias=True)
    # -0.5 + 0.5 x 0.2 = -0.4 and -0.05 - 0.5 x 0.4 = -0.25
    found = Fisher().scores(run, conv_group(run))["conv"]
    assert found.tolist() == pytest.approx([0.16, 0.0625])


def test_norms_of_example_e4() -> None:
    run = example_run(bias=True)
    l1 = L1(norm="sum").scores(run, conv_group(run))["conv"]
    l2 = L2().scores(run, conv_group(run))["conv"]
    assert l1.tolist() == [3.5, 2.0]
    assert l2.tolist() == pytest.approx([2.291288, 1.224745], abs=5e-7)


# --- E5
@pytest.mark.usefixtures("example_gradients")
def test_tfo_of_example_e5() -> None:
    run = example_run()
    found = TFO().scores(run, conv_group(run))["conv"]
    assert found.tolist() == pytest.approx([0.0016, 0.0036])  # with beta 0.0049 and 0.01


def test_batch_norm_scales_of_example_e5() -> None:
    run = example_run()
    assert BNScale().scores(run, conv_group(run))["conv"].tolist() == pytest.approx([0.8, 0.3])


def test_division_by_the_fan_in_of_example_e5() -> None:
    # VGG's first layer: 3 x 3 x 3 weights
    model = named_layers(conv=nn.Conv2d(3, 2, 3), norm=nn.BatchNorm2d(2), head=nn.Conv2d(2, 2, 1))
    run = testing.start(model, image=(3, 3, 3))
    with torch.no_grad():
        run.params["norm.weight"].copy_(torch.tensor([0.8, -0.3]))
    found = BNScale(by_fan_in=True).scores(run, run.graph.groups)["conv"]
    assert found.tolist() == pytest.approx([0.029630, 0.011111], abs=5e-7)


# --- gradients of a live network
def data(run: RunState, criterion: DataCriterion) -> tuple[Tensor, Tensor]:
    """Return all images of a criterion as one batch."""
    batches = list(run.samples(criterion.needs))
    assert len(batches) == 3
    return torch.cat([x for x, _ in batches]), torch.cat([y for _, y in batches])


def reference(run: RunState, criterion: DataCriterion) -> Mapping[str, Tensor]:
    """Return gradients of the mean loss over all images, by the framework's usual way."""
    images, labels = data(run, criterion)
    run.model.eval()
    F.cross_entropy(run.model(images), labels).backward()
    found = {name: p.grad.clone() for name, p in run.params.items() if p.grad is not None}
    run.model.zero_grad()
    run.model.train()
    return found


def test_gradients_are_means_over_images_not_batches(resnet_run_float64: RunState) -> None:
    run, criterion = resnet_run_float64, Fisher(**FEW)  # batches of 4, 4, 2
    found = mean_gradients(run, run.params, criterion.needs)
    wanted = reference(run, criterion)
    # All in double precision: a loss in float32 would differ by 1e-8.
    torch.testing.assert_close(found, dict(wanted), rtol=1e-12, atol=1e-15)


def test_fisher_squares_once_over_all_images(resnet_run_float64: RunState) -> None:
    run, criterion = resnet_run_float64, Fisher(**FEW)
    gradients = reference(run, criterion)
    name, weight = "stages.1.0.conv1", "stages.1.0.conv1.weight"
    wanted = (run.params[weight] * gradients[weight]).flatten(1).sum(dim=1) ** 2
    found = criterion.scores(run, run.graph.groups)[name]
    torch.testing.assert_close(found, wanted.detach())


def test_fisher_of_a_residual_stream_sums_its_layers_before_the_square() -> None:
    run = testing.start(small().double(), image=(3, 4, 4))
    criterion = Fisher(**FEW)
    gradients = reference(run, criterion)
    group = run.graph.groups["stages.1.0.conv2"]  # two second convolutions, a shortcut
    terms = [(run.params[w] * gradients[w]).flatten(1).sum(dim=1).detach() for w in group.producers]
    assert len(terms) == 3
    groups = {group.name: group}

    def score(combine: str) -> Tensor:
        return Fisher(combine=combine, **FEW).scores(run, groups)[group.name]

    torch.testing.assert_close(score("joint"), torch.stack(terms).sum(dim=0) ** 2)
    torch.testing.assert_close(score("sum"), (torch.stack(terms) ** 2).sum(dim=0))
    torch.testing.assert_close(score("mean"), (torch.stack(terms) ** 2).mean(dim=0))
    torch.testing.assert_close(score("first"), terms[0] ** 2)


def test_tfo_multiplies_the_scale_with_its_gradient(resnet_run_float64: RunState) -> None:
    run, criterion = resnet_run_float64, TFO(**FEW)
    with torch.no_grad():
        run.params["stages.1.0.bn1.weight"].normal_()
    gradients = reference(run, criterion)
    wanted = (run.params["stages.1.0.bn1.weight"] * gradients["stages.1.0.bn1.weight"]) ** 2
    found = criterion.scores(run, run.graph.groups)["stages.1.0.conv1"]
    torch.testing.assert_close(found, wanted.detach())


def test_taylor_squares_each_weight_and_averages_over_batches(resnet_run_float64: RunState) -> None:
    run, criterion = resnet_run_float64, Taylor(**FEW)
    weight = run.params["stages.1.0.conv1.weight"]
    scores = []
    run.model.eval()
    for images, labels in run.samples(criterion.needs):
        (gradient,) = torch.autograd.grad(F.cross_entropy(run.model(images), labels), weight)
        scores.append((weight * gradient).square().sum(dim=(1, 2, 3)).detach())
    wanted = (scores[0] + scores[1] + scores[2]) / 3
    found = criterion.scores(run, run.graph.groups)["stages.1.0.conv1"]
    torch.testing.assert_close(found, wanted, rtol=1e-12, atol=0)


def test_squares_of_sums_and_sums_of_squares() -> None:
    products = torch.tensor(WEIGHTS) * torch.tensor(GRADIENTS)
    # [0.1, -0.4, -0.2], [-0.1, 0.15, -0.1]
    assert squared_sum(products).tolist() == pytest.approx([0.25, 0.0025])
    assert sum_of_squares(products).tolist() == pytest.approx([0.21, 0.0425])


@pytest.mark.parametrize("criterion", [TFO(**FEW), BNScale()])
def test_a_group_without_batch_norm_is_named(criterion: TFO | BNScale) -> None:
    run = example_run()
    with pytest.raises(TrainingError, match="'stem' has no batch norm"):
        criterion.scores(run, {"stem": run.graph.groups["stem"]})


def test_a_depthwise_layer_has_the_scores_of_the_one_it_reads() -> None:
    torch.manual_seed(0)
    model = named_layers(
        stem=nn.Conv2d(1, 2, 1),
        norm=nn.BatchNorm2d(2),
        depthwise=nn.Conv2d(2, 2, 1, groups=2),
        norm2=nn.BatchNorm2d(2),
        head=nn.Conv2d(2, 2, 1),
    )
    run = testing.start(model, image=(1, 2, 2))
    with torch.no_grad():
        run.params["norm.weight"].copy_(torch.tensor([3.0, 1.0]))
        run.params["norm2.weight"].copy_(torch.tensor([1.0, 7.0]))
    assert BNScale().scores(run, run.graph.groups)["stem"].tolist() == [3.0, 1.0]
    assert BNScale(combine="sum").scores(run, run.graph.groups)["stem"].tolist() == [4.0, 8.0]


def test_the_papers_number_of_samples() -> None:
    assert Fisher().samples == 79 * 128 == 10112
