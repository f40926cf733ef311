"""Ids of channels: who has which, which are the same, and which must stay.

Every row, column or element of a parameter has an integer id. An activation carries ids of the
channels it consists of, as *layers*: ids along some of its dimensions, on which the layer *lies*;
on the others the ids do not depend. A layer may lie on a dimension of size 1: it is named, not told
by its size, which matters when there is a single channel. An activation without layers, such as the
network's input, has nothing that could leave.
"""

from __future__ import annotations

import bisect
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from prunebench.channels.flow import Sources
from prunebench.channels.groups import MemberRole

# NumPy's arrays, since a call on a few hundred numbers costs a tenth of what PyTorch's does.
Ints = NDArray[np.int64]
CONSTANT = "a constant"


class Layer(NamedTuple):
    """Ids of an activation's elements.

    Attributes
    ----------
    ids
        Of shape (shape[d] for d in dims).
    shape
        The activation's.
    dims
        The dimensions it lies on, in ascending order.
    """

    ids: Ints
    shape: tuple[int, ...]
    dims: tuple[int, ...]

    def compact(self) -> Ints:
        """Return the ids with size 1 along the dimensions the layer does not lie on."""
        return self.ids.reshape([n if d in self.dims else 1 for d, n in enumerate(self.shape)])

    def resized(self, shape: tuple[int, ...]) -> Layer:
        """Return the layer with other sizes along the dimensions it does not lie on."""
        return Layer(self.ids, shape, self.dims)

    def as_tensor(self) -> Tensor:
        """Return a tensor of the activation's shape, with stride 0 where the layer does not lie.

        >>> Layer(np.array([7, 8]), (3, 2, 5), (1,)).as_tensor().stride()
        (0, 1, 0)
        """
        strides = [0] * len(self.shape)
        step = 1
        for d in reversed(self.dims):
            strides[d] = step
            step *= self.shape[d]
        return torch.from_numpy(np.ascontiguousarray(self.ids)).as_strided(self.shape, strides)


def layer_of(tensor: Tensor) -> Layer:
    """Return the layer that lies on the dimensions whose stride is not 0.

    >>> layer_of(torch.tensor([7, 8]).expand(3, 2)).dims
    (1,)
    """
    shape, strides = tensor.shape, tensor.stride()
    dims = tuple(d for d, stride in enumerate(strides) if stride != 0)
    ids = tensor.as_strided([shape[d] for d in dims], [strides[d] for d in dims])
    return Layer(ids.numpy(), shape, dims)


class Value(NamedTuple):
    """What is known about a tensor of the traced pass.

    Attributes
    ----------
    layers
        Ids of its elements; usually one layer, one per dimension for a parameter.
    fixed
        In words, where a tensor without layers comes from.
    parameter
        Whether it is a parameter or buffer, at most with its dimensions moved.
    sources
        The layers from which it comes; set by the tracer, not by the rules.
    """

    layers: tuple[Layer, ...] = ()
    fixed: str = CONSTANT
    parameter: bool = False
    sources: Sources = frozenset()


@dataclass(slots=True)
class Block:
    """A run of ids: a parameter's dimension, both sides of a pad, a module's width, constants."""

    start: int
    size: int
    owner: int | str | None  # number of the parameter, path of the module
    dim: int = 0
    role: MemberRole | None = None
    reads_input: bool = False  # of a producer: what it reads is the network's input


@dataclass
class Ids:
    """All ids of a pass, what was found to be the same, and what cannot leave."""

    blocks: list[Block] = field(default_factory=list)
    starts: list[int] = field(default_factory=list)
    size: int = 0
    left: list[Ints] = field(default_factory=list)
    right: list[Ints] = field(default_factory=list)
    frozen: list[tuple[Ints, str]] = field(default_factory=list)
    proportional: list[tuple[Ints, Ints]] = field(default_factory=list)

    def new(self, size: int, owner: int | str | None = None, dim: int = 0) -> Ints:
        """Return (size,) fresh ids."""
        ids = np.arange(self.size, self.size + size)
        self.blocks.append(Block(self.size, size, owner, dim))
        self.starts.append(self.size)
        self.size += size
        return ids

    def new_frozen(self, size: int, reason: str) -> Ints:
        """Return (size,) fresh ids for channels that cannot leave."""
        ids = self.new(size)
        self.freeze(ids, reason)
        return ids

    def tie(self, a: Ints, b: Ints) -> None:
        """Note that the channels at the same place of `a` and `b` leave together."""
        if a.shape != b.shape:
            a, b = np.broadcast_arrays(a, b)
        self.left.append(a.ravel())
        self.right.append(b.ravel())

    def tie_layers(self, a: Layer, b: Layer) -> None:
        """Note that the channels at the same place of two layers leave together."""
        if a.dims == b.dims:
            self.tie(a.ids, b.ids)
        else:
            self.tie(a.compact(), b.compact())

    def join(self, layers: list[Layer], new: Layer) -> None:
        """Add a layer to `layers`; what meets along a dimension that one has already is tied."""
        partner = next((layer for layer in layers if set(layer.dims) & set(new.dims)), None)
        if partner is None:
            layers.append(new)
        else:
            self.tie_layers(partner, new)

    def keep_proportional(self, a: Ints, b: Ints) -> None:
        """Note that `a` and `b` must lose the same share: one is divided by the other's number."""
        self.proportional.append((a.ravel(), b.ravel()))

    def freeze(self, ids: Ints, reason: str) -> None:
        """Note that these channels cannot leave."""
        self.frozen.append((ids.ravel(), reason))

    def freeze_value(self, value: Value, reason: str) -> None:
        """Note that none of a tensor's channels can leave."""
        for layer in value.layers:
            self.freeze(layer.ids, reason)

    def block_of(self, ids: Ints) -> Block:
        """Return the block of the first of these ids."""
        return self.blocks[bisect.bisect_right(self.starts, int(ids.flat[0])) - 1]

    def set_role(self, ids: Ints, role: MemberRole) -> None:
        """Say what the parameter's dimension that has these ids does; it can do one thing only."""
        block = self.block_of(ids)
        if block.role not in (None, role):
            self.freeze(ids, f"a parameter's dimension is used as {block.role!r} and as {role!r}")
        block.role = block.role or role


def along(value: Value, dim: int) -> Ints | None:
    """Return the (shape[dim],) ids of the layer that lies on `dim` alone, or None."""
    return next((layer.ids for layer in value.layers if layer.dims == (dim,)), None)
