"""ResNets and ResNeXt for ImageNet, and OrthoReg's ResNet-34 for small images.

He, Zhang, Ren, Sun, Deep Residual Learning for Image Recognition, arXiv 1512.03385; Xie et al.,
Aggregated Residual Transformations for Deep Neural Networks, arXiv 1611.05431. Layers and
initialization are torchvision's. Two networks are called ResNet-50 elsewhere:

- resnet50: a bottleneck has its stride on the 3x3 convolution, as in torchvision.
- resnet50_caffe: a bottleneck has its stride on the first 1x1 convolution, as the authors published
  it for Caffe; IncReg prunes this one.

resnet34_cifar is OrthoReg's network: a 3x3 stem without stride, no max-pool, PyTorch's default
initialization.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from functools import partial
from typing import Literal

from torch import Tensor, nn

from prunebench.models.base import LayerLabel, label_layers, scaled

WIDTHS = (64, 128, 256, 512)


class Basic(nn.Module):
    """Two 3x3 convolutions beside a shortcut."""

    expansion = 1

    def __init__(self, c_in: int, planes: int, c_out: int, stride: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(c_in, planes, 3, stride=stride, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(planes)
        self.relu1 = nn.ReLU()
        self.conv2 = nn.Conv2d(planes, c_out, 3, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(c_out)
        self.shortcut = shortcut(c_in, c_out, stride)
        self.relu2 = nn.ReLU()

    def forward(self, x: Tensor) -> Tensor:
        """Return (N, c_out, ceil(h / stride), ceil(w / stride))."""
        inside = self.bn2(self.conv2(self.relu1(self.bn1(self.conv1(x)))))
        out: Tensor = self.relu2(inside + self.shortcut(x))
        return out


class Bottleneck(nn.Module):
    """1x1, 3x3 and 1x1 convolutions beside a shortcut."""

    expansion = 4

    def __init__(
        self,
        c_in: int,
        planes: int,
        c_out: int,
        stride: int,
        *,
        groups: int = 1,
        stride_on: Literal["1x1", "3x3"] = "3x3",
    ) -> None:
        super().__init__()
        first, second = (stride, 1) if stride_on == "1x1" else (1, stride)
        self.conv1 = nn.Conv2d(c_in, planes, 1, stride=first, bias=False)
        self.bn1 = nn.BatchNorm2d(planes)
        self.relu1 = nn.ReLU()
        self.conv2 = nn.Conv2d(
            planes, planes, 3, stride=second, padding=1, groups=groups, bias=False
        )
        self.bn2 = nn.BatchNorm2d(planes)
        self.relu2 = nn.ReLU()
        self.conv3 = nn.Conv2d(planes, c_out, 1, bias=False)
        self.bn3 = nn.BatchNorm2d(c_out)
        self.shortcut = shortcut(c_in, c_out, stride)
        self.relu3 = nn.ReLU()

    def forward(self, x: Tensor) -> Tensor:
        """Return (N, c_out, ceil(h / stride), ceil(w / stride))."""
        inside = self.relu1(self.bn1(self.conv1(x)))
        inside = self.relu2(self.bn2(self.conv2(inside)))
        inside = self.bn3(self.conv3(inside))
        out: Tensor = self.relu3(inside + self.shortcut(x))
        return out


def shortcut(c_in: int, c_out: int, stride: int) -> nn.Module:
    """Return the shortcut of a block: a 1x1 convolution if the shape changes, else the identity."""
    if stride == 1 and c_in == c_out:
        return nn.Identity()
    conv = nn.Conv2d(c_in, c_out, 1, stride=stride, bias=False)
    return nn.Sequential(conv, nn.BatchNorm2d(c_out))


class ResNet(nn.Module):
    """Stem, four stages, average, classifier.

    Attributes
    ----------
    stages
        Sequence of stages; `stages.1.0.conv2` is torchvision's `layer2.0.conv2`.
    widths
        Channels of the stages' outputs.
    """

    def __init__(
        self,
        blocks: Sequence[int],
        *,
        num_classes: int,
        in_channels: int,
        width: float,
        bottleneck: bool = False,
        groups: int = 1,
        width_per_group: int = 64,
        stride_on: Literal["1x1", "3x3"] = "3x3",
        small_images: bool = False,
    ) -> None:
        super().__init__()
        self.fan_out = not small_images
        c_in = scaled(64, width)
        size, stride = (3, 1) if small_images else (7, 2)
        self.conv1 = nn.Conv2d(in_channels, c_in, size, stride, padding=size // 2, bias=False)
        self.bn1 = nn.BatchNorm2d(c_in)
        self.relu1 = nn.ReLU()
        self.pool1 = nn.Identity() if small_images else nn.MaxPool2d(3, stride=2, padding=1)
        stages, widths = [], []
        for index, count in enumerate(blocks):
            c_out = scaled(WIDTHS[index] * (4 if bottleneck else 1), width)
            # The number of ResNeXt's groups stays; their width is scaled.
            planes = groups * scaled(WIDTHS[index] * width_per_group // 64, width)
            stage: list[nn.Module] = []
            for block in range(count):
                stride = 2 if index > 0 and block == 0 else 1
                stage.append(
                    Bottleneck(c_in, planes, c_out, stride, groups=groups, stride_on=stride_on)
                    if bottleneck
                    else Basic(c_in, planes, c_out, stride)
                )
                c_in = c_out
            stages.append(nn.Sequential(*stage))
            widths.append(c_out)
        self.stages = nn.Sequential(*stages)
        self.widths = tuple(widths)
        self.pool = nn.AdaptiveAvgPool2d(1)
        self.flatten = nn.Flatten()
        self.fc = nn.Linear(c_in, num_classes)
        self.draw_weights()

    def draw_weights(self) -> None:
        """Initialize convolutions as torchvision does: Kaiming by fan-out."""
        for module in self.modules():
            if self.fan_out and isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")

    def features(self, x: Tensor) -> list[Tensor]:
        """Return the four stages' outputs for images (N, in_channels, h, w)."""
        x = self.pool1(self.relu1(self.bn1(self.conv1(x))))
        outputs = []
        for stage in self.stages:
            x = stage(x)
            outputs.append(x)
        return outputs

    def forward(self, x: Tensor) -> Tensor:
        """Return the logits (N, num_classes) of images (N, in_channels, h, w)."""
        logits: Tensor = self.fc(self.flatten(self.pool(self.features(x)[-1])))
        return logits

    def labels(self) -> dict[str, LayerLabel]:
        """Return the stage, block and position of each layer; a shortcut has the last position."""
        return label_layers(self, self.stages)

    @staticmethod
    def own_name(name: str) -> str:
        """Return our name of a parameter or buffer that torchvision's network calls `name`.

        >>> ResNet.own_name("layer2.0.downsample.0.weight"), ResNet.own_name("fc.bias")
        ('stages.1.0.shortcut.0.weight', 'fc.bias')
        """
        stage = re.match(r"layer([1-4])\.", name)
        if stage is None:
            return name
        rest = name[stage.end() :].replace("downsample", "shortcut")
        return f"stages.{int(stage[1]) - 1}.{rest}"


NETWORKS = {
    "resnet18": partial(ResNet, (2, 2, 2, 2)),
    "resnet34": partial(ResNet, (3, 4, 6, 3)),
    "resnet34_cifar": partial(ResNet, (3, 4, 6, 3), small_images=True),
    "resnet50": partial(ResNet, (3, 4, 6, 3), bottleneck=True),
    "resnet50_caffe": partial(ResNet, (3, 4, 6, 3), bottleneck=True, stride_on="1x1"),
    "resnet101": partial(ResNet, (3, 4, 23, 3), bottleneck=True),
    "resnet152": partial(ResNet, (3, 8, 36, 3), bottleneck=True),
    "resnext50_32x4d": partial(ResNet, (3, 4, 6, 3), bottleneck=True, groups=32, width_per_group=4),
}
