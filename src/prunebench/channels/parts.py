"""Rules for operations that take channels apart, or pick some of them.

Cutting channels at a number written in the code (slice, select, split, index, view) freezes them:
after a removal the number would cut elsewhere. What divides whatever is left is followed: the parts
lose the same places together.
"""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np
import torch

from prunebench.channels.ids import Ints, Layer, Value, layer_of
from prunebench.channels.passes import Operation, Pass, Rule, Size

aten = torch.ops.aten
CUT = "cut along its channels at places written in the code"
DIVIDED = "divided along its channels by a view"
WRITTEN = "reshaped to sizes written in the code"
INDEX = "used as an index"


def select(p: Pass, op: Operation) -> Value:
    """Take one place along a dimension; not followed if channels lie there."""
    value = p.value(op.args[0])
    dim = op.arg("dim") % op.args[0].ndim
    layers = [None if dim in layer.dims else without_dim(layer, dim) for layer in value.layers]
    return p.settle(value, layers, CUT, value.parameter)


def without_dim(layer: Layer, place: int) -> Layer:
    """Return the layer without a dimension on which it does not lie."""
    shape = (*layer.shape[:place], *layer.shape[place + 1 :])
    return Layer(layer.ids, shape, tuple(d - (d > place) for d in layer.dims))


def index_select(p: Pass, op: Operation) -> Value:
    """Take some places along a dimension; not followed if channels lie there."""
    value = p.value(op.args[0])
    dim = op.arg("dim") % op.args[0].ndim
    p.ids.freeze_value(p.value(op.arg("index")), INDEX)
    layers = [None if dim in layer.dims else layer.resized(op.out.shape) for layer in value.layers]
    return p.settle(value, layers, CUT, value.parameter)


def slice_(p: Pass, op: Operation) -> Value:
    """Take a run along one dimension: all of it, or one of several even parts of its channels."""
    value, x = p.value(op.args[0]), op.args[0]
    dim = op.arg("dim") % x.ndim
    size, length = x.shape[dim], op.out.shape[dim]
    layers: list[Layer | None] = []
    for layer in value.layers:
        part = layer_of(op.func(layer.as_tensor(), *op.args[1:], **op.kwargs))
        if dim not in layer.dims or length == size:
            layers.append(part)
            continue
        is_even = layer.dims == (dim,) and length and size % length == 0 and op.arg("step") == 1
        if not is_even or p.request.cuts is None or (op.arg("start") or 0) % length:
            layers.append(None)
            continue
        tie_columns(p, layer.ids.reshape(-1, length))
        for count in p.request.cuts:
            p.ids.keep_proportional(count, layer.ids)
        layers.append(part)
    return p.settle(value, layers, CUT, value.parameter)


def tie_columns(p: Pass, rows: Ints) -> None:
    """Note that the same places of all rows leave together, so that rows stay of equal length."""
    p.ids.tie(rows[:1], rows)


def split(p: Pass, op: Operation) -> list[Value]:
    """Cut into parts; even parts at places that follow lose the same places together."""
    value = p.value(op.args[0])
    dim = op.arg("dim") % op.args[0].ndim
    is_even = len({part.shape for part in op.out}) == 1
    parts: list[list[Layer | None]] = [[] for _ in op.out]
    for layer in value.layers:
        chunks = [*map(layer_of, op.func(layer.as_tensor(), *op.args[1:], **op.kwargs))]
        followed = dim not in layer.dims
        if not followed and p.request.cuts is not None and is_even:
            followed = True
            for chunk in chunks[1:]:
                p.ids.tie(chunks[0].ids, chunk.ids)
            for count in p.request.cuts:
                p.ids.keep_proportional(count, layer.ids)
        for part, chunk in zip(parts, chunks, strict=True):
            part.append(chunk if followed else None)
    return [p.settle(value, part, CUT) for part in parts]


def index(p: Pass, op: Operation) -> Value:
    """Index by tensors; not followed if channels lie on an indexed dimension or in an index."""
    value = p.value(op.args[0])
    for chosen in op.args[1]:
        if chosen is not None:
            p.ids.freeze_value(p.value(chosen), INDEX)
    dims = {d for d, chosen in enumerate(op.args[1]) if chosen is not None}
    # The result's dimensions are where they were only if one dimension is indexed by a vector.
    plain = len(dims) == 1 and op.out.ndim == op.args[0].ndim
    layers = [
        layer.resized(op.out.shape) if plain and not dims & set(layer.dims) else None
        for layer in value.layers
    ]
    return p.settle(value, layers, CUT)


def index_put(p: Pass, op: Operation) -> Value:
    """Write rows into some places along the first dimension; their channels leave together."""
    base, chosen, written = op.args[:3]
    value, source = p.value(base), p.value(written)
    for place in chosen:
        if place is not None:
            p.ids.freeze_value(p.value(place), INDEX)
    rows = len(chosen) == 1 and chosen[0].ndim == 1
    on = {d for layer in (*value.layers, *source.layers) for d in layer.dims}
    same_dims = {layer.dims for layer in value.layers} == {layer.dims for layer in source.layers}
    if rows and 0 not in on and (written.numel() == 1 or (same_dims and written.ndim == base.ndim)):
        for layer, other in itertools.product(value.layers, source.layers):
            if layer.dims == other.dims:
                p.ids.tie(layer.ids, other.ids)
        return value
    for used in (value, source):
        p.ids.freeze_value(used, "written into places of a tensor")
    return Value((), "a tensor written to at places")


def view(p: Pass, op: Operation) -> Value:
    """Merge and divide dimensions; what the code says of the sizes decides what is followed."""
    value = p.value(op.args[0])
    sizes = p.request.sizes if p.request.sizes and len(p.request.sizes) == op.out.ndim else None
    layers = [reshaped(p, layer, tuple(op.out.shape), sizes) for layer in value.layers]
    return p.settle(value, layers, DIVIDED if sizes is None else WRITTEN, value.parameter)


def reshaped(
    p: Pass, layer: Layer, shape: tuple[int, ...], sizes: tuple[Size, ...] | None
) -> Layer | None:
    """Return the layer in another shape, or None if its channels cannot be followed.

    Channels are divided into a written number of parts, which stay of equal length: the same places
    of all parts leave together. `sizes` says which sizes change with the channels; where that is
    not known, channels may be merged with others, not divided.
    """
    if 0 in layer.shape:
        return None
    on = set(layer.dims)
    full = [1] * len(layer.shape)  # sizes where the reshape has to spell the ids out
    target = [1] * len(shape)
    lies: list[int] = []
    touched = [(i, o) for i, o in aligned(layer.shape, shape) if on & set(i)]
    for ins, outs in touched:
        for d in ins:
            full[d] = layer.shape[d]
        for d in outs:
            target[d] = shape[d]
    spelled: Ints = np.broadcast_to(layer.compact(), full).reshape(target)
    for _, outs in touched:
        large = [d for d in outs if shape[d] > 1]
        vary = [d for d in large if differs(spelled, d)]
        if sizes is not None:
            written = [d for d in large if sizes[d] is False]
            if large and written == large:
                return None
            for d in written:
                p.ids.tie(spelled.take([0], d), spelled)
                spelled = spelled.take([0], d)
            vary = [d for d in vary if d not in written]
            for d in vary:
                if isinstance(count := sizes[d], np.ndarray):
                    p.ids.keep_proportional(count, layer.ids)
        if not vary:  # a single channel: its dimension keeps size 1 if there is one
            lies += ([d for d in outs if shape[d] == 1] or large)[:1]
        elif len(vary) == 1 and (sizes is not None or vary == large[-1:]):
            lies += vary  # the same channels again and again, as in instance norm
        else:
            return None
    dims = tuple(sorted(lies))
    ids = spelled[tuple(slice(None) if d in dims else 0 for d in range(len(shape)))]
    return Layer(np.broadcast_to(ids, [shape[d] for d in dims]).copy(), shape, dims)


def differs(ids: Ints, dim: int) -> bool:
    """Whether ids differ along a dimension."""
    return bool((ids != ids.take([0], dim)).any())


def aligned(
    before: tuple[int, ...], after: tuple[int, ...]
) -> list[tuple[tuple[int, ...], tuple[int, ...]]]:
    """Pair the dimensions of two shapes of as many elements, in the smallest runs that agree.

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
    if pairs:  # what is left has size 1
        ins, outs = pairs.pop()
        pairs.append((ins + tuple(range(i, len(before))), outs + tuple(range(o, len(after)))))
    return pairs


def pixel_shuffle(p: Pass, op: Operation) -> Value:
    """Tie the channels that become the pixels of one channel."""
    value = p.value(op.args[0])
    dim = op.out.ndim - 3
    layers: list[Layer | None] = []
    for layer in value.layers:
        if layer.dims != (dim,):
            layers.append(None)
            continue
        rows = layer.ids.reshape(op.out.shape[dim], -1)
        p.ids.tie(rows[:, :1], rows)
        layers.append(Layer(rows[:, 0], op.out.shape, (dim,)))
    return p.settle(value, layers, DIVIDED)


def pixel_unshuffle(p: Pass, op: Operation) -> Value:
    """Give the channels that were pixels of one channel its id."""
    value = p.value(op.args[0])
    dim = op.out.ndim - 3
    layers = [
        Layer(layer.ids.repeat(op.args[1] ** 2), op.out.shape, (dim,))
        if layer.dims == (dim,)
        else None
        for layer in value.layers
    ]
    return p.settle(value, layers, DIVIDED)


def channel_shuffle(p: Pass, op: Operation) -> Value:
    """Tie the same place of all groups, so that the groups stay as large as each other."""
    value = p.value(op.args[0])
    layers: list[Layer | None] = []
    for layer in value.layers:
        if layer.dims != (1,):
            layers.append(None)
            continue
        rows = layer.ids.reshape(op.args[1], -1)
        p.ids.tie(rows[:1], rows)
        layers.append(Layer(rows.T.ravel(), op.out.shape, (1,)))
    return p.settle(value, layers, DIVIDED)


def glu(p: Pass, op: Operation) -> Value:
    """Tie the two halves, of which one gates the other."""
    value = p.value(op.args[0])
    dim = op.arg("dim") % op.out.ndim
    layers = []
    for layer in value.layers:
        first = layer.ids
        if dim in layer.dims:
            first, second = np.split(layer.ids, 2, layer.dims.index(dim))
            p.ids.tie(first, second)
        layers.append(Layer(first, op.out.shape, layer.dims))
    return p.settle(value, layers, "gated")


PARTS: dict[Any, Rule] = {
    aten.glu: glu,
    aten._reshape_alias: view,
    aten._unsafe_view: view,
    aten.channel_shuffle: channel_shuffle,
    aten.index: index,
    aten.index_put: index_put,
    aten.index_put_: index_put,
    aten.index_select: index_select,
    aten.native_channel_shuffle: channel_shuffle,
    aten.pixel_shuffle: pixel_shuffle,
    aten.pixel_unshuffle: pixel_unshuffle,
    aten.select: select,
    aten.slice: slice_,
    aten.split: split,
    aten.split_with_sizes: split,
    aten.unbind: split,
    aten.view: view,
}
