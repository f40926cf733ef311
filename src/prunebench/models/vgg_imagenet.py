"""VGG-16 for ImageNet, without batch norm, as its authors published it for Caffe.

Simonyan, Zisserman, Very Deep Convolutional Networks for Large-Scale Image Recognition, arXiv
1409.1556, configuration D: 13 convolutions with bias, three linear layers. IncReg prunes it.
Weights are torchvision's.
"""

from __future__ import annotations

from collections import OrderedDict

from torch import Tensor, nn

from prunebench.models.layer_labels import LayerLabel, label_layers, scaled
from prunebench.models.vgg import WIDTHS_16, fan_out_weights


class VGGImageNet(nn.Module):
    """Five stages of convolutions with ReLU, each ending in a max-pool; three linear layers.

    `stages.2.1.conv` is the convolution that its authors call conv3_2.
    """

    def __init__(self, *, num_classes: int, in_channels: int, width: float) -> None:
        super().__init__()
        stages, c_in = [], in_channels
        for stage_widths in WIDTHS_16:
            layers: list[nn.Module] = []
            for channels in stage_widths:
                c_out = scaled(channels, width)
                conv = nn.Conv2d(c_in, c_out, 3, padding=1)
                layers.append(nn.Sequential(OrderedDict(conv=conv, relu=nn.ReLU())))
                c_in = c_out
            # ceil_mode lets images of less than 32x32 through, as in the small VGGs.
            layers.append(nn.MaxPool2d(2, ceil_mode=True))
            stages.append(nn.Sequential(*layers))
        self.stages = nn.Sequential(*stages)
        self.pool = nn.AdaptiveAvgPool2d(7)  # of 224x224 pixels 7x7 are left: it changes nothing
        self.flatten = nn.Flatten()
        hidden = scaled(4096, width)
        self.classifier = nn.Sequential(
            nn.Linear(c_in * 49, hidden),
            nn.ReLU(),
            nn.Dropout(),
            nn.Linear(hidden, hidden),
            nn.ReLU(),
            nn.Dropout(),
            nn.Linear(hidden, num_classes),
        )
        self.draw_weights()

    def draw_weights(self) -> None:
        """Draw the weights: Kaiming by fan-out, linear 0.01, biases 0."""
        fan_out_weights(self)

    def forward(self, x: Tensor) -> Tensor:
        """Return the logits (N, num_classes) of images (N, in_channels, h, w)."""
        logits: Tensor = self.classifier(self.flatten(self.pool(self.stages(x))))
        return logits

    @staticmethod
    def own_name(name: str) -> str:
        """Return our name of a parameter that torchvision's network calls `name`.

        >>> VGGImageNet.own_name("features.12.weight"), VGGImageNet.own_name("classifier.6.bias")
        ('stages.2.1.conv.weight', 'classifier.6.bias')
        """
        part, _, rest = name.partition(".")
        place, _, parameter = rest.partition(".")
        if part != "features":
            return name
        # There a stage is a convolution and a ReLU for each width, and a max-pool.
        index = int(place)
        for stage, widths in enumerate(WIDTHS_16):
            length = 2 * len(widths) + 1
            if index < length:
                return f"stages.{stage}.{index // 2}.conv.{parameter}"
            index -= length
        return name

    def labels(self) -> dict[str, LayerLabel]:
        """Return the stage (1 to 5) and block of each layer; there is no stem."""
        return label_layers(self, self.stages)


def vgg16_imagenet(*, num_classes: int, in_channels: int, width: float) -> VGGImageNet:
    """Build VGG-16."""
    return VGGImageNet(num_classes=num_classes, in_channels=in_channels, width=width)
