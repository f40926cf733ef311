"""Printed and recomputed counts of the papers (notes: greg 5, epruner 5, softer 9, orthoreg 8)."""

from __future__ import annotations

import math

import pytest
import torch
import torchvision
from torch import Tensor, nn

from prunebench.channels.costs import costs_of
from prunebench.channels.groups import ChannelGraph
from prunebench.channels.removal import remove
from prunebench.channels.trace.tracer import trace
from prunebench.measure.layer_counts import LayerCount, activations, count_layers
from prunebench.measure.macs import count_macs, count_params
from prunebench.models import registry
from prunebench.papers import conventions


def cifar(name: str, num_classes: int = 10) -> nn.Module:
    return registry.build(name, num_classes=num_classes, in_channels=3)


def cifar_layers(name: str, num_classes: int = 10) -> tuple[LayerCount, ...]:
    return count_layers(cifar(name, num_classes), torch.zeros(1, 3, 32, 32))


def torchvision_layers(name: str) -> tuple[LayerCount, ...]:
    with torch.device("meta"):  # shapes suffice
        return count_layers(torchvision.models.get_model(name), torch.zeros(1, 3, 224, 224))


def prune_inside(model: nn.Module, keep: dict[int, int]) -> nn.Module:
    """Keep `keep[width]` units of each group inside of a block; GReg's and EPruner's choice."""
    graph: ChannelGraph = trace(model, torch.zeros(1, 3, 32, 32))
    removed = {
        name: torch.arange(keep[group.n_units], group.n_units)
        for name, group in graph.groups.items()
        if group.role == "inside"
    }
    return remove(model, graph, removed)


def test_conventions_on_a_net_counted_by_hand(small_net: nn.Module, image: Tensor) -> None:
    layers = count_layers(small_net, image)
    assert conventions.macs(layers) == 288 + 32 + 12
    assert conventions.two_per_mac(layers) == 664
    assert conventions.conv_only(layers) == 320
    assert activations(layers) == 2 * 16 + 4 * 4
    # conv 288 and 32 + 16 for its bias, norm 4 x 32, linear 7 x 3, average pool 5 x 4
    assert conventions.thop(layers) == 288 + 48 + 128 + 21 + 20
    assert conventions.thop(layers, norm_factor=2) == 505 - 64
    # 332, bias 16, norm 2 x 32; ReLU 32, pools read 32 and 16
    assert conventions.ptflops(layers, relu_and_pooling=False) == 412
    assert conventions.ptflops(layers, relu_and_pooling=True) == 412 + 32 + 48


@pytest.mark.parametrize(
    ("name", "millions"),
    [("vgg16", 314.59), ("resnet56", 127.62), ("resnet110", 257.09)],
)
def test_thop_of_the_networks_of_epruner(name: str, millions: float) -> None:
    assert conventions.thop(cifar_layers(name)) / 1e6 == pytest.approx(millions, abs=0.01)


@pytest.mark.parametrize(
    ("name", "millions"),
    [
        ("resnet18", 1824.54),
        ("resnet34", 3679.25),
        ("resnet50", 4135.79),
        ("resnet101", 7868.48),
        ("resnet152", 11605.99),
    ],
)
def test_thop_of_torchvision(name: str, millions: float) -> None:
    assert round(conventions.thop(torchvision_layers(name)) / 1e6, 2) == millions


def test_thop_of_a_later_release_counts_two_per_norm_element() -> None:
    layers = torchvision_layers("resnet50")
    assert round(conventions.thop(layers, norm_factor=2) / 1e6, 2) == 4113.56


@pytest.mark.parametrize(
    ("name", "modules", "count"),
    [("vgg13", True, 229_437_440), ("mobilenet_v1", False, 47_269_888)],
)
def test_ptflops_of_the_networks_of_orthoreg(name: str, modules: bool, count: int) -> None:
    assert conventions.ptflops(cifar_layers(name, 100), relu_and_pooling=modules) == count


@pytest.mark.parametrize(
    ("name", "macs", "activations_m"),
    [
        ("resnet50", 4_089_184_256, 11.114),
        ("resnet101", 7_801_405_440, 16.232),
        ("resnext50_32x4d", 4_230_479_872, 14.401),
        ("mobilenet_v2", 300_774_272, 6.678),
    ],
)
def test_base_figures_of_group_fisher(name: str, macs: int, activations_m: float) -> None:
    layers = torchvision_layers(name)
    assert conventions.macs(layers) == macs
    assert round(activations(layers) / 1e6, 3) == activations_m


@pytest.mark.parametrize(
    ("ratio", "keep", "macs", "params"),
    [
        (0.0, {16: 16, 32: 32, 64: 64}, 125_485_696, 853_018),
        (0.5, {16: 8, 32: 16, 64: 32}, 62_964_352, 428_074),
        (0.7, {16: 4, 32: 9, 64: 19}, 34_929_280, 250_954),
        (0.9, {16: 1, 32: 3, 64: 6}, 10_838_656, 81_502),
        (0.925, {16: 1, 32: 2, 64: 4}, 8_258_176, 56_248),
        (0.95, {16: 1, 32: 1, 64: 3}, 6_322_816, 41_092),
    ],
)
def test_resnet56_of_greg(ratio: float, keep: dict[int, int], macs: int, params: int) -> None:
    model = prune_inside(cifar("resnet56"), keep)
    assert all(n - min(math.ceil(ratio * n), n - 1) == kept for n, kept in keep.items())
    assert conventions.macs(count_layers(model, torch.zeros(1, 3, 32, 32))) == macs
    assert count_params(model) == params


@pytest.mark.parametrize(
    ("keep", "macs", "params"),
    [
        ({64: 64, 128: 128, 256: 256, 512: 512}, 398_182_400, 20_081_188),
        ({64: 32, 128: 64, 256: 128, 512: 256}, 110_322_688, 5_046_500),
        ({64: 25, 128: 51, 256: 102, 512: 204}, 73_407_408, 3_212_780),
        ({64: 19, 128: 38, 256: 76, 512: 153}, 44_784_324, 1_812_303),
        ({64: 12, 128: 25, 256: 51, 512: 102}, 22_959_480, 813_529),
        ({64: 6, 128: 12, 256: 25, 512: 51}, 8_745_756, 208_445),
    ],
)
def test_vgg19_of_greg(keep: dict[int, int], macs: int, params: int) -> None:
    model = prune_inside(cifar("vgg19", 100), keep)  # the first convolution is the stem, whole
    assert conventions.macs(count_layers(model, torch.zeros(1, 3, 32, 32))) == macs
    assert count_params(model) == params


def test_resnet56_halved_by_the_rule_of_epruner() -> None:
    base = cifar_layers("resnet56")
    model = prune_inside(cifar("resnet56"), {16: 8, 32: 16, 64: 32})
    half = count_layers(model, torch.zeros(1, 3, 32, 32))
    assert round(conventions.thop(half) / 1e6, 3) == 64.583
    assert round(100 * (1 - conventions.thop(half) / conventions.thop(base)), 2) == 49.39
    assert round(100 * (1 - conventions.macs(half) / conventions.macs(base)), 2) == 49.82


@pytest.mark.parametrize(
    ("depth", "keep", "macs", "reduction"),
    [
        (20, 0.7, 23_430_758.4, 42.22),
        (56, 0.6, 59_436_564.5, 52.63),
        (110, 0.7, 149_771_059.2, 40.78),
    ],
)
def test_fractional_filters_of_sfp(depth: int, keep: float, macs: float, reduction: float) -> None:
    stem, blocks = conventions.cifar_resnet_macs(depth)
    pruned = conventions.fractional_sfp(stem, blocks, keep)
    assert round(pruned, 1) == macs
    assert round(100 * (1 - pruned / conventions.fractional_sfp(stem, blocks, 1.0)), 2) == reduction


@pytest.mark.parametrize(
    ("name", "depth", "macs"),
    [
        ("resnet20", 20, 40_550_400),
        ("resnet32", 32, 68_861_952),
        ("resnet56", 56, 125_485_056),
        ("resnet110", 110, 252_887_040),
    ],
)
def test_convolutions_of_the_cifar_resnets(name: str, depth: int, macs: int) -> None:
    stem, blocks = conventions.cifar_resnet_macs(depth)
    assert stem + sum(map(sum, blocks)) == macs
    assert conventions.conv_only(cifar_layers(name)) == macs


def test_depth_must_be_one_of_a_cifar_resnet() -> None:
    with pytest.raises(ValueError, match="expected 6n"):
        conventions.cifar_resnet_macs(18)


@pytest.mark.parametrize("name", registry.names())
def test_three_counts_agree(name: str) -> None:
    side = 39 if name == "alexnet" else 32  # the smallest that its kernels fit into
    sized = f"{name}_x0_5" if registry.has_widths(name) else name
    model, example = cifar(sized), torch.zeros(1, 3, side, side)
    expected = count_macs(model, example).total
    assert conventions.macs(count_layers(model, example)) == expected
    assert costs_of(trace(model, example)).macs() == expected
