from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import nn

from prunebench.models.base import LayerLabel
from prunebench.models.registry import build


@pytest.mark.parametrize(
    ("name", "classes", "params", "macs"),
    [
        ("vgg13", 100, 9_462_180, 228_313_088),
        ("vgg16", 10, 14_728_266, 313_201_664),
        ("vgg19", 100, 20_081_188, 398_182_400),
    ],
)
def test_counts_are_those_of_the_papers(
    count: Callable[[nn.Module], Any], name: str, classes: int, params: int, macs: int
) -> None:
    counted = count(build(name, num_classes=classes))
    assert counted.params == params
    assert counted.conv_macs + counted.linear_macs == macs


@pytest.mark.parametrize(
    ("name", "convolutions", "bias", "order", "pools"),
    [
        ("vgg13", 10, True, ["conv", "relu", "bn"], 5),
        ("vgg16", 13, True, ["conv", "bn", "relu"], 5),
        ("vgg19", 16, False, ["conv", "bn", "relu"], 4),
    ],
)
def test_forms_differ_as_in_the_papers(
    name: str, convolutions: int, bias: bool, order: list[str], pools: int
) -> None:
    model = build(name, num_classes=10)
    convs = [m for m in model.modules() if isinstance(m, nn.Conv2d)]
    assert len(convs) == convolutions
    assert all((conv.bias is not None) == bias for conv in convs)
    assert [n for n, _ in model.get_submodule("stages.0.0").named_children()] == order
    assert sum(isinstance(m, nn.MaxPool2d) for m in model.modules()) == pools


def test_a_block_is_a_convolution() -> None:
    labels = build("vgg16", num_classes=10).labels()
    assert labels["stages.0.0.conv"] == LayerLabel(1, 0, 0)
    assert labels["stages.2.1.conv"] == LayerLabel(3, 1, 0)  # conv3_2
    assert labels["classifier"] == LayerLabel(6, 0, 0)


@pytest.mark.parametrize(
    ("name", "conv_std", "linear_std"),
    [
        ("vgg16", 0.04167, 0.01),  # sqrt(2 / (128 * 9)), fan-out
        ("vgg19", 0.05893, 0.0625),  # sqrt(2 / (64 * 9)), sqrt(2 / 512), fan-in
    ],
)
def test_weights_are_drawn_as_in_the_papers_code(
    name: str, conv_std: float, linear_std: float
) -> None:
    torch.manual_seed(0)
    model = build(name, num_classes=100)
    conv, linear = model.get_submodule("stages.1.0.conv"), model.get_submodule("classifier")
    assert isinstance(conv, nn.Conv2d)
    assert isinstance(linear, nn.Linear)
    assert conv.weight.std().item() == pytest.approx(conv_std, rel=0.02)
    assert linear.weight.std().item() == pytest.approx(linear_std, rel=0.02)
    assert not linear.bias.any()
    assert conv.bias is None or not conv.bias.any()
