from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from prunebench.core.errors import ConfigError, DataError
from prunebench.data.dataset import Dataset, load, prepare
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
