"""Data sets by name; listing and describing them imports no torch."""

from __future__ import annotations

import pkgutil

from prunebench.core.errors import ConfigError, shown
from prunebench.core.names import look_up
from prunebench.data.info import DatasetInfo
from prunebench.experiments.settings import ALLOWED, is_name

DATASETS = {
    "bccd": "prunebench.data.bccd:BCCD",
    "cifar10": "prunebench.data.cifar:CIFAR10",
    "cifar100": "prunebench.data.cifar:CIFAR100",
    "cifar100_other": "prunebench.data.cifar:CIFAR100_OTHER",
    "cifar10_other": "prunebench.data.cifar:CIFAR10_OTHER",
    "coco": "prunebench.data.coco:COCO",
    "digits": "prunebench.data.digits:DIGITS",
    "digits_coco": "prunebench.data.digits_coco:DIGITS_COCO",
    "fashion_mnist": "prunebench.data.fashion_mnist:FASHION_MNIST",
    "imagenet": "prunebench.data.imagenet:IMAGENET",
    "synthetic": "prunebench.data.synthetic:SYNTHETIC",
    "tiny_imagenet": "prunebench.data.tiny_imagenet:TINY_IMAGENET",
}
# prefix -> function that describes a data set by the rest of its name
FAMILIES = {
    "coco_": "prunebench.data.coco:coco_info",
    "folder_": "prunebench.data.folder:folder_info",
    "synthetic_": "prunebench.data.synthetic:synthetic_info",
}


def names() -> list[str]:
    """Return the names of the data sets."""
    return sorted(DATASETS)


def is_known(name: object) -> bool:
    """Return whether a data set has this name or one of the prefixes."""
    return name in DATASETS or (isinstance(name, str) and name.startswith(tuple(FAMILIES)))


def dataset_info(name: str) -> DatasetInfo:
    """Return the description of a data set; ConfigError for an unknown or impossible name."""
    for prefix, path in FAMILIES.items():
        if name.startswith(prefix):
            if not is_name(name):
                raise ConfigError(f"data set {shown(name)}: not a valid name ({ALLOWED})")
            described: DatasetInfo = pkgutil.resolve_name(path)(name)
            return described
    info: DatasetInfo = pkgutil.resolve_name(look_up("data set", name, DATASETS))
    return info
