"""MobileNet-V1 for small images: depthwise and pointwise convolutions in turn.

Howard et al., MobileNets: Efficient Convolutional Neural Networks for Mobile Vision Applications,
arXiv 1704.04861, in the form of OrthoReg's code for 32x32 pixels: no stride in the stem, four
strides in the blocks, an average over the remaining 2x2 pixels, PyTorch's default initialization.
"""

from __future__ import annotations

from torch import Tensor, nn

from prunebench.models.base import LayerLabel, label_layers, scaled

# Widths of the blocks, by stage; each stage but the first begins with a stride of 2.
WIDTHS = ((64,), (128, 128), (256, 256), (512,) * 6, (1024, 1024))


class SeparableBlock(nn.Module):
    """A depthwise 3x3 convolution, then a pointwise 1x1 convolution."""

    def __init__(self, c_in: int, c_out: int, stride: int) -> None:
        super().__init__()
        self.depthwise = nn.Conv2d(c_in, c_in, 3, stride=stride, padding=1, groups=c_in, bias=False)
        self.bn1 = nn.BatchNorm2d(c_in)
        self.relu1 = nn.ReLU()
        self.pointwise = nn.Conv2d(c_in, c_out, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(c_out)
        self.relu2 = nn.ReLU()

    def forward(self, x: Tensor) -> Tensor:
        """Return (N, c_out, ceil(h / stride), ceil(w / stride))."""
        x = self.relu1(self.bn1(self.depthwise(x)))
        out: Tensor = self.relu2(self.bn2(self.pointwise(x)))
        return out


class MobileNetV1(nn.Module):
    """Stem, five stages of 1, 2, 2, 6 and 2 separable blocks, average, classifier."""

    def __init__(self, *, num_classes: int, in_channels: int, width: float) -> None:
        super().__init__()
        c_in = scaled(32, width)
        self.conv1 = nn.Conv2d(in_channels, c_in, 3, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(c_in)
        self.relu1 = nn.ReLU()
        stages = []
        for stage, widths in enumerate(WIDTHS):
            blocks = []
            for block, channels in enumerate(widths):
                c_out = scaled(channels, width)
                blocks.append(SeparableBlock(c_in, c_out, 2 if stage > 0 and block == 0 else 1))
                c_in = c_out
            stages.append(nn.Sequential(*blocks))
        self.stages = nn.Sequential(*stages)
        self.pool = nn.AdaptiveAvgPool2d(1)
        self.flatten = nn.Flatten()
        self.fc = nn.Linear(c_in, num_classes)

    def forward(self, x: Tensor) -> Tensor:
        """Return the logits (N, num_classes) of images (N, in_channels, h, w)."""
        x = self.relu1(self.bn1(self.conv1(x)))
        x = self.stages(x)
        logits: Tensor = self.fc(self.flatten(self.pool(x)))
        return logits

    def labels(self) -> dict[str, LayerLabel]:
        """Return the stage, block and position (0 depthwise, 1 pointwise) of each layer."""
        return label_layers(self, self.stages)


NETWORKS = {"mobilenet_v1": MobileNetV1}
