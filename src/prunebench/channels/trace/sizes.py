"""Tell sizes that a network reads from a tensor from those that are hard-coded.

`x.view(n, groups, c // groups, h, w)` still works after a removal; `x.view(n, 2, 58)` would fail or
mix up channels. Below autograd both are the same numbers, so they are distinguished above it: a
tensor's shape reports its channels as a `ChannelCount`, which survives the arithmetic of
proportional sizes, and the sizes that a call asks for are recorded before it runs.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Self

import numpy as np
import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode

from prunebench.channels.trace.ids import ChannelAxis, Ints, Value
from prunebench.channels.trace.passes import Pass, Request, Size
from prunebench.channels.trace.shape_only import READS, ValuesNeeded


class ChannelCount(int):
    """A number of channels read from a tensor, or a multiple, part or sum of such numbers.

    `of` holds the ids of the channels that it is proportional to.

    >>> eight = ChannelCount(8, np.arange(8))
    >>> type(eight // 2 * 3).__name__, type(eight + 1).__name__
    ('ChannelCount', 'int')
    """

    of: Ints

    def __new__(cls, number: int, of: Ints) -> Self:
        """Return a number that is proportional to these channels."""
        count = super().__new__(cls, number)
        count.of = of
        return count

    def __reduce__(self) -> tuple[Any, ...]:
        return ChannelCount, (int(self), self.of)

    def __mul__(self, other: Any) -> Any:
        product = int(self) * (int(other) if isinstance(other, ChannelCount) else other)
        return ChannelCount(product, self.of) if is_number(other) else product

    def __floordiv__(self, other: Any) -> Any:
        part = int(self) // other
        return ChannelCount(part, self.of) if is_number(other) else part

    def __add__(self, other: Any) -> Any:
        return self._plus(other, int(self) + other)

    def __sub__(self, other: Any) -> Any:
        return self._plus(other, int(self) - other)

    def _plus(self, other: Any, result: Any) -> Any:
        if isinstance(other, ChannelCount):
            return ChannelCount(result, np.concatenate([self.of, other.of]))
        return self if is_number(other) and other == 0 else result  # `sum` starts from 0

    __rmul__ = __mul__
    __radd__ = __add__


def is_number(other: Any) -> bool:
    """Whether this is an integer that does not depend on a number of channels."""
    return isinstance(other, int) and not isinstance(other, ChannelCount)


def size_of(size: Any) -> Size:
    """Return the ids that a requested size is proportional to, or else whether it is -1."""
    if isinstance(size, ChannelCount):
        return size.of
    return isinstance(size, int) and size == -1


class SizeMode(TorchFunctionMode):
    """Report channel counts as sizes, and record the sizes that each call asks for."""

    def __init__(self, state: Pass) -> None:
        super().__init__()
        self.state = state

    def __torch_function__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        kwargs = kwargs or {}
        if getattr(func, "__self__", None) is Tensor.shape or func is Tensor.size:
            return counted_sizes(self.state, args[0], func(*args, **kwargs), *args[1:], **kwargs)
        if getattr(func, "__self__", None) is Tensor.data and func.__name__ == "__get__":
            # PyTorch does not dispatch it: the result would look like a constant.
            out = func(*args, **kwargs)
            self.state.values[out] = self.state.value(args[0])
            return out
        if func in READS and not self.state.computing:
            raise ValuesNeeded
        outer, self.state.request = self.state.request, request_of(func, args, kwargs)
        try:
            out = func(*args, **kwargs)
        finally:
            self.state.request = outer
        if func in CREATIONS:
            value = created(out, listed(args if func in FREE else args[1:], kwargs))
            if value.axes:
                self.state.values[out] = value
        return out


def counted_sizes(state: Pass, x: Tensor, sizes: Any, dim: int | None = None) -> Any:
    """Return a shape, or its size along `dim`, with channel counts along channel axes."""
    value = state.value(x)
    on = {axis.dims[0]: axis.ids for axis in value.axes if len(axis.dims) == 1}
    if isinstance(sizes, torch.Size):
        return torch.Size([ChannelCount(n, on[d]) if d in on else n for d, n in enumerate(sizes)])
    place = None if dim is None else dim % x.ndim
    return ChannelCount(sizes, on[place]) if place in on else sizes


def listed(sizes: tuple[Any, ...], kwargs: dict[str, Any]) -> tuple[Any, ...]:
    """Return the sizes of a call: its arguments, its first argument, or a named one."""
    sizes = sizes or tuple(kwargs[name] for name in ("size", "shape") if name in kwargs)
    return tuple(sizes[0]) if sizes and isinstance(sizes[0], Sequence) else sizes


def created(out: Tensor, sizes: tuple[Any, ...]) -> Value:
    """Return the channels of a new tensor, whose sizes may be read from other tensors."""
    if len(sizes) != out.ndim:
        return Value()
    counts = {d: n.of for d, n in enumerate(sizes) if isinstance(n, ChannelCount)}
    return Value(
        tuple(
            ChannelAxis(of, out.shape, (d,)) for d, of in counts.items() if len(of) == out.shape[d]
        )
    )


VIEWS = {Tensor.expand, Tensor.view, Tensor.reshape, torch.reshape}
FREE = {torch.empty, torch.full, torch.ones, torch.rand, torch.randn, torch.zeros}
CREATIONS = FREE | {Tensor.new_empty, Tensor.new_zeros, Tensor.new_ones, Tensor.new_full}
CHUNKS = {torch.chunk, Tensor.chunk}
SPLITS: set[Any] = {torch.split, Tensor.split, torch.split_with_sizes, Tensor.split_with_sizes}
NARROWS = {torch.narrow, Tensor.narrow}


def request_of(func: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Request:
    """Return the sizes that a call of a torch function asks for."""
    if func in VIEWS:
        return Request(sizes=tuple(map(size_of, listed(args[1:], kwargs))))
    if func in CREATIONS:
        return Request()
    if func in CHUNKS:
        return Request(cuts=())
    if func in SPLITS:
        return Request(cuts=cuts_of([*args[1:2], *kwargs.values()][:1]))
    if func in NARROWS:
        return Request(cuts=cuts_of([*args[2:], *kwargs.values()]))
    if func is Tensor.__getitem__:
        places = args[1] if isinstance(args[1], tuple) else (args[1],)
        runs = [place for place in places if isinstance(place, slice)]
        return Request(cuts=cuts_of([n for run in runs for n in (run.start, run.stop)]))
    return Request(internal=True)


def cuts_of(places: Sequence[Any]) -> tuple[Ints, ...] | None:
    """Return the ids that positions of cuts are proportional to; None if one is hard-coded."""
    flat = [n for place in places for n in (place if isinstance(place, Sequence) else [place])]
    cuts = [n for n in flat if n is not None and not (is_number(n) and n == 0)]
    if not cuts or not all(isinstance(n, ChannelCount) for n in cuts):
        return None
    return tuple(n.of for n in cuts)
