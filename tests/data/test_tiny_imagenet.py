from __future__ import annotations

from pathlib import Path

import pytest
from PIL import Image

from prunebench.core.errors import DataError
from prunebench.data.tiny_imagenet import TINY_IMAGENET, read
from tests.data.conftest import write_image

SIZE = (64, 64)


@pytest.fixture
def data_dir(tmp_path: Path) -> Path:
    """Tiny-ImageNet with two classes, wnids.txt unsorted, three training and three test images."""
    root = tmp_path / "tiny-imagenet-200"
    write_image(root / "train" / "n2" / "images" / "n2_0.JPEG", (250, 60, 60), SIZE)
    write_image(root / "train" / "n1" / "images" / "n1_0.JPEG", (60, 250, 60), SIZE)
    gray = root / "train" / "n1" / "images" / "n1_1.JPEG"
    Image.new("L", SIZE, 77).save(gray)
    (root / "wnids.txt").write_text("n2\nn1\n")
    for k in range(3):
        write_image(root / "val" / "images" / f"val_{k}.JPEG", (100 + k, 60, 60), SIZE)
    lines = [
        "val_0.JPEG\tn2\t0\t0\t62\t62",
        "val_1.JPEG\tn1\t1\t2\t3\t4",
        "val_2.JPEG\tn2\t0\t0\t1\t1",
    ]
    (root / "val" / "val_annotations.txt").write_text("\n".join(lines) + "\n")
    return tmp_path


def test_validation_images_get_their_class_from_the_annotations(data_dir: Path) -> None:
    found = read(data_dir)
    assert found.test_labels.tolist() == [1, 0, 1]  # n1 is 0, as sorted
    assert found.test_images.shape == (3, 3, 64, 64)
    assert abs(int(found.test_images[1, 0, 32, 60]) - 101) <= 2  # JPEG loses a little


def test_classes_are_sorted_and_gray_images_have_three_colors(data_dir: Path) -> None:
    found = read(data_dir)
    assert found.train_labels.tolist() == [0, 0, 1]
    assert found.train_images[1, :, 5, 5].tolist() == [77, 77, 77]


def test_what_is_missing_is_named(data_dir: Path) -> None:
    root = data_dir / "tiny-imagenet-200"
    (root / "val" / "images" / "val_1.JPEG").unlink()
    with pytest.raises(DataError, match=r"val_1.JPEG: cannot be read"):
        read(data_dir)
    (root / "val" / "val_annotations.txt").write_text("val_0.JPEG\tn9\t0\t0\t1\t1\n")
    with pytest.raises(DataError, match=r"'val_0.JPEG' has class 'n9', which is not in wnids.txt"):
        read(data_dir)
    (root / "wnids.txt").unlink()
    with pytest.raises(DataError, match=r"wnids.txt: cannot be read \(No such file"):
        read(data_dir)
    with pytest.raises(DataError, match=r"no such folder; unpack tiny-imagenet-200.zip"):
        read(data_dir / "elsewhere")


@pytest.mark.parametrize("name", ["../../secret", "/etc", "n1/../../..", "n\0"])
def test_lists_cannot_reach_out_of_the_folder(data_dir: Path, name: str) -> None:
    root = data_dir / "tiny-imagenet-200"
    write_image(data_dir / "secret" / "images" / "x.JPEG", (9, 9, 9), SIZE)
    (root / "wnids.txt").write_text(f"n1\n{name}\n")
    with pytest.raises(DataError, match=r"wnids.txt: .* is no path within the data set's folder"):
        read(data_dir)
    (root / "wnids.txt").write_text("n1\n")
    (root / "val" / "val_annotations.txt").write_text(f"{name}\tn1\t0\t0\t1\t1\n")
    with pytest.raises(DataError, match=r"val_annotations.txt: .* is no path within the data set"):
        read(data_dir)


def test_a_list_that_is_no_text_is_named(data_dir: Path) -> None:
    (data_dir / "tiny-imagenet-200" / "wnids.txt").write_bytes(b"\xff\xfe")
    with pytest.raises(DataError, match=r"wnids.txt: is not UTF-8 text"):
        read(data_dir)


def test_an_image_of_another_size_is_named(data_dir: Path) -> None:
    path = data_dir / "tiny-imagenet-200" / "val" / "images" / "val_2.JPEG"
    write_image(path, (90, 90, 90), (64, 60))
    with pytest.raises(DataError, match=r"val_2.JPEG: has 60x64 pixels, expected 64x64"):
        read(data_dir)


def test_it_lies_on_the_device_as_one_file_of_tensors() -> None:
    assert not TINY_IMAGENET.in_files
    assert TINY_IMAGENET.shape == (3, 64, 64)
