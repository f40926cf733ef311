"""RegNetX for ImageNet, in the form of its authors' code (pycls).

Radosavovic et al., Designing Network Design Spaces, arXiv 2003.13678, section 3.3 and its tables of
models. The widths of the stages follow a quantized linear function of the depth and are rounded to
the nearest multiple of the group width, as in the authors' code. torchvision rounds differently
and ships another RegNetX-400MF.
"""

from __future__ import annotations

import math
import re
from functools import partial

from torch import Tensor, nn

from prunebench.models.base import LayerLabel, label_layers, scaled
from prunebench.models.resnet import Bottleneck


def stages_of(
    w_0: int, w_a: float, w_m: float, depth: int, group_width: int
) -> list[tuple[int, int, int]]:
    """Return blocks, width and group width of each stage; Eq. 2 to 4 of the paper.

    >>> stages_of(24, 36.44, 2.49, 13, 8)
    [(1, 24, 8), (1, 56, 8), (4, 152, 8), (7, 368, 8)]
    """
    widths: dict[int, int] = {}
    for block in range(depth):
        continuous = w_0 + w_a * block
        power = round(math.log(continuous / w_0) / math.log(w_m))
        width = round(w_0 * w_m**power / 8) * 8
        widths[width] = widths.get(width, 0) + 1
    stages = []
    for width, blocks in widths.items():
        group = min(group_width, width)
        stages.append((blocks, round(width / group) * group, group))
    return stages


class RegNetX(nn.Module):
    """Stem of 32 channels, four stages of grouped blocks, each with a stride, classifier."""

    def __init__(
        self,
        stages: list[tuple[int, int, int]],
        *,
        num_classes: int,
        in_channels: int,
        width: float,
    ) -> None:
        super().__init__()
        c_in = scaled(32, width)
        self.conv1 = nn.Conv2d(in_channels, c_in, 3, stride=2, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(c_in)
        self.relu1 = nn.ReLU()
        sequences = []
        for blocks, channels, group_width in stages:
            groups = max(1, round(channels * width / group_width))
            c_out = groups * min(group_width, scaled(channels, width))
            sequence = []
            for block in range(blocks):
                stride = 2 if block == 0 else 1
                sequence.append(Bottleneck(c_in, c_out, c_out, stride, groups=groups))
                c_in = c_out
            sequences.append(nn.Sequential(*sequence))
        self.stages = nn.Sequential(*sequences)
        self.pool = nn.AdaptiveAvgPool2d(1)
        self.flatten = nn.Flatten()
        self.fc = nn.Linear(c_in, num_classes)
        self.draw_weights()

    def draw_weights(self) -> None:
        """Initialize as the authors do: Kaiming by fan-out, linear 0.01, bias 0."""
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
        nn.init.normal_(self.fc.weight, std=0.01)
        nn.init.zeros_(self.fc.bias)

    def forward(self, x: Tensor) -> Tensor:
        """Return the logits (N, num_classes) of images (N, in_channels, h, w)."""
        x = self.stages(self.relu1(self.bn1(self.conv1(x))))
        logits: Tensor = self.fc(self.flatten(self.pool(x)))
        return logits

    def labels(self) -> dict[str, LayerLabel]:
        """Return the stage, block and position of each layer; a shortcut has the last position."""
        return label_layers(self, self.stages)

    @staticmethod
    def own_name(name: str) -> str:
        """Return our name of a parameter or buffer that torchvision's network calls `name`.

        >>> RegNetX.own_name("trunk_output.block2.block2-0.f.b.1.weight")
        'stages.1.0.bn2.weight'
        >>> RegNetX.own_name("trunk_output.block1.block1-0.proj.0.weight")
        'stages.0.0.shortcut.0.weight'
        >>> RegNetX.own_name("stem.1.bias"), RegNetX.own_name("fc.bias")
        ('bn1.bias', 'fc.bias')
        """
        if stem := re.match(r"stem\.([01])\.", name):
            return f"{('conv1', 'bn1')[int(stem[1])]}.{name[stem.end() :]}"
        block = re.match(r"trunk_output\.block\d\.block(\d)-(\d+)\.", name)
        if block is None:
            return name
        rest = name[block.end() :].replace("proj.", "shortcut.")
        if layer := re.match(r"f\.([abc])\.([01])\.", rest):
            kind = ("conv", "bn")[int(layer[2])]
            rest = f"{kind}{'abc'.index(layer[1]) + 1}.{rest[layer.end() :]}"
        return f"stages.{int(block[1]) - 1}.{block[2]}.{rest}"


# w_0, w_a, w_m, depth and group width of `stages_of`: the paper's tables of models.
NETWORKS = {
    "regnetx_0_2gf": partial(RegNetX, stages_of(24, 36.44, 2.49, 13, 8)),
    "regnetx_0_4gf": partial(RegNetX, stages_of(24, 24.48, 2.54, 22, 16)),
    "regnetx_0_8gf": partial(RegNetX, stages_of(56, 35.73, 2.28, 16, 16)),
    "regnetx_1_6gf": partial(RegNetX, stages_of(80, 34.01, 2.25, 18, 24)),
    "regnetx_3_2gf": partial(RegNetX, stages_of(88, 26.31, 2.25, 25, 48)),
}
