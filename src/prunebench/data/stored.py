"""What the file of a prepared data set holds of each split, by the kind of data set.

A kind is the task and whether images are read from their files. Its arrays have the keys
`<split>_<array>`, and each has one row per image.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from prunebench.core.errors import DataError
from prunebench.data.info import DatasetInfo

# A type and a shape.
Form = tuple[torch.dtype, tuple[int, ...]]
# The arrays of one split by name.
Arrays = Mapping[str, Tensor]


@dataclass(frozen=True)
class Kind:
    """What is stored of a split.

    Attributes
    ----------
    forms
        Returns the types and shapes of the arrays of a split.
    check
        Raises DataError for values that are no labels or boxes; takes the arrays, the description,
        the beginning of the message, and whether the split may lack a class.
    metadata
        Keys that the file's metadata must have beside those of every data set.
    """

    forms: Callable[[Arrays, DatasetInfo], dict[str, Form]]
    check: Callable[[Arrays, DatasetInfo, str, bool], None]
    metadata: tuple[str, ...] = ()


def kind_of(info: DatasetInfo) -> Kind:
    """Return the kind of a data set."""
    return KINDS[info.task, info.in_files]


def _labeled_images(arrays: Arrays, info: DatasetInfo) -> dict[str, Form]:
    labels = arrays["labels"]
    return {
        "images": (torch.uint8, (len(labels), *info.shape)),
        "labels": (torch.int64, (labels.numel(),)),
    }


def _labeled_files(arrays: Arrays, info: DatasetInfo) -> dict[str, Form]:
    labels = arrays["labels"]
    return {**_files(arrays), "labels": (torch.int64, (labels.numel(),))}


def _boxed_images(arrays: Arrays, info: DatasetInfo) -> dict[str, Form]:
    n = len(arrays["labels"])
    return {"images": (torch.uint8, (n, *info.shape)), **_boxes(arrays)}


def _boxed_files(arrays: Arrays, info: DatasetInfo) -> dict[str, Form]:
    return {**_files(arrays), **_boxes(arrays)}


def _files(arrays: Arrays) -> dict[str, Form]:
    n = len(arrays["labels"])
    longest = arrays["files"].shape[-1] if "files" in arrays else 0
    return {"files": (torch.uint8, (n, longest)), "bytes": (torch.int64, (n,))}


def _boxes(arrays: Arrays) -> dict[str, Form]:
    n, most = len(arrays["labels"]), arrays["labels"].shape[-1]
    return {
        "sizes": (torch.int64, (n, 2)),
        "boxes": (torch.float64, (n, most, 4)),
        "labels": (torch.int64, (n, most)),
        "areas": (torch.float64, (n, most)),
        "crowd": (torch.bool, (n, most)),
    }


def _check_labels(arrays: Arrays, info: DatasetInfo, where: str, may_lack: bool) -> None:
    labels = arrays["labels"]
    if len(labels) and not 0 <= int(labels.min()) <= int(labels.max()) < info.num_classes:
        raise DataError(
            f"{where}_labels holds {int(labels.min())} to {int(labels.max())}, "
            f"expected 0 to {info.num_classes - 1}"
        )
    counts = labels.bincount(minlength=info.num_classes)
    if not may_lack and not counts.all():
        raise DataError(f"{where}_labels has no class {int(counts.argmin())}")


def _check_boxes(arrays: Arrays, info: DatasetInfo, where: str, may_lack: bool) -> None:
    labels, boxes, sizes = arrays["labels"], arrays["boxes"], arrays["sizes"]
    if labels.numel() and not -1 <= int(labels.min()) <= int(labels.max()) < info.num_classes:
        raise DataError(
            f"{where}_labels holds {int(labels.min())} to {int(labels.max())}, "
            f"expected -1 to {info.num_classes - 1}"
        )
    if not may_lack and not (labels >= 0).any():
        raise DataError(f"{where}_labels has no boxes")
    h, w = sizes.double().unsqueeze(1).unbind(2)
    x1, y1, x2, y2 = boxes.unbind(2)
    is_good = (x1 >= 0) & (y1 >= 0) & (x2 > x1) & (y2 > y1) & (x2 <= w) & (y2 <= h)
    if (odd := ((labels >= 0) & ~is_good).nonzero()).numel():
        image, place = odd[0].tolist()
        raise DataError(
            f"{where}_boxes: box {place} of image {image} is {boxes[image, place].tolist()}, "
            f"expected x1 < x2 and y1 < y2 within {sizes[image, 1]}x{sizes[image, 0]} pixels"
        )


KINDS: dict[Any, Kind] = {
    ("classification", False): Kind(_labeled_images, _check_labels),
    ("classification", True): Kind(
        _labeled_files, _check_labels, ("folder", "classes", "resize", "described")
    ),
    ("detection", False): Kind(_boxed_images, _check_boxes, ("classes", "described")),
    ("detection", True): Kind(_boxed_files, _check_boxes, ("folder", "classes", "described")),
}
