"""Tiny-ImageNet: 110 000 photographs of 200 classes, 64x64 pixels.

The data set of Stanford's course CS231n, read from the folder `tiny-imagenet-200` in the data
folder. Training images are in `train/<class>/images/`, validation images in `val/images/`, with
their classes in `val/val_annotations.txt`. The official test images have no labels, so the
validation images are the test split here.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

from prunebench.core.errors import DataError
from prunebench.data import normalization
from prunebench.data.info import DatasetInfo, RawSplits
from prunebench.data.named_files import path_below, read_names

FOLDER = "tiny-imagenet-200"
SIDE = 64


def read(data_dir: Path) -> RawSplits:
    """Decode all images; raise DataError that names a missing or damaged file."""
    from prunebench.data.decoding import decode  # Pillow

    root = data_dir / FOLDER
    if not root.is_dir():
        raise DataError(f"{root}: no such folder; unpack {FOLDER}.zip of CS231n there")
    classes = sorted(read_names(root / "wnids.txt"))
    number = {name: label for label, name in enumerate(classes)}
    train: list[tuple[Path, int]] = []
    for name, label in number.items():
        folder = root / "train" / path_below(name, str(root / "wnids.txt")) / "images"
        found = sorted(folder.glob("*.JPEG"))
        if not found:
            raise DataError(f"{folder}: holds no .JPEG files")
        train += [(path, label) for path in found]
    test = read_annotations(root / "val", number)
    return RawSplits(
        train_images=decode([path for path, _ in train], SIDE),
        train_labels=np.array([label for _, label in train], dtype=np.int64),
        test_images=decode([path for path, _ in test], SIDE),
        test_labels=np.array([label for _, label in test], dtype=np.int64),
        classes=tuple(classes),
    )


def read_annotations(folder: Path, number: dict[str, int]) -> list[tuple[Path, int]]:
    """Return the validation images and their labels.

    A line has the file, its class and the four numbers of a box, separated by tabs.
    """
    path = folder / "val_annotations.txt"
    found = []
    for line in read_names(path):
        name, _, rest = line.partition("\t")
        wnid = rest.partition("\t")[0]
        if wnid not in number:
            raise DataError(f"{path}: {name!r} has class {wnid!r}, which is not in wnids.txt")
        found.append((folder / "images" / path_below(name, str(path)), number[wnid]))
    return found


TINY_IMAGENET = DatasetInfo(
    name="tiny_imagenet",
    title="Tiny-ImageNet",
    num_classes=200,
    shape=(3, SIDE, SIDE),
    mean=normalization.IMAGENET.mean,
    std=normalization.IMAGENET.std,
    validation=0.1,
    source="the folder tiny-imagenet-200 of Stanford's CS231n",
    split="the official 10 000 validation images; the official test images have no labels",
    read=read,
    counts=(100_000, 10_000),
    places=(FOLDER,),
)
