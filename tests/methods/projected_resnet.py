"""OrthoReg's ResNets: basic blocks, and shortcuts of a 1x1 convolution and batch norm."""

from __future__ import annotations

import torch
from torch import Tensor, nn


class Block(nn.Module):
    def __init__(self, c_in: int, c_out: int, stride: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(c_in, c_out, 3, stride=stride, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(c_out)
        self.conv2 = nn.Conv2d(c_out, c_out, 3, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(c_out)
        self.shortcut = nn.Sequential()
        if c_in != c_out:
            conv = nn.Conv2d(c_in, c_out, 1, stride=stride, bias=False)
            self.shortcut = nn.Sequential(conv, nn.BatchNorm2d(c_out))

    def forward(self, x: Tensor) -> Tensor:
        inside = self.bn2(self.conv2(torch.relu(self.bn1(self.conv1(x)))))
        return torch.relu(inside + self.shortcut(x))


class ProjectedResNet(nn.Module):
    def __init__(self, blocks: tuple[int, ...], widths: tuple[int, ...], classes: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(3, widths[0], 3, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(widths[0])
        stages, c_in = [], widths[0]
        for stage, (number, c_out) in enumerate(zip(blocks, widths, strict=True)):
            layers = []
            for block in range(number):
                layers.append(Block(c_in, c_out, 2 if stage and not block else 1))
                c_in = c_out
            stages.append(nn.Sequential(*layers))
        self.stages = nn.Sequential(*stages)
        self.fc = nn.Linear(c_in, classes)

    def forward(self, x: Tensor) -> Tensor:
        x = self.stages(torch.relu(self.bn1(self.conv1(x))))
        out: Tensor = self.fc(x.mean(dim=(2, 3)))
        return out


def resnet34() -> ProjectedResNet:
    """The form for small images: stem of stride 1 without a pool."""
    return ProjectedResNet((3, 4, 6, 3), (64, 128, 256, 512), 100)


def small() -> ProjectedResNet:
    """Two stages of one and two blocks, 4 and 8 channels wide."""
    torch.manual_seed(0)
    return ProjectedResNet((1, 2), (4, 8), 5)
