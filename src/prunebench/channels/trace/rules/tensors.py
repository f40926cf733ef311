"""Rules for operations that rearrange tensors: the ids are rearranged in the same way.

The file has four parts: operations that copy a tensor or make one like it, move or repeat its
dimensions, join several tensors, or take channels apart.

Channels are frozen if they are taken apart at a position or to a size that is hard-coded (in a
slice, a selection, a split, an index or a view), since it would be wrong after a removal. Divisions
of the actual size are followed: the parts lose channels at the same positions. So are positions in
a buffer, which removal corrects.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence

import numpy as np
from torch import Tensor, nn

from prunebench.channels.trace.ids import ChannelAxis, Ints, Value, along, axis_of
from prunebench.channels.trace.operation import Operation
from prunebench.channels.trace.passes import Pass, Size

BROADCAST = "broadcast from one channel to several"
CUT = "cut along its channels at hard-coded positions"
DIVIDED = "divided along its channels by a view"
INDEX = "used as an index"
JOINED_PARAMETER = "a parameter is joined with other tensors"
NOT_STORED = "indexed along its channels at positions that are not in a buffer"
PADDED = "padded along its channels by a hard-coded number"
RESHAPED = "reshaped to hard-coded sizes"


# Copies and new tensors


def same(p: Pass, op: Operation) -> Value:
    """Keep the channel of every element, as copies and in-place fills do."""
    return p.value(op.args[0])


def like(p: Pass, op: Operation) -> Value:
    """Give a new tensor of the operand's shape its channels; both shrink together."""
    value = p.value(op.args[0])
    if value.parameter:
        p.ids.freeze_value(value, "a tensor is made with the shape of a parameter")
    return Value(value.axes, value.origin)


def new(p: Pass, op: Operation) -> Value:
    """Give a new tensor made by torch itself the operand's channels where sizes agree.

    Torch reads the sizes from the operand, as for dropout of whole channels or circular padding.
    """
    value, shape = p.value(op.args[0]), op.out.shape
    if value.parameter or not p.request.internal or len(shape) != op.args[0].ndim:
        return Value()
    kept = [
        axis.resized(shape)
        for axis in value.axes
        if all(shape[d] == axis.shape[d] for d in axis.dims)
    ]
    return Value(tuple(kept))


# Moving and repeating dimensions


def moved(p: Pass, op: Operation) -> Value:
    """Permute or squeeze; the axis moves with its dimensions."""
    value = p.value(op.args[0])
    axes = [axis_of(op.func(axis.as_tensor(), *op.args[1:], **op.kwargs)) for axis in value.axes]
    return p.settle(value, axes, BROADCAST, value.parameter)


def restride(p: Pass, op: Operation) -> Value:
    """Follow other strides for the same elements, as channels-last pooling to one pixel sets.

    Only the strides of dimensions of size 1 may differ; other changes would move elements.
    """
    value = p.value(op.args[0])
    shape, strides = tuple(op.args[1]), tuple(op.args[2])
    is_same = (
        all(axis.shape == shape for axis in value.axes)
        and len(op.args) == 3
        and all(n < 2 or a == b for n, a, b in zip(shape, op.strides, strides, strict=True))
    )
    return value if is_same else p.refuse((op.args[0],), f"{op.name}, which moves elements")


def unsqueeze(p: Pass, op: Operation) -> Value:
    """Insert a dimension on which no axis lies."""
    value = p.value(op.args[0])
    dim = op.args[1] % op.out.ndim
    axes = [with_dim(axis, dim) for axis in value.axes]
    return p.settle(value, axes, BROADCAST, value.parameter)


def with_dim(axis: ChannelAxis, dim: int) -> ChannelAxis:
    """Return the axis with one more dimension, of size 1, on which it does not lie."""
    shape = (*axis.shape[:dim], 1, *axis.shape[dim:])
    return ChannelAxis(axis.ids, shape, tuple(d + (d >= dim) for d in axis.dims))


def expand(p: Pass, op: Operation) -> Value:
    """Repeat along dimensions of size 1; an axis on such a dimension is frozen."""
    value = p.value(op.args[0])
    offset = op.out.ndim - op.args[0].ndim
    sizes = p.request.sizes or ()
    hard_coded = {d for d, size in enumerate(sizes) if size is False}
    axes: list[ChannelAxis | None] = []
    reason = BROADCAST
    for axis in value.axes:
        dims = tuple(d + offset for d in axis.dims)
        if any(axis.shape[d - offset] != op.out.shape[d] for d in dims):
            axes.append(None)
        elif hard_coded & set(dims):
            axes.append(None)
            reason = RESHAPED
        else:
            axes.append(ChannelAxis(axis.ids, op.out.shape, dims))
    return p.settle(value, axes, reason, value.parameter)


def repeat(p: Pass, op: Operation) -> Value:
    """Put copies side by side."""
    value = p.value(op.args[0])
    offset = op.out.ndim - op.args[0].ndim
    axes: list[ChannelAxis | None] = []
    for axis in value.axes:
        if len(axis.dims) != 1:
            axes.append(None)
            continue
        dim = axis.dims[0] + offset
        axes.append(ChannelAxis(np.tile(axis.ids, op.args[1][dim]), op.out.shape, (dim,)))
    return p.settle(value, axes, DIVIDED, value.parameter)


# Joining tensors, or a tensor and a pad


def cat(p: Pass, op: Operation) -> Value:
    """Follow `torch.cat`: line up channels along the dimension, or tie them along another."""
    tensors = [tensor for tensor in op.args[0] if tensor.ndim == op.out.ndim]
    dim = op.arg("dim") % op.out.ndim
    values = [p.value(tensor) for tensor in tensors]
    freeze_parameters(p, values, JOINED_PARAMETER)
    axes = [axis for value in values for axis in value.axes]
    if any(axis.dims != (dim,) for axis in axes):
        return overlaid(p, values, axes, op.out, dim)
    ids = []
    for tensor, value in zip(tensors, values, strict=True):
        part = along(value, dim)
        if part is None:
            part = p.ids.new_frozen(tensor.shape[dim], f"joined with {value.origin}")
        ids.append(part)
    return Value((ChannelAxis(np.concatenate(ids), op.out.shape, (dim,)),))


def stack(p: Pass, op: Operation) -> Value:
    """Join along a new dimension; the channels are tied."""
    dim = op.arg("dim") % op.out.ndim
    values = [p.value(tensor) for tensor in op.args[0]]
    freeze_parameters(p, values, JOINED_PARAMETER)
    axes = [with_dim(axis, dim) for value in values for axis in value.axes]
    return overlaid(p, values, axes, op.out, dim)


def freeze_parameters(p: Pass, values: Sequence[Value], reason: str) -> None:
    """Freeze the parameters among some tensors."""
    for value in values:
        if value.parameter:
            p.ids.freeze_value(value, reason)


def overlaid(p: Pass, values: list[Value], axes: list[ChannelAxis], out: Tensor, dim: int) -> Value:
    """Tie the channels of tensors that are joined along a dimension without channels."""
    dims = {axis.dims for axis in axes}
    if len(dims) != 1 or dim in next(iter(dims)) or any(len(v.axes) != 1 for v in values):
        origin = next((v.origin for v in values if not v.axes), "other dimensions")
        for value in values:
            p.ids.freeze_value(value, f"joined with {origin}")
        return Value((), f"a tensor joined with {origin}")
    for axis in axes[1:]:
        p.ids.tie_axes(axes[0], axis)
    return Value((axes[0].resized(out.shape),))


def constant_pad(p: Pass, op: Operation) -> Value:
    """Pad with constants; added channels are units if a padding module stores their number.

    Otherwise they stay, and so do the channels that they are summed with.
    """
    x, padding = op.args[0], [int(n) for n in op.args[1]]
    value = p.value(x)
    axes: list[ChannelAxis | None] = []
    for axis in value.axes:
        padded = {d: padding_of(padding, x.ndim - 1 - d) for d in axis.dims}
        if not any(any(sides) for sides in padded.values()):
            axes.append(axis.resized(op.out.shape))
            continue
        path, module = p.module()
        stored = module.padding if isinstance(module, nn.modules.padding._ConstantPadNd) else ()
        if len(axis.dims) != 1 or min(padding) < 0:
            axes.append(None)
            continue
        (dim,) = axis.dims
        before, after = padded[dim]
        if list(stored) == padding:
            added = p.pad_ids(path, 2 * (x.ndim - 1 - dim), before, after)
        elif dim == 1 and not value.parameter:  # the number stays as it is written
            added = p.ids.new_frozen(before + after, PADDED)
        else:
            axes.append(None)
            continue
        ids = np.concatenate([added[:before], axis.ids, added[before:]])
        axes.append(ChannelAxis(ids, op.out.shape, axis.dims))
    return p.settle(value, axes, PADDED)


def padding_of(padding: Sequence[int], from_last: int) -> tuple[int, int]:
    """Return the padding before and after a dimension, counted from the last one."""
    place = 2 * from_last
    return (padding[place], padding[place + 1]) if place < len(padding) else (0, 0)


# Taking channels apart: selections, slices, splits, indices


def select(p: Pass, op: Operation) -> Value:
    """Take one position along a dimension; channels along it are frozen."""
    value = p.value(op.args[0])
    dim = op.arg("dim") % op.args[0].ndim
    axes = [None if dim in axis.dims else without_dim(axis, dim) for axis in value.axes]
    return p.settle(value, axes, CUT, value.parameter)


def without_dim(axis: ChannelAxis, dim: int) -> ChannelAxis:
    """Return the axis without a dimension on which it does not lie."""
    shape = (*axis.shape[:dim], *axis.shape[dim + 1 :])
    return ChannelAxis(axis.ids, shape, tuple(d - (d > dim) for d in axis.dims))


def index_select(p: Pass, op: Operation) -> Value:
    """Take some positions along a dimension."""
    value = p.value(op.args[0])
    dim = op.arg("dim") % op.args[0].ndim
    return picked(p, value, dim, op.arg("index"), op.out)


def picked(p: Pass, value: Value, dim: int, chosen: Tensor, out: Tensor) -> Value:
    """Follow an index along one dimension.

    An index in a buffer loses the removed channels and is renumbered; others freeze the channels.
    """
    axes: list[ChannelAxis | None] = []
    for axis in value.axes:
        if dim not in axis.dims:
            axes.append(axis.resized(tuple(out.shape)))
            continue
        is_alone = axis.dims == (dim,) and not value.parameter
        ids = p.picked(chosen, axis.ids) if is_alone else None
        axes.append(None if ids is None else ChannelAxis(ids, tuple(out.shape), (dim,)))
    if None in axes or not any(dim in axis.dims for axis in value.axes):
        p.ids.freeze_value(p.value(chosen), INDEX)
    reason = CUT if value.parameter or p.value(chosen).parameter else NOT_STORED
    return p.settle(value, axes, reason)


def slice_(p: Pass, op: Operation) -> Value:
    """Take a range along one dimension: all of it, or one of several equal parts of its channels.

    The channels at the same position of all parts are tied, so that the parts stay equal.
    """
    value, x = p.value(op.args[0]), op.args[0]
    dim = op.arg("dim") % x.ndim
    size, length = x.shape[dim], op.out.shape[dim]
    axes: list[ChannelAxis | None] = []
    for axis in value.axes:
        part = axis_of(op.func(axis.as_tensor(), *op.args[1:], **op.kwargs))
        if dim not in axis.dims or length == size:
            axes.append(part)
            continue
        is_equal = axis.dims == (dim,) and length and size % length == 0 and op.arg("step") == 1
        if not is_equal or p.request.cuts is None or (op.arg("start") or 0) % length:
            axes.append(None)
            continue
        parts = axis.ids.reshape(-1, length)
        p.ids.tie(parts[:1], parts)
        for count in p.request.cuts:
            p.ids.keep_proportional(count, axis.ids)
        axes.append(part)
    return p.settle(value, axes, CUT, value.parameter)


def split(p: Pass, op: Operation) -> list[Value]:
    """Cut into parts; equal parts of the actual size lose channels at the same positions."""
    value = p.value(op.args[0])
    dim = op.arg("dim") % op.args[0].ndim
    is_equal = len({part.shape for part in op.out}) == 1
    parts: list[list[ChannelAxis | None]] = [[] for _ in op.out]
    for axis in value.axes:
        chunks = [*map(axis_of, op.func(axis.as_tensor(), *op.args[1:], **op.kwargs))]
        followed = dim not in axis.dims
        if not followed and p.request.cuts is not None and is_equal:
            followed = True
            for chunk in chunks[1:]:
                p.ids.tie(chunks[0].ids, chunk.ids)
            for count in p.request.cuts:
                p.ids.keep_proportional(count, axis.ids)
        for part, chunk in zip(parts, chunks, strict=True):
            part.append(chunk if followed else None)
    return [p.settle(value, part, CUT) for part in parts]


def glu(p: Pass, op: Operation) -> Value:
    """Tie the two halves, one of which gates the other."""
    value = p.value(op.args[0])
    dim = op.arg("dim") % op.out.ndim
    axes = []
    for axis in value.axes:
        first = axis.ids
        if dim in axis.dims:
            first, second = np.split(axis.ids, 2, axis.dims.index(dim))
            p.ids.tie(first, second)
        axes.append(ChannelAxis(first, op.out.shape, axis.dims))
    return p.settle(value, axes, "gated")


def index(p: Pass, op: Operation) -> Value:
    """Index by tensors: a single one is followed like `index_select`, several freeze."""
    value = p.value(op.args[0])
    chosen = {d: places for d, places in enumerate(op.args[1]) if places is not None}
    # The dimensions keep their order only if a vector indexes a single one.
    if len(chosen) == 1 and op.out.ndim == op.args[0].ndim:
        ((dim, places),) = chosen.items()
        return picked(p, value, dim, places, op.out)
    for places in chosen.values():
        p.ids.freeze_value(p.value(places), INDEX)
    return p.settle(value, [None] * len(value.axes), CUT)


def index_put(p: Pass, op: Operation) -> Value:
    """Write rows to positions along the first dimension; their channels are removed together."""
    base, chosen, written = op.args[:3]
    value, source = p.value(base), p.value(written)
    for place in chosen:
        if place is not None:
            p.ids.freeze_value(p.value(place), INDEX)
    rows = len(chosen) == 1 and chosen[0].ndim == 1
    on = {d for axis in (*value.axes, *source.axes) for d in axis.dims}
    same_dims = {axis.dims for axis in value.axes} == {axis.dims for axis in source.axes}
    if rows and 0 not in on and (written.numel() == 1 or (same_dims and written.ndim == base.ndim)):
        for axis, other in itertools.product(value.axes, source.axes):
            if axis.dims == other.dims:
                p.ids.tie(axis.ids, other.ids)
        return value
    for used in (value, source):
        p.ids.freeze_value(used, "written to indexed positions of a tensor")
    return Value((), "a tensor written to at indexed positions")


# Taking channels apart: views and shuffles


def view(p: Pass, op: Operation) -> Value:
    """Merge and divide dimensions; the sizes that the code asks for decide how far to follow."""
    value = p.value(op.args[0])
    sizes = p.request.sizes if p.request.sizes and len(p.request.sizes) == op.out.ndim else None
    axes = [reshaped(p, axis, tuple(op.out.shape), sizes) for axis in value.axes]
    return p.settle(value, axes, DIVIDED if sizes is None else RESHAPED, value.parameter)


def reshaped(
    p: Pass, axis: ChannelAxis, shape: tuple[int, ...], sizes: tuple[Size, ...] | None
) -> ChannelAxis | None:
    """Return the axis in another shape, or None if its channels cannot be followed.

    Channels are divided into a hard-coded number of parts, which stay of equal length: channels at
    the same position of all parts are removed together. `sizes` says which sizes change with the
    channels; without it, channels may be merged with others, but not divided.
    """
    if 0 in axis.shape:
        return None
    on = set(axis.dims)
    full = [1] * len(axis.shape)  # sizes where the reshape needs every id
    target = [1] * len(shape)
    lies: list[int] = []
    touched = [(i, o) for i, o in aligned(axis.shape, shape) if on & set(i)]
    for ins, outs in touched:
        for d in ins:
            full[d] = axis.shape[d]
        for d in outs:
            target[d] = shape[d]
    ids: Ints = np.broadcast_to(axis.compact(), full).reshape(target)
    for _, outs in touched:
        large = [d for d in outs if shape[d] > 1]
        vary = [d for d in large if differs(ids, d)]
        if sizes is not None:
            hard_coded = [d for d in large if sizes[d] is False]
            if large and hard_coded == large:
                return None
            for d in hard_coded:
                p.ids.tie(ids.take([0], d), ids)
                ids = ids.take([0], d)
            vary = [d for d in vary if d not in hard_coded]
            for d in vary:
                if isinstance(count := sizes[d], np.ndarray):
                    p.ids.keep_proportional(count, axis.ids)
        if not vary:  # a single channel: its dimension keeps size 1 if there is one
            lies += ([d for d in outs if shape[d] == 1] or large)[:1]
        elif len(vary) == 1 and (sizes is not None or vary == large[-1:]):
            lies += vary  # the same channels over and over, as in instance norm
        else:
            return None
    dims = tuple(sorted(lies))
    ids = ids[tuple(slice(None) if d in dims else 0 for d in range(len(shape)))]
    return ChannelAxis(np.broadcast_to(ids, [shape[d] for d in dims]).copy(), shape, dims)


def differs(ids: Ints, dim: int) -> bool:
    """Whether ids differ along a dimension."""
    return bool((ids != ids.take([0], dim)).any())


def aligned(
    before: tuple[int, ...], after: tuple[int, ...]
) -> list[tuple[tuple[int, ...], tuple[int, ...]]]:
    """Pair the dimensions of two shapes of equally many elements, in the smallest equal runs.

    >>> aligned((2, 8, 3, 3), (2, 72))
    [((0,), (0,)), ((1, 2, 3), (1,))]
    """
    pairs = []
    i = o = 0
    while i < len(before) and o < len(after):
        first_i, first_o = i, o
        size_i, size_o = before[i], after[o]
        i, o = i + 1, o + 1
        while size_i != size_o:
            if size_i < size_o:
                size_i, i = size_i * before[i], i + 1
            else:
                size_o, o = size_o * after[o], o + 1
        pairs.append((tuple(range(first_i, i)), tuple(range(first_o, o))))
    if pairs:  # the remaining dimensions have size 1
        ins, outs = pairs.pop()
        pairs.append((ins + tuple(range(i, len(before))), outs + tuple(range(o, len(after)))))
    return pairs


def flip(p: Pass, op: Operation) -> Value:
    """Reverse channels; the reversed rest is the rest of the reversed channels."""
    value = p.value(op.args[0])
    dims = [d % op.out.ndim for d in op.args[1]]
    axes = []
    for axis in value.axes:
        ids = np.flip(axis.ids, tuple(axis.dims.index(d) for d in dims if d in axis.dims))
        axes.append(axis._replace(ids=np.ascontiguousarray(ids)))
    return Value(tuple(axes), value.origin)


def pixel_shuffle(p: Pass, op: Operation) -> Value:
    """Tie the channels that become the pixels of one channel."""
    value = p.value(op.args[0])
    dim = op.out.ndim - 3
    axes: list[ChannelAxis | None] = []
    for axis in value.axes:
        if axis.dims != (dim,):
            axes.append(None)
            continue
        rows = axis.ids.reshape(op.out.shape[dim], -1)
        p.ids.tie(rows[:, :1], rows)
        axes.append(ChannelAxis(rows[:, 0], op.out.shape, (dim,)))
    return p.settle(value, axes, DIVIDED)


def pixel_unshuffle(p: Pass, op: Operation) -> Value:
    """Give the channels made of one channel's pixels the id of that channel."""
    value = p.value(op.args[0])
    dim = op.out.ndim - 3
    axes = [
        ChannelAxis(axis.ids.repeat(op.args[1] ** 2), op.out.shape, (dim,))
        if axis.dims == (dim,)
        else None
        for axis in value.axes
    ]
    return p.settle(value, axes, DIVIDED)


def channel_shuffle(p: Pass, op: Operation) -> Value:
    """Tie the channels at the same position of all groups, so that the groups stay equal."""
    value = p.value(op.args[0])
    axes: list[ChannelAxis | None] = []
    for axis in value.axes:
        if axis.dims != (1,):
            axes.append(None)
            continue
        rows = axis.ids.reshape(op.args[1], -1)
        p.ids.tie(rows[:1], rows)
        axes.append(ChannelAxis(rows.T.ravel(), op.out.shape, (1,)))
    return p.settle(value, axes, DIVIDED)
