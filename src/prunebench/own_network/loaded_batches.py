"""The batches of the user's loader, as criteria and training see them.

A loader is anything that yields batches whenever it is iterated: a `DataLoader`, or a list. A batch
is `(inputs, targets)`. For a network of several arguments, it is `(first, second, ..., targets)` or
`((first, second, ...), targets)`. Targets may be anything that the loss takes.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Any

import torch
from torch import Tensor
from torch.utils._pytree import tree_leaves

from prunebench.channels.examples import on_device
from prunebench.core.errors import DataError, shown
from prunebench.criteria.base import Needs

Loader = Iterable[Any]
SHAPE = "expected (inputs, targets)"


class Bundle:
    """Tensors in tuples, lists or dictionaries that belong to the images of a batch.

    It has a length and can be sliced like a tensor of the batch.
    """

    def __init__(self, content: Any, size: int) -> None:
        self.content, self.size = content, size

    def __len__(self) -> int:
        return self.size

    def __getitem__(self, part: slice) -> Bundle:
        size = len(range(*part.indices(self.size)))
        return self if size == self.size else Bundle(cut(self.content, part, self.size), size)


def cut(content: Any, part: slice, size: int) -> Any:
    """Return the `part` of a batch of `size` images: of its tensors, and of lists of that length.

    >>> cut({"boxes": [1, 2, 3], "scale": 0.5}, slice(0, 2), 3)
    {'boxes': [1, 2], 'scale': 0.5}
    """
    if isinstance(content, Tensor):
        return content[part] if content.ndim and len(content) == size else content
    if isinstance(content, Mapping):
        return {key: cut(value, part, size) for key, value in content.items()}
    if isinstance(content, list) and len(content) == size:
        return content[part]
    if isinstance(content, tuple | list):
        return type(content)(cut(value, part, size) for value in content)
    return content


def content_of(values: Any) -> Any:
    """Return what the loader has yielded, out of its bundle."""
    return values.content if isinstance(values, Bundle) else values


@dataclass(frozen=True)
class OwnBatches:
    """The batches of a loader, on the network's device.

    Attributes
    ----------
    arguments
        Number of arguments of the network.
    """

    loader: Loader
    arguments: int
    device: torch.device

    def __iter__(self) -> Iterator[tuple[Any, Any]]:
        """Yield inputs and targets: tensors, or bundles."""
        for batch in repeatable(self.loader):
            inputs, targets = self.parted(batch)
            size = batch_size(inputs, targets)
            yield self._placed(inputs, size), self._placed(targets, size)

    def parted(self, batch: Any) -> tuple[Any, Any]:
        """Return the inputs and the targets of a batch; DataError if it has another form."""
        if not isinstance(batch, tuple | list):
            raise DataError(f"data: a batch is a {type(batch).__name__}, {SHAPE}")
        if len(batch) == 2:
            inputs, targets = batch
        elif len(batch) == self.arguments + 1:
            *inputs, targets = batch
        else:
            raise DataError(f"data: a batch has {len(batch)} parts, {SHAPE}")
        if self.arguments > 1:
            if not isinstance(inputs, tuple | list) or len(inputs) != self.arguments:
                raise DataError(
                    f"data: the network takes {self.arguments} arguments, a batch has inputs "
                    f"{shown(type(inputs).__name__)}; {SHAPE} with a tuple of inputs"
                )
            inputs = tuple(inputs)
        return inputs, targets

    def _placed(self, values: Any, size: int) -> Any:
        moved = on_device(values, self.device, non_blocking=True)
        is_plain = isinstance(moved, Tensor) and moved.ndim and len(moved) == size
        return moved if is_plain else Bundle(moved, size)

    def inputs(self) -> Iterator[tuple[Any, ...]]:
        """Yield the arguments of the network alone; batches without targets are allowed, too."""
        for batch in repeatable(self.loader):
            is_bare = isinstance(batch, Tensor)
            inputs = batch if is_bare else self.parted(batch)[0]
            moved = on_device(inputs, self.device)
            yield moved if self.arguments > 1 else (moved,)

    def samples(self, needs: Needs) -> Iterator[tuple[Any, Any]]:
        """Yield the loader's first images and their targets, in batches of at most `needs.batch`.

        All images if there are fewer. The loader has augmented and shuffled them as it does.
        """
        if needs.by_class:
            yield from self._by_class(needs)
            return
        left = needs.samples
        for inputs, targets in self:
            for start in range(0, min(len(inputs), left), needs.batch):
                part = slice(start, min(start + needs.batch, left))
                yield inputs[part], targets[part]
            left -= len(inputs)
            if left <= 0:
                return

    def _by_class(self, needs: Needs) -> Iterator[tuple[Any, Any]]:
        """Yield `needs.samples` images of each class, in batches of a single class."""
        images: dict[int, list[Tensor]] = {}
        for inputs, targets in self:
            check_labels(inputs, targets)
            for label in targets.unique().tolist():
                own = images.setdefault(label, [])
                missing = needs.samples - sum(map(len, own))
                if missing > 0:
                    own.append(inputs[targets == label][:missing])
        for label, found in sorted(images.items()):
            batch = torch.cat(found)
            yield batch, torch.full((len(batch),), label, device=self.device)

    def size(self) -> int:
        """Return the number of images in the first batch, whose targets may be missing."""
        for inputs in islice(self.inputs(), 1):
            return batch_size(inputs, None)
        raise DataError("data: the loader has no batch")

    def first(self) -> tuple[Any, Any]:
        """Return the first batch; DataError if there is none."""
        for batch in islice(self, 1):
            return batch
        raise DataError("data: the loader has no batch")


def repeatable(loader: Loader) -> Loader:
    """Return a loader that can be iterated again; DataError for a generator, which cannot."""
    if isinstance(loader, Iterator):
        raise DataError(
            "data: a generator can be read only once; pass a DataLoader or a list of batches"
        )
    return loader


def arguments_in(batch: Any) -> int:
    """Return the number of arguments of the network that a batch has, and targets besides.

    >>> x = torch.zeros(2, 3)
    >>> arguments_in((x, 0)), arguments_in(((x, x), 0)), arguments_in((x, x, x, 0))
    (1, 2, 3)
    """
    if not isinstance(batch, tuple | list) or len(batch) < 2:
        return 1
    first = batch[0]
    several = isinstance(first, tuple | list) and all(isinstance(x, Tensor) for x in first)
    return len(first) if several and len(batch) == 2 else len(batch) - 1


def batch_size(inputs: Any, targets: Any) -> int:
    """Return the number of images: the first size of the inputs' first tensor, or of the targets'.

    A list of images has its length.

    >>> batch_size([torch.zeros(3, 4, 4)] * 2, None), batch_size(torch.zeros(5, 3), None)
    (2, 5)
    """
    if isinstance(inputs, list) and inputs and isinstance(inputs[0], Tensor):
        return len(inputs)
    for leaf in (*tree_leaves(inputs), *tree_leaves(targets)):
        if isinstance(leaf, Tensor) and leaf.ndim:
            return len(leaf)
    raise DataError("data: a batch holds no tensor")


def check_labels(inputs: Any, targets: Any) -> None:
    """Raise DataError unless a batch has one tensor of inputs and one label for each image."""
    is_label = isinstance(targets, Tensor) and targets.ndim == 1 and not targets.is_floating_point()
    if not is_label or not isinstance(inputs, Tensor):
        raise DataError(
            "data: the scores need one tensor of inputs and one label for each image; use a "
            "criterion that needs only a loss or weights"
        )


def batches_in(loader: Loader) -> int:
    """Return the number of batches of a loader; DataError if it does not tell."""
    if isinstance(loader, Sequence) or hasattr(loader, "__len__"):
        try:
            return len(loader)  # type: ignore[arg-type]
        except TypeError:  # an iterable data set without a length
            pass
    raise DataError(
        "data: training needs to know the number of batches of an epoch; give the loader a "
        "length (__len__)"
    )


Loss = Callable[[Any, Any], Tensor]  # of the network's output and the targets
