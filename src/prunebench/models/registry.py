"""Networks by name; listing them imports no torch.

A suffix scales all widths, as in torchvision's names: `vgg16_x0_25` has a quarter of the channels
in every layer. A package adds networks through the entry-point group prunebench.networks, and a
name with a dot is a function of the user's own (`core.own_code`): both have one width.
"""

from __future__ import annotations

import importlib
import re
from typing import TYPE_CHECKING, NamedTuple

from prunebench.core.errors import ConfigError, ModelError, shown
from prunebench.core.own_code import (
    call_with_known,
    is_own,
    own_function,
    path_of_name,
    taken_arguments,
)
from prunebench.core.plug_ins import AND, plug_ins, registered_name, with_plug_ins
from prunebench.experiments.spec import NETWORKS

if TYPE_CHECKING:
    from torch import nn

LARGEST_WIDTH = 16
_ARGUMENTS = (("num_classes", "in_channels"), ("num_classes",))  # of a user's function; needed ones
# Each network and the file of its family, whose table NETWORKS holds the builder.
MODELS = {
    "alexnet": "caffe",
    "atss_r18_fpn": "detection.atss",
    "atss_r50_fpn": "detection.atss",
    "convnet": "caffe",
    "faster_rcnn_r18_fpn": "detection.faster_rcnn",
    "faster_rcnn_r50_fpn": "detection.faster_rcnn",
    "fasterrcnn_resnet50_fpn": "detection.from_torchvision",
    "fcos_resnet50_fpn": "detection.from_torchvision",
    "fsaf_r18_fpn": "detection.fsaf",
    "fsaf_r50_fpn": "detection.fsaf",
    "googlenet": "googlenet",
    "lenet5": "caffe",
    "mobilenet_v1": "mobilenet",
    "mobilenet_v2": "mobilenet_v2",
    "paa_r18_fpn": "detection.paa",
    "paa_r50_fpn": "detection.paa",
    "regnetx_0_2gf": "regnet",
    "regnetx_0_4gf": "regnet",
    "regnetx_0_8gf": "regnet",
    "regnetx_1_6gf": "regnet",
    "regnetx_3_2gf": "regnet",
    "resnet101": "resnet",
    "resnet110": "cifar_resnet",
    "resnet110_projection": "cifar_resnet",
    "resnet152": "resnet",
    "resnet18": "resnet",
    "resnet20": "cifar_resnet",
    "resnet20_projection": "cifar_resnet",
    "resnet32": "cifar_resnet",
    "resnet32_projection": "cifar_resnet",
    "resnet34": "resnet",
    "resnet34_cifar": "resnet",
    "resnet44": "cifar_resnet",
    "resnet50": "resnet",
    "resnet50_caffe": "resnet",
    "resnet56": "cifar_resnet",
    "resnet56_projection": "cifar_resnet",
    "resnext50_32x4d": "resnet",
    "retinanet_r18_fpn": "detection.retinanet",
    "retinanet_r50_fpn": "detection.retinanet",
    "retinanet_resnet50_fpn": "detection.from_torchvision",
    "ssdlite320_mobilenet_v3_large": "detection.from_torchvision",
    "vgg13": "vgg",
    "vgg16": "vgg",
    "vgg16_imagenet": "vgg",
    "vgg19": "vgg",
}


class BuiltAs(NamedTuple):
    """The arguments of `build`, which the network keeps as the attribute `built_as`."""

    name: str
    num_classes: int
    in_channels: int


def names() -> list[str]:
    """Return the names of the networks at width 1, plug-ins included."""
    return list(_known())


def _known() -> dict[str, str]:
    """Return the file of a built-in network, or "module:function", by name."""
    return with_plug_ins(MODELS, plug_ins(NETWORKS))


def function_of(name: str) -> str | None:
    """Return "module:function" of a plug-in or a network of the user's own; None for others."""
    return None if name in MODELS else path_of_name(name, NETWORKS)


def is_detector(name: str) -> bool:
    """Whether a network, with or without a width, finds boxes instead of classifying images.

    Raises ConfigError as `split_width` does.

    >>> is_detector("retinanet_r18_fpn_x0_25"), is_detector("vgg16")
    (True, False)
    """
    return MODELS.get(split_width(name)[0], "").startswith("detection.")


def has_widths(slug: str) -> bool:
    """Whether a suffix may scale the network: not torchvision's own detectors and plug-ins."""
    return slug in MODELS and MODELS[slug] != "detection.from_torchvision"


def split_width(name: str) -> tuple[str, float]:
    """Return a network's name and width factor.

    Raises ConfigError for an unknown network, an invalid width, and a width of a network that has
    only one.

    >>> split_width("vgg16_x0_25"), split_width("resnet56")
    (('vgg16', 0.25), ('resnet56', 1.0))
    """
    if is_own(name):
        return name, 1.0
    known = _known()
    slug, separator, suffix = name.rpartition("_x")
    if name in known or not separator:
        slug, suffix = name, "1"
    path = registered_name("network", slug, known)
    if AND in path:
        raise ConfigError(f"two functions are registered as the network {slug!r}: {path}")
    width = float(suffix.replace("_", ".")) if re.fullmatch(r"[0-9]+(_[0-9]+)?", suffix) else 0.0
    if not 0 < width <= LARGEST_WIDTH:
        raise ConfigError(
            f"network {name!r}: the width {suffix!r} is not a number above 0 and at most "
            f"{LARGEST_WIDTH}; "
            f"for example, {slug}_x0_25 has a quarter of the width"
        )
    if width != 1 and not has_widths(slug):
        raise ConfigError(f"network {name!r}: {slug} has one width; leave out '_x{suffix}'")
    return slug, width


def build(name: str, *, num_classes: int, in_channels: int = 3) -> nn.Module:
    """Build a network by name, with fresh weights from torch's global generator.

    Raises ConfigError for an unknown name and for a function that cannot be imported or called, and
    ModelError for a count below one and for a function that returns no network.
    """
    slug, width = split_width(name)
    for what, count in (("num_classes", num_classes), ("in_channels", in_channels)):
        if count < 1:
            raise ModelError(f"network {name!r}: {what} must be at least 1, not {count}")
    if (path := function_of(slug)) is not None:
        model = _built_by(path, num_classes, in_channels)
    else:
        family = importlib.import_module(f"prunebench.models.{MODELS[slug]}")
        builder = family.NETWORKS[slug]
        model = builder(num_classes=num_classes, in_channels=in_channels, width=width)
    vars(model).update(built_as=BuiltAs(name, num_classes, in_channels))
    return model


def check_function(name: str) -> None:
    """Raise ConfigError if the function of a network cannot be imported, or called as by `build`.

    Built-in networks pass.
    """
    if (path := function_of(name)) is not None:
        taken_arguments(own_function(path, "network"), path, "network", *_ARGUMENTS)


def _built_by(path: str, num_classes: int, in_channels: int) -> nn.Module:
    """Call the function of a network with those of both numbers that it takes."""
    from torch import nn

    known, needed = {"num_classes": num_classes, "in_channels": in_channels}, _ARGUMENTS[1]
    model = call_with_known(own_function(path, "network"), path, "network", known, needed)
    if not isinstance(model, nn.Module):
        raise ModelError(f"network {path}: it returns {shown(model)}, which is no torch.nn.Module")
    return model


def built_as(model: nn.Module) -> BuiltAs | None:
    """Return the arguments that a network, or what was pruned from it, was built with.

    None for a network that `build` has not built.
    """
    found = vars(model).get("built_as")
    return found if isinstance(found, BuiltAs) else None
