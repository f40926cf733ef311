"""What training and evaluation see of a split: labels, and images in an order, batch by batch.

`stage.Split` holds its images on the device, `image_files.FileSplit` has workers read them from
files. Either way a reader yields uint8 images on the device, and all that follows happens there
for a whole batch: `augment.augment` in training, `evaluation_batches` afterwards.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

from prunebench.data.augment import normalize
from prunebench.experiments.recipe import Augment

SMALL = 64 * 64  # pixels up to which 512 images are evaluated at once


@dataclass(frozen=True)
class Order:
    """Images in an order, in chunks that are asked for one after the other.

    Attributes
    ----------
    index
        Numbers of the images, int64 (n,), on the CPU.
    chunk
        The places of chunk k in `index`, a slice or an int64 tensor.
    chunks
        How many there are.
    seed
        Of what workers do to images at random; with an image's place it decides all.
    """

    index: Tensor
    chunk: Callable[[int], slice | Tensor]
    chunks: int
    seed: int = 0


class Reader(Protocol):
    """Reads the chunks of an order, fastest one after the other."""

    def read(self, k: int) -> Tensor:
        """Return chunk k, uint8 (n, C, h, w), on the device."""


class LabeledImages(Protocol):
    """A split of a data set."""

    @property
    def labels(self) -> Tensor:
        """Return the labels, int64 (N,), on the device."""

    @property
    def shape(self) -> tuple[int, int, int]:
        """Return channels, height and width of an image as it is read."""

    def __len__(self) -> int:
        """Return the number of images."""

    def reader(self, order: Order, augment: Augment | None) -> Reader:
        """Return a reader of an order; without `augment` for evaluation."""


def evaluation_batches(
    split: LabeledImages,
    *,
    mean: Sequence[float],
    std: Sequence[float],
    batch_size: int | None = None,
    rank: int = 0,
    world: int = 1,
) -> Iterator[tuple[Tensor, Tensor]]:
    """Yield the inputs (n, C, h, w), normalized, channels last, and labels (n,) of a split.

    Of `world` processes, process `rank` gets every `world`-th image, so that together they see
    each once.
    """
    _, h, w = split.shape
    size = batch_size or (512 if h * w <= SMALL else 128)
    index = torch.arange(rank, len(split), world)
    order = Order(index, lambda k: slice(k * size, (k + 1) * size), -(-len(index) // size))
    reader, labels = split.reader(order, None), split.labels[index.to(split.labels.device)]
    for k in range(order.chunks):
        inputs = normalize(reader.read(k), mean, std)
        yield inputs.contiguous(memory_format=torch.channels_last), labels[order.chunk(k)]
