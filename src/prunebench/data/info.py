"""The description of a data set, known without reading it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from prunebench.core.errors import ConfigError
from prunebench.data.split import HeldOut, stratified
from prunebench.experiments.metric import Task
from prunebench.experiments.recipe import Augment

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from prunebench.data.boxed_source import BoxedSplits
    from prunebench.data.listing import FileSplits


@dataclass(frozen=True, kw_only=True)
class RawSplits:
    """The arrays of a source: images uint8 (N, C, h, w), labels int64 (N,)."""

    train_images: NDArray[np.uint8]
    train_labels: NDArray[np.int64]
    test_images: NDArray[np.uint8]
    test_labels: NDArray[np.int64]
    classes: tuple[str, ...] = ()  # names by label, if only the source knows them
    described: dict[str, Any] = field(default_factory=dict)  # fields that replace the info's

    def hold_out(self, fraction: float) -> HeldOut:
        """Hold out a fraction of the training images, stratified by class."""
        return stratified(self.train_labels, fraction, self.classes)

    def arrays(
        self, kept: NDArray[np.int64], held_out: NDArray[np.int64]
    ) -> dict[str, NDArray[Any]]:
        """Return the stored arrays by key: training, validation and test split."""
        return {
            "train_images": self.train_images[kept],
            "train_labels": self.train_labels[kept],
            "val_images": self.train_images[held_out],
            "val_labels": self.train_labels[held_out],
            "test_images": self.test_images,
            "test_labels": self.test_labels,
        }

    def metadata(self) -> dict[str, Any]:
        """Return the stored metadata beside the arrays."""
        classes = {"classes": list(self.classes)} if self.classes else {}
        return classes | ({"described": self.described} if self.described else {})


@dataclass(frozen=True, kw_only=True)
class DatasetInfo:
    """The description of a data set.

    Attributes
    ----------
    shape
        Channels, height and width of an image. In detection images differ in size: the input for
        which costs are counted.
    mean, std
        Per channel, of the training images scaled to [0, 1].
    validation
        Default fraction of the training images that is held out for validation. The papers hold
        out none and select epochs on the test split.
    source
        Origin of the images, in words.
    split
        Origin of the test split, in words.
    read
        Reads the source, given the folder of all data sets; raises DataError.
    in_files
        Whether images are read from their files during training.
    mirrors
        Whether a mirrored image (left to right) still belongs to its class.
    classes
        Names of the classes by label; empty until a source that defines them is read.
    resize
        Shorter side in pixels before the center crop of evaluation; None: images are not resized.
        In detection the largest longer and shorter side, to which images are scaled as a whole.
    task
        Whether an image has one class or any number of boxes.
    counts
        Numbers of training images, those held out included, and of test images; None: known only
        when the source is read.
    places
        Names in the folder of all data sets of which one must be there; empty for sources that are
        generated or downloaded.
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
    read: Callable[[Path], RawSplits | FileSplits | BoxedSplits] = field(repr=False, compare=False)
    in_files: bool = False
    mirrors: bool = True
    classes: tuple[str, ...] = ()
    resize: int | tuple[int, int] | None = None
    task: Task = "classification"
    counts: tuple[int, int] | None = None
    places: tuple[str, ...] = ()

    def check_augmentation(self, augment: Augment) -> None:
        """Raise ConfigError for an augmentation that these images do not support."""
        if self.task == "detection" and augment != Augment(flip=augment.flip):
            raise ConfigError(
                f"{self.name} supports no other augmentation than flip: its boxes move with the "
                "image"
            )
        if not self.in_files and augment.needs_files:
            raise ConfigError(
                f"{self.name} does not support resized_crop, random_crop or jitter: its images are "
                "stored as tensors; supported are crop_padding, flip, lighting and cutout"
            )
        if augment.lighting and self.shape[0] != 3:
            raise ConfigError(f"lighting needs color images, but {self.name} has grayscale images")
