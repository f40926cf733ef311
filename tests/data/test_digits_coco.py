from __future__ import annotations

import hashlib
import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from prunebench.data import digits, digits_coco
from prunebench.data.coco import BoxedDescription, read_folder
from prunebench.data.digits_coco import Draws, Scene, compose, covers, digit_pools


@pytest.fixture(scope="module")
def pools() -> dict[str, tuple[np.ndarray, np.ndarray]]:
    return digit_pools(digits.read(Path()))


@pytest.fixture(scope="module")
def scenes(pools: dict[str, tuple[np.ndarray, np.ndarray]]) -> list[Scene]:
    return [compose(*pools["train"], Draws(0, 0, k)) for k in range(40)]


def test_no_digit_is_in_two_splits(pools: dict[str, tuple[np.ndarray, np.ndarray]]) -> None:
    raw = digits.read(Path())
    assert [len(labels) for _, labels in pools.values()] == [1077, 360, 360]
    assert np.array_equal(pools["test"][0], raw.test_images[:, 0])
    both = np.concatenate([pools["train"][0], pools["val"][0]])
    own = np.sort(both.reshape(len(both), -1), axis=0)
    assert np.array_equal(own, np.sort(raw.train_images.reshape(len(both), -1), axis=0))


def test_the_images_are_the_same_everywhere(scenes: list[Scene]) -> None:
    """Changed pixels would be another data set: stored results no longer belong to it."""
    content = b"".join(scene.pixels.tobytes() for scene in scenes)
    assert scenes[0].labels == (0, 1, 7)
    assert scenes[0].boxes[0] == (23, 27, 43, 57)
    assert hashlib.sha256(content).hexdigest() == (
        "c2ad46df7f01497095b9d7b5352810e0db61dd29774099dc9f91e6e548a04ba0"
    )


def test_a_scene_has_one_to_five_digits_of_24_to_56_pixels(scenes: list[Scene]) -> None:
    assert {len(scene.boxes) for scene in scenes} == {1, 2, 3, 4, 5}
    sides = [max(x2 - x1, y2 - y1) for s in scenes for x1, y1, x2, y2 in s.boxes]
    assert min(sides) < 30
    assert max(sides) <= 56
    boxes = np.array([box for scene in scenes for box in scene.boxes])
    assert boxes.min() >= 0
    assert boxes.max() <= 128


def test_digits_overlap_little(scenes: list[Scene]) -> None:
    pairs = [(a, b) for s in scenes for k, a in enumerate(s.boxes) for b in s.boxes[:k]]
    assert len(pairs) > 50
    assert not any(covers(a, b) for a, b in pairs)


def test_a_box_is_tight_around_the_ink(pools: dict[str, tuple[np.ndarray, np.ndarray]]) -> None:
    # a digit of two bright pixels, columns 2 and 3 of row 4, four times as large
    digit = np.zeros((8, 8), np.uint8)
    digit[4, 2:4] = 240
    opacity = digits_coco.opacity_of(digit, 32)
    # Row 4 has its center at (4 + 1/2) * 4 = 18, row i of the larger digit at i + 1/2, and the
    # opacity is 255 * (1 - |i + 1/2 - 18| / 4). Ink is at least 96 of 255 opaque.
    # columns 2 and 3 have their centers at 10 and 14: from 8 to 16
    assert digits_coco.ink_box(opacity) == (8, 16, 16, 20)


def test_the_folder_holds_ordinary_coco_files(tmp_path: Path) -> None:
    digits_coco.write(tmp_path / "scenes", (3, 1, 2))
    content = json.loads((tmp_path / "scenes/annotations/instances_train.json").read_text())
    assert [image["id"] for image in content["images"]] == [1, 2, 3]
    assert content["annotations"][0] == {
        "id": 1,
        "image_id": 1,
        "category_id": 0,
        "bbox": [23, 27, 20, 30],
        "area": 600,
        "iscrowd": 0,
    }
    with Image.open(tmp_path / "scenes/images/train/000000.png") as image:
        assert image.size == (128, 128)
        assert image.mode == "RGB"
    raw = read_folder(tmp_path / "scenes", BoxedDescription())
    assert raw.training["images"].shape == (4, 3, 128, 128)
    assert raw.validation == 1
    assert raw.test["images"].shape == (2, 3, 128, 128)


def test_the_temporary_folder_is_gone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    monkeypatch.setattr(digits_coco.write, "__defaults__", ((2, 1, 1),))
    raw = digits_coco.read(Path())
    assert not list(tmp_path.iterdir())
    assert raw.about["described"]["mirrors"] is False
    assert "folder" not in raw.about
