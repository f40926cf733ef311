"""Ids of channels: which tensor has which channels, which are the same, and which must stay.

Every row, column or element of a parameter has an integer id. An activation carries the ids of its
channels on *channel axes*: arrays of ids that vary along some of the activation's dimensions and
are constant along the others. An axis may lie on a dimension of size 1: dimensions are identified
by name, not by size, which matters for tensors with a single channel. An activation without an
axis, such as the network's input, has no channels that could be removed.
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

# NumPy arrays, since a call on a few hundred numbers takes a tenth of the time it takes in PyTorch.
Ints = NDArray[np.int64]
CONSTANT = "a constant"


class ChannelAxis(NamedTuple):
    """Ids of an activation's elements along some of its dimensions.

    Attributes
    ----------
    ids
        Array of shape (shape[d] for d in dims).
    shape
        Shape of the activation.
    dims
        The dimensions along which the ids vary, in ascending order; the axis lies on them.
    """

    ids: Ints
    shape: tuple[int, ...]
    dims: tuple[int, ...]

    def compact(self) -> Ints:
        """Return the ids with size 1 along the dimensions the axis does not lie on."""
        return self.ids.reshape([n if d in self.dims else 1 for d, n in enumerate(self.shape)])

    def resized(self, shape: tuple[int, ...]) -> ChannelAxis:
        """Return the axis with other sizes along the dimensions it does not lie on."""
        return ChannelAxis(self.ids, shape, self.dims)

    def as_tensor(self) -> Tensor:
        """Return a tensor of the activation's shape, with stride 0 off the axis.

        >>> ChannelAxis(np.array([7, 8]), (3, 2, 5), (1,)).as_tensor().stride()
        (0, 1, 0)
        """
        strides = [0] * len(self.shape)
        step = 1
        for d in reversed(self.dims):
            strides[d] = step
            step *= self.shape[d]
        return torch.from_numpy(np.ascontiguousarray(self.ids)).as_strided(self.shape, strides)


def axis_of(tensor: Tensor) -> ChannelAxis:
    """Return the axis that lies on the dimensions with a stride other than 0.

    >>> axis_of(torch.tensor([7, 8]).expand(3, 2)).dims
    (1,)
    """
    shape, strides = tensor.shape, tensor.stride()
    dims = tuple(d for d, stride in enumerate(strides) if stride != 0)
    ids = tensor.as_strided([shape[d] for d in dims], [strides[d] for d in dims])
    return ChannelAxis(ids.numpy(), shape, dims)


class Value(NamedTuple):
    """Facts about a tensor of the traced pass.

    Attributes
    ----------
    axes
        Its channel axes: usually one for an activation, one per dimension for a parameter.
    origin
        Describes, for messages, where a tensor without channels comes from.
    parameter
        Whether it is a parameter or buffer, possibly with permuted dimensions.
    sources
        The layers that it is computed from; set by the tracer, not by the rules.
    """

    axes: tuple[ChannelAxis, ...] = ()
    origin: str = CONSTANT
    parameter: bool = False
    sources: Sources = frozenset()


@dataclass(slots=True)
class Block:
    """A run of consecutive ids: a parameter's dimension, a pad, a module's width, constants."""

    start: int
    size: int
    owner: int | str | None  # number of the parameter, or path of the module
    dim: int = 0
    roles: tuple[MemberRole, ...] = ()
    reads_input: bool = False  # for a producer: whether it reads the network's input


@dataclass
class Ids:
    """All ids of a pass, which of them are tied, and which are frozen."""

    blocks: list[Block] = field(default_factory=list)
    starts: list[int] = field(default_factory=list)
    size: int = 0
    left: list[Ints] = field(default_factory=list)
    right: list[Ints] = field(default_factory=list)
    frozen: list[tuple[Ints, str]] = field(default_factory=list)
    proportional: list[tuple[Ints, Ints]] = field(default_factory=list)
    used: list[tuple[Ints, str]] = field(default_factory=list)
    remainders: list[tuple[Ints, int]] = field(default_factory=list)

    def new(self, size: int, owner: int | str | None = None, dim: int = 0) -> Ints:
        """Return (size,) new ids."""
        ids = np.arange(self.size, self.size + size)
        self.blocks.append(Block(self.size, size, owner, dim))
        self.starts.append(self.size)
        self.size += size
        return ids

    def new_frozen(self, size: int, reason: str) -> Ints:
        """Return (size,) new ids for channels that cannot be removed."""
        ids = self.new(size)
        self.freeze(ids, reason)
        return ids

    def tie(self, a: Ints, b: Ints) -> None:
        """Record that channels at the same position of `a` and `b` are removed together."""
        if a.shape != b.shape:
            a, b = np.broadcast_arrays(a, b)
        self.left.append(a.ravel())
        self.right.append(b.ravel())

    def tie_axes(self, a: ChannelAxis, b: ChannelAxis) -> None:
        """Record that channels at the same position of two axes are removed together."""
        if a.dims == b.dims:
            self.tie(a.ids, b.ids)
        else:
            self.tie(a.compact(), b.compact())

    def join(self, axes: list[ChannelAxis], new: ChannelAxis) -> None:
        """Add an axis to `axes`, or tie it to the one that already lies on its dimension."""
        partner = next((axis for axis in axes if set(axis.dims) & set(new.dims)), None)
        if partner is None:
            axes.append(new)
        else:
            self.tie_axes(partner, new)

    def keep_proportional(self, a: Ints, b: Ints) -> None:
        """Record that `a` and `b` must lose the same share: one's size divides the other."""
        self.proportional.append((a.ravel(), b.ravel()))

    def keep_remainder(self, ids: Ints, divisor: int) -> None:
        """Record that the remainder of the number of these channels must not change."""
        self.remainders.append((ids.ravel(), divisor))

    def use(self, ids: Ints, operation: str) -> None:
        """Record that the code uses the number of these channels in an operation."""
        self.used.append((ids.ravel(), f"their number is used in the code ({operation})"))

    def freeze(self, ids: Ints, reason: str) -> None:
        """Record that these channels cannot be removed."""
        self.frozen.append((ids.ravel(), reason))

    def freeze_value(self, value: Value, reason: str) -> None:
        """Record that none of a tensor's channels can be removed."""
        for axis in value.axes:
            self.freeze(axis.ids, reason)

    def block_of(self, ids: Ints) -> Block:
        """Return the block of the first of these ids."""
        return self.blocks[bisect.bisect_right(self.starts, int(ids.flat[0])) - 1]

    def set_role(self, ids: Ints, role: MemberRole) -> None:
        """Add a role to the parameter's dimension with these ids; freeze it if it has another.

        A weight that is used in both directions, as in a tied autoencoder, may produce and read
        the same channels.
        """
        block = self.block_of(ids)
        roles = (*block.roles, role)
        if role in block.roles:
            return
        if not block.roles or set(roles) == {"out", "in"}:
            block.roles = roles
        else:
            self.freeze(ids, f"a dimension of a parameter is used as {roles[0]!r} and {role!r}")


def along(value: Value, dim: int) -> Ints | None:
    """Return the (shape[dim],) ids of the axis that lies on `dim` alone, or None."""
    return next((axis.ids for axis in value.axes if axis.dims == (dim,)), None)
