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


def test_a_class_of_one_image_cannot_be_split() -> None:
    with pytest.raises(DataError, match=r"cannot hold out a fraction of 0.5 of 3 images"):
        stratified_split(np.array([0, 0, 1]), 0.5)
