"""A source of images with boxes: the arrays of its splits, before they are stored.

Coordinates are in pixels of the original image. Arrays of boxes are padded to the largest number of
boxes of an image: padding has the label -1.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from prunebench.data.conversion_progress import counted
from prunebench.data.decoding import open_rgb, scale_image
from prunebench.data.listing import packed
from prunebench.data.split import HeldOut, stratified

DIVISOR = 32  # of a padded input: the largest stride of the networks
MOST_BYTES = 2**29  # of images that are stored as tensors
QUARTERS = 4  # strata of the number of boxes


@dataclass(frozen=True, slots=True)
class Box:
    """A box of an image: its corners x1, y1, x2, y2, class, area, and whether it holds a crowd."""

    corners: tuple[float, float, float, float]
    label: int
    area: float
    crowd: bool = False


@dataclass(frozen=True)
class BoxedFile:
    """An image file with the height and width of its image, and its boxes."""

    path: Path
    size: tuple[int, int]
    boxes: tuple[Box, ...]


def scaled_size(size: tuple[int, int], resize: tuple[int, int]) -> tuple[int, int]:
    """Return the height and width of an image after it was scaled to (longest, shorter) side.

    The image is as large as both limits allow, and the aspect is kept. Halves are rounded up, as in
    MMDetection.

    >>> scaled_size((480, 640), (1333, 800)), scaled_size((427, 640), (1333, 800))
    ((800, 1067), (800, 1199))
    >>> scaled_size((480, 640), (320, 240)), scaled_size((100, 400), (1333, 800))
    ((240, 320), (333, 1333))
    """
    longest, shorter = resize
    scale = min(longest / max(size), shorter / min(size))
    return max(1, int(size[0] * scale + 0.5)), max(1, int(size[1] * scale + 0.5))


def padded_side(pixels: int) -> int:
    """Return the side of an input that holds this many pixels, a multiple of 32.

    >>> padded_side(240), padded_side(256)
    (256, 256)
    """
    return -(-pixels // DIVISOR) * DIVISOR


def input_shape(size: tuple[int, int] | None, resize: tuple[int, int]) -> tuple[int, int, int]:
    """Return the input for which costs are counted.

    `size` is the height and width of all images; None: they differ. Then it is a landscape of the
    aspect 16:10, as in MMDetection's counts for COCO.

    >>> input_shape((480, 640), (320, 240)), input_shape(None, (1333, 800))
    ((3, 256, 320), (3, 800, 1280))
    """
    if size is not None:
        h, w = scaled_size(size, resize)
        return 3, padded_side(h), padded_side(w)
    longest, shorter = resize
    return 3, padded_side(shorter), min(padded_side(longest), padded_side(shorter * 16 // 10))


def common_size(files: Iterable[BoxedFile]) -> tuple[int, int] | None:
    """Return the height and width that all images have, or None if two of them differ."""
    sizes = {file.size for file in files}
    return sizes.pop() if len(sizes) == 1 else None


@dataclass(frozen=True, kw_only=True)
class BoxedSplits:
    """The arrays of a source of images with boxes.

    Attributes
    ----------
    training, test
        Arrays by name with a row per image: `box_arrays`, and either "images" (uint8, scaled and
        padded) or "files" and "bytes" as in `listing.FileList`.
    validation
        Number of training images, the last ones, that the source itself uses for validation; None:
        it does not say.
    about
        The stored metadata beside the arrays.
    """

    training: dict[str, NDArray[Any]]
    test: dict[str, NDArray[Any]]
    validation: int | None
    about: dict[str, Any]

    def hold_out(self, fraction: float) -> HeldOut:
        """Hold out the source's own validation images, or a fraction of the training images.

        The fraction is stratified by quarters of the number of boxes, or fewer parts if it is a few
        images. A fraction of 0 holds out nothing; then the source's own validation images are not
        used.
        """
        total = len(self.training["labels"])
        if self.validation is None:
            counts = (self.training["labels"] >= 0).sum(axis=1)
            ranks = np.empty(total, np.int64)
            ranks[np.argsort(counts, kind="stable")] = np.arange(total)
            parts = min(QUARTERS, max(1, int(total * min(fraction, 1 - fraction))))
            return stratified(ranks * parts // total, fraction)
        own = np.arange(total - self.validation, total)
        kept = np.arange(total - self.validation)
        if fraction == 0:
            return HeldOut(kept, own[:0], 0.0, f"its {len(own)} validation images are not used")
        words = f"{len(own)} validation images are the source's own"
        return HeldOut(kept, own, len(own) / total, words)

    def arrays(
        self, kept: NDArray[np.int64], held_out: NDArray[np.int64]
    ) -> dict[str, NDArray[Any]]:
        """Return the stored arrays by key: training, validation and test split."""
        return {
            **{f"train_{name}": array[kept] for name, array in self.training.items()},
            **{f"val_{name}": array[held_out] for name, array in self.training.items()},
            **{f"test_{name}": array for name, array in self.test.items()},
        }

    def metadata(self) -> dict[str, Any]:
        """Return the stored metadata beside the arrays."""
        return self.about


def boxed_splits(
    folder: Path,
    *,
    classes: Sequence[str],
    train: Sequence[BoxedFile],
    val: Sequence[BoxedFile] | None,
    test: Sequence[BoxedFile],
    resize: tuple[int, int],
    described: Mapping[str, Any],
    odd_boxes: Mapping[str, int],
) -> BoxedSplits:
    """Read the images of a source, or list them if they differ in size or are many and large.

    Parameters
    ----------
    folder
        Folder that holds the images.
    val
        The source's own validation images; None: it has none.
    resize
        Largest longer and shorter side of an input, in pixels.
    described
        Fields that replace those of the source's `DatasetInfo`, beside those of every source.
    odd_boxes
        Number of boxes that were clipped to their image, and that were skipped.
    """
    training = [*train, *(val or ())]
    size = common_size([*training, *test])
    shape = input_shape(size, resize)
    in_files = size is None or (len(training) + len(test)) * math.prod(shape) > MOST_BYTES

    def arrays(files: Sequence[BoxedFile]) -> dict[str, NDArray[Any]]:
        if not in_files:
            return {"images": decode_scaled(files, resize), **box_arrays(files)}
        names = packed([str(file.path.relative_to(folder)) for file in files])
        sizes = np.array([file.path.stat().st_size for file in files], np.int64)
        return {"files": names, "bytes": sizes, **box_arrays(files)}

    own = {"shape": list(shape), "resize": list(resize), "in_files": in_files}
    return BoxedSplits(
        training=arrays(training),
        test=arrays(test),
        validation=None if val is None else len(val),
        about={
            "classes": list(classes),
            "described": own | dict(described),
            "odd_boxes": dict(odd_boxes),
            **({"folder": str(folder.resolve())} if in_files else {}),
        },
    )


def box_arrays(files: Sequence[BoxedFile]) -> dict[str, NDArray[Any]]:
    """Return the sizes (N, 2) and boxes (N, M, 4) of images, and their labels, areas and crowds.

    M is the largest number of boxes of an image, at least 1.
    """
    n, most = len(files), max([1, *(len(file.boxes) for file in files)])
    boxes, areas = np.zeros((n, most, 4)), np.zeros((n, most))
    labels, crowd = np.full((n, most), -1, np.int64), np.zeros((n, most), np.bool_)
    for row, file in enumerate(files):
        for place, box in enumerate(file.boxes):
            boxes[row, place], labels[row, place] = box.corners, box.label
            areas[row, place], crowd[row, place] = box.area, box.crowd
    sizes = np.array([file.size for file in files], np.int64).reshape(n, 2)
    return {"sizes": sizes, "boxes": boxes, "labels": labels, "areas": areas, "crowd": crowd}


def decode_scaled(files: Sequence[BoxedFile], resize: tuple[int, int]) -> NDArray[np.uint8]:
    """Decode images of one size as uint8 (N, 3, h, w), scaled, with black at the right and bottom.

    Raises DataError that names a damaged image or one of another size.
    """
    shape = input_shape(files[0].size, resize)
    images = np.zeros((len(files), *shape), np.uint8)
    for row, file in enumerate(counted(files, "read")):
        image = open_rgb(file.path, file.path.read_bytes(), file.size)
        h, w = size = scaled_size(file.size, resize)
        images[row, :, :h, :w] = np.asarray(scale_image(image, size)).transpose(2, 0, 1)
    return images
