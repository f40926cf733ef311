"""Noisy stripes: a data set for tests that is generated instantly and learned in seconds.

The four classes are wide or narrow stripes, horizontal or vertical. Each image has its own phase
per channel, so that a mirrored or shifted image keeps its class and no single pixel reveals it.

`synthetic_<side>` is a handful of larger images, for trying networks that need them; an epoch takes
seconds, and little is learned.
"""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from prunebench.core.errors import ConfigError
from prunebench.data import normalization
from prunebench.data.info import DatasetInfo, RawSplits

SEED = 0
TRAIN_IMAGES, TEST_IMAGES = 600, 200
FEW_TRAIN_IMAGES, FEW_TEST_IMAGES = 40, 16
SIDE = 8
LARGE_PREFIX = "synthetic_"
LARGEST_SIDE = 512  # pixels
PERIODS = (8, 8, 4, 4)  # pixels, by class; odd classes are vertical
CLASSES = ("horizontal_8", "vertical_8", "horizontal_4", "vertical_4")  # direction and period
AMPLITUDE, NOISE = 80.0, 30.0  # of 0 to 255


def read(
    data_dir: Path, train: int = TRAIN_IMAGES, test: int = TEST_IMAGES, side: int = SIDE
) -> RawSplits:
    """Generate `train` and `test` images of (3, side, side); `data_dir` is not used."""
    rng = np.random.default_rng(SEED)
    train_labels, test_labels = balanced_labels(train), balanced_labels(test)
    return RawSplits(
        train_images=draw_images(train_labels, rng, side),
        train_labels=train_labels,
        test_images=draw_images(test_labels, rng, side),
        test_labels=test_labels,
    )


def balanced_labels(n: int) -> NDArray[np.int64]:
    """Return the classes in rotation: 0, 1, 2, 3, 0, ..."""
    return np.arange(n, dtype=np.int64) % len(PERIODS)


def draw_images(
    labels: NDArray[np.int64], rng: np.random.Generator, side: int
) -> NDArray[np.uint8]:
    """Draw an image (3, side, side) for each label."""
    n, channels, h, w = len(labels), 3, side, side
    period = np.array(PERIODS)[labels].reshape(n, 1, 1, 1)
    stands = (labels % 2 == 1).reshape(n, 1, 1, 1)
    place = np.where(stands, np.arange(w).reshape(1, 1, 1, w), np.arange(h).reshape(1, 1, h, 1))
    phase = rng.uniform(0, 2 * np.pi, size=(n, channels, 1, 1))
    stripes = AMPLITUDE * np.sin(2 * np.pi * place / period + phase)
    noise = rng.normal(0, NOISE, size=(n, channels, h, w))
    images: NDArray[np.uint8] = np.clip(127.5 + stripes + noise, 0, 255).astype(np.uint8)
    return images


SYNTHETIC = DatasetInfo(
    name="synthetic",
    title="Synthetic stripes",
    num_classes=len(PERIODS),
    shape=(3, SIDE, SIDE),
    mean=normalization.SYNTHETIC.mean,
    std=normalization.SYNTHETIC.std,
    validation=0.2,
    source="generated from seed 0",
    split="200 images generated after the training images",
    read=read,
    counts=(TRAIN_IMAGES, TEST_IMAGES),
    classes=CLASSES,
)


def synthetic_info(name: str) -> DatasetInfo:
    """Describe `synthetic_<side>`; raise ConfigError for an invalid side."""
    digits = name.removeprefix(LARGE_PREFIX)
    side = int(digits) if digits.isdecimal() and digits[0] != "0" else 0
    if not SIDE < side <= LARGEST_SIDE:
        raise ConfigError(
            f"data set {name!r}: the side of its images must be {SIDE + 1} to {LARGEST_SIDE} "
            f"pixels, as in {LARGE_PREFIX}32"
        )
    return replace(
        SYNTHETIC,
        name=name,
        title=f"Synthetic stripes, {FEW_TRAIN_IMAGES} images of {side}x{side}",
        shape=(3, side, side),
        split=f"{FEW_TEST_IMAGES} images generated after the training images",
        read=partial(read, train=FEW_TRAIN_IMAGES, test=FEW_TEST_IMAGES, side=side),
        counts=(FEW_TRAIN_IMAGES, FEW_TEST_IMAGES),
    )
