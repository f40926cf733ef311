"""A folder of the user's own images as the data set `folder_<name>`.

`<name>/train/<class>/` below the data folder holds the training images, `<name>/test/<class>/` or
`<name>/val/<class>/` the test images. `<name>/dataset.yaml` overrides ImageNet's image size and
normalization. The images are read from their files during training.
"""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from pydantic import Field

from prunebench.core.errors import ConfigError, DataError
from prunebench.data import normalization
from prunebench.data.info import DatasetInfo
from prunebench.experiments.settings import Positive, Settings
from prunebench.experiments.validation import read_yaml, validate

if TYPE_CHECKING:
    from prunebench.data.listing import FileSplits

FOLDER_PREFIX = "folder_"
Side = Annotated[int, Field(ge=8)]
Colors = tuple[float, float, float]
PositiveColors = tuple[Positive, Positive, Positive]


class Description(Settings):
    """The keys of dataset.yaml."""

    title: str | None = Field(None, description="Title in tables (default: the folder's name).")
    size: Side = Field(224, description="Side of the square network input, in pixels.")
    resize: Side | None = Field(
        None,
        description="Shorter side before the center crop, in pixels (default: 8/7 of size).",
    )
    mean: Colors = Field(  # type: ignore[assignment]
        normalization.IMAGENET.mean,
        description="Mean of each color, of values in [0, 1] (default: ImageNet's).",
    )
    std: PositiveColors = Field(  # type: ignore[assignment]
        normalization.IMAGENET.std,
        description="Standard deviation of each color, of values in [0, 1] (default: ImageNet's).",
    )


def folder_info(name: str) -> DatasetInfo:
    """Describe `folder_<name>` before its folder is read.

    Until then the number of classes is 0 and the image size is ImageNet's.
    """
    folder = name.removeprefix(FOLDER_PREFIX)
    if not folder:
        raise ConfigError(f"data set {name!r}: the name of a folder in data_dir is missing")
    return DatasetInfo(
        name=name,
        title=folder,
        num_classes=0,
        shape=(3, 224, 224),
        mean=normalization.IMAGENET.mean,
        std=normalization.IMAGENET.std,
        validation=0.1,
        source=f"the folder {folder}",
        split="its folder test, or val without one",
        read=partial(read, folder),
        in_files=True,
    )


def read(folder: str, data_dir: Path) -> FileSplits:
    """List the files of a folder; raise DataError that names a missing folder or class."""
    from prunebench.data.listing import FileSplits, list_classes, list_images  # NumPy

    root = data_dir / folder
    if not root.is_dir():
        raise DataError(f"{root}: no such folder")
    file = root / "dataset.yaml"
    description = validate(Description, read_yaml(file) or {} if file.exists() else {}, str(file))
    classes = list_classes(root / "train")
    test = root / "test" if (root / "test").is_dir() else root / "val"
    if odd := set(list_classes(test)) ^ set(classes):
        raise DataError(f"{root}: the class {min(odd)!r} is not in both train and {test.name}")
    size = description.size
    return FileSplits(
        folder=root,
        classes=classes,
        train=list_images(root, [root / "train" / name for name in classes]),
        test=list_images(root, [test / name for name in classes]),
        resize=description.resize or size * 8 // 7,
        described={
            "title": description.title or folder,
            "shape": [3, size, size],
            "mean": list(description.mean),
            "std": list(description.std),
        },
    )
