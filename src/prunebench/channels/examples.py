"""Batch size of the inputs of a network, and the arrangement of the examples in them.

The number of examples divides every cost. Shapes alone do not tell it: three images and the three
colors of one image have the same first size. The shape of the first layer's output decides.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Mapping
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, fields, is_dataclass
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.utils._pytree import tree_leaves, tree_map

from prunebench.core.errors import ModelError

Example = Tensor | tuple[Any, ...]  # an input, or a tuple of arguments
Arrangement = Literal["rows", "list", "single"]


@dataclass(frozen=True)
class Batch:
    """The examples in the inputs of a network.

    Attributes
    ----------
    size
        Number of examples.
    arrangement
        "rows" if they lie along the first dimension of the tensors, "list" if they are the items of
        a list, "single" if the input is one example without a batch dimension.
    """

    size: int
    arrangement: Arrangement


def arguments(example: Example) -> tuple[Any, ...]:
    """Return an example as a tuple of arguments.

    >>> len(arguments(torch.zeros(3))), len(arguments((torch.zeros(3), 2)))
    (1, 2)
    """
    return example if isinstance(example, tuple) else (example,)


def on_device(values: Any, device: torch.device, *, non_blocking: bool = False) -> Any:
    """Return values with the tensors in them on a device, as `Tensor.to` does."""
    return tree_map(
        lambda x: x.to(device, non_blocking=non_blocking) if isinstance(x, Tensor) else x, values
    )


def noise_like(example: Example) -> tuple[Any, ...]:
    """Return the arguments with noise in [0, 1) for floating-point numbers, the same each time."""
    generator = torch.Generator().manual_seed(0)

    def drawn(x: Any) -> Any:
        if not isinstance(x, Tensor) or not x.is_floating_point():
            return x
        return torch.rand(x.shape, generator=generator).to(x)

    return tree_map(drawn, arguments(example))  # type: ignore[no-any-return]


def batch_of(inputs: tuple[Any, ...], layer: tuple[int, ...] | None) -> Batch:
    """Return the examples in the first argument that holds a tensor of at least one dimension.

    Parameters
    ----------
    layer
        Shape of the output of the first layer that reads the input, if there is one. Without a
        batch dimension, the input has one dimension less.

    Raises
    ------
    ModelError
        If the tensors of the argument have different first sizes, unless they are a list of images.
    """
    part = next((part for part in inputs if tensors_of(part)), None)
    tensors = tensors_of(part)
    if not tensors:
        return Batch(1, "single")
    sizes, dims = {len(tensor) for tensor in tensors}, {tensor.ndim for tensor in tensors}
    n_items = len(part) if isinstance(part, list | tuple) else 1
    n_seen = layer[0] if layer is not None else n_items
    is_lower = layer is not None and dims == {len(layer) - 1}
    if n_items > 1 and n_seen == n_items and (is_lower or dims == {3}):
        return Batch(n_items, "list")
    if len(sizes) > 1 or (n_items > 1 and is_lower and n_seen == 1):
        raise ModelError(
            f"cannot tell the batch size of an input of {[tuple(t.shape) for t in tensors]}; "
            "give all tensors of the argument the same number of examples"
        )
    if is_lower and n_seen == 1 and sizes != {1}:
        return Batch(1, "single")
    return Batch(sizes.pop(), "rows")


def tensors_of(part: Any) -> list[Tensor]:
    """Return the tensors of at least one dimension in an argument."""
    return [leaf for leaf in tree_leaves(part) if isinstance(leaf, Tensor) and leaf.ndim]


def tensors_within(values: Any) -> list[Tensor]:
    """Return the tensors in arguments or outputs of a network, in a fixed order.

    They may be in tuples, lists, mappings, and in attributes of objects such as data classes.

    >>> from types import SimpleNamespace
    >>> tensors_within({"boxes": [SimpleNamespace(scores=torch.ones(2), names=["a"])], "n": 1})
    [tensor([1., 1.])]
    """
    found: list[Tensor] = []
    seen: set[int] = set()

    def visit(value: Any) -> None:
        if isinstance(value, Tensor):
            found.append(value)
        elif id(value) not in seen and not isinstance(value, str | bytes | type | nn.Module):
            seen.add(id(value))
            for part in parts_of(value):
                visit(part)

    visit(values)
    return found


def parts_of(value: Any) -> Iterable[Any]:
    """Return the items of a collection, or the attributes of an object."""
    if isinstance(value, Mapping):
        return value.values()
    if isinstance(value, list | tuple | deque | AbstractSet):
        return value
    if is_dataclass(value):  # it may have slots
        return [getattr(value, field.name, None) for field in fields(value)]
    return getattr(value, "__dict__", {}).values()


def larger(inputs: tuple[Any, ...], batch: Batch) -> tuple[Any, ...]:
    """Return the inputs with one more example: a list's first item, a tensor's first mirrored."""

    def grown(x: Any) -> Any:
        if isinstance(x, Tensor) and x.ndim and len(x) == batch.size:
            return torch.cat([x, x[:1].flip(-1) if x.ndim > 1 else x[:1]])
        return x

    if batch.arrangement == "single":
        return inputs
    if batch.arrangement == "rows":
        return tuple(tree_map(grown, part) for part in inputs)
    return tuple(
        [*part, part[0]] if isinstance(part, list | tuple) else grown(part) for part in inputs
    )
