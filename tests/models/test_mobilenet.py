from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import nn

from prunebench.models.base import LayerLabel
from prunebench.models.registry import build


def test_counts_are_those_of_the_paper(count: Callable[[nn.Module], Any]) -> None:
    counted = count(build("mobilenet_v1", num_classes=100))
    assert counted.params == 3_309_476
    assert counted.conv_macs + counted.linear_macs == 46_446_592


def test_four_strides_leave_two_by_two_pixels() -> None:
    model = build("mobilenet_v1_x0_1", num_classes=10).eval()
    assert model.get_submodule("stages")(torch.zeros(1, 3, 32, 32)).shape == (1, 102, 2, 2)


def test_strides_stand_in_the_blocks_of_the_paper() -> None:
    model = build("mobilenet_v1", num_classes=10)
    depthwise = [m for n, m in model.named_modules() if n.endswith("depthwise")]
    strides = [m.stride[0] for m in depthwise if isinstance(m, nn.Conv2d)]
    assert strides == [1, 2, 1, 2, 1, 2, 1, 1, 1, 1, 1, 2, 1]


def test_a_block_is_a_depthwise_and_a_pointwise_convolution() -> None:
    labels = build("mobilenet_v1", num_classes=10).labels()
    assert labels["conv1"] == LayerLabel(0, 0, 0)
    assert labels["stages.3.5.depthwise"] == LayerLabel(4, 5, 0)
    assert labels["stages.3.5.pointwise"] == LayerLabel(4, 5, 1)
    assert labels["fc"] == LayerLabel(6, 0, 0)
