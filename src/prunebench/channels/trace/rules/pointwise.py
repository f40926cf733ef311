"""The rule for pointwise operations: channels at the same position are removed together."""

from __future__ import annotations

from torch import Tensor

from prunebench.channels.trace.ids import ChannelAxis, Value
from prunebench.channels.trace.operation import Operation
from prunebench.channels.trace.passes import Pass, origin_of


def pointwise(p: Pass, op: Operation) -> Value:
    """Tie the channels at the same position of the operands."""
    tensors = op.operands
    values = [p.value(tensor) for tensor in tensors]
    shape = tuple(op.out.shape)
    merged: list[ChannelAxis] = []
    for tensor, value in zip(tensors, values, strict=True):
        offset = len(shape) - tensor.ndim
        for axis in value.axes:
            if value.parameter:
                if axis.ids.size == 1:  # one number for all channels, or for a single one
                    continue
                p.ids.set_role(axis.ids, "vector")
            if any(axis.shape[d] != shape[d + offset] for d in axis.dims):
                p.ids.freeze(axis.ids, "broadcast from one channel to several")
                continue
            placed = ChannelAxis(axis.ids, shape, tuple(d + offset for d in axis.dims))
            p.ids.join(merged, placed)
    for axis in merged:
        for tensor, value in zip(tensors, values, strict=True):
            if has_fixed_size(tensor, value, axis):
                p.ids.freeze(axis.ids, f"combined with {value.origin}, whose size is fixed")
    return Value(tuple(merged), origin_of(values))


def has_fixed_size(tensor: Tensor, value: Value, axis: ChannelAxis) -> bool:
    """Whether an operand is larger than 1, but has no channels, where the result's axis lies."""
    offset = len(axis.shape) - tensor.ndim
    own = {d + offset for own_axis in value.axes for d in own_axis.dims}
    return any(d >= offset and tensor.shape[d - offset] > 1 and d not in own for d in axis.dims)
