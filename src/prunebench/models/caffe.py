"""Caffe's own small networks, which IncReg prunes: LeNet-5, ConvNet and AlexNet.

These are the reference models of Caffe (Jia et al., arXiv 1408.5093): LeNet for MNIST, "CIFAR10
full" (ConvNet) and AlexNet in two groups (Krizhevsky et al., 2012), all without batch norm.
Pooling rounds sizes up, as in Caffe. The networks are made for images of 28, 32 and 227 pixels. For
other sizes, the last feature maps are averaged to the size that the linear layer expects; images
smaller than a kernel are refused. Weights use PyTorch's default initialization.
"""

from __future__ import annotations

import itertools
from collections import OrderedDict
from collections.abc import Sequence

from torch import Tensor, nn
from torch.nn import functional as F

from prunebench.models.base import LayerLabel, label_layers, scaled


class SpatialResponseNorm(nn.Module):
    """Local response normalization within each channel, over a square of 3x3 pixels.

    x / (1 + alpha mean(x^2))^beta with Caffe's alpha 5e-5 and beta 0.75.
    """

    def __init__(self, size: int = 3, alpha: float = 5e-5, beta: float = 0.75) -> None:
        super().__init__()
        self.size, self.alpha, self.beta = size, alpha, beta

    def forward(self, x: Tensor) -> Tensor:
        """Return the normalized maps, of the shape of `x`."""
        square = F.avg_pool2d(x * x, self.size, stride=1, padding=self.size // 2)
        return x * (1 + self.alpha * square).pow(-self.beta)


class CaffeNet(nn.Module):
    """Stages of one convolution and the layers after it, then linear layers.

    ReLUs and, in AlexNet, dropout of one half lie between the linear layers.
    """

    def __init__(
        self,
        stages: Sequence[Sequence[nn.Module]],
        side: int,
        linear: Sequence[int],
        *,
        dropout: bool = False,
    ) -> None:
        super().__init__()
        self.stages = nn.Sequential(*(_stage(layers) for layers in stages))
        self.pool = nn.AdaptiveAvgPool2d(side)
        self.flatten = nn.Flatten()
        last = stages[-1][0]
        assert isinstance(last, nn.Conv2d)
        sizes = [last.out_channels * side * side, *linear]
        layers: list[nn.Module] = []
        for c_in, c_out in itertools.pairwise(sizes):
            layers += [nn.Linear(c_in, c_out), nn.ReLU(), *[nn.Dropout()] * dropout]
        self.classifier = nn.Sequential(*layers[: -2 if dropout else -1])

    def forward(self, x: Tensor) -> Tensor:
        """Return the logits (N, num_classes) of images (N, in_channels, h, w)."""
        logits: Tensor = self.classifier(self.flatten(self.pool(self.stages(x))))
        return logits

    def labels(self) -> dict[str, LayerLabel]:
        """Return the stage of each layer; convolutions are stages 1 to n, and there is no stem."""
        return label_layers(self, self.stages)


def _stage(layers: Sequence[nn.Module]) -> nn.Sequential:
    """Return a stage of one block: the convolution and the layers after it."""
    return nn.Sequential(nn.Sequential(OrderedDict(_named(layers))))


def _named(layers: Sequence[nn.Module]) -> list[tuple[str, nn.Module]]:
    """Name the convolution conv and number the other layers."""
    rest = [(f"layer{index}", layer) for index, layer in enumerate(layers[1:], start=1)]
    return [("conv", layers[0]), *rest]


def max_pool(size: int) -> nn.MaxPool2d:
    """Return a max-pool with stride 2 that rounds sizes up."""
    return nn.MaxPool2d(size, stride=2, ceil_mode=True)


def lenet5(*, num_classes: int, in_channels: int, width: float) -> CaffeNet:
    """Build LeNet-5: 5x5 convolutions of 20 and 50 channels, 500 hidden units."""
    first, second = scaled(20, width), scaled(50, width)
    stages = (
        (nn.Conv2d(in_channels, first, 5), max_pool(2)),
        (nn.Conv2d(first, second, 5), max_pool(2)),
    )
    return CaffeNet(stages, 4, (scaled(500, width), num_classes))


def convnet(*, num_classes: int, in_channels: int, width: float) -> CaffeNet:
    """Build ConvNet: 5x5 convolutions of 32, 32 and 64 channels, one linear layer."""
    first, second, third = scaled(32, width), scaled(32, width), scaled(64, width)
    stages = (
        (
            nn.Conv2d(in_channels, first, 5, padding=2),
            max_pool(3),
            nn.ReLU(),
            SpatialResponseNorm(),
        ),
        (
            nn.Conv2d(first, second, 5, padding=2),
            nn.ReLU(),
            nn.AvgPool2d(3, stride=2, ceil_mode=True),
            SpatialResponseNorm(),
        ),
        (
            nn.Conv2d(second, third, 5, padding=2),
            nn.ReLU(),
            nn.AvgPool2d(3, stride=2, ceil_mode=True),
        ),
    )
    return CaffeNet(stages, 4, (num_classes,))


def alexnet(*, num_classes: int, in_channels: int, width: float) -> CaffeNet:
    """Build AlexNet with its second, fourth and fifth convolution in two groups."""

    def even(channels: int) -> int:
        return 2 * scaled(channels // 2, width)

    def conv(c_in: int, c_out: int, size: int, groups: int) -> nn.Conv2d:
        return nn.Conv2d(c_in, c_out, size, padding=size // 2, groups=groups)

    widths = [even(channels) for channels in (96, 256, 384, 384, 256)]
    stages = (
        (
            nn.Conv2d(in_channels, widths[0], 11, stride=4),
            nn.ReLU(),
            nn.LocalResponseNorm(5),
            max_pool(3),
        ),
        (conv(widths[0], widths[1], 5, 2), nn.ReLU(), nn.LocalResponseNorm(5), max_pool(3)),
        (conv(widths[1], widths[2], 3, 1), nn.ReLU()),
        (conv(widths[2], widths[3], 3, 2), nn.ReLU()),
        (conv(widths[3], widths[4], 3, 2), nn.ReLU(), max_pool(3)),
    )
    hidden = scaled(4096, width)
    return CaffeNet(stages, 6, (hidden, hidden, num_classes), dropout=True)


NETWORKS = {"lenet5": lenet5, "convnet": convnet, "alexnet": alexnet}
