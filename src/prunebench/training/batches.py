"""How the batch of a step is divided: over processes, and over the passes of gradient accumulation.

The batch of the recipe is that of all processes together. Its loss is the mean over all its images,
so each part's loss is weighted by its share of them. Batch norm sees one part at a time: n
processes give the same gradients as one process that accumulates over n parts.

The batches of an epoch: all its random numbers are drawn at once, before its first step.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from prunebench.criteria.base import Needs
from prunebench.data.augment import AugmentDraw, augment, draw_augmentation
from prunebench.data.images import LabeledImages, Order, Reader
from prunebench.experiments.recipe import Augment


@dataclass(frozen=True)
class Portion:
    """What one process does of a batch.

    Attributes
    ----------
    rows
        Its images within the batch.
    parts
        Each pass: its images within those rows, and the weight of its mean loss.
    images
        Of the whole batch.
    processes
        Among which the batch is divided: all, or one where it is too small to be divided. Then
        every process trains the whole batch.
    counts
        Whether these images are counted here; of a batch that is not divided, by the first.
    """

    rows: slice
    parts: tuple[tuple[slice, float], ...]
    images: int
    processes: int = 1
    counts: bool = True

    @property
    def divisor(self) -> float:
        """Return what an image's own loss is divided by in the loss that is differentiated here.

        >>> portion(10, world=2).divisor, portion(3, world=2).divisor
        (5.0, 3.0)
        """
        return self.images / self.processes


def portion(images: int, *, accumulation: int = 1, rank: int = 0, world: int = 1) -> Portion:
    """Return the portion of process `rank` of `world`.

    Processes average their gradients, hence the factor `world` in the weights, whose mean over
    processes sums to one. No part has fewer than two images: batch norm cannot normalize over one.

    >>> portion(10, accumulation=2).parts
    ((slice(0, 5, None), 0.5), (slice(5, 10, None), 0.5))
    >>> second = portion(7, rank=1, world=2)
    >>> second.rows, second.parts
    (slice(3, 7, None), ((slice(0, 4, None), 1.1428571428571428),))
    """
    count = accumulation * world
    if images < 2 * count:
        return Portion(slice(0, images), ((slice(0, images), 1.0),), images, counts=rank == 0)
    bounds = [i * images // count for i in range(count + 1)]
    own = bounds[rank * accumulation : (rank + 1) * accumulation + 1]
    parts = tuple(
        (slice(start - own[0], end - own[0]), (end - start) * world / images)
        for start, end in itertools.pairwise(own)
    )
    return Portion(slice(own[0], own[-1]), parts, images, world)


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
    """The images of an epoch in their order, in chunks, and what is done to each."""

    order: Order
    reader: Reader
    labels: Tensor  # of the images in that order, on the device
    draw: AugmentDraw  # the same, there too
    augment: Augment
    mean: Sequence[float]
    std: Sequence[float]

    def chunk(self, k: int) -> tuple[Tensor, Tensor]:
        """Return the inputs (n, C, h, w), float32, and labels (n,) of chunk k."""
        here = self.order.chunk(k)
        images = augment(
            self.reader.read(k),
            self.draw.at(here),
            crop_padding=self.augment.crop_padding,
            flip=self.augment.flip,
            cutout=self.augment.cutout,
            mean=self.mean,
            std=self.std,
        )
        return images.contiguous(memory_format=torch.channels_last), self.labels[here]


@dataclass(frozen=True)
class Batching:
    """How an epoch of `images` images is cut into batches, and those into portions."""

    images: int
    batch_size: int  # of all processes together
    portions: Callable[[int], Portion] = portion  # of a batch of so many images

    def __len__(self) -> int:
        return steps_per_epoch(self.images, self.batch_size)

    def portion(self, position: int) -> Portion:
        """Return what this process does of a batch."""
        return self.portions(min(self.batch_size, self.images - position * self.batch_size))

    def places(self, position: int) -> slice:
        """Return where this process's images of a batch stand in the epoch's order."""
        start, rows = position * self.batch_size, self.portion(position).rows
        return slice(start + rows.start, start + rows.stop)


def draw_epoch(
    split: LabeledImages,
    transform: Augment,
    *,
    mean: Sequence[float],
    std: Sequence[float],
    batching: Batching,
    generator: torch.Generator,
) -> EpochBatches:
    """Draw the order and the augmentation of one epoch from `generator`, a CPU generator."""
    return _drawn(
        split, transform, mean, std, generator, lambda _: (batching.places, len(batching))
    )


def sampled(
    split: LabeledImages,
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

    def chunks(labels: Tensor) -> tuple[Callable[[int], Tensor], int]:
        parts = [torch.arange(len(split))[: needs.samples]]
        if needs.by_class:
            parts = [(labels == c).nonzero()[: needs.samples, 0] for c in torch.unique(labels)]
        found = [chunk for places in parts for chunk in torch.split(places, needs.batch)]
        return found.__getitem__, len(found)

    drawn = _drawn(split, transform, mean, std, generator, chunks)
    for k in range(drawn.order.chunks):
        yield drawn.chunk(k)


def _drawn(
    split: LabeledImages,
    transform: Augment,
    mean: Sequence[float],
    std: Sequence[float],
    generator: torch.Generator,
    chunks: Callable[[Tensor], tuple[Callable[[int], slice | Tensor], int]],
) -> EpochBatches:
    """Draw an order and the augmentation; `chunks` cuts it, given the labels in that order."""
    index = torch.randperm(len(split), generator=generator)
    draw = draw_augmentation(
        len(split),
        crop_padding=transform.crop_padding,
        flip=transform.flip,
        cutout=transform.cutout,
        lighting=transform.lighting,
        size=split.shape[1:],
        generator=generator,
    )
    device = split.labels.device
    labels = split.labels[index.to(device)]
    chunk, count = chunks(labels.cpu())
    order = Order(index, chunk, count, generator.initial_seed())
    reader = split.reader(order, transform)
    return EpochBatches(order, reader, labels, draw.to(device), transform, mean, std)
