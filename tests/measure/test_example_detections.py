from __future__ import annotations

import base64
import io

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor

from prunebench.data.boxes import BoxedImages
from prunebench.experiments.results import DetectionsResult
from prunebench.measure.example_detections import as_jpeg, pictures, spaced, typical


def decoded(text: str) -> np.ndarray:
    return np.asarray(Image.open(io.BytesIO(base64.b64decode(text))))


@pytest.fixture
def images() -> BoxedImages:
    """A landscape of 640x320 pixels in an input of 640x640, and one of 320x320, enlarged twice."""
    pixels = torch.zeros(2, 3, 640, 640, dtype=torch.uint8)
    pixels[0, 0, :320] = 200  # red
    pixels[1, 2] = 200  # blue
    return BoxedImages(
        pixels=pixels,
        sizes=torch.tensor([[320, 640], [320, 320]]),
        boxes=torch.tensor([[[10.0, 20, 30, 60], [0, 0, 9, 9]], [[5, 5, 10, 15], [0, 0, 0, 0]]]),
        labels=torch.tensor([[1, 0], [2, -1]]),
        areas=torch.ones(2, 2),
        crowd=torch.tensor([[False, True], [False, False]]),
        shape=(3, 640, 640),
        resize=(640, 640),
    )


def test_pictures_are_small_images_with_their_true_boxes(images: BoxedImages) -> None:
    base = DetectionsResult(found=((), ()), spec_hash="s", weights_sha256="w")
    stored = pictures(images, ("a", "b", "c"), base)
    first, second = map(decoded, stored.jpeg)
    assert (first.shape, second.shape) == ((160, 320, 3), (320, 320, 3))  # without padding
    assert np.abs(first[80, 160].astype(int) - [200, 0, 0]).max() < 5
    assert np.abs(second[80, 160].astype(int) - [0, 0, 200]).max() < 5
    # half of the input's pixels; the crowd and the padding are no boxes
    assert [[tuple(box) for box in boxes] for boxes in stored.truth] == [
        [(1, 5.0, 10.0, 15.0, 30.0)],
        [(2, 5.0, 5.0, 10.0, 15.0)],
    ]


def test_a_small_image_keeps_its_size() -> None:
    image: Tensor = torch.full((3, 8, 16), 0.5)
    picture = decoded(as_jpeg(image, 1.0))
    assert picture.shape == (8, 16, 3)
    assert set(picture.flat) == {128}


@pytest.mark.parametrize("count", [4, 5, 1000])
def test_four_images_are_shown(count: int) -> None:
    places = spaced(torch.arange(count)).tolist()
    assert len(set(places)) == 4
    assert (places[0], places[-1]) == (0, count - 1)


def test_images_without_boxes_are_not_shown() -> None:
    assert typical(torch.tensor([0, 0, 0, 1])).tolist() == [3]


def test_few_images_are_all_shown() -> None:
    assert typical(torch.tensor([0, 1, 9, 9, 9])).tolist() == [1, 2, 3, 4]
