"""What is known about a data set without reading it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from prunebench.core.errors import ConfigError
from prunebench.experiments.recipe import Augment

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from prunebench.data.listing import FileSplits


@dataclass(frozen=True, kw_only=True)
class RawSplits:
    """A source as it was read: images uint8 (N, C, h, w), labels int64 (N,)."""

    train_images: NDArray[np.uint8]
    train_labels: NDArray[np.int64]
    test_images: NDArray[np.uint8]
    test_labels: NDArray[np.int64]

    def arrays(
        self, kept: NDArray[np.int64], held_out: NDArray[np.int64]
    ) -> dict[str, NDArray[Any]]:
        """Return what the data stage stores, by key: training images of two kinds, test images."""
        return {
            "train_images": self.train_images[kept],
            "train_labels": self.train_labels[kept],
            "val_images": self.train_images[held_out],
            "val_labels": self.train_labels[held_out],
            "test_images": self.test_images,
            "test_labels": self.test_labels,
        }

    def metadata(self) -> dict[str, Any]:
        """Return what the data stage stores beside that: nothing."""
        return {}


@dataclass(frozen=True, kw_only=True)
class DatasetInfo:
    """The description of a data set.

    Attributes
    ----------
    shape
        Channels, height and width of an image.
    mean, std
        Per channel, of the training images scaled to [0, 1].
    validation
        Fraction of the training images that is held out unless the caller says otherwise. The
        papers hold out none: they choose epochs by the test split.
    source
        Where the images come from, in a sentence.
    split
        Who chose the test split, in a sentence.
    read
        Reads the source, given the folder of all data sets; raises DataError.
    in_files
        Whether its images stay in their files and are read while a network trains.
    mirrors
        Whether an image mirrored left to right is one of its class.
    """

    name: str
    title: str
    num_classes: int
    shape: tuple[int, int, int]
    mean: tuple[float, ...]
    std: tuple[float, ...]
    validation: float
    source: str
    split: str
    read: Callable[[Path], RawSplits | FileSplits] = field(repr=False, compare=False)
    in_files: bool = False
    mirrors: bool = True

    def check_augmentation(self, augment: Augment) -> None:
        """Raise ConfigError for an augmentation that these images cannot have."""
        if not self.in_files and augment.needs_files:
            raise ConfigError(
                "resized_crop, random_crop and jitter are for data sets of image files, and "
                f"{self.name} lies on the device; crop_padding, flip, lighting and cutout are done "
                "there"
            )
        if augment.lighting and self.shape[0] != 3:
            raise ConfigError(f"lighting is for colour images, and {self.name} is grey")
