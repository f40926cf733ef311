from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from prunebench.core.errors import ConfigError, DataError
from prunebench.data.dataset import Dataset, Split, load, prepare, summary
from prunebench.data.image_files import FileSplit
from prunebench.data.images import Order, evaluation_batches
from prunebench.data.registry import dataset_info
from prunebench.experiments.recipe import Augment, ResizedCrop
from tests.data.conftest import write_image

EVERYTHING = Augment(resized_crop=ResizedCrop(), jitter=0.4)


def prepared(data_dir: Path, **more: Any) -> Path:
    out = data_dir.parent / "out.safetensors"
    prepare("folder_flowers", data_dir, out, **more)
    return out


def loaded(data_dir: Path, workers: int = 0) -> Dataset:
    return load(prepared(data_dir, validation=0.0), workers=workers)


def read_all(data: Dataset, augment: Augment | None, *, seed: int = 0, first: int = 0) -> Tensor:
    """Read the training images backwards, five at a time, from chunk `first` on."""
    order = Order(torch.arange(11, -1, -1), lambda k: slice(5 * k, 5 * k + 5), 3, seed)
    reader = data.train.reader(order, augment)
    return torch.cat([reader.read(k) for k in range(first, 3)])


def test_the_splits_are_joined_in_the_order_of_the_folder(flowers: Path) -> None:
    expected = loaded(flowers).train
    train = load(prepared(flowers, validation=0.25), joined=True).train
    assert isinstance(train, FileSplit)
    assert isinstance(expected, FileSplit)
    for found, own in zip(vars(train).values(), vars(expected).values(), strict=True):
        assert torch.equal(found, own) if isinstance(found, Tensor) else found == own


def test_a_folder_describes_itself(flowers: Path) -> None:
    data = loaded(flowers)
    assert data.info.title == "Flowers"
    assert data.info.num_classes == 2
    assert data.info.shape == data.train.shape == (3, 8, 8)
    assert data.train.labels.tolist() == [0] * 6 + [1] * 6
    assert (len(data.val), len(data.test)) == (0, 4)


def test_images_are_held_out_by_class(flowers: Path) -> None:
    data = load(prepared(flowers, validation=0.5))
    assert data.train.labels.tolist() == data.val.labels.tolist() == [0] * 3 + [1] * 3


def test_for_evaluation_the_centre_of_the_resized_image_is_cut_out(flowers: Path) -> None:
    images = read_all(loaded(flowers), None).flip(0)
    assert images.dtype == torch.uint8
    assert images.shape == (12, 3, 8, 8)
    right = images[:6, 0, 4, 7].tolist()  # red of the roses, away from the darker half
    assert right == [60, 80, 100, 120, 140, 160]
    assert images[:6, 0, 4, 0].tolist() == [20, 40, 60, 80, 100, 120]


def test_augmentation_repeats_for_a_seed_and_differs_by_place(flowers: Path) -> None:
    data = loaded(flowers)
    first, again, other = (read_all(data, EVERYTHING, seed=s) for s in (1, 1, 2))
    assert torch.equal(first, again)
    assert not torch.equal(first, other)


def test_workers_and_where_one_begins_change_no_image(flowers: Path) -> None:
    alone = read_all(loaded(flowers), EVERYTHING)
    helped = loaded(flowers, workers=2)
    assert torch.equal(read_all(helped, EVERYTHING), alone)
    assert torch.equal(read_all(helped, EVERYTHING, first=1), alone[5:])


def test_reading_does_not_disturb_the_global_random_numbers(flowers: Path) -> None:
    data = loaded(flowers)
    before = torch.get_rng_state()
    read_all(data, EVERYTHING)
    assert torch.equal(torch.get_rng_state(), before)


def test_a_resized_crop_takes_its_share_of_the_area(flowers: Path) -> None:
    # A tiny crop of two halves is of one color but for its edge; a whole one shows both.
    data = loaded(flowers)
    ratio = (1.0, 1.0)
    tiny = read_all(data, Augment(resized_crop=ResizedCrop(scale=(0.01, 0.01), ratio=ratio)))
    whole = read_all(data, Augment(resized_crop=ResizedCrop(scale=(1.0, 1.0), ratio=ratio)))
    assert (tiny[:, :, :, 0] == tiny[:, :, :, -1]).all(dim=(1, 2)).sum() >= 8
    assert (whole[:, 0, 4, 7].int() - whole[:, 0, 4, 0].int()).tolist() == [40] * 12


def test_a_random_crop_moves_the_place_that_is_cut_out(flowers: Path) -> None:
    # Images are dark on the left. Of 10 rows and 12 to 14 columns 8 of each are cut out.
    data = loaded(flowers)
    centre = read_all(data, None)[:, 0, 4]
    moved, again, other = (read_all(data, Augment(random_crop=True), seed=s) for s in (1, 1, 2))
    assert moved.shape == (12, 3, 8, 8)
    assert torch.equal(moved, again)
    assert not torch.equal(moved, other)
    dark_columns = (moved[:, 0, 4] < moved[:, 0, 4, -1:]).sum(dim=1)
    in_centre = (centre < centre[:, -1:]).sum(dim=1)
    assert (dark_columns > in_centre).any()
    assert (dark_columns < in_centre).any()


def test_jitter_changes_colors_alone(flowers: Path) -> None:
    data = loaded(flowers)
    plain, jittered = read_all(data, None), read_all(data, Augment(jitter=0.4))
    assert not torch.equal(plain, jittered)
    assert jittered.shape == plain.shape
    # an image has the same two columns of colors as before
    assert torch.equal(jittered[:, :, 0], jittered[:, :, -1])


@pytest.mark.parametrize("world", [1, 2, 3])
def test_processes_evaluate_every_image_once(flowers: Path, world: int) -> None:
    data = loaded(flowers)
    mean, std = (0.5, 0.5, 0.5), (0.25, 0.25, 0.25)
    seen: list[float] = []
    for rank in range(world):
        for inputs, labels in evaluation_batches(
            data.train, mean=mean, std=std, batch_size=4, rank=rank, world=world
        ):
            assert inputs.is_contiguous(memory_format=torch.channels_last)
            red = (inputs[:, 0, 4, 7] * 0.25 + 0.5) * 255
            seen += (red + 1000 * labels).round().tolist()
    assert sorted(seen) == [60, 80, 100, 120, 140, 160, 1060, 1080, 1100, 1120, 1140, 1160]


@pytest.mark.parametrize("workers", [0, 1])
def test_a_damaged_or_changed_image_is_named(flowers: Path, workers: int) -> None:
    data = loaded(flowers, workers)
    path = flowers / "flowers" / "train" / "rose" / "3.png"
    content = path.read_bytes()
    path.write_bytes(content[:-4])
    with pytest.raises(DataError, match=rf"^{path}: has {len(content) - 4} bytes, expected"):
        read_all(data, None)
    path.write_bytes(b"x" * len(content))
    with pytest.raises(DataError, match=rf"^{path}: cannot be decoded as an image"):
        read_all(data, None)
    path.unlink()
    with pytest.raises(DataError, match=rf"^{path}: cannot be read \(No such file"):
        read_all(data, None)


def test_a_folder_that_has_moved_is_named(flowers: Path) -> None:
    out = prepared(flowers)
    (flowers / "flowers").rename(flowers / "gone")
    with pytest.raises(DataError, match=r"its folder .*flowers is missing"):
        load(out)


def test_classes_must_be_those_of_training(flowers: Path) -> None:
    write_image(flowers / "flowers" / "val" / "weed" / "0.png", (90, 90, 90))
    with pytest.raises(DataError, match="the class 'weed' is not in both train and val"):
        prepared(flowers)


def test_a_class_of_one_image_is_named_with_the_data_set(flowers: Path, tmp_path: Path) -> None:
    for k in range(1, 6):
        (flowers / "flowers" / "train" / "tulip" / f"{k}.png").unlink()
    with pytest.raises(DataError) as error:
        prepare("folder_flowers", flowers, tmp_path / "out.safetensors")
    assert str(error.value) == (
        "folder_flowers: validation: a fraction of 0.1 of the 7 training images is to be held out, "
        "stratified: class 'tulip' has a single one, at least 2 are needed"
    )


def test_a_single_class_is_refused(flowers: Path) -> None:
    shutil.rmtree(flowers / "flowers" / "train" / "tulip")
    with pytest.raises(DataError, match=r"flowers/train: the only class is 'rose', expected 2 or"):
        prepared(flowers)


def test_a_class_without_images_is_named(flowers: Path) -> None:
    for path in (flowers / "flowers" / "val" / "rose").iterdir():
        path.rename(path.with_suffix(".txt"))
    with pytest.raises(DataError, match=r"val/rose: holds no images \(.bmp, "):
        prepared(flowers)


def test_a_folder_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"weeds: no such folder"):
        prepare("folder_weeds", tmp_path, tmp_path / "out.safetensors")


def test_a_misspelt_key_of_the_description_is_named(flowers: Path) -> None:
    (flowers / "flowers" / "dataset.yaml").write_text("{sise: 8}")
    with pytest.raises(ConfigError, match="unknown key 'sise'; did you mean size"):
        prepared(flowers)


def test_what_files_cannot_be_done_to_tensors() -> None:
    with pytest.raises(ConfigError, match="does not support resized_crop, random_crop or jitter"):
        dataset_info("cifar10").check_augmentation(EVERYTHING)
    with pytest.raises(
        ConfigError, match="lighting needs color images, but digits has grayscale images"
    ):
        dataset_info("digits").check_augmentation(Augment(lighting=0.1))
    dataset_info("imagenet").check_augmentation(EVERYTHING)


Size = tuple[int, int]


def write_folder(data_dir: Path, size: Size, odd: Size | None = None, yaml: str = "") -> Path:
    """Write `flowers` with images of width by height `size`, one test image of size `odd`."""
    for label, name in enumerate(("rose", "tulip")):
        for k in range(2):
            color = (60 + 20 * k, 50 + label, 100)
            write_image(data_dir / "flowers" / "train" / name / f"{k}.png", color, size)
            write_image(data_dir / "flowers" / "test" / name / f"{k}.png", color, odd or size)
    if yaml:
        (data_dir / "flowers" / "dataset.yaml").write_text(yaml)
    return data_dir


@pytest.mark.parametrize("yaml", ["", "{size: 12}", "{size: 12, resize: 12}", "{title: Flowers}"])
def test_small_equal_images_are_stored_as_they_are(tmp_path: Path, yaml: str) -> None:
    data = loaded(write_folder(tmp_path / "data", (12, 12), yaml=yaml))
    assert isinstance(data.train, Split)
    assert data.info.shape == data.train.shape == data.test.shape == (3, 12, 12)
    assert (data.info.in_files, data.info.resize, data.info.classes) == (
        False,
        None,
        ("rose", "tulip"),
    )
    assert data.train.labels.tolist() == data.test.labels.tolist() == [0, 0, 1, 1]
    # red of the second rose is 80, 40 less on the left
    assert data.train.images[1, 0].tolist() == [[40] * 6 + [80] * 6] * 12
    assert data.train.images[2, 1, 0].tolist() == [11] * 6 + [51] * 6


@pytest.mark.parametrize(
    ("size", "odd", "yaml", "expected"),
    [
        ((64, 64), None, "", (64, None)),
        ((65, 65), None, "", (65, 65)),  # equal: read from files, but not resized
        ((20, 12), None, "", (12, 12)),  # not square: cropped
        ((12, 12), (12, 13), "", (224, 256)),  # not equal: as ImageNet
        ((240, 240), None, "", (224, 256)),
        ((12, 12), None, "{size: 10}", (10, 11)),
        ((12, 12), None, "{resize: 16}", (12, 16)),
        ((12, 12), (12, 13), "{size: 12}", (12, 13)),
    ],
)
def test_the_size_is_read_from_the_images(
    tmp_path: Path, size: Size, odd: Size | None, yaml: str, expected: tuple[int, int | None]
) -> None:
    info = loaded(write_folder(tmp_path / "data", size, odd, yaml)).info
    assert info.shape[1] == info.shape[2]
    assert (info.shape[1], info.resize) == expected
    assert info.in_files == (expected[1] is not None)


def test_a_resize_below_the_size_is_refused(tmp_path: Path) -> None:
    data_dir = write_folder(tmp_path / "data", (12, 12), yaml="{size: 12, resize: 10}")
    with pytest.raises(ConfigError, match=r"dataset\.yaml: resize: 10 is smaller than size, 12"):
        prepared(data_dir)


def test_a_damaged_image_is_named_when_sizes_are_read(tmp_path: Path) -> None:
    data_dir = write_folder(tmp_path / "data", (12, 12))
    path = data_dir / "flowers" / "test" / "rose" / "1.png"
    path.write_bytes(b"x")
    with pytest.raises(DataError, match=rf"^{path}: cannot be read \(cannot identify"):
        prepared(data_dir)


def test_tensors_of_a_folder_refuse_the_augmentation_of_files(tmp_path: Path) -> None:
    info = loaded(write_folder(tmp_path / "data", (12, 12))).info
    with pytest.raises(ConfigError, match="folder_flowers does not support resized_crop"):
        info.check_augmentation(EVERYTHING)


def test_a_summary_says_how_images_become_inputs(tmp_path: Path, flowers: Path) -> None:
    assert summary(prepared(flowers, validation=0.5)) == {
        "images": "6 train, 6 val, 4 test",
        "classes": "2 (rose, tulip)",
        "size": "8x8, 3 channels",
        "resize": "shorter side to 10",
        "crop": "center 8x8 (in training, the recipe's)",
    }
    small = write_folder(tmp_path / "small" / "data", (12, 12))
    found = summary(prepared(small, validation=0.0))
    assert (found["size"], found["resize"], found["crop"]) == ("12x12, 3 channels", "none", "none")
