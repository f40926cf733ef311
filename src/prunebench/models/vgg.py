"""VGG, in the three forms for small images that the papers prune, and VGG-16 for ImageNet.

Simonyan, Zisserman, Very Deep Convolutional Networks for Large-Scale Image Recognition, arXiv
1409.1556. The networks for small images have batch norm and a single linear layer:

- vgg13, OrthoReg's: convolutions with bias, batch norm *after* the ReLU, five max-pools.
- vgg16, EPruner's: convolutions with bias, batch norm before the ReLU, five max-pools.
- vgg19, GReg's: convolutions without bias, batch norm before the ReLU, four max-pools.

They end in an average over the remaining pixels: of 32x32 pixels, one after five max-pools and 2x2
after four. Weights are initialized as in each paper's official code.

- vgg16_imagenet, which IncReg prunes: configuration D as its authors published it for Caffe, 13
  convolutions with bias, no batch norm, three linear layers, torchvision's initialization.
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
                # ceil_mode admits images below 32x32: one pixel stays one pixel.
                layers.append(nn.MaxPool2d(2, ceil_mode=True))
            stages.append(nn.Sequential(*layers))
        self.stages = nn.Sequential(*stages)
        self.pool = nn.AdaptiveAvgPool2d(1)
        self.flatten = nn.Flatten()
        self.classifier = nn.Linear(c_in, num_classes)
        self.draw_weights()

    def draw_weights(self) -> None:
        """Initialize the weights as the official code of the paper does."""
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
    """Return a 3x3 convolution, batch norm and ReLU; `norm_last` puts batch norm after ReLU."""
    conv = ("conv", nn.Conv2d(c_in, c_out, 3, padding=1, bias=bias))
    bn, relu = ("bn", nn.BatchNorm2d(c_out)), ("relu", nn.ReLU())
    layers: list[tuple[str, nn.Module]] = [conv, relu, bn] if norm_last else [conv, bn, relu]
    return nn.Sequential(OrderedDict(layers))


def default_weights(model: nn.Module) -> None:
    """Keep PyTorch's default initialization: OrthoReg's code."""


def fan_out_weights(model: nn.Module) -> None:
    """Initialize as EPruner's code: Kaiming by fan-out, linear 0.01, biases 0."""
    for module in model.modules():
        if isinstance(module, nn.Conv2d):
            nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
        elif isinstance(module, nn.Linear):
            nn.init.normal_(module.weight, std=0.01)
    zero_biases(model)


def fan_in_weights(model: nn.Module) -> None:
    """Initialize as GReg's code: Kaiming by fan-in everywhere, biases 0."""
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

    `stages.2.1.conv` is the convolution that VGG's authors call conv3_2.
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
            # ceil_mode admits images below 32x32, as in the networks for small images.
            layers.append(nn.MaxPool2d(2, ceil_mode=True))
            stages.append(nn.Sequential(*layers))
        self.stages = nn.Sequential(*stages)
        self.pool = nn.AdaptiveAvgPool2d(7)  # changes nothing at 224x224 pixels
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
        """Initialize: Kaiming by fan-out, linear 0.01, biases 0."""
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
        # torchvision lists a convolution and a ReLU for each width, then a max-pool.
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
