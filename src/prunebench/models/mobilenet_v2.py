"""MobileNetV2 for ImageNet: inverted residuals with linear bottlenecks.

Sandler et al., MobileNetV2: Inverted Residuals and Linear Bottlenecks, arXiv 1801.04381. Layers,
widths and initialization are torchvision's: widths are multiples of 8 within 10 percent of the
scaled width, and the last convolution has 1280 channels, more only in wider networks.
"""

from __future__ import annotations

import re

from torch import Tensor, nn

from prunebench.models.base import LayerLabel, label_layers

# By stage: expansion, channels, blocks, stride of the first block.
STAGES = (
    (1, 16, 1, 1),
    (6, 24, 2, 2),
    (6, 32, 3, 2),
    (6, 64, 4, 2),
    (6, 96, 3, 1),
    (6, 160, 3, 2),
    (6, 320, 1, 1),
)


def multiple_of_8(channels: float) -> int:
    """Return the nearest multiple of 8 that is at least 8 and no more than 10 % below.

    >>> multiple_of_8(24 * 0.7), multiple_of_8(16 * 1.4), multiple_of_8(12)
    (16, 24, 16)
    """
    rounded = max(8, int(channels + 4) // 8 * 8)
    return rounded if rounded >= 0.9 * channels else rounded + 8


class InvertedResidual(nn.Module):
    """1x1 expansion (none for factor 1), depthwise 3x3, linear 1x1 projection."""

    def __init__(self, c_in: int, c_out: int, stride: int, expansion: int) -> None:
        super().__init__()
        inside = c_in * expansion
        self.adds = stride == 1 and c_in == c_out
        self.expand = nn.Identity() if expansion == 1 else conv_block(c_in, inside, 1)
        self.depthwise = conv_block(inside, inside, 3, stride=stride, groups=inside)
        self.project = nn.Conv2d(inside, c_out, 1, bias=False)
        self.bn = nn.BatchNorm2d(c_out)

    def forward(self, x: Tensor) -> Tensor:
        """Return (N, c_out, ceil(h / stride), ceil(w / stride))."""
        out: Tensor = self.bn(self.project(self.depthwise(self.expand(x))))
        return x + out if self.adds else out


def conv_block(
    c_in: int, c_out: int, size: int, *, stride: int = 1, groups: int = 1
) -> nn.Sequential:
    """Return a convolution without bias, batch norm and ReLU6."""
    conv = nn.Conv2d(c_in, c_out, size, stride, padding=size // 2, groups=groups, bias=False)
    return nn.Sequential(conv, nn.BatchNorm2d(c_out), nn.ReLU6())


class MobileNetV2(nn.Module):
    """Stem, seven stages of inverted residuals, 1x1 convolution, average, classifier."""

    def __init__(self, *, num_classes: int, in_channels: int, width: float) -> None:
        super().__init__()
        c_in = multiple_of_8(32 * width)
        self.stem = conv_block(in_channels, c_in, 3, stride=2)
        stages = []
        for expansion, channels, blocks, stride in STAGES:
            c_out = multiple_of_8(channels * width)
            stage: list[nn.Module] = []
            for block in range(blocks):
                step = stride if block == 0 else 1
                stage.append(InvertedResidual(c_in, c_out, step, expansion))
                c_in = c_out
            stages.append(nn.Sequential(*stage))
        self.stages = nn.Sequential(*stages)
        last = multiple_of_8(1280 * max(1.0, width))
        self.last = conv_block(c_in, last, 1)
        self.pool = nn.AdaptiveAvgPool2d(1)
        self.flatten = nn.Flatten()
        self.dropout = nn.Dropout(0.2)
        self.fc = nn.Linear(last, num_classes)
        self.draw_weights()

    def draw_weights(self) -> None:
        """Initialize as torchvision does: Kaiming by fan-out, linear 0.01, bias 0."""
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out")
        nn.init.normal_(self.fc.weight, std=0.01)
        nn.init.zeros_(self.fc.bias)

    def forward(self, x: Tensor) -> Tensor:
        """Return the logits (N, num_classes) of images (N, in_channels, h, w)."""
        x = self.last(self.stages(self.stem(x)))
        logits: Tensor = self.fc(self.dropout(self.flatten(self.pool(x))))
        return logits

    def labels(self) -> dict[str, LayerLabel]:
        """Return the stage, block and position of each layer; `last` and `fc` are a stage."""
        return label_layers(self, self.stages)

    @staticmethod
    def own_name(name: str) -> str:
        """Return our name of a parameter or buffer that torchvision's network calls `name`.

        torchvision numbers blocks through all stages and layers by their place in the block; a
        block without expansion begins with the depthwise convolution.

        >>> MobileNetV2.own_name("features.1.conv.0.0.weight")
        'stages.0.0.depthwise.0.weight'
        >>> MobileNetV2.own_name("features.17.conv.3.bias")
        'stages.6.0.bn.bias'
        >>> MobileNetV2.own_name("features.18.0.weight"), MobileNetV2.own_name("classifier.1.bias")
        ('last.0.weight', 'fc.bias')
        """
        places = [(i, j) for i, (_, _, blocks, _) in enumerate(STAGES) for j in range(blocks)]
        found = re.fullmatch(r"features\.(\d+)\.(?:conv\.(\d)\.)?(.+)", name)
        if found is None:
            return name.replace("classifier.1.", "fc.")
        index, layer, rest = int(found[1]), found[2], found[3]
        if layer is None:
            return f"{'last' if index else 'stem'}.{rest}"
        stage, block = places[index - 1]
        layers = ("expand", "depthwise", "project", "bn")[STAGES[stage][0] == 1 :]
        return f"stages.{stage}.{block}.{layers[int(layer)]}.{rest}"


NETWORKS = {"mobilenet_v2": MobileNetV2}
