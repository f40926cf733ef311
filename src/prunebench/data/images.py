"""The interface of a split for training and evaluation: labels, and images in a given order.

`dataset.Split` holds its images on the device; `image_files.FileSplit` reads them in workers. Both
yield uint8 images on the device, where whole batches are processed: by `augment.augment` in
training and by `evaluation_batches` in evaluation.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

from prunebench.data.augment import normalize
from prunebench.experiments.recipe import Augment

MOST = 512  # images in a batch of an evaluation
SMALL = 64 * 64  # pixels; larger images are evaluated in batches of 128 on a GPU


@dataclass(frozen=True)
class Order:
    """An order of images, divided into chunks that are read one after the other.

    Attributes
    ----------
    index
        Numbers of the images, int64 (n,), on the CPU.
    chunk
        Returns the positions of chunk k in `index`, a slice or an int64 tensor.
    chunks
        Number of chunks.
    seed
        Seed of the workers' random transforms, together with an image's position.
    """

    index: Tensor
    chunk: Callable[[int], slice | Tensor]
    chunks: int
    seed: int = 0

    def places(self, k: int, device: torch.device) -> slice | Tensor:
        """Return the positions of chunk k, a tensor of them on `device`."""
        places = self.chunk(k)
        return places.to(device) if isinstance(places, Tensor) else places


class Reader(Protocol):
    """Reads the chunks of an order; reading them in sequence is fastest."""

    def read(self, k: int) -> Tensor:
        """Return chunk k, uint8 (n, C, h, w), on the device."""


@dataclass(frozen=True)
class OnDevice:
    """Reads chunks of images that are on the device."""

    images: Tensor
    index: Tensor  # of the order, on the device of the images
    order: Order

    def read(self, k: int) -> Tensor:
        """Return chunk k, uint8 (n, C, h, w)."""
        return self.images[self.index[self.order.places(k, self.index.device)]]


class LabeledImages(Protocol):
    """A split of a data set."""

    @property
    def labels(self) -> Tensor:
        """Return the labels, int64 (N,), on the device."""

    @property
    def shape(self) -> tuple[int, int, int]:
        """Return the channels, height and width of an image."""

    def __len__(self) -> int:
        """Return the number of images."""

    def reader(self, order: Order, augment: Augment | None) -> Reader:
        """Return a reader of an order; `augment` is None for evaluation."""


def evaluation_batch_size(shape: tuple[int, int, int], device: torch.device) -> int:
    """Return the fastest number of images (C, h, w) per batch, as measured.

    On a CPU batches are smaller: the C library returns an activation of 32 MiB, as one of 16
    channels of 512 CIFAR images, to the system after each layer, and the pages of the next one are
    cleared again. ResNet-20 took 2.55 s for 1024 CIFAR images, and 1.26 s in batches of 128.

    >>> [evaluation_batch_size((3, side, side), torch.device("cpu")) for side in (8, 32, 64, 224)]
    [512, 128, 64, 18]
    """
    _, h, w = shape
    if device.type != "cpu":
        return MOST if h * w <= SMALL else 128
    return min(MOST, max(1, 4096 // max(h, w)))


def evaluation_batches(
    split: LabeledImages,
    *,
    mean: Sequence[float],
    std: Sequence[float],
    batch_size: int | None = None,
    rank: int = 0,
    world: int = 1,
) -> Iterator[tuple[Tensor, Tensor]]:
    """Yield normalized inputs (n, C, h, w), channels last, and labels (n,) of a split.

    Process `rank` of `world` processes gets every `world`-th image, so that each image is
    evaluated once.
    """
    size = batch_size or evaluation_batch_size(split.shape, split.labels.device)
    index = torch.arange(rank, len(split), world)
    order = Order(index, lambda k: slice(k * size, (k + 1) * size), -(-len(index) // size))
    reader, labels = split.reader(order, None), split.labels[index.to(split.labels.device)]
    for k in range(order.chunks):
        inputs = normalize(reader.read(k), mean, std)
        yield inputs.contiguous(memory_format=torch.channels_last), labels[order.chunk(k)]
