"""Data sets by name; listing and describing built-in ones imports no torch.

A package adds data sets through the entry-point group prunebench.datasets, and a name with a dot is
one of the user's own (`own_data`).
"""

from __future__ import annotations

import pkgutil

from prunebench.core.errors import ConfigError, shown
from prunebench.core.own_code import is_own, name_in_paths, path_of_name
from prunebench.core.plug_ins import AND, plug_ins, registered_name, with_plug_ins
from prunebench.data.info import DatasetInfo
from prunebench.data.own_data import own_info
from prunebench.experiments.settings import ALLOWED, is_name
from prunebench.experiments.spec import DATASETS as GROUP

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
    """Return the names of the data sets, plug-ins included."""
    return list(_known())


def _known() -> dict[str, str]:
    """Return "module:object" of each data set by name."""
    return with_plug_ins(DATASETS, plug_ins(GROUP))


def is_known(name: object) -> bool:
    """Return whether a data set has this name or one of the prefixes."""
    return isinstance(name, str) and (
        name in _known() or is_own(name) or name.startswith(tuple(FAMILIES))
    )


def path_of(name: str) -> str | None:
    """Return "module:name" of a plug-in or a data set of the user's own; None for others."""
    return None if name in DATASETS else path_of_name(name, GROUP)


def dataset_info(name: str) -> DatasetInfo:
    """Return the description of a data set.

    ConfigError for an unknown or impossible name, and for one of the user's own that cannot be
    imported.
    """
    if (path := path_of(name)) is not None:
        return own_info(name_in_paths(name), path)
    for prefix, path in FAMILIES.items():
        if name.startswith(prefix):
            if not is_name(name):
                raise ConfigError(f"data set {shown(name)}: not a valid name ({ALLOWED})")
            described: DatasetInfo = pkgutil.resolve_name(path)(name)
            return described
    if AND in (path := registered_name("data set", name, _known())):
        raise ConfigError(f"two objects are registered as the data set {name!r}: {path}")
    info: DatasetInfo = pkgutil.resolve_name(path)
    return info
