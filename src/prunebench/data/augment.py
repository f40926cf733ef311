"""Augmentation of training images on their device, a whole batch at a time.

The order is: uint8 -> crop -> flip -> float, normalized -> lighting -> cutout. The random numbers
of an epoch are drawn together before it starts. The functions draw nothing and copy nothing
between CPU and GPU, so that a CUDA graph can capture them.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor


@dataclass(frozen=True)
class AugmentDraw:
    """Random numbers for the N images of an epoch or a batch."""

    offsets: Tensor  # int64 (N, 2): row and column of the crop's corner in the padded image
    flips: Tensor  # bool (N,)
    centers: Tensor  # int64 (N, 2): row and column of the cutout's center
    shifts: Tensor | None = None  # float32 (N, 3): shift of each color in [0, 1]; None: no lighting

    def at(self, index: Tensor | slice) -> AugmentDraw:
        """Return the numbers of the images at `index`."""
        shifts = None if self.shifts is None else self.shifts[index]
        return AugmentDraw(self.offsets[index], self.flips[index], self.centers[index], shifts)

    def to(self, device: torch.device | str) -> AugmentDraw:
        """Move the numbers to a device."""
        shifts = None if self.shifts is None else self.shifts.to(device)
        return AugmentDraw(
            self.offsets.to(device), self.flips.to(device), self.centers.to(device), shifts
        )


def draw_augmentation(
    n: int,
    *,
    crop_padding: int,
    flip: bool,
    cutout: int,
    size: tuple[int, int],
    generator: torch.Generator,
    lighting: float = 0.0,
) -> AugmentDraw:
    """Draw the random numbers for `n` images of `size` (h, w), on the device of `generator`.

    Offsets are uniform in 0..2 * crop_padding, flips have probability 1/2, centers are uniform
    over the pixels. All three are drawn whether they are used or not, so that switching one off
    does not change the others; without `flip` no image is flipped, and without `cutout` centers
    are 0. Shifts are drawn last, and only if `lighting` is above 0.
    """
    device, (h, w) = generator.device, size
    offsets = torch.randint(
        2 * crop_padding + 1, (n, 2), generator=generator, device=device, dtype=torch.int64
    )
    flips = torch.randint(2, (n,), generator=generator, device=device).bool()
    rows = torch.randint(h, (n,), generator=generator, device=device)
    columns = torch.randint(w, (n,), generator=generator, device=device)
    centers = torch.stack((rows, columns), dim=1)
    return AugmentDraw(
        offsets=offsets,
        flips=flips if flip else torch.zeros_like(flips),
        centers=centers if cutout else torch.zeros_like(centers),
        shifts=color_shifts(torch.randn(n, 3, generator=generator) * lighting)
        if lighting
        else None,
    )


def augment(
    images: Tensor,
    draw: AugmentDraw,
    *,
    crop_padding: int,
    flip: bool,
    cutout: int,
    mean: Sequence[float],
    std: Sequence[float],
) -> Tensor:
    """Augment and normalize uint8 images (N, C, h, w); return float32.

    `draw` holds the random numbers of these N images, including the shifts of lighting. Steps that
    are switched off (0, False) cost nothing.
    """
    if crop_padding:
        images = random_crop(images, draw.offsets, crop_padding)
    if flip:
        images = random_flip(images, draw.flips)
    normalized = normalize(images, mean, std)
    if draw.shifts is not None:  # added before the division by the deviation
        normalized += draw.shifts[:, :, None, None] / per_channel(std, images.device)
    return cut_out(normalized, draw.centers, cutout) if cutout else normalized


def random_crop(images: Tensor, offsets: Tensor, padding: int) -> Tensor:
    """Pad images (N, C, h, w) with zeros on all sides and crop them to their original size.

    `offsets` (N, 2) are the rows and columns, 0..2 * padding, of the crops' corners; an offset of
    `padding` returns the image unchanged. The papers pad before normalizing: the border is black.
    """
    n, _, h, w = images.shape
    padded = F.pad(images, (padding, padding, padding, padding))
    windows = padded.unfold(2, h, 1).unfold(3, w, 1)  # (N, C, row, column, h, w), no copy
    index = torch.arange(n, device=images.device)
    return windows[index, :, offsets[:, 0], offsets[:, 1]]


def random_flip(images: Tensor, flips: Tensor) -> Tensor:
    """Mirror the images (N, C, h, w) whose entry in `flips` (N,) is true, left to right."""
    return torch.where(flips[:, None, None, None], images.flip(3), images)


def cut_out(images: Tensor, centers: Tensor, size: int) -> Tensor:
    """Set a square of `size` pixels in each image (N, C, h, w) to zero, clipped at the border.

    The square begins size // 2 before its center (N, 2). Images are already normalized, as in
    PGMPF's code (DeVries and Taylor, arXiv 1708.04552): zero is the mean, not black.
    """
    h, w = images.shape[2:]
    first = centers - size // 2
    rows = torch.arange(h, device=images.device) - first[:, :1]  # (N, h), from the square's edge
    columns = torch.arange(w, device=images.device) - first[:, 1:]
    in_rows, in_columns = (rows >= 0) & (rows < size), (columns >= 0) & (columns < size)
    square = in_rows[:, :, None] & in_columns[:, None, :]
    return images.masked_fill(square[:, None], 0)


# Standard deviations of ImageNet's colors in [0, 1] along their principal components, and the
# components (columns). Krizhevsky et al. 2012, section 4.1; numbers of fb.resnet.torch.
PRINCIPAL_DEVIATIONS = (0.2175, 0.0188, 0.0045)
PRINCIPAL_COLORS = (
    (-0.5675, 0.7192, 0.4009),
    (-0.5808, -0.0045, -0.8140),
    (-0.5836, -0.6948, 0.4203),
)


def color_shifts(alphas: Tensor) -> Tensor:
    """Return the shift of red, green and blue, (N, 3), for factors (N, 3) of the components.

    >>> color_shifts(torch.tensor([[1.0, 0.0, 0.0]]))
    tensor([[-0.1234, -0.1263, -0.1269]])
    """
    deviations = torch.tensor(PRINCIPAL_DEVIATIONS, device=alphas.device)
    return (alphas * deviations) @ torch.tensor(PRINCIPAL_COLORS, device=alphas.device).T


def normalize(images_uint8: Tensor, mean: Sequence[float], std: Sequence[float]) -> Tensor:
    """Scale uint8 images (N, C, h, w) to [0, 1] and return (image - mean) / std in float32.

    Raises ValueError if `mean` or `std` does not have one number per channel.
    """
    if not len(mean) == len(std) == images_uint8.shape[1]:
        raise ValueError(
            f"{len(mean)} means and {len(std)} deviations for {images_uint8.shape[1]} channels"
        )
    device = images_uint8.device
    scaled = images_uint8.to(torch.float32) / 255
    return scaled.sub_(per_channel(mean, device)).div_(per_channel(std, device))


def per_channel(values: Sequence[float], device: torch.device) -> Tensor:
    """Return numbers as a tensor (C, 1, 1) on a device.

    The tensor is filled on the device: torch.tensor would copy from the CPU and synchronize.
    """
    return torch.cat([torch.full((1, 1, 1), value, device=device) for value in values])
