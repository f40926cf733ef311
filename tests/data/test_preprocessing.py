from __future__ import annotations

import numpy as np
import pytest
import torch
from PIL import Image

from prunebench.data.preprocessing import Preprocessing
from prunebench.data.registry import dataset_info, names

GRAY = Preprocessing(image=(1, 2, 2), mean=(0.5,), std=(0.25,))
COLOR = Preprocessing(image=(3, 2, 2), mean=(0.0, 0.2, 0.4), std=(1.0, 0.5, 0.2), resize=4)


def test_pixels_are_scaled_and_normalized() -> None:
    pixels = torch.tensor([[[0, 255], [51, 102]]], dtype=torch.uint8)  # 0, 1, 0.2, 0.4
    expected = torch.tensor([[[[-2.0, 2.0], [-1.2, -0.4]]]])
    torch.testing.assert_close(GRAY(pixels), expected)
    torch.testing.assert_close(GRAY(pixels.expand(3, 1, 2, 2)), expected.expand(3, 1, 2, 2))


def test_an_image_is_resized_and_its_center_is_cropped() -> None:
    # Four columns of 2 pixels each: black, gray, gray, black; of 4x4 the center is gray.
    columns = np.repeat(np.array([0, 51, 51, 0], np.uint8), 2)
    image = Image.fromarray(np.broadcast_to(columns, (8, 8)).copy())
    found = COLOR(image)
    assert found.shape == (1, 3, 2, 2)
    torch.testing.assert_close(found[0, 0], torch.full((2, 2), 0.2), atol=0.03, rtol=0)
    torch.testing.assert_close(found[0, 2], (found[0, 0] - 0.4) / 0.2)


@pytest.mark.parametrize(
    ("image", "message"),
    [
        (torch.zeros(1, 2, 2), "the image is torch.float32 of shape"),
        (torch.zeros(2, 2, dtype=torch.uint8), "expected uint8 pixels"),
        (torch.zeros(1, 4, 4, dtype=torch.uint8), r"has shape \(1, 4, 4\), but .* \(1, 2, 2\)"),
        (Image.new("RGB", (3, 2)), r"has shape \(1, 2, 3\), but"),
        ([[0, 0], [0, 0]], "a PIL image or a uint8 tensor, not list"),
    ],
)
def test_other_inputs_are_refused(image: object, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        GRAY(image)


FROM_THE_SOURCE = {"coco", "imagenet", "tiny_imagenet"}  # only their files have the names


@pytest.mark.parametrize("name", sorted({*names(), "synthetic_32"} - FROM_THE_SOURCE))
def test_every_data_set_names_its_classes(name: str) -> None:
    info = dataset_info(name)
    assert len(set(info.classes)) == info.num_classes


def test_a_detector_sees_the_whole_image_scaled_and_padded_with_the_mean() -> None:
    # 20x10 pixels at most 60x40: 3 times as large, padded to 32x64
    image = Image.new("RGB", (20, 10), (51, 102, 255))
    prepare = Preprocessing(image=(3, 64, 96), mean=(0.1,) * 3, std=(0.5,) * 3, resize=(60, 40))
    found = prepare(image)
    assert found.shape == (1, 3, 32, 64)
    assert found[0, :, 29, 59].tolist() == pytest.approx([0.2, 0.6, 1.8])
    assert (found[:, :, 30:] == 0).all()
    assert (found[:, :, :, 60:] == 0).all()
    assert prepare(torch.zeros(3, 32, 96, dtype=torch.uint8)).shape == (1, 3, 32, 96)
    with pytest.raises(ValueError, match="takes 3 channels and sides that are multiples of 32"):
        prepare(torch.zeros(3, 30, 96, dtype=torch.uint8))
