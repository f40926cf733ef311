from __future__ import annotations

import numpy as np
import pytest

from prunebench.core.errors import DataError
from prunebench.data.split import stratified_split


def test_every_class_gives_its_share() -> None:
    labels = np.array([0, 0, 0, 0, 0, 0, 1, 1, 1])
    rest, held_out = stratified_split(labels, 1 / 3)
    assert np.bincount(labels[rest]).tolist() == [4, 2]
    assert np.bincount(labels[held_out]).tolist() == [2, 1]
    assert sorted([*rest, *held_out]) == list(range(9))


def test_indices_rise() -> None:
    rest, held_out = stratified_split(np.arange(100) % 2, 0.5)
    assert (np.diff(rest) > 0).all()
    assert (np.diff(held_out) > 0).all()


def test_the_same_images_are_held_out_each_time() -> None:
    first, second = (stratified_split(np.arange(100) % 2, 0.1)[1] for _ in range(2))
    assert first.tolist() == second.tolist()


def test_a_fraction_of_zero_holds_nothing_out() -> None:
    rest, held_out = stratified_split(np.array([0, 1]), 0.0)
    assert (rest.tolist(), held_out.tolist()) == ([0, 1], [])


@pytest.mark.parametrize(
    ("labels", "fraction", "problem"),
    [
        ([0, 0, 1], 0.5, "the class number 1 has a single one, at least 2 are needed"),
        ([0, 0, 1, 1, 2, 2], 0.1, "the smaller part has 1, fewer than the 3 classes"),
        ([0, 0, 1, 1, 2, 2], 0.9, "the smaller part has 0, fewer than the 3 classes"),
        ([], 0.1, "the smaller part has 0, fewer than the 0 classes"),
    ],
)
def test_classes_that_are_too_small_cannot_be_split(
    labels: list[int], fraction: float, problem: str
) -> None:
    with pytest.raises(DataError) as error:
        stratified_split(np.array(labels, np.int64), fraction)
    images = f"a fraction of {fraction:g} of the {len(labels)} training images"
    assert str(error.value) == f"validation: {images} is to be held out, stratified: {problem}"


@pytest.mark.parametrize("fraction", [0.34, 0.5])
def test_two_images_of_each_class_are_enough(fraction: float) -> None:
    rest, held_out = stratified_split(np.array([0, 0, 1, 1, 2, 2]), fraction)
    assert len(rest) == len(held_out) == 3
