from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import safetensors.torch
import torch
from torch import Tensor

from prunebench.core.errors import ConfigError, DataError
from prunebench.data.dataset import METADATA_KEY, content_hash, load, prepare
from prunebench.data.registry import names
from tests.data.coco_files import Content, write_coco

Change = Callable[[dict[str, Tensor]], Any]


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """The synthetic data set's file."""
    out = tmp_path / "synthetic.safetensors"
    prepare("synthetic", tmp_path, out)
    return out


def rewrite(path: Path, change: Change, **metadata: Any) -> None:
    """Write the file again with other tensors and metadata; its checksum fits unless given."""
    with safetensors.safe_open(path, "pt") as file:
        known = json.loads(file.metadata()[METADATA_KEY])
    tensors = safetensors.torch.load(path.read_bytes())
    change(tensors)
    content = {**known, "sha256": content_hash(tensors), **metadata}
    entry = {METADATA_KEY: json.dumps({k: v for k, v in content.items() if v is not None})}
    safetensors.torch.save_file(tensors, path, metadata=entry)


def test_the_metadata_say_where_the_data_come_from(path: Path) -> None:
    with safetensors.safe_open(path, "pt") as file:
        metadata = json.loads(file.metadata()[METADATA_KEY])
    assert metadata["dataset"] == "synthetic"
    assert metadata["source"] == "generated from seed 0"
    assert metadata["split"] == (
        "200 images generated after the training images; 120 of 600 training images are held out "
        "for validation, stratified, seed 0"
    )
    assert metadata["validation"] == 0.2
    assert metadata["sha256"] == load(path).sha256


def test_the_same_data_give_the_same_bytes(path: Path, tmp_path: Path) -> None:
    prepare("synthetic", tmp_path, tmp_path / "again.safetensors")
    assert (tmp_path / "again.safetensors").read_bytes() == path.read_bytes()


def test_nothing_is_held_out_where_the_caller_says_so(tmp_path: Path) -> None:
    out = tmp_path / "all.safetensors"
    prepare("synthetic", tmp_path, out, validation=0.0)
    data = load(out)
    assert (len(data.train), len(data.val), len(data.test)) == (600, 0, 200)
    assert data.val.images.shape == (0, 3, 8, 8)


@pytest.mark.parametrize("validation", [0.1, 0.5])
def test_joined_splits_do_not_depend_on_the_split(tmp_path: Path, validation: float) -> None:
    """The order is that of the source, as if nothing were held out."""
    whole, parts = tmp_path / "whole.safetensors", tmp_path / "parts.safetensors"
    prepare("synthetic", tmp_path, whole, validation=0.0)
    prepare("synthetic", tmp_path, parts, validation=validation)
    expected, data = load(whole), load(parts, joined=True)
    assert torch.equal(data.train.images, expected.train.images)
    assert torch.equal(data.train.labels, expected.train.labels)
    assert len(data.val) == 0
    assert data.val.images.shape == (0, 3, 8, 8)
    assert torch.equal(data.test.images, expected.test.images)


def test_a_file_without_the_places_of_its_validation_images_is_not_joined(path: Path) -> None:
    rewrite(path, lambda _: None, held_out=None)
    assert len(load(path).val) == 120
    with pytest.raises(DataError, match="without the places of the validation images; run"):
        load(path, joined=True)


@pytest.mark.parametrize("validation", [-0.1, 1.0, float("nan")])
def test_a_fraction_out_of_range_is_refused(tmp_path: Path, validation: float) -> None:
    with pytest.raises(ConfigError, match=r"validation must be a fraction in \[0, 1\), not"):
        prepare("synthetic", tmp_path, tmp_path / "out.safetensors", validation=validation)


def test_a_failed_stage_leaves_no_file(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"synthetic: validation: a fraction of 0\.999"):
        prepare("synthetic", tmp_path, tmp_path / "out.safetensors", validation=0.999)
    assert not list(tmp_path.iterdir())


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"none.safetensors: no such file"):
        load(tmp_path / "none.safetensors")


def test_a_folder_in_the_place_of_the_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"cannot be read \(Is a directory\); a folder is in the"):
        load(tmp_path)


def test_a_truncated_file_is_named(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-1])
    with pytest.raises(DataError, match=r"synthetic.safetensors: not a complete safetensors file"):
        load(path)


def test_a_file_of_another_origin_is_named(path: Path) -> None:
    safetensors.torch.save_file({"x": torch.zeros(1)}, path)
    with pytest.raises(DataError, match="the metadata 'prunebench' is missing"):
        load(path)


def test_a_changed_pixel_is_found(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)
    with pytest.raises(DataError, match=r"the tensors' SHA-256 is .*, expected "):
        load(path)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda t: t.pop("val_labels"), "'val_labels' is missing"),
        (lambda t: t.update(extra=torch.zeros(1)), "'extra' is unexpected"),
        (
            lambda t: t.update(test_images=t["test_images"].float()),
            r"test_images is torch.float32 of shape \(200, 3, 8, 8\), expected torch.uint8",
        ),
        (
            lambda t: t.update(train_images=t["train_images"][:, :1].clone()),
            r"shape \(480, 1, 8, 8\), expected torch.uint8 of shape \(480, 3, 8, 8\)",
        ),
        (
            lambda t: t.update(train_labels=t["train_labels"][:-1].clone()),
            r"train_images is .* expected torch.uint8 of shape \(479, 3, 8, 8\)",
        ),
        (lambda t: t["val_labels"].fill_(4), "val_labels holds 4 to 4, expected 0 to 3"),
        (lambda t: t["train_labels"].clamp_(max=2), "train_labels has no class 3"),
    ],
)
def test_a_wrong_tensor_is_named(path: Path, change: Change, message: str) -> None:
    rewrite(path, change)
    with pytest.raises(DataError, match=message):
        load(path)


@pytest.mark.parametrize(
    ("metadata", "message"),
    [
        ({"dataset": "cifar1"}, f"dataset is 'cifar1', expected one of {', '.join(names())}"),
        ({"dataset": None}, "the metadata has no 'dataset'"),
    ],
)
def test_wrong_metadata_are_named(path: Path, metadata: dict[str, Any], message: str) -> None:
    rewrite(path, lambda tensors: None, **metadata)
    with pytest.raises(DataError, match=message):
        load(path)


@pytest.fixture
def boxed_path(tmp_path: Path) -> Path:
    """The file of a data set with two boxes in one image of 40x20 pixels per split."""
    images: Content = [((40, 20), [(7, [4, 2, 10, 6]), (3, [0, 0, 40, 20])])]
    write_coco(tmp_path / "pets", {"train": images, "val": images, "test": images})
    out = tmp_path / "pets.safetensors"
    prepare("coco_pets", tmp_path, out)
    return out


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda t: t.pop("val_crowd"), "'val_crowd' is missing"),
        (lambda t: t.update(test_files=torch.zeros(1)), "'test_files' is unexpected"),
        (
            lambda t: t.update(train_boxes=t["train_boxes"].float()),
            r"train_boxes is torch.float32 of shape \(1, 2, 4\), expected torch.float64 of shape",
        ),
        (
            lambda t: t.update(test_images=t["test_images"][:, :, :20].clone()),
            r"shape \(1, 3, 20, 64\), expected torch.uint8 of shape \(1, 3, 32, 64\)",
        ),
        (lambda t: t["val_labels"].fill_(2), "val_labels holds 2 to 2, expected -1 to 1"),
        (lambda t: t["test_labels"].fill_(-1), "test_labels has no boxes"),
        (
            lambda t: t["train_boxes"][0, 1].add_(1),
            r"train_boxes: box 1 of image 0 is \[1.0, 1.0, 41.0, 21.0\], expected x1 < x2 and "
            "y1 < y2 within 40x20 pixels",
        ),
    ],
)
def test_a_wrong_tensor_of_boxes_is_named(boxed_path: Path, change: Change, message: str) -> None:
    rewrite(boxed_path, change)
    with pytest.raises(DataError, match=message):
        load(boxed_path)


@pytest.mark.gpu
def test_tensors_arrive_on_the_device(path: Path) -> None:
    assert load(path, "cuda").train.images.is_cuda


def test_a_trial_loads_some_images_of_each_split(path: Path) -> None:
    whole, some = load(path), load(path, most=100)
    assert [len(s) for s in (some.train, some.val, some.test)] == [100, 100, 100]
    assert torch.equal(some.test.images, whole.test.images[::2])  # every second of 200
    assert torch.equal(some.test.labels, whole.test.labels[::2])
    assert some.sha256 == whole.sha256
    assert len(load(path, most=1000).train) == len(whole.train)
