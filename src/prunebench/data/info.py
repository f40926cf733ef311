"""What is known about a data set without reading it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray


@dataclass(frozen=True, kw_only=True)
class RawSplits:
    """A source as it was read: images uint8 (N, C, h, w), labels int64 (N,)."""

    train_images: NDArray[np.uint8]
    train_labels: NDArray[np.int64]
    test_images: NDArray[np.uint8]
    test_labels: NDArray[np.int64]


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
    read: Callable[[Path], RawSplits] = field(repr=False, compare=False)
