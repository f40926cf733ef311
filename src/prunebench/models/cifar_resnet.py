"""ResNet-20, -32, -44, -56 and -110 for small images: three stages of basic blocks.

He, Zhang, Ren, Sun, Deep Residual Learning for Image Recognition, arXiv 1512.03385, section 4.2,
with parameter-free shortcuts ("option A") as in the codes of GReg, EPruner and SFP. OrthoReg's
ResNet-56 has a 1x1 convolution and batch norm in each shortcut that changes the shape ("option
B"); that network is `resnet56_projection`. Weights are initialized as in GReg's code; EPruner's
code leaves the linear layer at PyTorch's default.
"""

from __future__ import annotations

from functools import partial

from torch import Tensor, nn

from prunebench.models.base import LayerLabel, label_layers, scaled


class Subsample(nn.Module):
    """The shortcut into a new stage: take every second pixel and add channels of zeros.

    Half of the new channels come before the old ones and half after. A module adds them, so that
    their number can be corrected when channels are removed.
    """

    def __init__(self, c_in: int, c_out: int) -> None:
        super().__init__()
        added = c_out - c_in
        self.pad = nn.ZeroPad3d((0, 0, 0, 0, added // 2, added - added // 2))

    def forward(self, x: Tensor) -> Tensor:
        """Return (N, c_out, ceil(h / 2), ceil(w / 2))."""
        padded: Tensor = self.pad(x[:, :, ::2, ::2])
        return padded


class BasicBlock(nn.Module):
    """Two convolutions beside a shortcut."""

    def __init__(self, c_in: int, c_out: int, stride: int, *, projection: bool) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(c_in, c_out, 3, stride=stride, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(c_out)
        self.relu1 = nn.ReLU()
        self.conv2 = nn.Conv2d(c_out, c_out, 3, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(c_out)
        self.shortcut = shortcut(c_in, c_out, stride, projection=projection)
        self.relu2 = nn.ReLU()

    def forward(self, x: Tensor) -> Tensor:
        """Return (N, c_out, ceil(h / stride), ceil(w / stride))."""
        inside = self.relu1(self.bn1(self.conv1(x)))
        inside = self.bn2(self.conv2(inside))
        out: Tensor = self.relu2(inside + self.shortcut(x))
        return out


def shortcut(c_in: int, c_out: int, stride: int, *, projection: bool) -> nn.Module:
    """Return the shortcut of a block: the identity unless the shape changes."""
    if stride == 1:
        return nn.Identity()
    if not projection:
        return Subsample(c_in, c_out)
    conv = nn.Conv2d(c_in, c_out, 1, stride=stride, bias=False)
    return nn.Sequential(conv, nn.BatchNorm2d(c_out))


class CifarResNet(nn.Module):
    """Stem, three stages of `blocks` blocks with 16, 32, 64 channels, average, classifier."""

    def __init__(
        self,
        blocks: int,
        *,
        num_classes: int,
        in_channels: int,
        width: float,
        projection: bool = False,
    ) -> None:
        super().__init__()
        widths = [scaled(channels, width) for channels in (16, 32, 64)]
        self.conv1 = nn.Conv2d(in_channels, widths[0], 3, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(widths[0])
        self.relu1 = nn.ReLU()
        self.stages = nn.Sequential(
            stage(widths[0], widths[0], blocks, stride=1, projection=projection),
            stage(widths[0], widths[1], blocks, stride=2, projection=projection),
            stage(widths[1], widths[2], blocks, stride=2, projection=projection),
        )
        self.pool = nn.AdaptiveAvgPool2d(1)
        self.flatten = nn.Flatten()
        self.fc = nn.Linear(widths[2], num_classes)
        self.draw_weights()

    def draw_weights(self) -> None:
        """Initialize the weights as GReg's code does: Kaiming by fan-in."""
        for module in self.modules():
            if isinstance(module, nn.Conv2d | nn.Linear):
                nn.init.kaiming_normal_(module.weight)

    def forward(self, x: Tensor) -> Tensor:
        """Return the logits (N, num_classes) of images (N, in_channels, h, w)."""
        x = self.relu1(self.bn1(self.conv1(x)))
        x = self.stages(x)
        logits: Tensor = self.fc(self.flatten(self.pool(x)))
        return logits

    def labels(self) -> dict[str, LayerLabel]:
        """Return the stage, block and position of each layer; positions count from 0."""
        return label_layers(self, self.stages)


def stage(c_in: int, c_out: int, blocks: int, *, stride: int, projection: bool) -> nn.Sequential:
    """Return a stage; only its first block has a stride and changes the width."""
    first = BasicBlock(c_in, c_out, stride, projection=projection)
    rest = (BasicBlock(c_out, c_out, 1, projection=projection) for _ in range(blocks - 1))
    return nn.Sequential(first, *rest)


NETWORKS = {
    "resnet20": partial(CifarResNet, 3),
    "resnet32": partial(CifarResNet, 5),
    "resnet44": partial(CifarResNet, 7),
    "resnet56": partial(CifarResNet, 9),
    "resnet110": partial(CifarResNet, 18),
    "resnet20_projection": partial(CifarResNet, 3, projection=True),
    "resnet32_projection": partial(CifarResNet, 5, projection=True),
    "resnet56_projection": partial(CifarResNet, 9, projection=True),
    "resnet110_projection": partial(CifarResNet, 18, projection=True),
}
