"""Rules for operations that mix elements: pooling, resizing, sums, softmax, sampling.

Channels along the mixed dimensions are frozen; others pass.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence

from prunebench.channels.trace.ids import ChannelAxis, Value
from prunebench.channels.trace.operation import Operation
from prunebench.channels.trace.passes import Pass, Rule


def spatial(n_dims: int) -> Rule:
    """Make the rule of pooling and resizing over the last `n_dims` dimensions."""

    def rule(p: Pass, op: Operation) -> Value:
        value, shape = p.value(op.args[0]), op.first_out.shape
        first = len(shape) - n_dims
        axes = [None if max(axis.dims) >= first else axis.resized(shape) for axis in value.axes]
        return p.settle(value, axes, f"mixed across its channels by {op.name}")

    return rule


spatial_1d, spatial_2d, spatial_3d = spatial(1), spatial(2), spatial(3)


def reduction(p: Pass, op: Operation) -> Value:
    """Pass on the channels that are not reduced."""
    x = op.args[0]
    value = p.value(x)
    dims = chosen_dims(op.arg("dim"), x.ndim)
    stay = [d for d in range(x.ndim) if d not in dims or op.arg("keepdim")]
    axes = [
        None
        if dims & set(axis.dims)
        else ChannelAxis(axis.ids, op.first_out.shape, tuple(map(stay.index, axis.dims)))
        for axis in value.axes
    ]
    return p.settle(value, axes, f"reduced over its channels by {op.name}")


def across(p: Pass, op: Operation) -> Value:
    """Pass on the channels off the dimensions that softmax or `cumsum` mix."""
    value = p.value(op.args[0])
    dims = chosen_dims(op.arg("dim"), op.out.ndim)
    axes = [None if dims & set(axis.dims) else axis for axis in value.axes]
    return p.settle(value, axes, f"mixed across its channels by {op.name}")


def roll(p: Pass, op: Operation) -> Value:
    """Pass on the channels off the rolled dimensions, which are all if none is named.

    Unlike a flip, a roll of the remaining channels is not what remains of the rolled ones.
    """
    value = p.value(op.args[0])
    dims = chosen_dims(op.arg("dims"), op.out.ndim)
    axes = [None if dims & set(axis.dims) else axis for axis in value.axes]
    return p.settle(value, axes, "rolled along its channels, which moves others after a removal")


def chosen_dims(argument: int | Sequence[int] | None, n_dims: int) -> set[int]:
    """Return the dimensions that an argument names, none standing for all.

    >>> chosen_dims(-1, 4), chosen_dims([0, 1], 4), chosen_dims(None, 2)
    ({3}, {0, 1}, {0, 1})
    """
    dims = [argument] if isinstance(argument, int) else argument or range(n_dims)
    return {d % n_dims for d in dims}


def unpool(p: Pass, op: Operation) -> Value | Sequence[Value]:
    """Put pooled elements back to their positions; the positions have channels as well."""
    value, places = p.value(op.args[0]), p.value(op.args[1])
    for axis, other in itertools.product(value.axes, places.axes):
        p.ids.tie_axes(axis, other)
    if bool(value.axes) != bool(places.axes):
        return p.refuse(op.args[:2], f"{op.name} of different channels")
    return (spatial_2d if op.out.ndim == 4 else spatial_3d)(p, op)


def sampled(p: Pass, op: Operation) -> Value:
    """Sample an activation at computed positions, as region pooling and grid sampling do."""
    value = p.value(op.args[0])
    p.ids.freeze_value(p.value(op.args[1]), f"gives {op.name} its positions")
    axes = [axis.resized(op.out.shape) if axis.dims == (1,) else None for axis in value.axes]
    return p.settle(value, axes, f"mixed across its channels by {op.name}")
