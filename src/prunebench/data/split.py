"""A stratified split that is the same on every machine."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from prunebench.core.errors import DataError

if TYPE_CHECKING:
    from numpy.typing import NDArray

SPLIT_SEED = 0


@dataclass(frozen=True)
class HeldOut:
    """The division of the training images: sorted indices, the fraction, and words about it."""

    kept: NDArray[np.int64]
    held_out: NDArray[np.int64]
    fraction: float
    words: str


def stratified(labels: NDArray[np.int64], fraction: float, classes: Sequence[str] = ()) -> HeldOut:
    """Hold out a fraction of the images, stratified by label; errors name the `classes`."""
    kept, held_out = stratified_split(labels, fraction, classes)
    words = (
        f"{len(held_out)} of {len(labels)} training images are held out for validation, "
        f"stratified, seed {SPLIT_SEED}"
    )
    return HeldOut(kept, held_out, fraction, words)


def stratified_split(
    labels: NDArray[np.int64], fraction: float, names: Sequence[str] = ()
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Return the sorted indices of the remaining and of the ceil(fraction * N) held-out images.

    Each class contributes its share. Raises DataError if that is not possible.
    """
    everything = np.arange(len(labels))
    if fraction == 0:
        return everything, everything[:0]
    _check_counts(labels, fraction, names)
    from sklearn.model_selection import train_test_split  # takes a second to import

    rest, held_out = train_test_split(
        everything, test_size=fraction, random_state=SPLIT_SEED, stratify=labels
    )
    return np.sort(rest), np.sort(held_out)


def _check_counts(labels: NDArray[np.int64], fraction: float, names: Sequence[str]) -> None:
    """Raise DataError unless each class can be divided, and has its share in both parts."""
    classes, counts = np.unique(labels, return_counts=True)
    held_out = math.ceil(fraction * len(labels))
    smaller = min(held_out, len(labels) - held_out)
    if counts.size and counts.min() < 2:
        label = int(classes[counts.argmin()])
        named = f"class {names[label]!r}" if names else f"the class number {label}"
        problem = f"{named} has a single one, at least 2 are needed"
    elif smaller < max(1, len(classes)):
        problem = f"the smaller part has {smaller}, fewer than the {len(classes)} classes"
    else:
        return
    raise DataError(
        f"validation: a fraction of {fraction:g} of the {len(labels)} training images is to be "
        f"held out, stratified: {problem}"
    )
