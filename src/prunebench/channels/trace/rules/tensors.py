"""Rules for operations that take channels apart, or pick some of them.

Cutting channels at a number written in the code (slice, select, split, index, view) freezes them:
after a removal the number would cut elsewhere. What divides whatever is left is followed: the parts
lose the same places together.

Rules for operations that move or join whole tensors: the ids move in the same way.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from prunebench.channels.trace.ids import Ints, Layer, Value, along, layer_of
from prunebench.channels.trace.passes import Operation, Pass, Rule, Size, refuse

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


aten = torch.ops.aten
PADDED = "padded along its channels by a number written in the code"
SINGLE = "spread from one channel over several"


def same(p: Pass, op: Operation) -> Value:
    """Keep every element's channel, as copies and in-place fills do."""
    return p.value(op.args[0])


def like(p: Pass, op: Operation) -> Value:
    """Give a new tensor of the operand's shape its channels; it shrinks with it."""
    value = p.value(op.args[0])
    if value.parameter:
        p.ids.freeze_value(value, "a tensor is made of a parameter's shape")
    return Value(value.layers, value.fixed)


def new(p: Pass, op: Operation) -> Value:
    """Give a new tensor that torch itself makes the operand's channels where sizes agree.

    It reads the sizes from the operand: for dropout of whole channels, circular padding ...
    """
    value, shape = p.value(op.args[0]), op.out.shape
    if value.parameter or not p.request.internal or len(shape) != op.args[0].ndim:
        return Value()
    kept = [
        layer.resized(shape)
        for layer in value.layers
        if all(shape[d] == layer.shape[d] for d in layer.dims)
    ]
    return Value(tuple(kept))


def moved(p: Pass, op: Operation) -> Value:
    """Permute or squeeze; the layer goes with its dimensions."""
    value = p.value(op.args[0])
    layers = [
        layer_of(op.func(layer.as_tensor(), *op.args[1:], **op.kwargs)) for layer in value.layers
    ]
    return p.settle(value, layers, SINGLE, value.parameter)


def restride(p: Pass, op: Operation) -> Value:
    """Follow other strides for the same elements, as channels-last pooling to one pixel sets.

    Only the strides of dimensions of one element may differ; all else would move elements.
    """
    value = p.value(op.args[0])
    shape, strides = tuple(op.args[1]), tuple(op.args[2])
    is_same = (
        all(layer.shape == shape for layer in value.layers)
        and len(op.args) == 3
        and all(n < 2 or a == b for n, a, b in zip(shape, op.strides, strides, strict=True))
    )
    return value if is_same else refuse(p, (op.args[0],), f"{op.name}, which moves elements")


def unsqueeze(p: Pass, op: Operation) -> Value:
    """Insert a dimension on which no layer lies."""
    value = p.value(op.args[0])
    place = op.args[1] % op.out.ndim
    layers = [with_dim(layer, place) for layer in value.layers]
    return p.settle(value, layers, SINGLE, value.parameter)


def with_dim(layer: Layer, place: int) -> Layer:
    """Return the layer with one more dimension, of size 1, on which it does not lie."""
    shape = (*layer.shape[:place], 1, *layer.shape[place:])
    return Layer(layer.ids, shape, tuple(d + (d >= place) for d in layer.dims))


def expand(p: Pass, op: Operation) -> Value:
    """Repeat along dimensions of size 1, which loses a layer that lies there."""
    value = p.value(op.args[0])
    offset = op.out.ndim - op.args[0].ndim
    sizes = p.request.sizes or ()
    written = {d for d, size in enumerate(sizes) if size is False}
    layers: list[Layer | None] = []
    reason = SINGLE
    for layer in value.layers:
        places = tuple(d + offset for d in layer.dims)
        if any(layer.shape[d - offset] != op.out.shape[d] for d in places):
            layers.append(None)
        elif written & set(places):
            layers.append(None)
            reason = WRITTEN
        else:
            layers.append(Layer(layer.ids, op.out.shape, places))
    return p.settle(value, layers, reason, value.parameter)


def repeat(p: Pass, op: Operation) -> Value:
    """Put copies side by side."""
    value = p.value(op.args[0])
    offset = op.out.ndim - op.args[0].ndim
    layers: list[Layer | None] = []
    for layer in value.layers:
        if len(layer.dims) != 1:
            layers.append(None)
            continue
        place = layer.dims[0] + offset
        layers.append(Layer(np.tile(layer.ids, op.args[1][place]), op.out.shape, (place,)))
    return p.settle(value, layers, DIVIDED, value.parameter)


def cat(p: Pass, op: Operation) -> Value:
    """Join along a dimension: side by side if channels lie there, else one over the other."""
    tensors = [tensor for tensor in op.args[0] if tensor.ndim == op.out.ndim]
    dim = op.arg("dim") % op.out.ndim
    values = [p.value(tensor) for tensor in tensors]
    for value in values:
        if value.parameter:
            p.ids.freeze_value(value, "a parameter is joined with other tensors")
    layers = [layer for value in values for layer in value.layers]
    if all(layer.dims == (dim,) for layer in layers):
        ids = []
        for tensor, value in zip(tensors, values, strict=True):
            part = along(value, dim)
            if part is None:
                reason = f"joined with {value.fixed}"
                part = p.ids.new_frozen(tensor.shape[dim], reason)
            ids.append(part)
        return Value((Layer(np.concatenate(ids), op.out.shape, (dim,)),))
    return overlaid(p, values, layers, op.out, dim)


def stack(p: Pass, op: Operation) -> Value:
    """Join along a new dimension."""
    dim = op.arg("dim") % op.out.ndim
    values = [p.value(tensor) for tensor in op.args[0]]
    for value in values:
        if value.parameter:
            p.ids.freeze_value(value, "a parameter is joined with other tensors")
    layers = [with_dim(layer, dim) for value in values for layer in value.layers]
    return overlaid(p, values, layers, op.out, dim)


def overlaid(p: Pass, values: list[Value], layers: list[Layer], out: Tensor, dim: int) -> Value:
    """Return the channels of tensors joined along a dimension on which no channels lie."""
    dims = {layer.dims for layer in layers}
    if len(dims) != 1 or dim in next(iter(dims)) or any(len(v.layers) != 1 for v in values):
        fixed = next((v.fixed for v in values if not v.layers), "other dimensions")
        for value in values:
            p.ids.freeze_value(value, f"joined with {fixed}")
        return Value((), f"a tensor joined with {fixed}")
    for layer in layers[1:]:
        p.ids.tie_layers(layers[0], layer)
    return Value((layers[0].resized(out.shape),))


def constant_pad(p: Pass, op: Operation) -> Value:
    """Add constants around; added channels are units if a padding module holds their number."""
    x, padding = op.args[0], [int(n) for n in op.args[1]]
    value = p.value(x)
    layers: list[Layer | None] = []
    for layer in value.layers:
        dims = layer.dims
        padded = {d: channel_padding(padding, x.ndim - 1 - d) for d in dims}
        if not any(any(sides) for sides in padded.values()):
            layers.append(layer.resized(op.out.shape))
            continue
        path, module = p.module()
        held = module.padding if isinstance(module, nn.modules.padding._ConstantPadNd) else ()
        if list(held) != padding or len(dims) != 1 or min(padding) < 0:
            layers.append(None)
            continue
        before, after = padded[dims[0]]
        extra = p.pad_ids(path, 2 * (x.ndim - 1 - dims[0]), before, after)
        ids = np.concatenate([extra[:before], layer.ids, extra[before:]])
        layers.append(Layer(ids, op.out.shape, dims))
    return p.settle(value, layers, PADDED)


def channel_padding(padding: Sequence[int], from_last: int) -> tuple[int, int]:
    """Return what is added on both sides of a dimension, counted from the last one."""
    place = 2 * from_last
    return (padding[place], padding[place + 1]) if place < len(padding) else (0, 0)


MOVES: dict[Any, Rule] = {
    **PARTS,
    aten._to_copy: same,
    aten.alias: same,
    aten.as_strided_: restride,
    aten.bernoulli: same,
    aten.bernoulli_: same,
    aten.cat: cat,
    aten.clone: same,
    aten.constant_pad_nd: constant_pad,
    aten.contiguous: same,
    aten.detach: same,
    aten.empty_like: like,
    aten.expand: expand,
    aten.fill_: same,
    aten.full_like: like,
    aten.lift_fresh: same,
    aten.log_sigmoid_forward: same,
    aten.native_dropout: same,
    aten.new_empty: new,
    aten.new_full: new,
    aten.new_ones: new,
    aten.new_zeros: new,
    aten.normal_: same,
    aten.ones_like: like,
    aten.permute: moved,
    aten.rand_like: like,
    aten.randn_like: like,
    aten.repeat: repeat,
    aten.rrelu_with_noise: same,
    aten.rrelu_with_noise_: same,
    aten.squeeze: moved,
    aten.stack: stack,
    aten.t: moved,
    aten.transpose: moved,
    aten.unsqueeze: unsqueeze,
    aten.uniform_: same,
    aten.zero_: same,
    aten.zeros_like: like,
}
