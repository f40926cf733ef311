"""GoogLeNet for small images, in the form that EPruner prunes.

Szegedy et al., Going Deeper with Convolutions, arXiv 1409.4842, as in EPruner's official code: a
3x3 stem of 192 channels without stride, nine inception blocks, a "5x5" branch of two 3x3
convolutions, batch norm after every convolution, convolutions with biases, one linear layer, and
PyTorch's default initialization.
"""

from __future__ import annotations

from collections import OrderedDict

import torch
from torch import Tensor, nn

from prunebench.models.base import LayerLabel, label_layers, scaled

# By stage and block: 1x1, reduction before 3x3, 3x3, reduction before "5x5", "5x5", projection.
WIDTHS = (
    ((64, 96, 128, 16, 32, 32), (128, 128, 192, 32, 96, 64)),
    (
        (192, 96, 208, 16, 48, 64),
        (160, 112, 224, 24, 64, 64),
        (128, 128, 256, 24, 64, 64),
        (112, 144, 288, 32, 64, 64),
        (256, 160, 320, 32, 128, 128),
    ),
    ((256, 160, 320, 32, 128, 128), (384, 192, 384, 48, 128, 128)),
)


class Inception(nn.Module):
    """Four parallel branches: 1x1; 1x1, 3x3; 1x1, 3x3, 3x3; max-pool, 1x1."""

    def __init__(self, c_in: int, widths: tuple[int, ...]) -> None:
        super().__init__()
        one, reduce3, three, reduce5, five, project = widths
        self.one = conv_block(c_in, one, 1)
        self.reduce3 = conv_block(c_in, reduce3, 1)
        self.three = conv_block(reduce3, three, 3)
        self.reduce5 = conv_block(c_in, reduce5, 1)
        # The first 3x3 convolution is as wide as the branch's output.
        self.five1 = conv_block(reduce5, five, 3)
        self.five2 = conv_block(five, five, 3)
        self.pool = nn.MaxPool2d(3, stride=1, padding=1)
        self.project = conv_block(c_in, project, 1)

    def forward(self, x: Tensor) -> Tensor:
        """Return the concatenated branches, (N, sum of their widths, h, w)."""
        branches = (
            self.one(x),
            self.three(self.reduce3(x)),
            self.five2(self.five1(self.reduce5(x))),
            self.project(self.pool(x)),
        )
        return torch.cat(branches, dim=1)


def conv_block(c_in: int, c_out: int, size: int) -> nn.Sequential:
    """Return a convolution with bias that keeps the image's size, batch norm and ReLU."""
    conv = nn.Conv2d(c_in, c_out, size, padding=size // 2)
    layers = [("conv", conv), ("bn", nn.BatchNorm2d(c_out)), ("relu", nn.ReLU())]
    return nn.Sequential(OrderedDict(layers))


class GoogLeNet(nn.Module):
    """Stem, three stages of 2, 5 and 2 inception blocks, average, classifier."""

    def __init__(self, *, num_classes: int, in_channels: int, width: float) -> None:
        super().__init__()
        c_in = scaled(192, width)
        self.stem = conv_block(in_channels, c_in, 3)
        stages = []
        for index, blocks in enumerate(WIDTHS):
            layers: list[nn.Module] = []
            for block in blocks:
                widths = tuple(scaled(channels, width) for channels in block)
                layers.append(Inception(c_in, widths))
                c_in = widths[0] + widths[2] + widths[4] + widths[5]
            if index < len(WIDTHS) - 1:
                layers.append(nn.MaxPool2d(3, stride=2, padding=1))
            stages.append(nn.Sequential(*layers))
        self.stages = nn.Sequential(*stages)
        self.pool = nn.AdaptiveAvgPool2d(1)
        self.flatten = nn.Flatten()
        self.fc = nn.Linear(c_in, num_classes)

    def forward(self, x: Tensor) -> Tensor:
        """Return the logits (N, num_classes) of images (N, in_channels, h, w)."""
        logits: Tensor = self.fc(self.flatten(self.pool(self.stages(self.stem(x)))))
        return logits

    def labels(self) -> dict[str, LayerLabel]:
        """Return the stage, block and position (order of definition) of each layer."""
        return label_layers(self, self.stages)


NETWORKS = {"googlenet": GoogLeNet}
