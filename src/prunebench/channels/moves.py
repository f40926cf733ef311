"""Rules for operations that move or join whole tensors: the ids move in the same way."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from prunebench.channels.ids import Value, along, compact, dims_of, resized, spread
from prunebench.channels.parts import DIVIDED, PARTS, WRITTEN
from prunebench.channels.passes import Operation, Pass, Rule

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
        resized(layer, shape)
        for layer in value.layers
        if all(shape[d] == layer.shape[d] for d in dims_of(layer))
    ]
    return Value(tuple(kept))


def moved(p: Pass, op: Operation) -> Value:
    """Permute or squeeze; strides go with the dimensions."""
    value = p.value(op.args[0])
    layers = [op.func(layer, *op.args[1:], **op.kwargs) for layer in value.layers]
    return p.settle(value, layers, SINGLE, value.parameter)


def unsqueeze(p: Pass, op: Operation) -> Value:
    """Insert a dimension on which no layer lies."""
    value = p.value(op.args[0])
    place = op.args[1] % op.out.ndim
    layers = [with_dim(layer, place) for layer in value.layers]
    return p.settle(value, layers, SINGLE, value.parameter)


def with_dim(layer: Tensor, place: int) -> Tensor:
    """Return the layer with one more dimension, of size 1, on which it does not lie."""
    shape, strides = list(layer.shape), list(layer.stride())
    shape.insert(place, 1)
    strides.insert(place, 0)
    return layer.as_strided(shape, strides)


def expand(p: Pass, op: Operation) -> Value:
    """Repeat along dimensions of size 1, which loses a layer that lies there."""
    value = p.value(op.args[0])
    offset = op.out.ndim - op.args[0].ndim
    sizes = p.request.sizes or ()
    written = {d for d, size in enumerate(sizes) if size is False}
    layers: list[Tensor | None] = []
    reason = SINGLE
    for layer in value.layers:
        places = [d + offset for d in dims_of(layer)]
        if any(layer.shape[d - offset] != op.out.shape[d] for d in places):
            layers.append(None)
        elif written & set(places):
            layers.append(None)
            reason = WRITTEN
        else:
            layers.append(layer.expand(op.out.shape))
    return p.settle(value, layers, reason, value.parameter)


def repeat(p: Pass, op: Operation) -> Value:
    """Put copies side by side."""
    value = p.value(op.args[0])
    offset = op.out.ndim - op.args[0].ndim
    layers: list[Tensor | None] = []
    for layer in value.layers:
        dims = dims_of(layer)
        if len(dims) != 1:
            layers.append(None)
            continue
        place = dims[0] + offset
        ids = layer.as_strided((layer.shape[dims[0]],), (layer.stride(dims[0]),))
        layers.append(spread(ids.repeat(op.args[1][place]), op.out.shape, (place,)))
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
    if all(dims_of(layer) == (dim,) for layer in layers):
        ids = []
        for tensor, value in zip(tensors, values, strict=True):
            part = along(value, dim)
            if part is None:
                reason = f"joined with {value.fixed}"
                part = p.ids.new_frozen(tensor.shape[dim], reason)
            ids.append(part)
        return Value((spread(torch.cat(ids), op.out.shape, (dim,)),))
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


def overlaid(p: Pass, values: list[Value], layers: list[Tensor], out: Tensor, dim: int) -> Value:
    """Return the channels of tensors joined along a dimension on which no channels lie."""
    dims = {dims_of(layer) for layer in layers}
    if len(dims) != 1 or dim in next(iter(dims)) or any(len(v.layers) != 1 for v in values):
        fixed = next((v.fixed for v in values if not v.layers), "other dimensions")
        for value in values:
            p.ids.freeze_value(value, f"joined with {fixed}")
        return Value((), f"a tensor joined with {fixed}")
    first = resized(layers[0], out.shape)
    for layer in layers[1:]:
        p.ids.tie(compact(layers[0]), compact(layer))
    return Value((first,))


def constant_pad(p: Pass, op: Operation) -> Value:
    """Add constants around; added channels are units if a padding module holds their number."""
    x, padding = op.args[0], [int(n) for n in op.args[1]]
    value = p.value(x)
    layers: list[Tensor | None] = []
    for layer in value.layers:
        dims = dims_of(layer)
        padded = {d: channel_padding(padding, x.ndim - 1 - d) for d in dims}
        if not any(any(sides) for sides in padded.values()):
            layers.append(resized(layer, op.out.shape))
            continue
        path, module = p.module()
        held = module.padding if isinstance(module, nn.modules.padding._ConstantPadNd) else ()
        if list(held) != padding or len(dims) != 1 or min(padding) < 0:
            layers.append(None)
            continue
        before, after = padded[dims[0]]
        extra = p.pad_ids(path, 2 * (x.ndim - 1 - dims[0]), before, after)
        ids = layer.as_strided((layer.shape[dims[0]],), (layer.stride(dims[0]),))
        ids = torch.cat([extra[:before], ids, extra[before:]])
        layers.append(spread(ids, op.out.shape, dims))
    return p.settle(value, layers, PADDED)


def channel_padding(padding: Sequence[int], from_last: int) -> tuple[int, int]:
    """Return what is added on both sides of a dimension, counted from the last one."""
    place = 2 * from_last
    return (padding[place], padding[place + 1]) if place < len(padding) else (0, 0)


MOVES: dict[Any, Rule] = {
    **PARTS,
    aten._to_copy: same,
    aten.alias: same,
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
