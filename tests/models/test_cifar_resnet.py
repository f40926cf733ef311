from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import nn

from prunebench.models.base import LayerLabel
from prunebench.models.cifar_resnet import Subsample
from prunebench.models.registry import build


@pytest.mark.parametrize(
    ("name", "params", "conv_macs"),
    [
        ("resnet20", 269_722, 40_550_400),
        ("resnet32", 464_154, 68_861_952),
        ("resnet56", 853_018, 125_485_056),
        ("resnet110", 1_727_962, 252_887_040),
    ],
)
def test_counts_are_those_of_the_papers(
    count: Callable[[nn.Module], Any], name: str, params: int, conv_macs: int
) -> None:
    counted = count(build(name, num_classes=10))
    assert counted.params == params
    assert (counted.conv_macs, counted.linear_macs) == (conv_macs, 640)


def test_the_shortcut_takes_every_second_pixel_and_pads_both_sides() -> None:
    x = torch.arange(1.0, 19.0).reshape(1, 2, 3, 3)
    out = Subsample(2, 4)(x)
    assert out.shape == (1, 4, 2, 2)
    assert out[0, 0].tolist() == out[0, 3].tolist() == [[0, 0], [0, 0]]
    assert out[0, 1].tolist() == [[1, 3], [7, 9]]
    assert out[0, 2].tolist() == [[10, 12], [16, 18]]


def test_an_odd_number_of_new_channels_has_its_last_one_behind() -> None:
    assert Subsample(2, 5).pad.padding == (0, 0, 0, 0, 1, 2)


def test_labels_count_stages_from_the_stem() -> None:
    labels = build("resnet56", num_classes=10).labels()
    assert labels["conv1"] == LayerLabel(0, 0, 0)
    assert labels["stages.0.0.conv1"] == LayerLabel(1, 0, 0)
    assert labels["stages.2.8.conv2"] == LayerLabel(3, 8, 1)
    assert labels["fc"] == LayerLabel(4, 0, 0)
    assert len(labels) == 56


def test_weights_are_kaiming_normal_by_fan_in() -> None:
    torch.manual_seed(0)
    conv = build("resnet56", num_classes=10).get_submodule("stages.2.0.conv1")
    assert isinstance(conv, nn.Conv2d)
    # sqrt(2 / (32 * 3 * 3)) = 0.08333
    assert conv.weight.std().item() == pytest.approx(0.08333, rel=0.03)
    assert conv.bias is None
