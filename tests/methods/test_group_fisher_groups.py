"""Which layers share a mask in Group Fisher, and what one unit saves."""

from __future__ import annotations

import itertools
from typing import Any

import pytest
import torch
import torchvision
from torch import Tensor, nn

from prunebench import testing
from prunebench.criteria.masks import readers
from prunebench.experiments.recipe import Recipe
from prunebench.methods.group_fisher import GroupFisher
from prunebench.models.registry import build
from prunebench.testing import named_layers
from prunebench.training.run import RunState
from tests.channels.conftest import TwoBlocks

from .group_fisher_steps import begin, by_group, fisher, scores, set_weights


def read_by(run: RunState, method: GroupFisher) -> dict[str, set[str]]:
    return {
        name: {member.parameters[0].removesuffix(".weight") for member in readers(group)}
        for name, group in method.candidates(run).items()
    }


@pytest.fixture
def two_block_run() -> RunState:
    """Example E5: a residual network of two blocks on 8x8 pixels."""
    torch.manual_seed(0)
    return testing.start(TwoBlocks(), image=(3, 8, 8))


def test_layers_that_share_a_mask(two_block_run: RunState) -> None:
    assert read_by(two_block_run, fisher()) == {
        "stem": {"b1c1", "b2c1", "down"},
        "b1c1": {"b1c2"},
        "b2c1": {"b2c2"},
        "b2c2": {"fc"},
    }


@pytest.mark.parametrize(
    ("normalize", "saved"),
    [
        ("memory", {"stem": 128, "b1c1": 64, "b2c1": 16, "b2c2": 32}),
        ("macs", {"stem": 9952, "b1c1": 4608, "b2c1": 2016, "b2c2": 1221}),
    ],
)
def test_savings_per_unit(
    normalize: str, saved: dict[str, int], two_block_run: RunState, recipe: Recipe
) -> None:
    method = fisher(normalize=normalize)
    begin(method, two_block_run, recipe)
    found = by_group(method, method.delta(two_block_run, method.candidates(two_block_run)))
    assert {name: values[0] for name, values in found.items()} == saved
    assert all(len(set(values)) == 1 for values in found.values())


def test_saved_macs_follow_the_kept_units(two_block_run: RunState, recipe: Recipe) -> None:
    method = fisher(normalize="macs")
    begin(method, two_block_run, recipe)
    method.state["left"]["b1c1"] = 2
    method.state["left"]["b2c1"] = 1
    found = by_group(method, method.delta(two_block_run, method.candidates(two_block_run)))
    # stem: 27 * 64 in itself, 2 * 9 * 2 * 64 in block 1, 9 * 1 * 16 + 10 * 16 behind it
    assert {name: values[0] for name, values in found.items()} == {
        "stem": 1728 + 2304 + 144 + 160,
        "b1c1": 4608,
        "b2c1": 0,  # its last one
        "b2c2": 9 * 1 * 16 + 4 * 16 + 5,
    }


ORDERS = list(itertools.permutations(range(3)))


@pytest.mark.parametrize("order", ORDERS)
def test_grouping_of_a_grouped_convolution_knows_no_order(order: tuple[int, ...]) -> None:
    class Chain(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            y: Tensor = self.c3(self.grouped(self.c1(self.s(x))))
            return y

    layers = {"c1": nn.Conv2d(2, 4, 1), "grouped": nn.Conv2d(4, 4, 1, groups=2)}
    layers["c3"] = nn.Conv2d(4, 2, 1)
    model = Chain()
    for name in [*(list(layers)[i] for i in order), "s"]:
        model.add_module(name, layers.get(name, nn.Conv2d(3, 2, 1)))
    run = testing.start(model, image=(3, 1, 1))
    assert read_by(run, fisher()) == {"s": {"c1"}, "c1": {"grouped", "c3"}}


@pytest.mark.parametrize("order", ORDERS)
def test_a_layer_that_joins_two_groups_does_so_in_any_order(order: tuple[int, ...]) -> None:
    # a reads p1, b reads p2, c reads their sum
    class Joined(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            for name in [*("abc"[i] for i in order), "p2", "p1"]:
                self.add_module(name, nn.Conv2d(3, 3, 1))

        def forward(self, x: Tensor) -> Tensor:
            p1, p2 = self.p1(x), self.p2(x)
            calls = [lambda: self.a(p1), lambda: self.b(p2), lambda: self.c(p1 + p2)]
            first, second, third = (calls[i]() for i in order)
            y: Tensor = first + second + third
            return y

    run = testing.start(Joined(), image=(3, 1, 1))
    assert list(read_by(run, fisher()).values()) == [{"a", "b", "c"}]


@pytest.fixture(scope="module")
def resnet50_run() -> RunState:
    return testing.start(torchvision.models.resnet50(), image=(3, 64, 64))


def test_streams_of_resnet50(resnet50_run: RunState) -> None:
    groups, read = fisher().candidates(resnet50_run), read_by(resnet50_run, fisher())
    firsts = {
        stage: {f"layer{stage}.{block}.conv1" for block in range(1, blocks)}
        for stage, blocks in ((1, 3), (2, 4), (3, 6), (4, 3))
    }
    coupled = {
        "conv1": (64, {"layer1.0.conv1", "layer1.0.downsample.0"}),
        "layer1.0.conv3": (256, firsts[1] | {"layer2.0.conv1", "layer2.0.downsample.0"}),
        "layer2.0.conv3": (512, firsts[2] | {"layer3.0.conv1", "layer3.0.downsample.0"}),
        "layer3.0.conv3": (1024, firsts[3] | {"layer4.0.conv1", "layer4.0.downsample.0"}),
        "layer4.0.conv3": (2048, firsts[4] | {"fc"}),
    }
    for name, (units, layers) in coupled.items():
        assert (groups[name].n_units, read[name]) == (units, layers)
    made = {parameter.removesuffix(".weight") for parameter in groups["layer1.0.conv3"].producers}
    assert made == {"layer1.0.conv3", "layer1.0.downsample.0", "layer1.1.conv3", "layer1.2.conv3"}
    alone = {name: group for name, group in groups.items() if name not in coupled}
    assert {len(readers(group)) for group in alone.values()} == {1}
    assert (len(alone), sum(group.n_units for group in alone.values())) == (32, 7552)


def test_isolated_units_of_resnet50(resnet50_run: RunState) -> None:
    groups = fisher(coupled=False).candidates(resnet50_run)
    assert (len(groups), sum(group.n_units for group in groups.values())) == (32, 7552)


@pytest.mark.parametrize(
    ("linear", "units"), [("masked", 2048), ("ignored", 2048), ("protected", 0)]
)
def test_mmrazor_does_not_prune_units_that_a_linear_layer_reads(
    linear: str, units: int, resnet50_run: RunState
) -> None:
    groups = fisher(linear=linear).candidates(resnet50_run)
    assert (groups["layer4.0.conv3"].n_units if units else len(groups)) == (units or 36)


def test_linear_layers_are_ignored_in_scores_and_costs(recipe: Recipe) -> None:
    # a stream read by a convolution and by a linear layer
    class Both(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.stem = nn.Conv2d(1, 2, 1, bias=False)
            self.conv, self.fc = nn.Conv2d(2, 1, 1, bias=False), nn.Linear(2, 1, bias=False)

        def forward(self, x: Tensor) -> Tensor:
            x = self.stem(x)
            return self.conv(x).flatten(1) + self.fc(x.flatten(1))

    def found(linear: str) -> tuple[list[float], list[float]]:
        model = Both()
        set_weights(model, stem__weight=[1.0, 2], conv__weight=[3.0, 1], fc__weight=[1.0, -2])
        run = testing.start(model, image=(1, 1, 1))
        x = torch.ones(1, 1, 1, 1)  # y = 4 - 2 * 1 = 2, and dL/dy = 1 for t = 1
        method, score = scores(run, recipe, x, [1], linear=linear, normalize="macs")
        return score["stem"], method.delta(run, method.candidates(run)).tolist()

    assert found("masked") == ([(3 + 1) ** 2, (2 - 4) ** 2], [3, 3])
    assert found("ignored") == ([9, 4], [2, 2])


def test_units_read_only_by_ignored_linear_layers_are_not_pruned() -> None:
    run = testing.start(
        named_layers(
            conv=nn.Conv2d(1, 3, 1), flat=nn.Flatten(), fc=nn.Linear(12, 4), last=nn.Linear(4, 2)
        ),
        image=(1, 2, 2),
    )
    assert list(fisher().candidates(run)) == ["conv", "fc"]
    assert list(fisher(linear="ignored").candidates(run)) == []


def resnext_block() -> RunState:
    """6 -> 8 in four groups of two -> 6, on 4x4 pixels."""
    net = named_layers(
        stem=nn.Conv2d(3, 6, 1),
        conv1=nn.Conv2d(6, 8, 1, bias=False),
        conv2=nn.Conv2d(8, 8, 3, padding=1, groups=4, bias=False),
        conv3=nn.Conv2d(8, 5, 1),
    )
    return testing.start(net, image=(3, 4, 4))


@pytest.mark.parametrize(
    ("options", "saved"),
    [
        ({}, 2 * 16 + 2 * 16),  # two channels of conv1, two of conv2
        ({"memory": "printed"}, 16 + 2 * 16),  # one channel of conv1
        # 6 * 2 in conv1, 9 * 2 * 2 in conv2, 2 * 5 in conv3, at 16 places
        ({"normalize": "macs"}, 16 * (12 + 36 + 10)),
    ],
)
def test_savings_per_group_of_a_resnext_block(
    options: dict[str, Any], saved: int, recipe: Recipe
) -> None:
    run, method = resnext_block(), fisher(**options)
    begin(method, run, recipe)
    found = by_group(method, method.delta(run, method.candidates(run)))
    assert found["conv1"] == [saved] * 4
    assert read_by(run, method)["conv1"] == {"conv2", "conv3"}


def test_a_depthwise_convolution_joins_the_layers_around_it(recipe: Recipe) -> None:
    run = testing.start(
        build("mobilenet_v1_x0_125", num_classes=4, in_channels=1), image=(1, 16, 16)
    )
    method = fisher()
    begin(method, run, recipe)
    assert read_by(run, method)["stages.0.0.pointwise"] == {
        "stages.1.0.depthwise",
        "stages.1.0.pointwise",
    }
    found = by_group(method, method.delta(run, method.candidates(run)))
    assert found["stages.0.0.pointwise"][0] == 16 * 16 + 8 * 8  # itself, and the depthwise one
