"""A data set of the user's own, named as "module:name" or registered by another package.

The name is that of a `DatasetInfo`, or of a function that returns the images as `RawSplits`. Such a
function is called when the data are stored, with the folder of all data sets if it takes
`data_dir`. The number of classes, the image size and the normalization follow from the images.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from prunebench.core.errors import ConfigError, DataError, shown
from prunebench.core.own_code import call_with_known, own_object, taken_arguments
from prunebench.data import normalization
from prunebench.data.info import DatasetInfo, RawSplits

VALIDATION = 0.1
_IMAGES = (4, np.uint8, "uint8 (N, C, h, w)")  # dimensions, type, in words
_LABELS = (1, np.integer, "whole numbers (N,)")
ARRAYS = {
    "train_images": _IMAGES,
    "train_labels": _LABELS,
    "test_images": _IMAGES,
    "test_labels": _LABELS,
}
BYTES = 256  # values of a pixel


def own_info(name: str, path: str) -> DatasetInfo:
    """Describe the data set of "module:name"; `name` is its name in paths.

    Until a function is called, the image size and the normalization are ImageNet's, as for folders
    of images. ConfigError if `path` cannot be imported or is neither of both.
    """
    found = own_object(path, "data set")
    if isinstance(found, DatasetInfo):
        return replace(found, name=name)
    if not callable(found):
        raise ConfigError(
            f"data set {path}: {shown(found)} is no function that returns RawSplits, and no "
            "DatasetInfo"
        )
    taken_arguments(found, path, "data set", {"data_dir"}, ())
    return DatasetInfo(
        name=name,
        title=name,
        num_classes=0,
        shape=(3, 224, 224),
        mean=normalization.IMAGENET.mean,
        std=normalization.IMAGENET.std,
        validation=VALIDATION,
        source=f"the function {path}",
        split=f"as the function {path} returns it",
        read=partial(read, found, path),
    )


def read(function: Callable[..., Any], path: str, data_dir: Path) -> RawSplits:
    """Call the function of a data set; raise DataError unless it returns usable arrays."""
    raw = call_with_known(function, path, "data set", {"data_dir": data_dir}, ())
    if not isinstance(raw, RawSplits):
        raise DataError(f"data set {path}: it returns {shown(raw)}, expected RawSplits")
    arrays = {name: np.asarray(getattr(raw, name)) for name in ARRAYS}
    for name, array in arrays.items():
        n_dims, kind, words = ARRAYS[name]
        if array.ndim != n_dims or not np.issubdtype(array.dtype, kind) or array.size == 0:
            found = f"{array.dtype} of shape {array.shape}"
            raise DataError(f"data set {path}: {name} is {found}, expected {words}")
        arrays[name] = array if n_dims == 4 else array.astype(np.int64)
    images, labels = arrays["train_images"], arrays["train_labels"]
    mean, std = statistics(images)
    if flat := [c for c, value in enumerate(std) if value == 0]:
        raise DataError(f"data set {path}: channel {flat[0]} of train_images is constant")
    described = {"shape": list(images.shape[1:]), "mean": mean, "std": std}
    classes = raw.classes or tuple(map(str, range(int(labels.max()) + 1)))
    return replace(raw, **arrays, classes=classes, described=described | raw.described)


def statistics(images: NDArray[np.uint8]) -> tuple[list[float], list[float]]:
    """Return mean and standard deviation of each channel of (N, C, h, w), scaled to [0, 1].

    >>> statistics(np.array([0, 255], dtype=np.uint8).reshape(2, 1, 1, 1))
    ([0.5], [0.5])
    """
    values = np.arange(BYTES) / (BYTES - 1)
    shares = [
        np.bincount(images[:, c].ravel(), minlength=BYTES) / images[:, c].size
        for c in range(images.shape[1])
    ]
    means = [float(share @ values) for share in shares]
    variances = [share @ (values - mean) ** 2 for share, mean in zip(shares, means, strict=True)]
    return means, [float(variance**0.5) for variance in variances]
