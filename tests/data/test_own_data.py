"""Data sets of the user's own."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest

from prunebench.core.errors import ConfigError, DataError
from prunebench.data.dataset import load, prepare
from prunebench.data.info import RawSplits
from prunebench.data.registry import dataset_info, is_known, names
from prunebench.data.synthetic import SYNTHETIC

IMAGES = np.zeros((40, 1, 4, 4), dtype=np.uint8)
IMAGES[::2] = 255
LABELS = np.arange(40) % 2


def splits(**changed: Any) -> RawSplits:
    arrays = {"train_images": IMAGES, "train_labels": LABELS.astype(np.int32)}
    arrays |= {"test_images": IMAGES[:4], "test_labels": LABELS[:4]}
    return RawSplits(**arrays | changed)


@pytest.fixture
def module(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """An imported module of the user's."""
    made = ModuleType("own_data_of_test")
    monkeypatch.setitem(sys.modules, made.__name__, made)
    return made


def test_a_function_of_arrays_is_a_data_set(module: ModuleType, tmp_path: Path) -> None:
    folders = []

    def halves(data_dir: Path) -> RawSplits:
        folders.append(data_dir)
        return splits()

    module.halves = halves
    prepare("own_data_of_test:halves", tmp_path, tmp_path / "halves.safetensors")
    found = load(tmp_path / "halves.safetensors")
    assert folders == [tmp_path]
    assert found.info.name == "own_data_of_test.halves"
    assert (found.info.num_classes, found.info.shape) == (2, (1, 4, 4))
    assert (found.info.mean, found.info.std) == ((0.5,), (0.5,))
    assert found.info.classes == ("0", "1")
    assert (len(found.train), len(found.val), len(found.test)) == (36, 4, 4)


def test_the_description_and_class_names_can_be_given(module: ModuleType, tmp_path: Path) -> None:
    module.halves = lambda: splits(classes=("dark", "bright"), described={"title": "Halves"})
    prepare("own_data_of_test.halves", tmp_path, tmp_path / "file")
    info = load(tmp_path / "file").info
    assert (info.title, info.classes) == ("Halves", ("dark", "bright"))


def test_a_description_is_a_data_set_too(module: ModuleType) -> None:
    module.STRIPES = SYNTHETIC
    info = dataset_info("own_data_of_test:STRIPES")
    assert (info.name, info.shape, info.read) == (
        "own_data_of_test.STRIPES",
        SYNTHETIC.shape,
        SYNTHETIC.read,
    )


def test_a_plug_in_is_known_by_its_name(
    module: ModuleType, register: Callable[[str, str, str], None]
) -> None:
    module.STRIPES = SYNTHETIC
    register("prunebench.datasets", "stripes", "own_data_of_test:STRIPES")
    assert dataset_info("stripes").name == "stripes"
    assert "stripes" in names()
    assert is_known("stripes")
    register("prunebench.datasets", "digits", "own_data_of_test:STRIPES")
    with pytest.raises(ConfigError, match="two objects are registered as the data set 'digits'"):
        dataset_info("digits")


@pytest.mark.parametrize(
    ("made", "sentence"),
    [
        (lambda: 3, "it returns 3, expected RawSplits"),
        (
            lambda: splits(train_images=IMAGES / 255),
            r"train_images is float64 of shape \(40, 1, 4, 4\), expected uint8 \(N, C, h, w\)",
        ),
        (
            lambda: splits(test_labels=LABELS[:4, None]),
            r"test_labels is int64 of shape \(4, 1\), expected whole numbers \(N,\)",
        ),
        (lambda: splits(train_images=IMAGES * 0), "channel 0 of train_images is constant"),
        (lambda: splits(test_labels=LABELS[:4] + 1), "test_labels holds 1 to 2, expected 0 to 1"),
        (lambda: splits(test_images=IMAGES[:4, :, :3]), r"test_images is .* of shape \(4, 1, 3, 4"),
    ],
)
def test_arrays_that_cannot_be_used_are_named(
    module: ModuleType, tmp_path: Path, made: Callable[[], Any], sentence: str
) -> None:
    module.halves = made
    with pytest.raises(DataError, match=sentence):
        prepare("own_data_of_test:halves", tmp_path, tmp_path / "file")


@pytest.mark.parametrize(
    ("found", "sentence"),
    [
        (3, "3 is no function that returns RawSplits, and no DatasetInfo"),
        (lambda side: side, "the argument 'side' has no default; the function is called with data"),
    ],
)
def test_what_is_no_data_set_is_an_error_before_it_is_read(
    module: ModuleType, found: Any, sentence: str
) -> None:
    module.found = found
    with pytest.raises(ConfigError, match=f"data set own_data_of_test:found: {sentence}"):
        dataset_info("own_data_of_test:found")
