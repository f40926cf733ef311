"""Images in files, read by image-loading workers during training.

The random crop and color jitter of an image depend only on the seed of the epoch and the image's
position in it, not on the number of workers or on where a run was stopped and resumed.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

import torch
from torch import Tensor

from prunebench.core.errors import DataError, cannot
from prunebench.data.images import Order
from prunebench.data.listing import unpacked
from prunebench.data.random_state import seeded
from prunebench.experiments.recipe import Augment


@dataclass(frozen=True)
class FileSplit:
    """A split whose images are read from files.

    Attributes
    ----------
    names, sizes
        As in `listing.FileList`, on the CPU.
    resize
        Shorter side before the center crop of evaluation, in pixels.
    workers
        Number of image-loading workers; 0: this process reads.
    """

    root: Path
    names: Tensor  # uint8 (N, longest)
    sizes: Tensor  # int64 (N,)
    labels: Tensor  # int64 (N,), on the device
    shape: tuple[int, int, int]
    resize: int
    workers: int = 0

    def __len__(self) -> int:
        return len(self.labels)

    def reader(self, order: Order, augment: Augment | None) -> FileReader:
        """Return a reader of an order."""
        return FileReader(self, order, augment)

    @property
    def device(self) -> torch.device:
        """Return the device to which images are copied."""
        return self.labels.device

    def read(self, image: int) -> Any:
        """Return an image in RGB; raise DataError for a missing, changed or damaged file."""
        return read_rgb(self.root, self.names[image], int(self.sizes[image]))

    def transform(self, augment: Augment | None) -> Any:
        """Return the transform of an image before it joins a batch."""
        return make_transform(self.shape[1:], self.resize, augment)


class ImageFiles(Protocol):
    """A split of images in files, as far as reading them goes."""

    @property
    def device(self) -> torch.device:
        """Return the device to which images are copied."""

    @property
    def workers(self) -> int:
        """Return the number of image-loading workers; 0: this process reads."""

    def read(self, image: int) -> Any:
        """Return an image in RGB; raise DataError for a missing, changed or damaged file."""

    def transform(self, augment: Augment | None) -> Any:
        """Return the transform of an image before it joins a batch."""


def read_rgb(root: Path, name: Tensor, size: int, pixels: tuple[int, int] | None = None) -> Any:
    """Read the image file of this name below `root`, with `size` bytes, in RGB.

    Raises DataError for a file that is missing or damaged, or has another number of bytes or
    another height and width than `pixels`.
    """
    from prunebench.data.decoding import open_rgb  # Pillow

    path = root / unpacked(name.numpy())
    again = "run `prunebench data` again, or restore the file"
    try:
        content = path.read_bytes()
    except OSError as error:
        raise DataError(f"{path}: {cannot('be read', error)}; {again}") from None
    if len(content) != size:
        raise DataError(f"{path}: has {len(content)} bytes, expected {size}; {again}")
    return open_rgb(path, content, pixels)


@dataclass
class FileReader:
    """Reads chunks ahead in workers; a request out of order restarts the workers there."""

    split: ImageFiles
    order: Order
    augment: Augment | None
    following: int = field(default=-1, init=False)
    batches: Iterator[Any] = field(default_factory=lambda: iter(()), init=False)

    def read(self, k: int) -> Tensor:
        """Return chunk k, uint8 (n, 3, h, w), on the device.

        Images that differ in size are padded with black at the right and bottom.
        """
        if k != self.following:
            self.batches = iter(self._loader(k))
        self.following = k + 1
        images = next(self.batches)
        if isinstance(images, DataError):
            raise images
        result: Tensor = images.to(self.split.device, non_blocking=True)
        return result

    def _loader(self, first: int) -> torch.utils.data.DataLoader[Any]:
        places = torch.arange(len(self.order.index))
        chunks = [places[self.order.chunk(k)].tolist() for k in range(first, self.order.chunks)]
        return torch.utils.data.DataLoader(
            _Decoded(self.split, self.order, self.augment),
            batch_sampler=chunks,
            num_workers=self.split.workers,
            collate_fn=_stacked,
            pin_memory=self.split.device.type == "cuda",
            generator=torch.Generator(),  # keeps the run's global generator untouched
        )


class _Decoded(torch.utils.data.Dataset[Any]):
    """Decoded images by their positions in an order."""

    def __init__(self, split: ImageFiles, order: Order, augment: Augment | None) -> None:
        self.split, self.order = split, order
        self.transform = split.transform(augment)

    def __getitem__(self, place: int) -> Tensor | DataError:
        """Return uint8 (3, h, w), or the error itself, because a worker would wrap it."""
        from torchvision.transforms.v2.functional import pil_to_tensor

        try:
            image = self.split.read(int(self.order.index[place]))
        except DataError as error:
            return error
        with seeded(image_seed(self.order.seed, place)):
            tensor: Tensor = pil_to_tensor(self.transform(image))
        return tensor


def make_transform(size: tuple[int, int], resize: int, augment: Augment | None) -> Any:
    """Return the transform of one image before it joins a batch of `size` (h, w).

    A resized crop replaces the default, which resizes the shorter side to `resize` and takes a
    center or random crop. Color jitter follows.
    """
    from torchvision.transforms import v2

    steps: list[Any] = [v2.Resize(resize), v2.CenterCrop(size)]
    if augment is not None and augment.resized_crop is not None:
        crop = augment.resized_crop
        steps = [v2.RandomResizedCrop(size, scale=crop.scale, ratio=crop.ratio)]
    elif augment is not None and augment.random_crop:
        steps[1] = v2.RandomCrop(size)
    if augment is not None and augment.jitter:
        steps.append(v2.ColorJitter(augment.jitter, augment.jitter, augment.jitter))
    return v2.Compose(steps)


def image_seed(seed: int, place: int) -> int:
    """Return a number below 2**63 that depends on an epoch's seed and a position in it."""
    digest = hashlib.sha256(f"{seed} {place}".encode()).digest()
    return int.from_bytes(digest[:8], "big") >> 1


def _stacked(images: list[Tensor | DataError]) -> Tensor | DataError:
    tensors = [image for image in images if isinstance(image, Tensor)]
    errors = [image for image in images if isinstance(image, DataError)]
    if errors:
        return errors[0]
    if len({tensor.shape for tensor in tensors}) == 1:
        return torch.stack(tensors)
    h, w = (max(tensor.shape[dim] for tensor in tensors) for dim in (1, 2))
    batch = tensors[0].new_zeros((len(tensors), tensors[0].shape[0], h, w))
    for row, tensor in zip(batch, tensors, strict=True):
        row[:, : tensor.shape[1], : tensor.shape[2]] = tensor
    return batch
