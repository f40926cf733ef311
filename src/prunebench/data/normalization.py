"""Means and standard deviations of normalization, as each source prints them.

All values are per channel, of images scaled to [0, 1]. "computed" marks values computed over all
pixels of a data set's training images.
"""

from __future__ import annotations

from dataclasses import dataclass

from prunebench.core.errors import ConfigError
from prunebench.core.names import look_up
from prunebench.data.info import DatasetInfo


@dataclass(frozen=True)
class Normalization:
    """(image - mean) / std, per channel."""

    mean: tuple[float, ...]
    std: tuple[float, ...]


# torchvision's values for ImageNet.
IMAGENET = Normalization((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
# SFP's and FPGM's code: the data sets' own statistics, on a scale of 0 to 255.
SFP_CIFAR10 = Normalization(
    (125.3 / 255, 123.0 / 255, 113.9 / 255), (63.0 / 255, 62.1 / 255, 66.7 / 255)
)
SFP_CIFAR100 = Normalization(
    (129.3 / 255, 124.1 / 255, 112.4 / 255), (68.2 / 255, 65.4 / 255, 70.4 / 255)
)
# computed, 205 images of 320x240
BCCD = Normalization((0.7378, 0.6967, 0.7154), (0.0603, 0.1016, 0.0752))
DIGITS = Normalization((0.2868,), (0.3536,))  # computed, 1077 images
# computed, 1200 images
DIGITS_COCO = Normalization((0.2443, 0.2455, 0.2443), (0.1553, 0.1558, 0.1555))
FASHION_MNIST = Normalization((0.2860,), (0.3530,))  # computed, 60 000 images
SYNTHETIC = Normalization((0.5, 0.5, 0.5), (0.25, 0.25, 0.25))  # approximately, by construction

NORMALIZATIONS = {
    "bccd": BCCD,
    "digits": DIGITS,
    "digits_coco": DIGITS_COCO,
    # EPruner's code. Its deviations are means over images, smaller than those over all pixels.
    "epruner_cifar10": Normalization((0.4914, 0.4822, 0.4465), (0.2023, 0.1994, 0.2010)),
    "fashion_mnist": FASHION_MNIST,
    "greg_cifar10": IMAGENET,  # GReg's code normalizes CIFAR-10 by ImageNet's statistics
    "greg_cifar100": Normalization((0.5071, 0.4867, 0.4408), (0.2675, 0.2565, 0.2761)),
    "imagenet": IMAGENET,
    "orthoreg": Normalization((0.5, 0.5, 0.5), (0.5, 0.5, 0.5)),
    "sfp_cifar10": SFP_CIFAR10,
    "sfp_cifar100": SFP_CIFAR100,
    "synthetic": SYNTHETIC,
}


def normalization(name: str, info: DatasetInfo) -> Normalization:
    """Return a normalization by name; "dataset" is the data set's own.

    Raises ConfigError for an unknown name or another number of channels.
    """
    own = Normalization(info.mean, info.std)
    found = look_up("normalization", name, {**NORMALIZATIONS, "dataset": own})
    if len(found.mean) != info.shape[0]:
        raise ConfigError(
            f"the normalization {name!r} has {len(found.mean)} channels and {info.name} has "
            f"{info.shape[0]}; `normalize: dataset` fits every data set"
        )
    return found
