"""What a network's code says about sizes: read from a tensor, or written as a number.

`x.view(n, groups, c // groups, h, w)` divides whatever is left after a removal; `x.view(n, 2, 58)`
would stop or mix channels up. Below autograd both are the same numbers, so they are told apart
above it: a tensor's shape gives its channels as `ChannelCount`, which survives the arithmetic of
proportional sizes, and the sizes a call asks for are noted before it runs.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Self

import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode

from prunebench.channels.ids import Value, along, dims_of, spread
from prunebench.channels.passes import Pass, Request


class ChannelCount(int):
    """A number of channels read from a tensor, or a multiple, part or sum of such numbers.

    `ids` are those of the channels counted, None after arithmetic.

    >>> type(ChannelCount(8) // 2 * 3).__name__, type(ChannelCount(8) + 1).__name__
    ('ChannelCount', 'int')
    """

    ids: Tensor | None

    def __new__(cls, number: int, ids: Tensor | None = None) -> Self:
        """Return a count of these channels."""
        count = super().__new__(cls, number)
        count.ids = ids
        return count

    def __mul__(self, other: Any) -> Any:
        return _counted(int(self) * other, not isinstance(other, ChannelCount))

    def __floordiv__(self, other: Any) -> Any:
        return _counted(int(self) // other, not isinstance(other, ChannelCount))

    def __add__(self, other: Any) -> Any:
        return _counted(int(self) + other, isinstance(other, ChannelCount))

    def __sub__(self, other: Any) -> Any:
        return _counted(int(self) - other, isinstance(other, ChannelCount))

    __rmul__ = __mul__


def _counted(number: Any, is_count: bool) -> Any:
    return ChannelCount(number) if is_count and type(number) is int else number


def follows(size: Any) -> bool:
    """Whether a requested size changes with the channels there are; -1 takes what is left."""
    return isinstance(size, ChannelCount) or (isinstance(size, int) and size == -1)


class SizeMode(TorchFunctionMode):
    """Hand out channel counts, and note what the call under way asks for."""

    def __init__(self, state: Pass) -> None:
        super().__init__()
        self.state = state

    def __torch_function__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        kwargs = kwargs or {}
        if getattr(func, "__self__", None) is Tensor.shape or func is Tensor.size:
            return counted_sizes(self.state, args[0], func(*args, **kwargs), *args[1:], **kwargs)
        outer, self.state.request = self.state.request, request_of(func, args, kwargs)
        try:
            out = func(*args, **kwargs)
        finally:
            self.state.request = outer
        if func in CREATIONS:
            value = created(out, listed(args if func in FREE else args[1:], kwargs))
            if value.layers:
                self.state.values[out] = value
        return out


def counted_sizes(state: Pass, x: Tensor, sizes: Any, dim: int | None = None) -> Any:
    """Return a shape, or its size along `dim`, with channel counts where channels lie."""
    value = state.value(x)
    on = {d: along(value, d) for layer in value.layers for d in dims_of(layer)}
    if isinstance(sizes, torch.Size):
        return torch.Size([ChannelCount(n, on[d]) if d in on else n for d, n in enumerate(sizes)])
    place = None if dim is None else dim % x.ndim
    return ChannelCount(sizes, on[place]) if place in on else sizes


def listed(sizes: tuple[Any, ...], kwargs: dict[str, Any]) -> tuple[Any, ...]:
    """Return the sizes of a call, which are its arguments, its first one, or named."""
    sizes = sizes or tuple(kwargs[name] for name in ("size", "shape") if name in kwargs)
    return tuple(sizes[0]) if sizes and isinstance(sizes[0], Sequence) else sizes


def created(out: Tensor, sizes: tuple[Any, ...]) -> Value:
    """Return the channels of a new tensor, whose sizes may have been read from others."""
    if len(sizes) != out.ndim:
        return Value()
    counts = {d: n.ids for d, n in enumerate(sizes) if isinstance(n, ChannelCount)}
    known = {d: ids for d, ids in counts.items() if ids is not None}
    return Value(tuple(spread(ids, out.shape, (d,)) for d, ids in known.items()))


VIEWS = {Tensor.view, Tensor.reshape, torch.reshape}
FREE = {torch.empty, torch.full, torch.ones, torch.rand, torch.randn, torch.zeros}
CREATIONS = FREE | {Tensor.new_empty, Tensor.new_zeros, Tensor.new_ones, Tensor.new_full}
CHUNKS = {torch.chunk, Tensor.chunk}
SPLITS = {torch.split, Tensor.split, torch.split_with_sizes, Tensor.split_with_sizes}
NARROWS = {torch.narrow, Tensor.narrow}


def request_of(func: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Request:
    """Return what a call of a function of torch says about sizes."""
    if func in VIEWS:
        return Request(sizes=tuple(map(follows, listed(args[1:], kwargs))))
    if func in CREATIONS:
        return Request()
    if func in CHUNKS:
        return Request(cuts_follow=True)
    if func in SPLITS:
        return Request(cuts_follow=all_follow([*args[1:2], *kwargs.values()][:1]))
    if func in NARROWS:
        return Request(cuts_follow=all_follow([*args[2:], *kwargs.values()]))
    if func is Tensor.__getitem__:
        places = args[1] if isinstance(args[1], tuple) else (args[1],)
        cuts = [place for place in places if isinstance(place, slice)]
        return Request(cuts_follow=all_follow([n for cut in cuts for n in (cut.start, cut.stop)]))
    return Request(internal=True)


def all_follow(places: Sequence[Any]) -> bool:
    """Whether there are cuts, and all of them at places that change with the channels."""
    flat = [n for place in places for n in (place if isinstance(place, Sequence) else [place])]
    cuts = [n for n in flat if n is not None and not (type(n) is int and n == 0)]
    return bool(cuts) and all(isinstance(n, ChannelCount) for n in cuts)
