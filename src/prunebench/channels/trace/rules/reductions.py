"""Rules for what mixes places: pooling, resizing, sums, softmax, sampling.

Channels that lie along the mixed dimensions are not followed, so frozen; others pass.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import Any

import torch

from prunebench.channels.trace.ids import Layer, Value
from prunebench.channels.trace.passes import Operation, Pass, Rule, refuse

aten = torch.ops.aten


def spatial(n_dims: int) -> Rule:
    """Make the rule of pooling and resizing, which work on the last `n_dims` dimensions."""

    def rule(p: Pass, op: Operation) -> Value:
        value = p.value(op.args[0])
        result = op.out[0] if isinstance(op.out, tuple | list) else op.out
        first = result.ndim - n_dims
        layers = [
            None if max(layer.dims) >= first else layer.resized(result.shape)
            for layer in value.layers
        ]
        return p.settle(value, layers, f"mixed across its channels by {op.name}")

    return rule


def reduction(p: Pass, op: Operation) -> Value:
    """Pass on what is not summed."""
    x = op.args[0]
    value = p.value(x)
    chosen = op.arg("dim")
    chosen = [chosen] if isinstance(chosen, int) else chosen
    dims = {d % x.ndim for d in chosen} if chosen else set(range(x.ndim))
    result = op.out[0] if isinstance(op.out, tuple | list) else op.out
    stay = [d for d in range(x.ndim) if d not in dims or op.arg("keepdim")]
    layers = [
        None
        if dims & set(layer.dims)
        else Layer(layer.ids, result.shape, tuple(map(stay.index, layer.dims)))
        for layer in value.layers
    ]
    return p.settle(value, layers, f"summed over its channels by {op.name}")


def across(p: Pass, op: Operation) -> Value:
    """Pass on what does not lie along the dimensions that softmax and its like mix."""
    value = p.value(op.args[0])
    chosen = op.arg("dim") if op.arg("dims") is None else op.arg("dims")
    chosen = [chosen] if isinstance(chosen, int) else chosen
    dims = {d % op.out.ndim for d in chosen} or set(range(op.out.ndim))  # roll: all as one
    layers = [None if dims & set(layer.dims) else layer for layer in value.layers]
    return p.settle(value, layers, f"mixed across its channels by {op.name}")


def unpool(p: Pass, op: Operation) -> Value | Sequence[Value]:
    """Put pooled elements back at their places; the places have channels as well."""
    value, places = p.value(op.args[0]), p.value(op.args[1])
    for layer, other in itertools.product(value.layers, places.layers):
        p.ids.tie_layers(layer, other)
    if bool(value.layers) != bool(places.layers):
        return refuse(p, op.args[:2], op.name + " of different channels")
    return spatial(2 if op.out.ndim == 4 else 3)(p, op)


def sampled(p: Pass, op: Operation) -> Value:
    """Sample an activation at computed places, as region pooling and grid sampling do."""
    value = p.value(op.args[0])
    p.ids.freeze_value(p.value(op.args[1]), f"gives {op.name} its places")
    layers = [layer.resized(op.out.shape) if layer.dims == (1,) else None for layer in value.layers]
    return p.settle(value, layers, f"mixed across its channels by {op.name}")


SPATIAL = {
    1: ("avg_pool1d", "reflection_pad1d", "replication_pad1d", "upsample_nearest1d",
        "upsample_linear1d", "_adaptive_avg_pool1d"),
    2: ("_adaptive_avg_pool2d", "adaptive_max_pool2d", "avg_pool2d", "max_pool2d_with_indices",
        "reflection_pad2d", "replication_pad2d", "upsample_bicubic2d", "upsample_bilinear2d",
        "upsample_nearest2d", "_upsample_nearest_exact2d", "_upsample_bilinear2d_aa"),
    3: ("_adaptive_avg_pool3d", "adaptive_max_pool3d", "avg_pool3d", "max_pool3d_with_indices",
        "reflection_pad3d", "replication_pad3d", "upsample_nearest3d", "upsample_trilinear3d"),
}  # fmt: skip

MIXING: dict[Any, Rule] = {
    aten._log_softmax: across,
    aten._softmax: across,
    aten.amax: reduction,
    aten.amin: reduction,
    aten.argmax: reduction,
    aten.argmin: reduction,
    aten.cumsum: across,
    aten.flip: across,
    aten.grid_sampler_2d: sampled,
    aten.grid_sampler_3d: sampled,
    aten.linalg_vector_norm: reduction,
    aten.logsumexp: reduction,
    aten.max: reduction,
    aten.max_unpool2d: unpool,
    aten.max_unpool3d: unpool,
    aten.mean: reduction,
    aten.min: reduction,
    aten.norm: reduction,
    aten.prod: reduction,
    aten.roll: across,
    aten.std: reduction,
    aten.sum: reduction,
    aten.var: reduction,
    aten.var_mean: reduction,
    **{getattr(aten, name): spatial(n) for n, names in SPATIAL.items() for name in names
       if hasattr(aten, name)},
}  # fmt: skip

# By name: they exist once the library that brings them is imported.
FOREIGN: dict[str, Rule] = {"torchvision.roi_align": sampled, "torchvision.roi_pool": sampled}
