"""ImageNet, the classification task of 2012: 1.28 million photographs of 1000 classes.

Russakovsky et al., ImageNet Large Scale Visual Recognition Challenge, arXiv 1409.0575. Its images
are read from their files during training: `imagenet/train/<class>/` and `imagenet/val/<class>/`
below the data folder, with one folder per WordNet ID as in PyTorch's example. Classes are numbered
in the order of their IDs, as in torchvision's weights.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from prunebench.core.errors import DataError
from prunebench.data import normalization
from prunebench.data.info import DatasetInfo

if TYPE_CHECKING:
    from prunebench.data.listing import FileSplits

CLASSES = 1000


def read(data_dir: Path) -> FileSplits:
    """List the files; raise DataError for a missing folder or a number of classes not 1000."""
    from prunebench.data.listing import FileSplits, list_classes, list_images  # NumPy

    root = data_dir / "imagenet"
    classes = list_classes(root / "train")
    if len(classes) != CLASSES:
        raise DataError(f"{root / 'train'}: holds {len(classes)} folders, expected {CLASSES}")
    train, test = (
        list_images(root, [root / split / name for name in classes]) for split in ("train", "val")
    )
    return FileSplits(
        folder=root, classes=classes, train=train, test=test, resize=256, described={}
    )


IMAGENET = DatasetInfo(
    name="imagenet",
    title="ImageNet",
    num_classes=CLASSES,
    shape=(3, 224, 224),
    mean=normalization.IMAGENET.mean,
    std=normalization.IMAGENET.std,
    validation=0.02,  # 25 624 of 1 281 167 images
    source="the folders train and val of ILSVRC 2012, resized to 256, cut to 224",
    split="the official 50 000 validation images",
    read=read,
    counts=(1_281_167, 50_000),
    places=("imagenet",),
    in_files=True,
)
