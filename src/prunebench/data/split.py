"""A stratified split that is the same on every machine."""

from __future__ import annotations

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


def stratified(labels: NDArray[np.int64], fraction: float) -> HeldOut:
    """Hold out a fraction of the images, stratified by label."""
    kept, held_out = stratified_split(labels, fraction)
    words = (
        f"{len(held_out)} of {len(labels)} training images are held out for validation, "
        f"stratified, seed {SPLIT_SEED}"
    )
    return HeldOut(kept, held_out, fraction, words)


def stratified_split(
    labels: NDArray[np.int64], fraction: float
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Return the sorted indices of the remaining and of the ceil(fraction * N) held-out images.

    Each class contributes its share. Raises DataError if a class is too small.
    """
    everything = np.arange(len(labels))
    if fraction == 0:
        return everything, everything[:0]
    from sklearn.model_selection import train_test_split  # takes a second to import

    try:
        rest, held_out = train_test_split(
            everything, test_size=fraction, random_state=SPLIT_SEED, stratify=labels
        )
    except ValueError as error:
        raise DataError(
            f"cannot hold out a fraction of {fraction} of {len(labels)} images: {error}"
        ) from None
    return np.sort(rest), np.sort(held_out)
