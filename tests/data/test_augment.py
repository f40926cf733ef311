from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch
import torchvision
from torch import Tensor

from prunebench.data.augment import (
    AugmentDraw,
    augment,
    color_shifts,
    cut_out,
    draw_augmentation,
    normalize,
    random_crop,
    random_flip,
)


@pytest.fixture
def image() -> Tensor:
    """One image of one channel: 1 to 9."""
    return torch.arange(1, 10, dtype=torch.uint8).reshape(1, 1, 3, 3)


@pytest.fixture
def images() -> Tensor:
    """Twenty images of three channels, 6x5."""
    generator = torch.Generator().manual_seed(0)
    return torch.randint(256, (20, 3, 6, 5), dtype=torch.uint8, generator=generator)


def draw(n: int = 20, seed: int = 0, **changes: Any) -> AugmentDraw:
    settings: dict[str, Any] = {"crop_padding": 2, "flip": True, "cutout": 3, "size": (6, 5)}
    generator = torch.Generator().manual_seed(seed)
    return draw_augmentation(n, **{**settings, **changes}, generator=generator)


@pytest.mark.parametrize(
    ("offset", "expected"),
    [
        # the image stands at rows and columns 1 to 3 of the padded 5x5
        ((0, 0), [[0, 0, 0], [0, 1, 2], [0, 4, 5]]),
        ((0, 1), [[0, 0, 0], [1, 2, 3], [4, 5, 6]]),
        ((0, 2), [[0, 0, 0], [2, 3, 0], [5, 6, 0]]),
        ((1, 0), [[0, 1, 2], [0, 4, 5], [0, 7, 8]]),
        ((1, 1), [[1, 2, 3], [4, 5, 6], [7, 8, 9]]),
        ((1, 2), [[2, 3, 0], [5, 6, 0], [8, 9, 0]]),
        ((2, 0), [[0, 4, 5], [0, 7, 8], [0, 0, 0]]),
        ((2, 1), [[4, 5, 6], [7, 8, 9], [0, 0, 0]]),
        ((2, 2), [[5, 6, 0], [8, 9, 0], [0, 0, 0]]),
    ],
)
def test_a_crop_begins_at_its_offset(
    image: Tensor, offset: tuple[int, int], expected: list[list[int]]
) -> None:
    cropped = random_crop(image, torch.tensor([offset]), 1)
    assert cropped.dtype == torch.uint8
    assert cropped[0, 0].tolist() == expected


def test_every_image_has_its_own_crop(images: Tensor) -> None:
    offsets = draw().offsets
    together = random_crop(images, offsets, 2)
    alone = [random_crop(images[i : i + 1], offsets[i : i + 1], 2) for i in range(20)]
    assert together.is_contiguous()
    assert torch.equal(together, torch.cat(alone))


def test_flips_mirror_left_to_right(image: Tensor) -> None:
    flipped = random_flip(image.repeat(2, 1, 1, 1), torch.tensor([True, False]))
    assert flipped[0, 0].tolist() == [[3, 2, 1], [6, 5, 4], [9, 8, 7]]
    assert torch.equal(flipped[1], image[0])


@pytest.mark.parametrize(
    ("center", "size", "expected"),
    [
        ((1, 1), 1, [[1, 2, 3], [4, 0, 6], [7, 8, 9]]),
        ((1, 1), 2, [[0, 0, 3], [0, 0, 6], [7, 8, 9]]),  # an even square begins size / 2 before
        ((0, 0), 2, [[0, 2, 3], [4, 5, 6], [7, 8, 9]]),  # clipped
        ((2, 1), 3, [[1, 2, 3], [0, 0, 0], [0, 0, 0]]),
        ((1, 1), 9, [[0, 0, 0], [0, 0, 0], [0, 0, 0]]),
    ],
)
def test_a_square_is_cut_out_around_its_center(
    image: Tensor, center: tuple[int, int], size: int, expected: list[list[int]]
) -> None:
    assert cut_out(image.float(), torch.tensor([center]), size)[0, 0].tolist() == expected


def test_images_are_scaled_and_normalized_per_channel() -> None:
    images = torch.tensor([[255, 51], [0, 255]], dtype=torch.uint8).reshape(2, 2, 1, 1)
    # channel 0: (1 - 0.5) / 0.25, (0 - 0.5) / 0.25; channel 1: (0.2 - 0.2) / 0.1, (1 - 0.2) / 0.1
    normalized = normalize(images, (0.5, 0.2), (0.25, 0.1))
    assert normalized.dtype == torch.float32
    assert normalized.flatten().tolist() == pytest.approx([2, 0, -2, 8], abs=1e-6)


def test_normalization_agrees_with_torchvision(images: Tensor) -> None:
    mean, std = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
    expected = torchvision.transforms.functional.normalize(images / 255, list(mean), list(std))
    torch.testing.assert_close(normalize(images, mean, std), expected)


def test_normalization_leaves_its_argument_alone() -> None:
    images = torch.full((1, 1, 2, 2), 100.0)
    normalize(images, (0.5,), (0.5,))
    assert (images == 100).all()


@pytest.mark.parametrize(("mean", "std"), [((0.5,), (0.5,) * 3), ((0.5,) * 3, (0.5,))])
def test_one_mean_and_deviation_per_channel_are_asked_for(
    images: Tensor, mean: tuple[float, ...], std: tuple[float, ...]
) -> None:
    with pytest.raises(ValueError, match="deviations for 3 channels"):
        normalize(images, mean, std)


def test_draws_cover_their_range() -> None:
    drawn = draw(2000)
    assert drawn.offsets.unique().tolist() == [0, 1, 2, 3, 4]
    assert 900 < int(drawn.flips.sum()) < 1100
    assert drawn.centers[:, 0].unique().tolist() == [0, 1, 2, 3, 4, 5]
    assert drawn.centers[:, 1].unique().tolist() == [0, 1, 2, 3, 4]


def test_the_same_seed_draws_the_same() -> None:
    first, second, other = draw(seed=1), draw(seed=1), draw(seed=2)
    assert torch.equal(first.offsets, second.offsets)
    assert torch.equal(first.flips, second.flips)
    assert torch.equal(first.centers, second.centers)
    assert not torch.equal(first.offsets, other.offsets)


def test_switching_one_off_leaves_the_others_as_they_were() -> None:
    everything, only_flips = draw(), draw(crop_padding=0, cutout=0)
    assert torch.equal(everything.flips, only_flips.flips)
    assert not only_flips.offsets.any()
    assert not only_flips.centers.any()
    assert torch.equal(everything.centers, draw(flip=False).centers)
    assert not draw(flip=False).flips.any()


def test_a_batch_takes_its_own_numbers(images: Tensor) -> None:
    settings: dict[str, Any] = {"crop_padding": 2, "flip": True, "cutout": 3}
    scale: dict[str, Any] = {"mean": (0.5,) * 3, "std": (0.5,) * 3}
    epoch, index = draw(), torch.tensor([4, 0, 19])
    whole = augment(images, epoch, **settings, **scale)
    batch = augment(images[index], epoch.at(index), **settings, **scale)
    assert torch.equal(batch, whole[index])


def test_padding_is_black_and_a_cutout_is_the_mean() -> None:
    images = torch.full((1, 1, 3, 3), 255, dtype=torch.uint8)
    drawn = AugmentDraw(torch.tensor([[0, 1]]), torch.tensor([False]), torch.tensor([[2, 2]]))
    out = augment(images, drawn, crop_padding=1, flip=True, cutout=1, mean=(0.5,), std=(0.25,))
    assert out[0, 0].tolist() == [[-2, -2, -2], [2, 2, 2], [2, 2, 0]]


def test_nothing_switched_on_is_normalization(images: Tensor) -> None:
    mean, std = (0.5,) * 3, (0.25,) * 3
    out = augment(images, draw(), crop_padding=0, flip=False, cutout=0, mean=mean, std=std)
    assert torch.equal(out, normalize(images, mean, std))


@pytest.mark.gpu
def test_augmentation_never_waits_for_the_device(images: Tensor) -> None:
    drawn, on_device = draw().to("cuda"), images.cuda()
    settings: dict[str, Any] = {"crop_padding": 2, "flip": True, "cutout": 3}
    scale: dict[str, Any] = {"mean": (0.5,) * 3, "std": (0.5,) * 3}
    torch.cuda.set_sync_debug_mode("error")
    try:
        out = augment(on_device, drawn, **settings, **scale)
    finally:
        torch.cuda.set_sync_debug_mode("default")
    torch.testing.assert_close(out.cpu(), augment(images, draw(), **settings, **scale))


def test_lighting_shifts_colors_along_the_principal_components() -> None:
    # one deviation of the first: 0.2175 times its column, divided by the deviation of each color
    images = torch.full((1, 3, 2, 2), 128, dtype=torch.uint8)
    plain = AugmentDraw(*(torch.zeros(1, 2, dtype=torch.int64) for _ in range(3)))
    lit = replace(plain, shifts=color_shifts(torch.tensor([[1.0, 0.0, 0.0]])))
    settings: dict[str, Any] = {"crop_padding": 0, "flip": False, "cutout": 0}
    settings |= {"mean": (0.5, 0.5, 0.5), "std": (0.5, 0.25, 0.125)}
    shift = augment(images, lit, **settings) - augment(images, plain, **settings)
    expected = torch.tensor([-0.12343 / 0.5, -0.12632 / 0.25, -0.12693 / 0.125])
    torch.testing.assert_close(shift[0, :, 1, 1], expected, rtol=1e-3, atol=1e-4)


def test_asking_for_lighting_leaves_all_other_numbers_as_they_were() -> None:
    plain, lit = draw(), draw(lighting=0.1)
    assert plain.shifts is None
    assert lit.shifts is not None
    assert lit.shifts.shape == (20, 3)
    for name in ("offsets", "flips", "centers"):
        assert torch.equal(getattr(plain, name), getattr(lit, name))
    part = lit.at(slice(3, 5))
    assert part.shifts is not None
    assert torch.equal(part.shifts, lit.shifts[3:5])
