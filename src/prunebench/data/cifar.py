"""CIFAR-10 and CIFAR-100: 60 000 small photographs each, 32x32 pixels, 10 or 100 classes.

A. Krizhevsky, Learning Multiple Layers of Features from Tiny Images, 2009. The data folder may hold
the folder of the "python version" (cifar-10-batches-py, cifar-100-python); otherwise torchvision
downloads it. The files are pickles, which can execute code, so they are opened only after their
MD5 matched torchvision's table.
"""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

import numpy as np

from prunebench.core.errors import DataError
from prunebench.data import normalization
from prunebench.data.info import DatasetInfo, RawSplits


def read_cifar10(data_dir: Path) -> RawSplits:
    """Read or download CIFAR-10."""
    from torchvision.datasets import CIFAR10  # seconds, and torch

    return read(data_dir, CIFAR10)


def read_cifar100(data_dir: Path) -> RawSplits:
    """Read or download CIFAR-100, with its 100 fine classes."""
    from torchvision.datasets import CIFAR100  # seconds, and torch

    return read(data_dir, CIFAR100)


def read(data_dir: Path, source: Any) -> RawSplits:
    """Read a torchvision data set; raise DataError that names a missing or damaged file."""
    folder = data_dir / source.base_folder
    if folder.is_dir():
        check_files(folder, source)
    try:
        train, test = source(data_dir, train=True, download=True), source(data_dir, train=False)
    except (OSError, RuntimeError) as error:
        raise DataError(
            f"{source.__name__} is not in {folder}, and its download failed "
            f"({' '.join(str(error).split())}); put the folder {source.base_folder} or the file "
            f"{source.filename} into {data_dir}"
        ) from None
    return RawSplits(
        train_images=train.data.transpose(0, 3, 1, 2),  # torchvision has channels last
        train_labels=np.array(train.targets, dtype=np.int64),
        test_images=test.data.transpose(0, 3, 1, 2),
        test_labels=np.array(test.targets, dtype=np.int64),
    )


def check_files(folder: Path, source: Any) -> None:
    """Raise DataError that names the first file whose MD5 differs from torchvision's table."""
    table = [*source.train_list, *source.test_list, (source.meta["filename"], source.meta["md5"])]
    for name, expected in table:
        path = folder / name
        again = f"delete the folder {folder} to have it downloaded again"
        if not path.is_file():
            raise DataError(f"{folder}: {name} is missing; {again}")
        with path.open("rb") as file:
            found = hashlib.file_digest(file, "md5").hexdigest()
        if found != expected:
            raise DataError(f"{path}: MD5 is {found}, expected {expected}; {again}")


CIFAR10 = DatasetInfo(
    name="cifar10",
    title="CIFAR-10",
    num_classes=10,
    shape=(3, 32, 32),
    mean=normalization.SFP_CIFAR10.mean,
    std=normalization.SFP_CIFAR10.std,
    validation=0.1,
    source="the University of Toronto's cifar-10-python.tar.gz",
    split="the official 10 000 test images",
    read=read_cifar10,
)

CIFAR100 = DatasetInfo(
    name="cifar100",
    title="CIFAR-100",
    num_classes=100,
    shape=(3, 32, 32),
    mean=normalization.SFP_CIFAR100.mean,
    std=normalization.SFP_CIFAR100.std,
    validation=0.1,
    source="the University of Toronto's cifar-100-python.tar.gz, fine labels",
    split="the official 10 000 test images",
    read=read_cifar100,
)
