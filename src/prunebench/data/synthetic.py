"""Stripes in noise: a data set for tests, made in a moment and learned in seconds.

Four classes: wide or narrow stripes, lying or standing. Each image has its own phase per channel,
so that a mirrored or shifted image keeps its class and no single pixel tells it.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from prunebench.data import normalization
from prunebench.data.info import DatasetInfo, RawSplits

SEED = 0
TRAIN_IMAGES, TEST_IMAGES = 600, 200
SHAPE = (3, 8, 8)
PERIODS = (8, 8, 4, 4)  # pixels, by class; odd classes stand
AMPLITUDE, NOISE = 80.0, 30.0  # of 0 to 255


def read(data_dir: Path) -> RawSplits:
    """Generate the images; `data_dir` is not used."""
    rng = np.random.default_rng(SEED)
    train_labels, test_labels = balanced_labels(TRAIN_IMAGES), balanced_labels(TEST_IMAGES)
    return RawSplits(
        train_images=draw_images(train_labels, rng),
        train_labels=train_labels,
        test_images=draw_images(test_labels, rng),
        test_labels=test_labels,
    )


def balanced_labels(n: int) -> NDArray[np.int64]:
    """Return the classes in turn: 0, 1, 2, 3, 0, ..."""
    return np.arange(n, dtype=np.int64) % len(PERIODS)


def draw_images(labels: NDArray[np.int64], rng: np.random.Generator) -> NDArray[np.uint8]:
    """Draw an image (3, 8, 8) for each label."""
    n, (channels, h, w) = len(labels), SHAPE
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
    shape=SHAPE,
    mean=normalization.SYNTHETIC.mean,
    std=normalization.SYNTHETIC.std,
    validation=0.2,
    source="generated from seed 0",
    split="200 images generated after the training images",
    read=read,
)
