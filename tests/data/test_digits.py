from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from sklearn.datasets import load_digits

from prunebench.data.dataset import Dataset, load, prepare
from prunebench.data.digits import DIGITS


@pytest.fixture(scope="module")
def digits(tmp_path_factory: pytest.TempPathFactory) -> Dataset:
    out = tmp_path_factory.mktemp("digits") / "digits.safetensors"
    prepare("digits", Path("nowhere"), out)
    return load(out)


def test_splits_are_three_fifths_one_fifth_one_fifth(digits: Dataset) -> None:
    assert (len(digits.train), len(digits.val), len(digits.test)) == (1077, 360, 360)


def test_every_class_is_spread_over_the_splits(digits: Dataset) -> None:
    counts = [s.labels.bincount().tolist() for s in (digits.train, digits.val, digits.test)]
    assert counts == [
        [107, 109, 106, 109, 109, 109, 109, 107, 104, 108],
        [35, 37, 36, 37, 36, 36, 36, 36, 35, 36],
        [36, 36, 35, 37, 36, 37, 36, 36, 35, 36],
    ]


def test_every_image_is_in_one_split(digits: Dataset) -> None:
    ours = torch.cat([digits.train.images, digits.val.images, digits.test.images]).flatten(1)
    theirs = load_digits().data * 15
    assert sorted(map(tuple, ours.tolist())) == sorted(map(tuple, theirs.astype(int).tolist()))


def test_pixels_are_multiples_of_fifteen_up_to_240(digits: Dataset) -> None:
    assert digits.train.images.unique().tolist() == list(range(0, 241, 15))


def test_the_content_is_what_it_was_when_results_were_made(digits: Dataset) -> None:
    # A change here changes every result on digits.
    assert digits.sha256.startswith("c8539379b52449ab")


def test_the_normalization_is_that_of_the_training_split(digits: Dataset) -> None:
    pixels = digits.train.images.numpy() / 255
    assert np.mean(pixels) == pytest.approx(DIGITS.mean[0], abs=5e-5)
    assert np.std(pixels) == pytest.approx(DIGITS.std[0], abs=5e-5)
