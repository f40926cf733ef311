"""The data sets by name; neither listing nor describing them imports torch."""

from __future__ import annotations

import pkgutil

from prunebench.core.names import look_up
from prunebench.data.info import DatasetInfo

DATASETS = {
    "cifar10": "prunebench.data.cifar:CIFAR10",
    "cifar100": "prunebench.data.cifar:CIFAR100",
    "digits": "prunebench.data.digits:DIGITS",
    "fashion_mnist": "prunebench.data.fashion_mnist:FASHION_MNIST",
    "synthetic": "prunebench.data.synthetic:SYNTHETIC",
}


def names() -> list[str]:
    """Return the names of the data sets."""
    return sorted(DATASETS)


def dataset_info(name: str) -> DatasetInfo:
    """Return a data set's description; ConfigError for an unknown name."""
    info: DatasetInfo = pkgutil.resolve_name(look_up("data set", name, DATASETS))
    return info
