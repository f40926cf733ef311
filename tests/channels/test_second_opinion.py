"""Torch-Pruning couples the same output channels, wherever both libraries follow a network.

Left out are grouped convolutions, whose units are another choice there, and operations it does not
follow: channel shuffles, zero-padded shortcuts.
"""

from __future__ import annotations

import pytest
import torch
import torchvision
from scipy.cluster.hierarchy import DisjointSet
from torch import nn

from prunebench.channels.groups import ChannelGraph
from prunebench.channels.trace import trace
from prunebench.models import registry
from tests.channels.conftest import Concat, Residual

tp = pytest.importorskip("torch_pruning")

Channel = tuple[str, int]  # path of a convolution or linear layer, number of its output
LAYERS = (nn.Conv2d, nn.Linear)


def ours(graph: ChannelGraph) -> set[frozenset[Channel]]:
    """Return the sets of output channels that leave together, those that cannot leave included."""
    groups = [*graph.groups.values(), *graph.frozen.values()]
    return {
        frozenset(
            (member.parameters[0].removesuffix(".weight"), int(row))
            for member in group.members
            if member.role in ("out", "pass")
            for row in member.index[unit]
        )
        for group in groups
        for unit in range(group.n_units)
    } - {frozenset()}


def theirs(model: nn.Module, example: torch.Tensor) -> set[frozenset[Channel]]:
    """Return the same of Torch-Pruning: what leaves with each channel, from every layer's side."""
    names = {module: path for path, module in model.named_modules() if isinstance(module, LAYERS)}
    graph = tp.DependencyGraph().build_dependency(model, example_inputs=example)
    sets = DisjointSet(
        (path, row) for module, path in names.items() for row in range(module.weight.shape[0])
    )
    for module, path in names.items():
        prune = graph.get_pruner_of_module(module).prune_out_channels
        group = graph.get_pruning_group(module, prune, list(range(module.weight.shape[0])))
        for item in group.items:
            # A depthwise convolution's inputs are its outputs.
            if item.dep.target.module in names and graph.is_out_channel_pruning_fn(
                item.dep.handler
            ):
                for root, index in zip(item.root_idxs, item.idxs, strict=True):
                    sets.merge((path, root), (names[item.dep.target.module], index))
    return {frozenset(subset) for subset in sets.subsets()}


def check(model: nn.Module, example: torch.Tensor) -> None:
    found = ours(trace(model, example))
    assert any(len(channels) > 1 for channels in found)
    assert found == theirs(model.eval(), example)


@pytest.mark.parametrize("net", [Residual, Concat], ids=lambda net: net.__name__)
def test_small_networks_are_coupled_the_same(net: type[nn.Module]) -> None:
    model, example = net(), torch.rand(1, 3, 8, 8)
    assert ours(trace(model, example)) == theirs(model.eval(), example)


def test_separable_convolutions_are_coupled_the_same() -> None:
    check(registry.build("mobilenet_v1_x0_25", num_classes=4), torch.rand(1, 3, 16, 16))


def build(name: str) -> nn.Module:
    options = {"init_weights": False} if name in ("googlenet", "inception_v3") else {}
    return getattr(torchvision.models, name)(num_classes=10, **options)


@pytest.mark.parametrize("name", ["resnet18", "mobilenet_v2", "mobilenet_v3_small"])
def test_classifiers_are_coupled_the_same(name: str) -> None:
    check(build(name), torch.rand(1, 3, 32, 32))


@pytest.mark.slow
@pytest.mark.parametrize(
    "name",
    [
        "densenet121",
        "efficientnet_b0",
        "googlenet",
        "inception_v3",
        "mnasnet1_0",
        "mobilenet_v3_large",
        "resnet34",
        "resnet50",
        "wide_resnet50_2",
    ],
)
def test_large_classifiers_are_coupled_the_same(name: str) -> None:
    size = 96 if name == "inception_v3" else 64
    check(build(name), torch.rand(1, 3, size, size))


def test_chains_have_nothing_to_couple() -> None:
    model, example = registry.build("vgg13_x0_25", num_classes=4), torch.rand(1, 3, 32, 32)
    found = ours(trace(model, example))
    assert {len(channels) for channels in found} == {1}
    assert found == theirs(model.eval(), example)
