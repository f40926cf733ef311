from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from prunebench.core.errors import ConfigError, DataError
from prunebench.data import boxed_source
from prunebench.data.boxes import BoxedImages
from prunebench.data.coco import parse
from prunebench.data.dataset import Dataset, load, prepare, summary
from prunebench.data.registry import dataset_info
from prunebench.experiments.recipe import Augment
from tests.data.coco_files import Content, coco_content, write_coco, write_content

CATEGORIES = {3: "cat", 7: "dog"}
IMAGES: Content = [((40, 20), [(7, [4, 2, 10, 6])]), ((40, 20), [(3, [0, 0, 40, 20])])]
Change = Callable[[dict[str, Any]], Any]


@pytest.fixture
def pets(tmp_path: Path) -> Path:
    """The folder `pets` with two training, one validation and three test images of 40x20 pixels."""
    splits = {"train": IMAGES, "val": IMAGES[:1], "test": [*IMAGES, ((40, 20), [])]}
    return write_coco(tmp_path / "data" / "pets", splits)


def prepared(root: Path, **more: Any) -> Path:
    out = root.parent.parent / "out.safetensors"
    prepare(f"coco_{root.name}", root.parent, out, **more)
    return out


def loaded(root: Path, **more: Any) -> Dataset:
    return load(prepared(root), **more)


def boxed(split: Any) -> BoxedImages:
    assert isinstance(split, BoxedImages)
    return split


def test_the_files_of_a_folder_are_its_splits(pets: Path) -> None:
    data = loaded(pets)
    assert (len(data.train), len(data.val), len(data.test)) == (2, 1, 3)
    assert data.info.task == "detection"
    assert data.info.classes == ("cat", "dog")
    assert data.info.num_classes == 2
    assert data.info.resize == (40, 20)
    assert data.train.labels.tolist() == [[1], [0]]
    assert data.val.labels.tolist() == [[1]]
    assert data.test.labels.tolist() == [[1], [0], [-1]]


def test_without_a_test_file_the_validation_images_are_the_test_images(tmp_path: Path) -> None:
    splits = {"train": IMAGES * 10, "val": IMAGES[1:]}
    data = loaded(write_coco(tmp_path / "data" / "pets", splits))
    assert (len(data.train), len(data.val), len(data.test)) == (18, 2, 1)
    assert data.test.labels.tolist() == [[0]]


def test_the_validation_images_of_the_source_may_join_the_training_images(pets: Path) -> None:
    data = loaded(pets, joined=True)
    assert (len(data.train), len(data.val)) == (3, 0)
    assert data.train.labels.tolist() == [[1], [0], [1]]


def test_nothing_is_held_out_where_the_caller_says_so(pets: Path) -> None:
    data = load(prepared(pets, validation=0.0))
    assert (len(data.train), len(data.val), len(data.test)) == (2, 0, 3)


def test_equal_folders_give_equal_bytes_and_hashes_of_pixels_and_boxes(pets: Path) -> None:
    first = prepared(pets).read_bytes()
    assert prepared(pets).read_bytes() == first
    before = loaded(pets).sha256
    content = coco_content([((40, 20), [(7, [4, 2, 10, 7])]), IMAGES[1]], CATEGORIES)
    write_content(pets, "train", content)
    assert loaded(pets).sha256 != before


def test_images_of_different_sizes_stay_in_their_files(tmp_path: Path) -> None:
    splits: dict[str, Content] = {"train": [*IMAGES, ((20, 40), [])], "val": IMAGES, "test": IMAGES}
    data = loaded(write_coco(tmp_path / "data" / "pets", splits))
    assert not isinstance(boxed(data.train).pixels, Tensor)
    assert data.info.shape == (3, 800, 1280)
    assert data.info.resize == (1333, 800)


def test_many_large_images_stay_in_their_files(pets: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # 6 images of 3x32x64 bytes
    monkeypatch.setattr(boxed_source, "MOST_BYTES", 6 * 3 * 32 * 64)
    in_memory = boxed(loaded(pets).train)
    assert isinstance(in_memory.pixels, Tensor)
    monkeypatch.setattr(boxed_source, "MOST_BYTES", 6 * 3 * 32 * 64 - 1)
    in_files = boxed(loaded(pets).train)
    assert not isinstance(in_files.pixels, Tensor)
    assert torch.equal(in_files.targets(torch.arange(2)), in_memory.targets(torch.arange(2)))


def test_a_folder_describes_itself(pets: Path) -> None:
    (pets / "dataset.yaml").write_text(
        "{title: Pets, resize: [64, 32], mean: [0.1, 0.2, 0.3], std: [1, 2, 3], mirrors: false}"
    )
    info = loaded(pets).info
    assert (info.title, info.resize, info.shape) == ("Pets", (64, 32), (3, 32, 64))
    assert (info.mean, info.std) == ((0.1, 0.2, 0.3), (1, 2, 3))
    assert not info.mirrors


@pytest.mark.parametrize(
    ("yaml", "message"),
    [
        ("{resise: [64, 32]}", "unknown key 'resise'; did you mean resize"),
        ("{resize: [32, 64]}", r"resize must be the longer and the shorter side, not \[32, 64\]"),
        ("{odd_boxes: keep}", r"odd_boxes: unknown value 'keep' \(allowed: clip, skip\)"),
    ],
)
def test_a_wrong_description_is_named(pets: Path, yaml: str, message: str) -> None:
    (pets / "dataset.yaml").write_text(yaml)
    with pytest.raises(ConfigError, match=message):
        prepared(pets)


ODD: Content = [
    (
        (40, 20),
        [
            (3, [-2, 1, 10, 6]),  # columns 0 to 8 of 40
            (3, [35, 15, 10, 10]),  # columns 35 to 40, rows 15 to 20
            (3, [5, 5, 0, 0]),  # no size
            (3, [40, 5, 3, 3]),  # beyond the border
            (3, [0, 0, 40, 20]),
        ],
    )
]


def test_odd_boxes_are_clipped_and_counted(pets: Path) -> None:
    write_content(pets, "train", coco_content(ODD, CATEGORIES))
    train = boxed(loaded(pets).train)
    assert train.boxes[0, :3].tolist() == [[0, 1, 8, 7], [35, 15, 40, 20], [0, 0, 40, 20]]
    assert train.areas[0].tolist() == [48, 25, 800]
    assert train.labels.tolist() == [[0, 0, 0]]
    assert summary(prepared(pets))["boxes"] == "2 clipped to their image, 2 skipped"


def test_odd_boxes_are_skipped_on_request(pets: Path) -> None:
    write_content(pets, "train", coco_content(ODD, CATEGORIES))
    (pets / "dataset.yaml").write_text("{odd_boxes: skip}")
    assert boxed(loaded(pets).train).boxes[0].tolist() == [[0, 0, 40, 20]]
    assert summary(prepared(pets))["boxes"] == "0 clipped to their image, 4 skipped"


def test_crowds_and_areas_are_those_of_the_file() -> None:
    content = coco_content(IMAGES, CATEGORIES)
    content["annotations"][0] |= {"iscrowd": 1, "area": 12.5}
    box = parse(content, "x").images[0].boxes[0]
    assert (box.crowd, box.area) == (True, 12.5)


def test_boxes_belong_to_their_images_in_any_order() -> None:
    content = coco_content(IMAGES, CATEGORIES)
    content["annotations"].reverse()
    content["images"].reverse()
    found = parse(content, "x").images
    assert [image.path.name for image in found] == ["2.png", "1.png"]
    assert [image.boxes[0].label for image in found] == [0, 1]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda c: c.pop("categories"), "not in COCO's format: the list 'categories' is missing"),
        (lambda c: c.update(images={}), "not in COCO's format: the list 'images' is missing"),
        (lambda c: c["images"].clear(), "holds no image"),
        (lambda c: c["images"][1].update(id=1), "two entries have the image id 1"),
        (lambda c: c["annotations"][1].update(id=1), "two entries have the annotation id 1"),
        (lambda c: c["categories"][1].update(id=3), "two entries have the category id 3"),
        (lambda c: c["images"][1].pop("id"), "image number 2 has the id None"),
        (lambda c: c["images"][0].update(file_name=""), "image 1: file_name is '', expected text"),
        (
            lambda c: c["images"][0].update(width=0),
            "image 1: width is 0 and height 20, expected pixels, 1 to 100000",
        ),
        (lambda c: c["images"][0].update(width=10**30), "image 1: width is 10+ and height 20, exp"),
        (
            lambda c: c["images"][0].update(file_name="../../secret.png"),
            "image 1: file_name: '../../secret.png' is no path within the data set's folder",
        ),
        (
            lambda c: c["images"][0].update(file_name="/etc/secret.png"),
            "image 1: file_name: '/etc/secret.png' is no path within the data set's folder",
        ),
        (
            lambda c: c["annotations"][0].update(area=10**400),
            "annotation 1: area is 10+…, expected a number",
        ),
        (
            lambda c: c["annotations"][1].update(category_id=5),
            "annotation 2: category_id is 5, which no category has",
        ),
        (
            lambda c: c["annotations"][1].update(image_id=9),
            "annotation 2: image_id is 9, which no image has",
        ),
        (
            lambda c: c["annotations"][0].update(bbox=[1, 2, 3]),
            r"annotation 1: bbox is \[1, 2, 3\], expected 4 numbers",
        ),
        (
            lambda c: c["annotations"][0].update(bbox=[1, 2, 3, float("nan")]),
            r"annotation 1: bbox is \[1, 2, 3, nan\], expected 4 numbers",
        ),
        (lambda c: c["annotations"][0].update(area="x"), "annotation 1: area is 'x'"),
        (lambda c: c["annotations"][0].update(iscrowd=2), "annotation 1: iscrowd is 2"),
    ],
)
def test_a_wrong_entry_is_named_in_one_line(pets: Path, change: Change, message: str) -> None:
    content = coco_content(IMAGES, CATEGORIES)
    change(content)
    path = write_content(pets, "train", json.dumps(content))
    with pytest.raises(DataError, match=rf"^{path}: {message}") as raised:
        prepared(pets)
    assert "\n" not in str(raised.value)


def test_a_file_that_is_no_json_is_named(pets: Path) -> None:
    path = write_content(pets, "train", "{")
    with pytest.raises(DataError, match=rf"^{path}: not a JSON file \("):
        prepared(pets)


def test_a_file_of_deeply_nested_json_is_named(pets: Path) -> None:
    path = write_content(pets, "train", "[" * 100_000)
    with pytest.raises(DataError, match=rf"^{path}: not a JSON file \(nested too deeply\)"):
        prepared(pets)


def test_a_missing_image_is_named(pets: Path) -> None:
    (pets / "train" / "2.png").unlink()
    with pytest.raises(DataError, match=rf"instances_train.json: the image {pets}/train/2.png is"):
        prepared(pets)


def test_missing_images_are_named_with_the_places_searched(pets: Path) -> None:
    (pets / "train").rename(pets / "photos")
    searched = f"{pets}/train, {pets}/images/train, {pets}/images, {pets}"
    with pytest.raises(DataError, match=f"the image 1.png is in none of the folders {searched}"):
        prepared(pets)


@pytest.mark.parametrize("place", ["images/train", "images", "."])
def test_images_may_lie_in_several_places(tmp_path: Path, place: str) -> None:
    root = write_coco(tmp_path / "data" / "pets", {"train": IMAGES, "val": IMAGES})
    (root / place).mkdir(parents=True, exist_ok=True)
    for path in (root / "train").iterdir():
        path.rename(root / place / path.name)
    (root / "train").rmdir()
    assert len(load(prepared(root, validation=0.0)).train) == 2


def test_a_damaged_image_is_named(pets: Path) -> None:
    (pets / "train" / "2.png").write_bytes(b"x")
    with pytest.raises(DataError, match=rf"^{pets}/train/2.png: cannot be decoded as an image"):
        prepared(pets)


def test_categories_must_be_those_of_training(pets: Path) -> None:
    write_content(pets, "test", coco_content(IMAGES, {3: "cat", 7: "cow"}))
    with pytest.raises(DataError, match="the categories of test and train differ, as in 'cow'"):
        prepared(pets)


def test_a_split_without_boxes_is_named(pets: Path) -> None:
    write_content(pets, "test", coco_content([((40, 20), [])], CATEGORIES))
    with pytest.raises(DataError, match="the images of test have no boxes"):
        prepared(pets)


def test_two_files_of_a_split_are_named(pets: Path) -> None:
    write_content(pets, "train2014", "{}")
    expected = "instances_train.json and instances_train2014.json; expected one file of train"
    with pytest.raises(DataError, match=expected):
        prepared(pets)


@pytest.mark.parametrize(
    ("missing", "message"),
    [
        ("train", "annotations: holds no instances_train"),
        ("val test", "pets: has neither test nor validation images"),
    ],
)
def test_a_missing_split_is_named(pets: Path, missing: str, message: str) -> None:
    for split in missing.split():
        (pets / "annotations" / f"instances_{split}.json").unlink()
    with pytest.raises(DataError, match=message):
        prepared(pets)


def test_a_folder_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="weeds: no such folder"):
        prepare("coco_weeds", tmp_path, tmp_path / "out.safetensors")
    with pytest.raises(ConfigError, match="the name of a folder in data_dir is missing"):
        dataset_info("coco_")


def test_coco_itself_is_read_by_its_own_names(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("prunebench.data.coco.CLASSES", 2)
    splits: dict[str, Content] = {
        "train2017": [((50, 40), [(3, [1, 2, 30, 20])]), ((40, 50), []), ((9, 9), [(3, [1] * 4)])],
        "val2017": [((50, 40), [(7, [1, 2, 30, 20])])],
    }
    root = write_coco(tmp_path / "coco", splits)
    (root / "annotations" / "captions_train2017.json").write_text("{}")
    prepare("coco", tmp_path, tmp_path / "out.safetensors", validation=0.0)
    data = load(tmp_path / "out.safetensors")
    assert (len(data.train), len(data.val), len(data.test)) == (2, 0, 1)
    assert boxed(data.train).sizes.tolist() == [[40, 50], [9, 9]]  # the image without boxes is out
    assert (data.info.shape, data.info.resize) == ((3, 800, 1280), (1333, 800))
    # 50x40 at most 1333x800: 20 times as large
    assert boxed(data.train).targets(torch.tensor([0])).tolist() == [[[0, 20, 40, 620, 440]]]


def test_coco_has_80_categories(tmp_path: Path) -> None:
    write_coco(tmp_path / "coco", {"train2017": IMAGES, "val2017": IMAGES})
    with pytest.raises(DataError, match="holds 2 categories, expected 80"):
        prepare("coco", tmp_path, tmp_path / "out.safetensors")


def test_boxes_are_only_flipped() -> None:
    dataset_info("coco").check_augmentation(Augment(flip=True))
    with pytest.raises(ConfigError, match="coco supports no other augmentation than flip"):
        dataset_info("coco").check_augmentation(Augment(flip=True, crop_padding=4))
