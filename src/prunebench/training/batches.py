"""The batches of an epoch: all its random numbers are drawn at once, before its first step."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from prunebench.core.recipe import Augment
from prunebench.data.augment import AugmentDraw, augment, draw_augmentation
from prunebench.data.stage import Split
from prunebench.methods.base import Needs


def steps_per_epoch(images: int, batch_size: int) -> int:
    """Return the number of batches; the last may be smaller, but a single image is left out.

    Batch norm cannot normalize over one value.

    >>> steps_per_epoch(128, 64), steps_per_epoch(130, 64), steps_per_epoch(129, 64)
    (2, 3, 2)
    """
    full, rest = divmod(images, batch_size)
    return full + (rest > 1)


def images_per_epoch(images: int, batch_size: int) -> int:
    """Return the images that those batches hold.

    >>> images_per_epoch(130, 64), images_per_epoch(129, 64)
    (130, 128)
    """
    return images - (images % batch_size == 1)


@dataclass(frozen=True)
class EpochBatches:
    """The images of an epoch in their order, and what is done to each."""

    split: Split
    order: Tensor  # int64 (N,), on the images' device
    draw: AugmentDraw  # of the images in that order
    augment: Augment
    mean: Sequence[float]
    std: Sequence[float]
    batch_size: int

    def batch(self, position: int) -> tuple[Tensor, Tensor]:
        """Return the inputs (n, C, h, w), float32, and labels (n,) of one step."""
        return self.part(slice(position * self.batch_size, (position + 1) * self.batch_size))

    def part(self, here: slice | Tensor) -> tuple[Tensor, Tensor]:
        """Return those of some places in the order."""
        index = self.order[here]
        images = augment(
            self.split.images[index],
            self.draw.at(here),
            crop_padding=self.augment.crop_padding,
            flip=self.augment.flip,
            cutout=self.augment.cutout,
            mean=self.mean,
            std=self.std,
        )
        return images.contiguous(memory_format=torch.channels_last), self.split.labels[index]


def draw_epoch(
    split: Split,
    transform: Augment,
    *,
    mean: Sequence[float],
    std: Sequence[float],
    batch_size: int,
    generator: torch.Generator,
) -> EpochBatches:
    """Draw the order and the augmentation of one epoch from `generator`, a CPU generator."""
    device = split.images.device
    order = torch.randperm(len(split), generator=generator)
    draw = draw_augmentation(
        len(split),
        crop_padding=transform.crop_padding,
        flip=transform.flip,
        cutout=transform.cutout,
        size=(split.images.shape[2], split.images.shape[3]),
        generator=generator,
    )
    return EpochBatches(split, order.to(device), draw.to(device), transform, mean, std, batch_size)


def sampled(
    split: Split,
    needs: Needs,
    transform: Augment,
    *,
    mean: Sequence[float],
    std: Sequence[float],
    generator: torch.Generator,
) -> Iterator[tuple[Tensor, Tensor]]:
    """Yield the images and labels that a criterion needs, in batches, at random.

    A class that has fewer images than are asked for gives all of them.
    """
    drawn = draw_epoch(
        split, transform, mean=mean, std=std, batch_size=needs.batch, generator=generator
    )
    parts = [torch.arange(len(split), device=drawn.order.device)[: needs.samples]]
    if needs.by_class:
        labels = split.labels[drawn.order]
        parts = [(labels == c).nonzero()[: needs.samples, 0] for c in torch.unique(labels)]
    for places in parts:
        for start in range(0, len(places), needs.batch):
            yield drawn.part(places[start : start + needs.batch])
