"""The rule for what works place by place: channels at the same place leave together."""

from __future__ import annotations

from functools import cache
from typing import Any

import torch
from torch import Tensor

from prunebench.channels.trace.ids import Layer, Value
from prunebench.channels.trace.passes import Operation, Pass, fixed_of

aten = torch.ops.aten


def pointwise(p: Pass, op: Operation) -> Value:
    """Tie the channels at the same place of the operands."""
    tensors = op.operands
    values = [p.value(tensor) for tensor in tensors]
    shape = tuple(op.out.shape)
    merged: list[Layer] = []
    for tensor, value in zip(tensors, values, strict=True):
        offset = len(shape) - tensor.ndim
        for layer in value.layers:
            if value.parameter:
                if layer.ids.size == 1:  # one number for all channels, or one for one
                    continue
                p.ids.set_role(layer.ids, "vector")
            if any(layer.shape[d] != shape[d + offset] for d in layer.dims):
                p.ids.freeze(layer.ids, "spread from one channel over several")
                continue
            placed = Layer(layer.ids, shape, tuple(d + offset for d in layer.dims))
            p.ids.join(merged, placed)
    for layer in merged:
        for tensor, value in zip(tensors, values, strict=True):
            if has_fixed_size(tensor, value, layer):
                p.ids.freeze(layer.ids, f"combined with {value.fixed}, whose size is fixed")
    return Value(tuple(merged), fixed_of(values))


def has_fixed_size(tensor: Tensor, value: Value, layer: Layer) -> bool:
    """Whether an operand has several places, but no channels, where the result's layer lies."""
    offset = len(layer.shape) - tensor.ndim
    own = {d + offset for own_layer in value.layers for d in own_layer.dims}
    return any(d >= offset and tensor.shape[d - offset] > 1 and d not in own for d in layer.dims)


# Work place by place without being tagged so.
POINTWISE = {
    aten._prelu_kernel,
    aten.copy_,
    aten.hardswish,
    aten.hardswish_,
    aten.masked_fill,
    aten.mish_,
    aten.rsub,
    aten.threshold_,
    aten.where,
}


@cache
def is_pointwise(func: Any) -> bool:
    """Whether an operation works place by place."""
    return torch.Tag.pointwise in func.tags or func.overloadpacket in POINTWISE
