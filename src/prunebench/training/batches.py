"""The batches of an epoch, and the portion of a batch that one process trains on.

All random numbers of an epoch are drawn at once, before its first step.

The recipe's batch is that of all processes together. A process takes a portion of it, which
gradient accumulation divides further into parts, one forward and backward pass each. The loss is
the mean over all images of the batch, so the loss of a part is weighted by its share of them. Batch
norm sees one part at a time: n processes give the same gradients as one process that accumulates
over n parts.
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
    """The share of one process in a batch.

    Attributes
    ----------
    rows
        The images of this process within the batch.
    parts
        For each pass, its images within those rows and the weight of its mean loss.
    images
        Number of images in the whole batch.
    processes
        Number of processes that share the batch: all, or one if it is too small to be divided.
        Then every process trains on the whole batch.
    counts
        Whether this process counts these images; only the first one counts an undivided batch.
    """

    rows: slice
    parts: tuple[tuple[slice, float], ...]
    images: int
    processes: int = 1
    counts: bool = True

    @property
    def divisor(self) -> float:
        """Return the divisor of an image's loss within the loss that is differentiated here.

        >>> portion(10, world=2).divisor, portion(3, world=2).divisor
        (5.0, 3.0)
        """
        return self.images / self.processes


def portion(images: int, *, accumulation: int = 1, rank: int = 0, world: int = 1) -> Portion:
    """Return the portion of process `rank` of `world`.

    Processes average their gradients. So the weights have the factor `world`, and their mean over
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
    """Return the number of batches; the last one may be smaller, but a single image is dropped.

    Batch norm cannot normalize over one value.

    >>> steps_per_epoch(128, 64), steps_per_epoch(130, 64), steps_per_epoch(129, 64)
    (2, 3, 2)
    """
    full, rest = divmod(images, batch_size)
    return full + (rest > 1)


def images_per_epoch(images: int, batch_size: int) -> int:
    """Return the number of images in those batches.

    >>> images_per_epoch(130, 64), images_per_epoch(129, 64)
    (130, 128)
    """
    return images - (images % batch_size == 1)


@dataclass(frozen=True)
class EpochBatches:
    """The images of an epoch in order, in chunks, with their augmentation."""

    order: Order
    reader: Reader
    labels: Tensor  # of the images in that order, on the device
    draw: AugmentDraw  # of the images in that order, on the device
    augment: Augment
    mean: Sequence[float]
    std: Sequence[float]
    memory_format: torch.memory_format

    def chunk(self, k: int) -> tuple[Tensor, Tensor]:
        """Return the inputs (n, C, h, w), float32, and labels (n,) of chunk k."""
        here = self.order.places(k, self.labels.device)
        images = augment(
            self.reader.read(k),
            self.draw.at(here),
            crop_padding=self.augment.crop_padding,
            flip=self.augment.flip,
            cutout=self.augment.cutout,
            mean=self.mean,
            std=self.std,
        )
        return images.contiguous(memory_format=self.memory_format), self.labels[here]


@dataclass(frozen=True)
class Batching:
    """The division of an epoch of `images` images into batches, and of those into portions."""

    images: int
    batch_size: int  # of all processes together
    portions: Callable[[int], Portion] = portion  # from the number of images in a batch

    def __len__(self) -> int:
        return steps_per_epoch(self.images, self.batch_size)

    def portion(self, position: int, rows: int | None = None) -> Portion:
        """Return the portion of this process in the batch at `position`.

        `rows` is the number of images that were read for it, if another one is possible: a loader
        decides the size of its batches.

        >>> Batching(10, 4).portion(1).images, Batching(10, 4).portion(1, rows=3).images
        (4, 3)
        """
        own = self.portions(min(self.batch_size, self.images - position * self.batch_size))
        is_other = rows is not None and own.processes == 1 and rows != own.images
        return self.portions(rows) if is_other else own  # type: ignore[arg-type]

    def places(self, position: int) -> slice:
        """Return the positions of those images in the order of the epoch."""
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
    memory_format: torch.memory_format = torch.channels_last,
) -> EpochBatches:
    """Draw the order and the augmentation of one epoch from `generator`, a CPU generator."""

    def chunks(_: Tensor) -> tuple[Callable[[int], slice], int]:
        return batching.places, len(batching)

    return _drawn(split, transform, mean, std, generator, chunks, memory_format)


def sampled(
    split: LabeledImages,
    needs: Needs,
    transform: Augment,
    *,
    mean: Sequence[float],
    std: Sequence[float],
    generator: torch.Generator,
    memory_format: torch.memory_format = torch.channels_last,
) -> Iterator[tuple[Tensor, Tensor]]:
    """Yield the images and labels that a criterion needs, in batches, at random.

    A class with fewer images than requested yields all of them.
    """

    def chunks(labels: Tensor) -> tuple[Callable[[int], Tensor], int]:
        parts = [torch.arange(len(split))[: needs.samples]]
        if needs.by_class:
            on_cpu = labels.cpu()
            classes = torch.unique(on_cpu)
            parts = [(on_cpu == c).nonzero()[: needs.samples, 0] for c in classes]
        found = [chunk for places in parts for chunk in torch.split(places, needs.batch)]
        return found.__getitem__, len(found)

    drawn = _drawn(split, transform, mean, std, generator, chunks, memory_format)
    for k in range(drawn.order.chunks):
        yield drawn.chunk(k)


def _drawn(
    split: LabeledImages,
    transform: Augment,
    mean: Sequence[float],
    std: Sequence[float],
    generator: torch.Generator,
    chunks: Callable[[Tensor], tuple[Callable[[int], slice | Tensor], int]],
    memory_format: torch.memory_format,
) -> EpochBatches:
    """Draw an order and its augmentation; `chunks` divides it, given the labels in that order."""
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
    chunk, count = chunks(labels)  # training does not copy the labels to the CPU
    order = Order(index, chunk, count, generator.initial_seed())
    reader = split.reader(order, transform)
    return EpochBatches(order, reader, labels, draw.to(device), transform, mean, std, memory_format)
