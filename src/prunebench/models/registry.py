"""The networks by name; listing them imports no torch.

A suffix scales all widths, as in torchvision's names: `vgg16_x0_25` has a quarter of the channels
in every layer.
"""

from __future__ import annotations

import pkgutil
import re
from typing import TYPE_CHECKING

from prunebench.core.errors import ConfigError, ModelError
from prunebench.core.names import look_up

if TYPE_CHECKING:
    from torch import nn

MODELS = {
    "alexnet": "prunebench.models.caffe:alexnet",
    "convnet": "prunebench.models.caffe:convnet",
    "googlenet": "prunebench.models.googlenet:googlenet",
    "lenet5": "prunebench.models.caffe:lenet5",
    "mobilenet_v1": "prunebench.models.mobilenet:mobilenet_v1",
    "mobilenet_v2": "prunebench.models.mobilenet_v2:mobilenet_v2",
    "regnetx_0_2gf": "prunebench.models.regnet:regnetx_0_2gf",
    "regnetx_0_4gf": "prunebench.models.regnet:regnetx_0_4gf",
    "regnetx_0_8gf": "prunebench.models.regnet:regnetx_0_8gf",
    "regnetx_1_6gf": "prunebench.models.regnet:regnetx_1_6gf",
    "regnetx_3_2gf": "prunebench.models.regnet:regnetx_3_2gf",
    "resnet101": "prunebench.models.resnet:resnet101",
    "resnet110": "prunebench.models.cifar_resnet:resnet110",
    "resnet110_projection": "prunebench.models.cifar_resnet:resnet110_projection",
    "resnet152": "prunebench.models.resnet:resnet152",
    "resnet18": "prunebench.models.resnet:resnet18",
    "resnet20": "prunebench.models.cifar_resnet:resnet20",
    "resnet20_projection": "prunebench.models.cifar_resnet:resnet20_projection",
    "resnet32": "prunebench.models.cifar_resnet:resnet32",
    "resnet32_projection": "prunebench.models.cifar_resnet:resnet32_projection",
    "resnet34": "prunebench.models.resnet:resnet34",
    "resnet34_cifar": "prunebench.models.resnet:resnet34_cifar",
    "resnet50": "prunebench.models.resnet:resnet50",
    "resnet50_caffe": "prunebench.models.resnet:resnet50_caffe",
    "resnet56": "prunebench.models.cifar_resnet:resnet56",
    "resnet56_projection": "prunebench.models.cifar_resnet:resnet56_projection",
    "resnext50_32x4d": "prunebench.models.resnet:resnext50_32x4d",
    "vgg13": "prunebench.models.vgg:vgg13",
    "vgg16": "prunebench.models.vgg:vgg16",
    "vgg16_imagenet": "prunebench.models.vgg_imagenet:vgg16_imagenet",
    "vgg19": "prunebench.models.vgg:vgg19",
}
# Built, traced and counted; not to be trained here yet: an experiment that names one is declared.
DETECTORS = {
    "atss_r50_fpn": "prunebench.models.detectors:atss_r50_fpn",
    "faster_rcnn_r50_fpn": "prunebench.models.detectors:faster_rcnn_r50_fpn",
    "fsaf_r50_fpn": "prunebench.models.detectors:fsaf_r50_fpn",
    "paa_r50_fpn": "prunebench.models.detectors:atss_r50_fpn",
    "retinanet_r50_fpn": "prunebench.models.detectors:retinanet_r50_fpn",
}


def names() -> list[str]:
    """Return the names of the networks at width 1."""
    return sorted(MODELS)


def split_width(name: str) -> tuple[str, float]:
    """Return a network's name and its width factor; ConfigError if either is not possible.

    Nor is a detector, which cannot be trained here.

    >>> split_width("vgg16_x0_25"), split_width("resnet56")
    (('vgg16', 0.25), ('resnet56', 1.0))
    """
    if name in DETECTORS:
        raise ConfigError(
            f"training detectors is not built; {name} can be built and counted (prunebench costs)"
        )
    slug, separator, suffix = name.rpartition("_x")
    if name in MODELS or not separator:
        slug, suffix = name, "1"
    look_up("network", slug, MODELS)
    width = float(suffix.replace("_", ".")) if re.fullmatch(r"[0-9]+(_[0-9]+)?", suffix) else 0.0
    if width <= 0:
        raise ConfigError(
            f"network {name!r}: the width {suffix!r} is no number above 0; "
            f"{slug}_x0_25, for example, is a quarter of the width"
        )
    return slug, width


def build(name: str, *, num_classes: int, in_channels: int = 3) -> nn.Module:
    """Build a network or detector by name, with fresh weights from torch's global generator.

    Raises ConfigError for an unknown name and ModelError for a count below one.
    """
    paths = MODELS
    if name in DETECTORS:
        paths, slug, width = DETECTORS, name, 1.0
    else:
        slug, width = split_width(name)
    for what, count in (("num_classes", num_classes), ("in_channels", in_channels)):
        if count < 1:
            raise ModelError(f"network {name!r}: {what} must be at least 1, not {count}")
    builder = pkgutil.resolve_name(paths[slug])
    model: nn.Module = builder(num_classes=num_classes, in_channels=in_channels, width=width)
    return model
