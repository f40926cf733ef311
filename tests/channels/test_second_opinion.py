"""Torch-Pruning couples the same channels in networks that both libraries can trace.

Grouped convolutions are left out, since it chooses other units for them, and so are operations that
it does not trace: channel shuffles and zero-padded shortcuts.
"""

from __future__ import annotations

from typing import Literal

import pytest
import torch
import torchvision
from scipy.cluster.hierarchy import DisjointSet
from torch import nn

from prunebench.channels.groups import ChannelGraph
from prunebench.channels.trace.tracer import trace
from prunebench.models import registry
from tests.channels.conftest import Concat, Residual

tp = pytest.importorskip("torch_pruning")

Channel = tuple[str, Literal["out", "in"], int]  # of a convolution or linear layer, by its path
LAYERS = (nn.Conv2d, nn.Linear)


def ours(graph: ChannelGraph) -> set[frozenset[Channel]]:
    """Return the sets of coupled channels, frozen ones included."""
    groups = [*graph.groups.values(), *graph.frozen.values()]
    return {
        frozenset(
            (member.parameters[0].removesuffix(".weight"), side, int(place))
            for member in group.members
            for side in ("out", "in")
            if member.role == side or (member.role, side) == ("pass", "out")
            for place in member.index[unit]
        )
        for group in groups
        for unit in range(group.n_units)
        if any(member.role in ("out", "pass") for member in group.members)
    }


def theirs(model: nn.Module, example: torch.Tensor) -> set[frozenset[Channel]]:
    """Return the same sets from Torch-Pruning: the channels removed with each output of a layer."""
    graph = tp.DependencyGraph().build_dependency(model, example_inputs=example)
    # Auxiliary classifiers do not run in eval mode.
    run = set(graph.module2node)
    names = {m: path for path, m in model.named_modules() if isinstance(m, LAYERS) and m in run}
    sets: DisjointSet[Channel] = DisjointSet()
    for module, path in names.items():
        channels = list(range(module.weight.shape[0]))
        for channel in channels:
            sets.add((path, "out", channel))
        prune = graph.get_pruner_of_module(module).prune_out_channels
        for item in graph.get_pruning_group(module, prune, channels).items:
            other = item.dep.target.module
            if other not in names:
                continue
            is_out = graph.is_out_channel_pruning_fn(item.dep.handler)
            for root, place in zip(item.root_idxs, item.idxs, strict=True):
                channel = (names[other], "out" if is_out else "in", place)
                sets.add(channel)
                sets.merge((path, "out", root), channel)
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
    outputs = [sum(side == "out" for _, side, _ in channels) for channels in found]
    assert set(outputs) == {1}
    assert found == theirs(model.eval(), example)
