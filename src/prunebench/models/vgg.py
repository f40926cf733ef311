"""VGG for small images, in the three forms that the papers prune.

Simonyan, Zisserman, Very Deep Convolutional Networks for Large-Scale Image Recognition, arXiv
1409.1556, with batch norm and a single linear layer. The forms differ in more than depth:

- vgg13, OrthoReg's: convolutions with bias, batch norm *after* the ReLU, five max-pools.
- vgg16, EPruner's: convolutions with bias, batch norm before the ReLU, five max-pools.
- vgg19, GReg's: convolutions without bias, batch norm before the ReLU, four max-pools.

All end in an average over what is left of the image: one pixel of 32x32 after five max-pools,
2x2 after four. Weights are drawn as in each paper's official code.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Sequence
from functools import partial

from torch import Tensor, nn

from prunebench.models.base import LayerLabel, label_layers, scaled

WIDTHS_13 = ((64, 64), (128, 128), (256, 256), (512, 512), (512, 512))
WIDTHS_16 = ((64, 64), (128, 128), (256, 256, 256), (512, 512, 512), (512, 512, 512))
WIDTHS_19 = ((64, 64), (128, 128), (256,) * 4, (512,) * 4, (512,) * 4)


class VGG(nn.Module):
    """Stages of blocks (a convolution, batch norm, ReLU), each ending in a max-pool; classifier.

    Attributes
    ----------
    stages
        Sequence of stages; `stages.2.1.conv` is the convolution that VGG's authors call conv3_2.
    """

    def __init__(
        self,
        widths: Sequence[Sequence[int]],
        *,
        bias: bool,
        norm_last: bool,
        last_pool: bool,
        scheme: Callable[[nn.Module], None],
        num_classes: int,
        in_channels: int,
        width: float,
    ) -> None:
        super().__init__()
        self.scheme = scheme
        stages, c_in = [], in_channels
        for index, stage_widths in enumerate(widths):
            layers: list[nn.Module] = []
            for channels in stage_widths:
                c_out = scaled(channels, width)
                layers.append(conv_block(c_in, c_out, bias=bias, norm_last=norm_last))
                c_in = c_out
            if last_pool or index < len(widths) - 1:
                # ceil_mode lets images of less than 32x32 through: one pixel stays one pixel.
                layers.append(nn.MaxPool2d(2, ceil_mode=True))
            stages.append(nn.Sequential(*layers))
        self.stages = nn.Sequential(*stages)
        self.pool = nn.AdaptiveAvgPool2d(1)
        self.flatten = nn.Flatten()
        self.classifier = nn.Linear(c_in, num_classes)
        self.draw_weights()

    def draw_weights(self) -> None:
        """Draw the weights as the code of the form's paper does."""
        self.scheme(self)

    def forward(self, x: Tensor) -> Tensor:
        """Return the logits (N, num_classes) of images (N, in_channels, h, w)."""
        x = self.stages(x)
        logits: Tensor = self.classifier(self.flatten(self.pool(x)))
        return logits

    def labels(self) -> dict[str, LayerLabel]:
        """Return the stage (1 to 5) and block of each layer; there is no stem."""
        return label_layers(self, self.stages)


def conv_block(c_in: int, c_out: int, *, bias: bool, norm_last: bool) -> nn.Sequential:
    """Return a 3x3 convolution, then batch norm and ReLU, or with `norm_last` the other way."""
    conv = ("conv", nn.Conv2d(c_in, c_out, 3, padding=1, bias=bias))
    bn, relu = ("bn", nn.BatchNorm2d(c_out)), ("relu", nn.ReLU())
    layers: list[tuple[str, nn.Module]] = [conv, relu, bn] if norm_last else [conv, bn, relu]
    return nn.Sequential(OrderedDict(layers))


def default_weights(model: nn.Module) -> None:
    """Leave the framework's own weights: OrthoReg's."""


def fan_out_weights(model: nn.Module) -> None:
    """Draw EPruner's: Kaiming by fan-out, linear 0.01, biases 0."""
    for module in model.modules():
        if isinstance(module, nn.Conv2d):
            nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
        elif isinstance(module, nn.Linear):
            nn.init.normal_(module.weight, std=0.01)
    zero_biases(model)


def fan_in_weights(model: nn.Module) -> None:
    """Draw GReg's: Kaiming by fan-in everywhere, biases 0."""
    for module in model.modules():
        if isinstance(module, nn.Conv2d | nn.Linear):
            nn.init.kaiming_normal_(module.weight)
    zero_biases(model)


def zero_biases(model: nn.Module) -> None:
    """Set the biases of all convolutions and linear layers to zero."""
    for module in model.modules():
        if isinstance(module, nn.Conv2d | nn.Linear) and module.bias is not None:
            nn.init.zeros_(module.bias)


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


NETWORKS = {
    "vgg13": partial(
        VGG, WIDTHS_13, bias=True, norm_last=True, last_pool=True, scheme=default_weights
    ),
    "vgg16": partial(
        VGG, WIDTHS_16, bias=True, norm_last=False, last_pool=True, scheme=fan_out_weights
    ),
    "vgg19": partial(
        VGG, WIDTHS_19, bias=False, norm_last=False, last_pool=False, scheme=fan_in_weights
    ),
    "vgg16_imagenet": VGGImageNet,
}
