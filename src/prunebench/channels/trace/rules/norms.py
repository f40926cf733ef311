"""Rules for normalization: affine parameters and statistics are bound to channels.

Layer norm over channels is not followed, so frozen: its statistics are shared by all of them.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from prunebench.channels.trace.ids import Value
from prunebench.channels.trace.passes import Operation, Pass, Rule
from prunebench.channels.trace.rules.layers import channels, vector

aten = torch.ops.aten


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
    return Value(value.layers, value.fixed)


def group_norm(p: Pass, op: Operation) -> Value:
    """Tie the channels that are normalized together."""
    x, weight, bias = op.args[:3]
    groups, module = op.args[6], p.module()[1]
    value = p.value(x)
    ids = channels(p, value, 1, "group norm")
    vector(p, ids, weight)
    vector(p, ids, bias)
    if ids is None:
        return Value(value.layers, value.fixed)
    if not isinstance(module, nn.GroupNorm) or module.num_groups != groups:
        p.ids.freeze(ids, "used by a group norm whose groups are written in the code")
    elif weight is None:
        p.width(ids, module.num_channels)
    by_group = ids.reshape(groups, -1)
    p.ids.tie(by_group[:, :1], by_group)
    return Value(value.layers, value.fixed)


def layer_norm(p: Pass, op: Operation) -> Value:
    """Freeze channels whose statistics are shared; others pass."""
    value = p.value(op.args[0])
    first = op.args[0].ndim - len(op.args[1])
    for tensor in op.args[2:4]:
        if tensor is not None:
            p.ids.freeze_value(p.value(tensor), "layer norm")
    layers = [None if max(layer.dims) >= first else layer for layer in value.layers]
    return p.settle(value, layers, "normalized over its channels by a layer norm")


BATCH_NORMS = (
    "native_batch_norm",
    "_native_batch_norm_legit",
    "_native_batch_norm_legit_no_training",
    "_batch_norm_no_update",
    "_batch_norm_with_update",
    "cudnn_batch_norm",
    "miopen_batch_norm",
)

NORMS: dict[Any, Rule] = {
    aten.native_group_norm: group_norm,
    aten.native_layer_norm: layer_norm,
    **{getattr(aten, name): batch_norm for name in BATCH_NORMS},
}
