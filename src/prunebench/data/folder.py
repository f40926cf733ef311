"""A folder of the user's own images as the data set `folder_<name>`.

`<name>/train/<class>/` below the data folder holds the training images, `<name>/test/<class>/` or
`<name>/val/<class>/` the test images. `<name>/dataset.yaml` overrides ImageNet's image size and
normalization. The images are read from their files during training, unless all are squares of the
network's size and at most 64 pixels: these are stored as tensors, and nothing is resized.
"""

from __future__ import annotations

from functools import partial
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from pydantic import Field

from prunebench.core.errors import ConfigError, DataError
from prunebench.data import normalization
from prunebench.data.info import DatasetInfo, RawSplits
from prunebench.experiments.recipe import MOST_PIXELS
from prunebench.experiments.settings import Positive, Settings
from prunebench.experiments.validation import validate
from prunebench.experiments.yaml_file import read_yaml

if TYPE_CHECKING:
    from prunebench.data.listing import FileSplits

FOLDER_PREFIX = "folder_"
IMAGENET_SIDE = 224  # pixels
SMALL = 64  # pixels; equal images of at most this side are kept in memory
Side = Annotated[int, Field(ge=8, le=MOST_PIXELS)]
Colors = tuple[float, float, float]
PositiveColors = tuple[Positive, Positive, Positive]


class Description(Settings):
    """The keys of dataset.yaml."""

    title: str | None = Field(None, description="Title in tables (default: the folder's name).")
    size: Side | None = Field(
        None,
        description=(
            "Side of the square network input, in pixels (default: the shorter side of the images "
            "if all have the same size and it is at most 224, else 224)."
        ),
    )
    resize: Side | None = Field(
        None,
        description=(
            "Shorter side before the center crop, in pixels (default: no resize if all images "
            "have this size, else 8/7 of size)."
        ),
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
        shape=(3, IMAGENET_SIDE, IMAGENET_SIDE),
        mean=normalization.IMAGENET.mean,
        std=normalization.IMAGENET.std,
        validation=0.1,
        source=f"the folder {folder}",
        split="its folder test, or val without one",
        read=partial(read, folder),
        places=(folder,),
        in_files=True,
    )


def read(folder: str, data_dir: Path) -> FileSplits | RawSplits:
    """List the files of a folder, or decode them if they are equally small.

    Raises DataError that names a missing folder or class.
    """
    from prunebench.data.decoding import common_size, decode  # Pillow
    from prunebench.data.listing import FileSplits, list_classes, list_images, unpacked

    root = data_dir / folder
    if not root.is_dir():
        raise DataError(f"{root}: no such folder")
    file = root / "dataset.yaml"
    description = validate(Description, read_yaml(file) or {} if file.exists() else {}, str(file))
    classes = list_classes(root / "train")
    if len(classes) < 2:
        raise DataError(f"{root / 'train'}: the only class is {classes[0]!r}, expected 2 or more")
    test = root / "test" if (root / "test").is_dir() else root / "val"
    if odd := set(list_classes(test)) ^ set(classes):
        raise DataError(f"{root}: the class {min(odd)!r} is not in both train and {test.name}")
    splits = [
        list_images(root, [folder / name for name in classes]) for folder in (root / "train", test)
    ]
    paths = [[root / unpacked(name) for name in files.names] for files in splits]
    found = common_size([*chain(*paths)])
    size, resize = sizes(description, found)
    if resize < size:
        raise ConfigError(f"{file}: resize: {resize} is smaller than size, {size}")
    is_small = found == (size, size) and resize == size <= SMALL
    described = {
        "title": description.title or folder,
        "shape": [3, size, size],
        "mean": list(description.mean),
        "std": list(description.std),
        "in_files": not is_small,
    }
    if not is_small:
        return FileSplits(
            folder=root,
            classes=classes,
            train=splits[0],
            test=splits[1],
            resize=resize,
            described=described,
        )
    return RawSplits(
        train_images=decode(paths[0], size),
        train_labels=splits[0].labels,
        test_images=decode(paths[1], size),
        test_labels=splits[1].labels,
        classes=classes,
        described=described,
    )


def sizes(description: Description, found: tuple[int, int] | None) -> tuple[int, int]:
    """Return the side of the network's input, and the shorter side before the center crop.

    `found` is the height and width of all images; None: they differ.

    >>> sizes(Description(), (32, 32)), sizes(Description(), (256, 300)), sizes(Description(), None)
    ((32, 32), (224, 256), (224, 256))
    >>> sizes(Description(size=32), (32, 32)), sizes(Description(size=32), (64, 64))
    ((32, 32), (32, 36))
    """
    shorter = min(found) if found else None
    is_input = shorter is not None and shorter <= IMAGENET_SIDE
    size = description.size or (shorter if is_input else None) or IMAGENET_SIDE
    return size, description.resize or (size if size == shorter else size * 8 // 7)
