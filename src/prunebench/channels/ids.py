"""Ids of channels: who has which, which are the same, and which must stay.

Every row, column or element of a parameter has an integer id. An activation carries ids of the
channels it consists of, as *layers*: int64 tensors of the activation's full shape, expanded, so
that a stride of 0 marks the dimensions on which the ids do not depend. A layer *lies on* the
other dimensions, also on those of size 1: strides, not sizes, tell the dimensions apart, which
matters when a layer has a single channel. An activation without layers, such as the network's
input, has nothing that could leave.
"""

from __future__ import annotations

import bisect
from collections.abc import Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor

from prunebench.channels.flow import Sources
from prunebench.channels.groups import MemberRole


@dataclass(frozen=True)
class Value:
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

    layers: tuple[Tensor, ...] = ()
    fixed: str = "a constant"
    parameter: bool = False
    sources: Sources = frozenset()


@dataclass
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
    left: list[Tensor] = field(default_factory=list)
    right: list[Tensor] = field(default_factory=list)
    frozen: list[tuple[Tensor, str]] = field(default_factory=list)
    proportional: list[tuple[Tensor, Tensor]] = field(default_factory=list)

    def new(self, size: int, owner: int | str | None = None, dim: int = 0) -> Tensor:
        """Return (size,) fresh ids."""
        ids = torch.arange(self.size, self.size + size)
        self.blocks.append(Block(self.size, size, owner, dim))
        self.starts.append(self.size)
        self.size += size
        return ids

    def new_frozen(self, size: int, reason: str) -> Tensor:
        """Return (size,) fresh ids for channels that cannot leave."""
        ids = self.new(size)
        self.freeze(ids, reason)
        return ids

    def tie(self, a: Tensor, b: Tensor) -> None:
        """Note that the channels at the same place of `a` and `b` leave together."""
        a, b = torch.broadcast_tensors(a, b)  # type: ignore[no-untyped-call]
        self.left.append(a.reshape(-1))
        self.right.append(b.reshape(-1))

    def keep_proportional(self, a: Tensor, b: Tensor) -> None:
        """Note that `a` and `b` must lose the same share: one is divided by the other's number."""
        self.proportional.append((compact(a).reshape(-1), compact(b).reshape(-1)))

    def freeze(self, ids: Tensor, reason: str) -> None:
        """Note that these channels cannot leave."""
        self.frozen.append((compact(ids).reshape(-1), reason))

    def freeze_value(self, value: Value, reason: str) -> None:
        """Note that none of a tensor's channels can leave."""
        for layer in value.layers:
            self.freeze(layer, reason)

    def block_of(self, ids: Tensor) -> Block:
        """Return the block of the first of these ids."""
        first = int(ids[(0,) * ids.ndim])  # a reshape would spell an expanded tensor out
        return self.blocks[bisect.bisect_right(self.starts, first) - 1]

    def set_role(self, ids: Tensor, role: MemberRole) -> None:
        """Say what the parameter's dimension that has these ids does; it can do one thing only."""
        block = self.block_of(ids)
        if block.role not in (None, role):
            self.freeze(ids, f"a parameter's dimension is used as {block.role!r} and as {role!r}")
        block.role = block.role or role


def dims_of(layer: Tensor) -> tuple[int, ...]:
    """Return the dimensions a layer lies on."""
    return tuple(d for d, stride in enumerate(layer.stride()) if stride != 0)


def compact(layer: Tensor) -> Tensor:
    """Return the layer with size 1 along the dimensions it does not lie on."""
    shape = [n if stride else 1 for n, stride in zip(layer.shape, layer.stride(), strict=True)]
    return layer.as_strided(shape, layer.stride())


def spread(ids: Tensor, shape: Sequence[int], dims: Sequence[int]) -> Tensor:
    """Return the layer of `shape` on `dims` whose ids are `ids`, of shape (shape[d] for d in dims).

    >>> spread(torch.tensor([7, 8]), (3, 2, 5), (1,)).stride()
    (0, 1, 0)
    """
    ids = ids.contiguous()
    strides = [0] * len(shape)
    step = 1
    for d in reversed(dims):
        strides[d] = step
        step *= shape[d]
    return ids.as_strided(tuple(shape), strides)


def resized(layer: Tensor, shape: Sequence[int]) -> Tensor:
    """Return the layer with other sizes along the dimensions it does not lie on."""
    return layer.as_strided(tuple(shape), layer.stride())


def along(value: Value, dim: int) -> Tensor | None:
    """Return the (shape[dim],) ids of the layer that lies on `dim` alone, or None."""
    for layer in value.layers:
        if dims_of(layer) == (dim,):
            return layer.as_strided((layer.shape[dim],), (layer.stride(dim),))
    return None
