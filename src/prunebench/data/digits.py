"""Handwritten digits that come with scikit-learn: 1797 images of 8x8 pixels.

E. Alpaydin, C. Kaynak, Optical Recognition of Handwritten Digits, UCI Machine Learning Repository,
1998 (its test part). The images ship with scikit-learn. They have no official split; here 20 % are
held out for testing, stratified by class.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

from prunebench.data import normalization
from prunebench.data.info import DatasetInfo, RawSplits
from prunebench.data.split import stratified_split

TEST_FRACTION = 0.2


def read(data_dir: Path) -> RawSplits:
    """Read scikit-learn's copy; `data_dir` is not used.

    Pixels of 0 to 16 are multiplied by 15, without loss, to 0 to 240.
    """
    from sklearn.datasets import load_digits  # takes a second to import

    pixels, labels = load_digits(return_X_y=True)
    images = (pixels.astype(np.uint8) * 15).reshape(-1, 1, 8, 8)
    labels = labels.astype(np.int64)
    train, test = stratified_split(labels, TEST_FRACTION)
    return RawSplits(
        train_images=images[train],
        train_labels=labels[train],
        test_images=images[test],
        test_labels=labels[test],
    )


DIGITS = DatasetInfo(
    name="digits",
    title="Handwritten digits (scikit-learn)",
    num_classes=10,
    shape=(1, 8, 8),
    mean=normalization.DIGITS.mean,
    std=normalization.DIGITS.std,
    validation=0.25,  # of the other 80 %: 1077 / 360 / 360 images
    source="scikit-learn's copy of the test part of UCI's Optical Recognition of Handwritten "
    "Digits, pixels times 15",
    split="360 of 1797 images are held out for testing, stratified, seed 0",
    read=read,
    counts=(1437, 360),
    mirrors=False,
    classes=tuple("0123456789"),
)
