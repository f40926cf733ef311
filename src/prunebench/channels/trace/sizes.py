"""Tell sizes that a network reads from a tensor from those that are hard-coded.

`x.view(n, groups, c // groups, h, w)` still works after a removal; `x.view(n, 2, 58)` would fail or
mix up channels. Below autograd both are the same numbers, so they are distinguished above it: a
tensor's shape reports its channels as a `ChannelCount`, which survives the arithmetic of
proportional sizes, and the sizes that a call asks for are recorded before it runs.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable, Sequence
from typing import Any, Self

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from prunebench.channels.trace.attributes import CALCULATIONS, COMPARISONS, StoredNumber
from prunebench.channels.trace.ids import ChannelAxis, Ids, Ints, Value
from prunebench.channels.trace.passes import Pass, Request, Size
from prunebench.channels.trace.shape_only import LEAVES, READS, ValuesNeeded


class ChannelCount(int):
    """A number of channels read from a tensor, or a multiple, part or sum of such numbers.

    Any other use of the number in Python, such as `c ** -0.5` or `c == 8`, may depend on its value,
    which removal changes: it is noticed, and the channels are frozen. Uses by code in C are not: a
    float on the left (`1.0 / c`, `2.0 < c`), `range(c)`, `values[:c]`, integer functions of `math`
    such as `log` and `gcd`, and text such as `f"{c}"`. `verify` finds these.

    Attributes
    ----------
    of
        Ids of the channels that it is proportional to.
    ids
        All ids of the traced pass, if uses are noticed.

    >>> eight = ChannelCount(8, np.arange(8))
    >>> type(eight // 2 * 3).__name__, type(eight + 1).__name__
    ('ChannelCount', 'int')
    """

    of: Ints
    ids: Ids | None

    def __new__(cls, number: int, of: Ints, ids: Ids | None = None) -> Self:
        """Return a number that is proportional to these channels."""
        count = super().__new__(cls, number)
        count.of, count.ids = of, ids
        return count

    def __reduce__(self) -> tuple[Any, ...]:
        return ChannelCount, (plain(self), self.of)

    def __deepcopy__(self, memo: Any) -> Self:
        return self

    __hash__ = int.__hash__

    def like(self, number: int) -> ChannelCount:
        """Return another number that is proportional to the same channels."""
        return ChannelCount(number, self.of, self.ids)

    def notice(self, operation: str, others: Sequence[Any] = ()) -> None:
        """Record a use of the number in code other than PyTorch's own.

        The channels of two numbers that are compared or divided must lose the same share.
        """
        if self.ids is None or is_in_torch():
            return
        stored = [n for n in others if isinstance(n, StoredNumber)]
        if stored and operation in ("==", "!=") and self.is_stored_in(stored[0]):
            return
        for number in stored:
            number.use(operation)
        counts = [n for n in others if isinstance(n, ChannelCount) and n.ids is self.ids]
        for other in counts:
            if operation in RATIOS:
                self.ids.keep_proportional(self.of, other.of)
            else:
                self.ids.use(other.of, operation)
        if not counts or operation not in RATIOS:
            self.ids.use(self.of, operation)

    def is_stored_in(self, attribute: StoredNumber) -> bool:
        """Whether an attribute holds this number; if so, it is corrected and remains equal."""
        number = plain(self)
        if number != plain(attribute) or len(self.of) != number or self.ids is None:
            return False
        self.ids.tie(self.of, attribute.channels())
        return True

    def __mul__(self, other: Any) -> Any:
        if is_number(other):
            return self.like(plain(self) * other)
        return calculated("*", int.__mul__, self, other)

    def __floordiv__(self, other: Any) -> Any:
        if is_number(other):
            return self.like(plain(self) // other)
        return calculated("//", int.__floordiv__, self, other)

    def __mod__(self, other: Any) -> Any:
        if is_number(other) and other and self.ids is not None:
            if not is_in_torch():
                self.ids.keep_remainder(self.of, plain(other))
            return plain(self) % other
        return calculated("%", int.__mod__, self, other)

    def __add__(self, other: Any) -> Any:
        return self._plus("+", int.__add__, other)

    def __sub__(self, other: Any) -> Any:
        return self._plus("-", int.__sub__, other)

    def _plus(self, operation: str, function: Any, other: Any) -> Any:
        if isinstance(other, ChannelCount) and other.ids is self.ids:
            number = function(plain(self), plain(other))
            return ChannelCount(number, np.concatenate([self.of, other.of]), self.ids)
        if is_number(other) and plain(other) == 0:  # `sum` starts from 0
            return self
        return calculated(operation, function, self, other)

    __rmul__ = __mul__
    __radd__ = __add__

    @property
    def real(self) -> Self:
        """Return the number itself, whose uses are noticed."""
        return self

    numerator = real

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> NDArray[Any]:
        self.notice("a NumPy array")
        return np.array(plain(self), dtype)

    def __array_ufunc__(self, ufunc: Any, method: str, *inputs: Any, **options: Any) -> Any:
        self.notice(ufunc.__name__, inputs)
        numbers = [plain(n) if isinstance(n, ChannelCount) else n for n in inputs]
        return getattr(ufunc, method)(*numbers, **options)


plain = int.__int__
RATIOS = {"==", "!=", "<", "<=", ">", ">=", "/", "//", "%"}


def calculated(operation: str, function: Any, count: ChannelCount, *others: Any) -> Any:
    """Return the result of a calculation with the number of channels, which is noticed."""
    numbers = [plain(n) if isinstance(n, ChannelCount | StoredNumber) else n for n in others]
    result = function(plain(count), *numbers)
    if not is_certain(operation, others):
        count.notice(operation, others)
    return result


def is_certain(operation: str, others: Sequence[Any]) -> bool:
    """Whether a comparison gives the same for every number of channels, which is at least 1."""
    if operation not in COMPARISONS.values():
        return False
    if is_number(others[0]):
        return plain(others[0]) <= 0
    return not isinstance(others[0], int | float | Tensor)


METHODS = ("bit_length", "bit_count", "to_bytes", "as_integer_ratio", "conjugate")


def calculation(operation: str, function: Any) -> Callable[..., Any]:
    """Return a method of `ChannelCount` that is noticed."""

    def method(self: ChannelCount, *others: Any) -> Any:
        return calculated(operation, function, self, *others)

    return method


for name, symbol in CALCULATIONS.items():
    setattr(ChannelCount, f"__{name}__", calculation(symbol, getattr(int, f"__{name}__")))
for name in METHODS:
    setattr(ChannelCount, name, calculation(name, getattr(int, name)))


def is_in_torch() -> bool:
    """Whether PyTorch's own code, whose stored sizes are corrected, uses a number of channels."""
    frame = sys._getframe(1)
    while frame.f_globals["__name__"] == __name__ and frame.f_back is not None:
        frame = frame.f_back
    return str(frame.f_globals.get("__name__")).partition(".")[0] == "torch"


def is_number(other: Any) -> bool:
    """Whether this is an integer that does not depend on a number of channels."""
    return isinstance(other, int) and not isinstance(other, ChannelCount)


def size_of(size: Any) -> Size:
    """Return the ids that a requested size is proportional to, or else whether it is -1."""
    if isinstance(size, ChannelCount):
        return size.of
    return isinstance(size, int) and plain(size) == -1


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
        if func in (Tensor.numel, Tensor.nelement, torch.numel):
            return counted_elements(self.state, args[0], func(*args, **kwargs))
        if func is Tensor.__len__:
            freeze_length(self.state, args[0])
        else:
            notice_numbers(func, args, kwargs)
        if getattr(func, "__self__", None) is Tensor.data and func.__name__ == "__get__":
            # PyTorch does not dispatch it: the result would look like a constant.
            out = func(*args, **kwargs)
            self.state.values[out] = self.state.value(args[0])
            return out
        if func is Tensor.stride:
            freeze_strides(self.state, *args, **kwargs)
        if func in READS:
            if not self.state.computing:
                raise ValuesNeeded
            if func in LEAVES:
                reason = f"read outside of PyTorch by {func.__name__.strip('_')}"
                self.state.ids.freeze_value(self.state.value(args[0]), reason)
        outer, self.state.request = self.state.request, request_of(func, args, kwargs)
        try:
            out = func(*args, **kwargs)
        finally:
            self.state.request = outer
        if func in CREATIONS:
            sizes = listed(args if func in FREE else args[1:], kwargs)
            value = created(out, sizes, func.__name__)
            if value.axes:
                self.state.values[out] = value
        elif func in COPIES:
            copied(self.state, args[0], out, listed(args[1:], kwargs))
        elif func in RESHAPES and not self.state.value(args[0]).axes:
            for count in listed(args[1:], kwargs):
                if isinstance(count, ChannelCount):
                    self.state.ids.use(count.of, f"{func.__name__} of other values")
        elif func is Tensor.expand_as:
            copied(self.state, args[0], out, counted_sizes(self.state, args[1], args[1].shape))
        return out


def notice_numbers(func: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
    """Record the numbers that a call uses as values, not as sizes that its rule follows."""
    name = getattr(func, "__name__", "a function")
    if func in CONVOLUTIONS:  # its number of groups is followed
        args, kwargs = args[:6], {**kwargs, "groups": None}
    for number in numbers_in((*args, *kwargs.values())):
        if isinstance(number, StoredNumber):
            if func not in COPIES:
                number.use(name.strip("_"))
        elif name not in TAKE_SIZES and number.ids is not None:
            number.ids.use(number.of, name.strip("_"))


def counted_sizes(state: Pass, x: Tensor, sizes: Any, dim: int | None = None) -> Any:
    """Return a shape, or its size along `dim`, with channel counts along channel axes."""
    value = state.value(x)
    on = {axis.dims[0]: axis.ids for axis in value.axes if len(axis.dims) == 1}
    if isinstance(sizes, torch.Size):
        return torch.Size(
            [ChannelCount(n, on[d], state.ids) if d in on else n for d, n in enumerate(sizes)]
        )
    place = None if dim is None else dim % x.ndim
    return ChannelCount(sizes, on[place], state.ids) if place in on else sizes


def counted_elements(state: Pass, x: Tensor, number: int) -> int:
    """Return the number of elements, which is proportional to the number of channels."""
    axes = state.value(x).axes
    if not axes:
        return number
    if len(axes) == 1:
        return ChannelCount(number, axes[0].ids.ravel(), state.ids)
    count = ChannelCount(number, np.concatenate([axis.ids.ravel() for axis in axes]), state.ids)
    count.notice("numel")
    return number


def freeze_length(state: Pass, x: Tensor) -> None:
    """Freeze the channels along the first dimension, since `len` returns a plain number."""
    for axis in state.value(x).axes:
        if 0 in axis.dims:
            state.ids.use(axis.ids, "len")


def freeze_strides(state: Pass, x: Tensor, dim: int | None = None) -> None:
    """Freeze the channels behind a dimension, whose number its stride is a multiple of."""
    first = 0 if dim is None else dim % x.ndim
    for axis in state.value(x).axes:
        if max(axis.dims) > first and not is_in_torch():
            state.ids.use(axis.ids, "stride")


def numbers_in(values: Iterable[Any]) -> list[ChannelCount | StoredNumber]:
    """Return the numbers of channels among the arguments of a call, containers included."""
    found: list[ChannelCount | StoredNumber] = []
    for value in values:
        kind = type(value)
        if kind is ChannelCount or kind is StoredNumber:
            found.append(value)
        elif kind in WITHOUT_NUMBERS:
            continue
        elif isinstance(value, (list, tuple)):
            found += numbers_in(value)
        elif isinstance(value, dict):
            found += numbers_in(value.values())
    return found


def listed(sizes: tuple[Any, ...], kwargs: dict[str, Any]) -> tuple[Any, ...]:
    """Return the sizes of a call: its arguments, its first argument, or a named one."""
    sizes = sizes or tuple(kwargs[name] for name in ("size", "shape") if name in kwargs)
    return tuple(sizes[0]) if sizes and isinstance(sizes[0], Sequence) else sizes


def created(out: Tensor, sizes: tuple[Any, ...], operation: str) -> Value:
    """Return the channels of a new tensor, whose sizes may be read from other tensors."""
    axes = []
    for d, count in enumerate(sizes):
        if not isinstance(count, ChannelCount):
            continue
        if len(sizes) == out.ndim and len(count.of) == out.shape[d]:
            axes.append(ChannelAxis(count.of, out.shape, (d,)))
        else:
            count.notice(operation)
    return Value(tuple(axes))


def copied(state: Pass, x: Tensor, out: Tensor, sizes: Sequence[Any]) -> None:
    """Give copies along a dimension the channels that their number is read from."""
    value = state.value(out)
    for d, count in enumerate(sizes, out.ndim - len(sizes)):
        place = d - out.ndim + x.ndim
        is_copied = place < 0 or x.shape[place] == 1
        if isinstance(count, StoredNumber) and not is_copied:
            count.use("expand")
        if not is_copied or not isinstance(count, ChannelCount | StoredNumber):
            continue
        channels = count.of if isinstance(count, ChannelCount) else count.channels()
        if len(channels) != out.shape[d]:
            continue
        axes = []
        for axis in value.axes:
            # A single number of a parameter counts as one for all channels, as in sums.
            is_one = state.value(x).parameter and axis.ids.size == 1
            if is_one or (d in axis.dims and out.shape[d] > 1):
                state.ids.freeze(axis.ids, "copied to several channels")
            else:
                axes.append(axis)
        state.ids.join(axes, ChannelAxis(channels, tuple(out.shape), (d,)))
        value = value._replace(axes=tuple(axes), parameter=False)
    state.values[out] = value


# The usual types of arguments, which are passed over for speed.
WITHOUT_NUMBERS = frozenset({Tensor, nn.Parameter, int, float, bool, str, type(None)})
RESHAPES = {Tensor.view, Tensor.reshape, torch.reshape}
VIEWS = RESHAPES | {Tensor.expand}
COPIES = {Tensor.expand, Tensor.broadcast_to, torch.broadcast_to, Tensor.repeat, Tensor.tile,
          torch.tile}  # fmt: skip
CONVOLUTIONS = {torch.conv1d, torch.conv2d, torch.conv3d}
UNFLATTENS = {torch.unflatten, Tensor.unflatten}
FREE = {torch.empty, torch.full, torch.ones, torch.rand, torch.randn, torch.zeros}
CREATIONS = FREE | {Tensor.new_empty, Tensor.new_zeros, Tensor.new_ones, Tensor.new_full}
CHUNKS = {torch.chunk, Tensor.chunk}
SPLITS: set[Any] = {torch.split, Tensor.split, torch.split_with_sizes, Tensor.split_with_sizes}
NARROWS = {torch.narrow, Tensor.narrow}

# Functions that take sizes or positions of channels; the rules of the operations follow or freeze
# the channels. Numbers of channels in all others are values.
TAKE_SIZES = {
    "__getitem__", "__setitem__", "adaptive_avg_pool1d", "adaptive_max_pool1d",
    "as_strided", "as_strided_", "broadcast_to", "channel_shuffle", "chunk", "conv1d", "conv2d",
    "conv3d", "empty",
    "expand", "flatten", "group_norm", "instance_norm", "layer_norm", "narrow",
    "native_channel_shuffle", "new_empty", "new_ones", "new_zeros", "ones",
    "permute", "pixel_shuffle", "pixel_unshuffle", "rand", "randn", "repeat",
    "repeat_interleave", "reshape", "rms_norm", "roll", "select", "split", "split_with_sizes",
    "tensor_split", "tile", "transpose", "unflatten", "unfold", "unsqueeze", "view", "zeros",
}  # fmt: skip


def request_of(func: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Request:
    """Return the sizes that a call of a torch function asks for."""
    if func in VIEWS:
        return Request(sizes=tuple(map(size_of, listed(args[1:], kwargs))))
    if func in UNFLATTENS:
        return unflattened(*args, **kwargs)
    if func in CONVOLUTIONS:
        groups = groups_of(args, kwargs)
        if isinstance(groups, StoredNumber):
            return Request(internal=True, stored=groups.channels)
        counted = size_of(groups)
        return Request(internal=True, groups=counted if isinstance(counted, np.ndarray) else None)
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


def groups_of(args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    """Return the number of groups that a convolution is called with."""
    return kwargs.get("groups", args[6] if len(args) > 6 else 1)


def unflattened(x: Tensor, dim: int, sizes: Sequence[Any]) -> Request:
    """Return the sizes that a call asks for; it keeps those of the other dimensions."""
    asked = tuple(map(size_of, sizes))
    if all(size is False for size in asked):
        return Request(internal=True)
    place = dim % x.ndim
    return Request(sizes=(*[True] * place, *asked, *[True] * (x.ndim - 1 - place)))


def cuts_of(places: Sequence[Any]) -> tuple[Ints, ...] | None:
    """Return the ids that positions of cuts are proportional to; None if one is hard-coded."""
    flat = [n for place in places for n in (place if isinstance(place, Sequence) else [place])]
    cuts = [n for n in flat if n is not None and not (is_number(n) and plain(n) == 0)]
    if not cuts or not all(isinstance(n, ChannelCount) for n in cuts):
        return None
    return tuple(n.of for n in cuts)
