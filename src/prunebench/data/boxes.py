"""Images with boxes: a split, the batches of an epoch, and the batches of an evaluation.

Images are scaled as a whole to the split's `resize` and padded at the right and bottom to a
multiple of 32 pixels. The padding is the mean color, which is 0 after normalization. The valid size
is the height and width of the image within its padded input.

A target (n, M, 5), float32, has a row (label, x1, y1, x2, y2) per box, in pixels of the input. Rows
with the label -1 are padding; boxes of crowds are padding too.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property, partial
from pathlib import Path
from typing import Any, Protocol

import torch
import torch.nn.functional as F
from torch import Tensor

from prunebench.data.augment import normalize
from prunebench.data.boxed_source import padded_side, scaled_size
from prunebench.data.image_files import FileReader, read_rgb
from prunebench.data.images import OnDevice, Order, Reader, evaluation_batch_size
from prunebench.experiments.recipe import Augment

MOST_PIXELS = 128 * 224 * 224  # in a batch of an evaluation on a GPU


@dataclass(frozen=True, eq=False)
class BoxedFiles:
    """Files of a split's images, which are read during training.

    Attributes
    ----------
    names, bytes
        As names and sizes in `listing.FileList`, on the CPU.
    pixels
        Heights and widths of the images, int64 (N, 2), on the CPU.
    resize
        Largest longer and shorter side of an input, in pixels.
    device
        Device to which images are copied.
    workers
        Number of image-loading workers; 0: this process reads.
    """

    root: Path
    names: Tensor  # uint8 (N, longest)
    bytes: Tensor  # int64 (N,)
    pixels: Tensor
    resize: tuple[int, int]
    device: torch.device
    workers: int = 0

    def read(self, image: int) -> Any:
        """Return an image in RGB; raise DataError for a missing, changed or damaged file."""
        h, w = self.pixels[image].tolist()
        return read_rgb(self.root, self.names[image], int(self.bytes[image]), (h, w))

    def transform(self, augment: Augment | None) -> Any:
        """Return the transform of an image before it joins a batch."""
        return partial(_scaled, resize=self.resize)


def _scaled(image: Any, resize: tuple[int, int]) -> Any:
    from prunebench.data.decoding import scale_image  # Pillow

    return scale_image(image, scaled_size((image.height, image.width), resize))


@dataclass(frozen=True)
class Normalizing:
    """Mean and deviation per channel, and the memory format of inputs."""

    mean: Sequence[float]
    std: Sequence[float]
    memory_format: torch.memory_format = torch.channels_last


@dataclass(frozen=True, eq=False)
class BoxedImages:
    """A split of images with boxes; tensors are on the device.

    Attributes
    ----------
    pixels
        Scaled and padded images, uint8 (N, 3, H, W), or the files from which they are read.
    sizes
        Heights and widths of the original images, int64 (N, 2).
    boxes
        Corners x1, y1, x2, y2 in pixels of the original images, float64 (N, M, 4).
    labels
        Classes of the boxes, int64 (N, M); -1: padding.
    areas
        Areas that decide whether a box is small, medium or large, float64 (N, M).
    crowd
        Whether a box holds a crowd, bool (N, M). It is no target, and a detection in it is not an
        error.
    shape
        The input for which costs are counted; the inputs of all images in memory.
    resize
        Largest longer and shorter side of an input, in pixels.
    """

    pixels: Tensor | BoxedFiles
    sizes: Tensor
    boxes: Tensor
    labels: Tensor
    areas: Tensor
    crowd: Tensor
    shape: tuple[int, int, int]
    resize: tuple[int, int]

    def __len__(self) -> int:
        return len(self.labels)

    @property
    def device(self) -> torch.device:
        """Return the device of the inputs and targets."""
        return self.labels.device

    @cached_property
    def valid(self) -> Tensor:
        """Return the height and width of each image within its input, int64 (N, 2)."""
        return valid_sizes(self.sizes, self.resize)

    @cached_property
    def scales(self) -> Tensor:
        """Return the input pixels per original pixel, along y and x, float64 (N, 2)."""
        return self.valid.double() / self.sizes

    @cached_property
    def portrait(self) -> Tensor:
        """Return whether each image is higher than wide, bool (N,), on the CPU."""
        return (self.sizes[:, 0] > self.sizes[:, 1]).cpu()

    @cached_property
    def is_padded(self) -> bool:
        """Whether an input may hold padding."""
        full = self.valid.new_tensor(self.shape[1:])
        return isinstance(self.pixels, BoxedFiles) or bool((self.valid != full).any())

    def at(self, index: Tensor) -> BoxedImages:
        """Return the images at these places (n,), on the CPU, as a split."""
        pixels, here = self.pixels, index.to(self.device)
        if isinstance(pixels, BoxedFiles):
            names, sizes, heights = pixels.names[index], pixels.bytes[index], pixels.pixels[index]
            some: Tensor | BoxedFiles = replace(pixels, names=names, bytes=sizes, pixels=heights)
        else:
            some = pixels[here]
        return replace(
            self,
            pixels=some,
            sizes=self.sizes[here],
            boxes=self.boxes[here],
            labels=self.labels[here],
            areas=self.areas[here],
            crowd=self.crowd[here],
        )

    def reader(self, order: Order, augment: Augment | None) -> Reader:
        """Return a reader of an order; flips are applied later."""
        if isinstance(self.pixels, BoxedFiles):
            return FileReader(self.pixels, order, augment)
        return OnDevice(self.pixels, order.index.to(self.device), order)

    def inputs(self, images: Tensor, valid: Tensor, own: Normalizing) -> Tensor:
        """Return normalized inputs of uint8 images (n, 3, h, w) with these valid sizes (n, 2)."""
        normalized = normalize(images, own.mean, own.std)
        if self.is_padded:
            normalized = blank_padding(normalized, valid)
        return normalized.contiguous(memory_format=own.memory_format)

    def targets(self, index: Tensor, flips: Tensor | None = None) -> Tensor:
        """Return the targets (n, M, 5) of the images at `index`, mirrored where `flips` is true."""
        y, x = self.scales[index].unbind(1)
        boxes = self.boxes[index] * torch.stack((x, y, x, y), dim=1)[:, None]
        if flips is not None:
            mirrored = mirror_boxes(boxes, self.valid[index, 1])
            boxes = torch.where(flips[:, None, None], mirrored, boxes)
        labels = self.labels[index].masked_fill(self.crowd[index], -1)
        is_box = (labels >= 0)[:, :, None]
        return torch.cat((labels[:, :, None], boxes * is_box), dim=2).float()


def valid_sizes(sizes: Tensor, resize: tuple[int, int]) -> Tensor:
    """Return the heights and widths (N, 2) of scaled images, as `boxed_source.scaled_size`.

    >>> valid_sizes(torch.tensor([[427, 640], [480, 640]]), (1333, 800)).tolist()
    [[800, 1199], [800, 1067]]
    """
    longest, shorter = resize
    exact = sizes.double()
    scale = torch.minimum(longest / exact.amax(dim=1), shorter / exact.amin(dim=1))
    return (exact * scale[:, None] + 0.5).floor().long().clamp(min=1)


def mirror_boxes(boxes: Tensor, widths: Tensor) -> Tensor:
    """Mirror boxes (n, M, 4) left to right in images of these widths (n,).

    >>> mirror_boxes(torch.tensor([[[1.0, 2.0, 4.0, 6.0]]]), torch.tensor([10])).tolist()
    [[[6.0, 2.0, 9.0, 6.0]]]
    """
    x1, y1, x2, y2 = boxes.unbind(2)
    w = widths[:, None]
    return torch.stack((w - x2, y1, w - x1, y2), dim=2)


def mirror_images(images: Tensor, flips: Tensor, widths: Tensor) -> Tensor:
    """Mirror the images (n, 3, h, w) whose entry in `flips` (n,) is true within their widths (n,).

    The padding at their right stays there.
    """
    columns = torch.arange(images.shape[3], device=images.device)
    w = widths[:, None]
    source = torch.where(flips[:, None] & (columns < w), w - 1 - columns, columns)
    return images.gather(3, source[:, None, None, :].expand_as(images))


def blank_padding(inputs: Tensor, valid: Tensor) -> Tensor:
    """Set inputs (n, 3, h, w) to zero outside their valid sizes (n, 2)."""
    rows = torch.arange(inputs.shape[2], device=inputs.device) >= valid[:, :1]
    columns = torch.arange(inputs.shape[3], device=inputs.device) >= valid[:, 1:]
    return inputs.masked_fill((rows[:, :, None] | columns[:, None, :])[:, None], 0)


def pad_images(images: Tensor) -> Tensor:
    """Pad images (n, 3, h, w) at the right and bottom to a multiple of 32 pixels."""
    h, w = images.shape[2:]
    return F.pad(images, (0, padded_side(w) - w, 0, padded_side(h) - h))


class Batches(Protocol):
    """The division of an epoch into batches: `training.batches.Batching`."""

    @property
    def batch_size(self) -> int:
        """Return the number of images in a batch of all processes together."""

    def __len__(self) -> int:
        """Return the number of batches."""

    def places(self, position: int) -> slice:
        """Return the positions of this process's images of a batch in the order of the epoch."""


class Samples(Protocol):
    """The images that a criterion asks for: `criteria.base.Needs`."""

    @property
    def samples(self) -> int:
        """Return the number of images."""

    @property
    def batch(self) -> int:
        """Return the number of images per batch."""

    @property
    def by_class(self) -> bool:
        """Whether the images of each class are asked for."""


@dataclass(frozen=True)
class BoxedBatches:
    """The images of an epoch in order, in chunks, and which of them are mirrored."""

    split: BoxedImages
    order: Order
    reader: Reader
    index: Tensor  # of the order, on the device
    flips: Tensor | None  # bool, of the images in that order, on the device; None: no flips
    own: Normalizing

    def chunk(self, k: int) -> tuple[Tensor, Tensor]:
        """Return the inputs (n, 3, H, W), float32, and targets (n, M, 5) of chunk k."""
        places = self.order.places(k, self.index.device)
        index = self.index[places]
        flips = None if self.flips is None else self.flips[places]
        images, valid = pad_images(self.reader.read(k)), self.split.valid[index]
        if flips is not None:
            images = mirror_images(images, flips, valid[:, 1])
        return self.split.inputs(images, valid, self.own), self.split.targets(index, flips)


def draw_detection_epoch(
    split: BoxedImages,
    augment: Augment,
    *,
    mean: Sequence[float],
    std: Sequence[float],
    batching: Batches,
    generator: torch.Generator,
    memory_format: torch.memory_format = torch.channels_last,
) -> BoxedBatches:
    """Draw the order and the flips of one epoch from `generator`, a CPU generator.

    A batch holds images of one orientation, as in MMDetection, except for what is left over of
    both.
    """
    index = torch.randperm(len(split), generator=generator)
    index = group_by_orientation(index, split.portrait, batching.batch_size, generator)
    own = Normalizing(mean, std, memory_format)
    order = Order(index, batching.places, len(batching), generator.initial_seed())
    return _drawn(split, augment, order, generator, own)


def sampled_boxes(
    split: BoxedImages,
    needs: Samples,
    augment: Augment,
    *,
    mean: Sequence[float],
    std: Sequence[float],
    generator: torch.Generator,
    memory_format: torch.memory_format = torch.channels_last,
) -> Iterator[tuple[Tensor, Tensor]]:
    """Yield the inputs and targets that a criterion needs, in batches, at random.

    Raises ValueError if it needs images by class: an image has boxes of several.
    """
    if needs.by_class:
        raise ValueError("images with boxes have no class, but images of each class are needed")
    index = torch.randperm(len(split), generator=generator)[: needs.samples]
    index = group_by_orientation(index, split.portrait, needs.batch, generator)
    own = Normalizing(mean, std, memory_format)
    drawn = _drawn(split, augment, _in_batches(index, needs.batch, generator), generator, own)
    for k in range(drawn.order.chunks):
        yield drawn.chunk(k)


def _drawn(
    split: BoxedImages,
    augment: Augment,
    order: Order,
    generator: torch.Generator,
    own: Normalizing,
) -> BoxedBatches:
    drawn = torch.randint(2, (len(order.index),), generator=generator).bool()
    flips = drawn.to(split.device) if augment.flip else None
    index = order.index.to(split.device)
    return BoxedBatches(split, order, split.reader(order, augment), index, flips, own)


def _in_batches(index: Tensor, size: int, generator: torch.Generator | None = None) -> Order:
    seed = 0 if generator is None else generator.initial_seed()
    return Order(index, lambda k: slice(k * size, (k + 1) * size), -(-len(index) // size), seed)


def group_by_orientation(
    index: Tensor, portrait: Tensor, size: int, generator: torch.Generator
) -> Tensor:
    """Return an order in which batches of `size` hold images of one orientation.

    The images that are left over of both orientations are batched together. The order of full
    batches is drawn; the last batch may be smaller.
    """
    parts = [index[portrait[index] == kind] for kind in (False, True)]
    ends = [len(part) // size * size for part in parts]
    rest = torch.cat([part[end:] for part, end in zip(parts, ends, strict=True)])
    end = len(rest) // size * size
    whole = [part[:end] for part, end in zip(parts, ends, strict=True)]
    batches = torch.cat([*whole, rest[:end]]).view(-1, size)
    drawn = torch.randperm(len(batches), generator=generator)
    return torch.cat([batches[drawn].flatten(), rest[end:]])


def detection_batch_size(shape: tuple[int, int, int], device: torch.device) -> int:
    """Return the number of images (3, h, w) per batch of an evaluation.

    On a GPU, a batch has as many pixels as one of 128 ImageNet images.

    >>> [detection_batch_size((3, 800, 1280), torch.device(name)) for name in ("cpu", "cuda")]
    [3, 6]
    >>> [detection_batch_size((3, 128, 128), torch.device(name)) for name in ("cpu", "cuda")]
    [32, 128]
    """
    _, h, w = shape
    most = evaluation_batch_size(shape, device)
    return most if device.type == "cpu" else min(most, max(1, MOST_PIXELS // (h * w)))


def detection_batches(
    split: BoxedImages,
    *,
    mean: Sequence[float],
    std: Sequence[float],
    batch_size: int | None = None,
    rank: int = 0,
    world: int = 1,
) -> Iterator[tuple[Tensor, Tensor, Tensor, Tensor]]:
    """Yield the batches of an evaluation, first of landscapes, then of portraits.

    A batch is the normalized inputs (n, 3, H, W), channels last, the places (n,) of the images in
    the split, their valid sizes (n, 2), and the input pixels per original pixel along y and x
    (n, 2). Process `rank` of `world` processes gets every `world`-th image.
    """
    size = batch_size or detection_batch_size(split.shape, split.device)
    index = torch.arange(rank, len(split), world)
    index = torch.cat([index[split.portrait[index] == kind] for kind in (False, True)])
    order, own = _in_batches(index, size), Normalizing(mean, std)
    reader, on_device = split.reader(order, None), index.to(split.device)
    for k in range(order.chunks):
        here = on_device[order.chunk(k)]
        valid = split.valid[here]
        inputs = split.inputs(pad_images(reader.read(k)), valid, own)
        yield inputs, here, valid, split.scales[here]
