"""Rules for normalization: affine parameters and statistics are bound to channels.

Channels normalized by a layer norm are frozen, since they share its statistics.
"""

from __future__ import annotations

from torch import Tensor, nn

from prunebench.channels.trace.ids import Value
from prunebench.channels.trace.operation import Operation
from prunebench.channels.trace.passes import Pass
from prunebench.channels.trace.rules.layers import channels, vector


def batch_norm(p: Pass, op: Operation) -> Value:
    """Bind affine parameters and statistics to the channels."""
    value = p.value(op.args[0])
    ids = channels(p, value, 1, "batch norm")
    held = [tensor for tensor in op.args[1:5] if isinstance(tensor, Tensor)]
    for tensor in held:
        vector(p, ids, tensor)
    module = p.module()[1]
    if not held and ids is not None and isinstance(module, nn.modules.batchnorm._NormBase):
        p.width(ids, module.num_features)
    return Value(value.axes, value.origin)


def group_norm(p: Pass, op: Operation) -> Value:
    """Tie the channels that are normalized together."""
    x, weight, bias = op.args[:3]
    groups, module = op.args[6], p.module()[1]
    value = p.value(x)
    ids = channels(p, value, 1, "group norm")
    vector(p, ids, weight)
    vector(p, ids, bias)
    if ids is None:
        return Value(value.axes, value.origin)
    if not isinstance(module, nn.GroupNorm) or module.num_groups != groups:
        p.ids.freeze(ids, "used by a group norm with a hard-coded number of groups")
    elif weight is None:
        p.width(ids, module.num_channels)
    by_group = ids.reshape(groups, -1)
    p.ids.tie(by_group[:, :1], by_group)
    return Value(value.axes, value.origin)


def layer_norm(p: Pass, op: Operation) -> Value:
    """Freeze the channels that share statistics; others pass."""
    value = p.value(op.args[0])
    first = op.args[0].ndim - len(op.args[1])
    for tensor in op.args[2:4]:
        if tensor is not None:
            p.ids.freeze_value(p.value(tensor), "a parameter of a layer norm")
    axes = [None if max(axis.dims) >= first else axis for axis in value.axes]
    return p.settle(value, axes, "normalized over its channels by a layer norm")
