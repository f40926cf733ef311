"""Rules for operations that move or join whole tensors: the ids move in the same way."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from prunebench.channels.ids import Layer, Value, along, layer_of
from prunebench.channels.parts import DIVIDED, PARTS, WRITTEN
from prunebench.channels.passes import Operation, Pass, Rule, refuse

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
