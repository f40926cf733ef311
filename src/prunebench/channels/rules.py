"""Rules for operations that compute: layers bind parameters to channels, the rest passes them on.

Not followed, so frozen: sums over channels, softmax and layer norm over channels, and products of
two activations; what removing a channel does there is not what zeroing its consumers does.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from prunebench.channels.ids import Ints, Layer, Value, along
from prunebench.channels.passes import INPUT, Operation, Pass, Rule, fixed_of

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
            partner = next((m for m in merged if set(m.dims) & set(placed.dims)), None)
            if partner is None:
                merged.append(placed)
            else:
                p.ids.tie_layers(partner, placed)
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


def convolution(p: Pass, op: Operation) -> Value:
    """Bind rows to what they produce, columns to what they read; grouped filters may be both."""
    x, weight, bias, _, _, _, transposed, _, groups = op.args
    xv, wv = p.value(x), p.value(weight)
    places = x if transposed else op.out
    producing = int(transposed)
    p.called(wv, weight, producing, places.numel() // places.shape[1], op.out, "convolution")
    rows, columns = along(wv, producing), along(wv, 1 - producing)
    if not wv.parameter or rows is None or columns is None:
        return refuse(p, (x, weight, bias), "a convolution whose weight is computed")
    if transposed and groups > 1:
        return refuse(p, (x, weight, bias), "a transposed convolution in groups")
    ids = channels(p, xv, 1, "a convolution")
    module = p.module()[1]
    if passes_whole_groups(p, module, weight, groups):
        if not isinstance(module, nn.modules.conv._ConvNd) or module.groups != groups:
            return refuse(p, (x, weight, bias), "a convolution with groups written in the code")
        p.ids.set_role(rows, "pass")
        rows_by_group = rows.reshape(groups, -1)
        p.ids.tie(rows_by_group[:, :1], rows_by_group)
        if ids is None:
            p.ids.freeze(rows, f"reads {xv.fixed} group by group")
        else:
            p.ids.tie(rows_by_group[:, :1], ids.reshape(groups, -1))
    else:
        consume(p, xv, None if ids is None else ids.reshape(groups, -1), columns)
        p.ids.set_role(rows, "out")
        if groups > 1:
            rows_by_group = rows.reshape(groups, -1)
            p.ids.tie(rows_by_group[:1], rows_by_group)
        p.ids.block_of(rows).reads_input = xv.fixed == INPUT
    vector(p, rows, bias)
    return Value((Layer(rows, tuple(op.out.shape), (1,)),))


def passes_whole_groups(p: Pass, module: nn.Module | None, weight: Tensor, groups: int) -> bool:
    """Whether units are whole groups of a grouped convolution, or one place in all of them.

    Removal leaves the answer on the module: afterwards the shapes may say otherwise.
    """
    mark: bool | None = getattr(module, "passes_channels", None)
    if mark is not None:
        return mark
    if weight.shape[1] == 1 or groups == 1:
        return groups > 1
    return p.grouped == "whole" or (p.grouped == "auto" and groups >= weight.shape[1])


def linear(p: Pass, op: Operation) -> Value:
    """Bind rows to features produced, columns to features read."""
    x, weight = op.args[:2]
    return product(p, x, weight, op.arg("bias"), op.out, (0, 1))


def addmm(p: Pass, op: Operation) -> Value:
    """Follow a linear layer with bias; the weight comes transposed."""
    return product(p, op.args[1], op.args[2], op.args[0], op.out, (1, 0))


def mm(p: Pass, op: Operation) -> Value:
    """Follow a linear layer without bias; the weight comes transposed."""
    return product(p, op.args[0], op.args[1], None, op.out, (1, 0))


def product(
    p: Pass, x: Tensor, weight: Tensor, bias: Tensor | None, out: Tensor, dims: tuple[int, int]
) -> Value:
    """Multiply by a weight; `dims` are its producing and its consuming dimension."""
    xv, wv = p.value(x), p.value(weight)
    p.called(wv, weight, dims[0], x.numel() // x.shape[-1], out, "matrix product")
    rows, columns = along(wv, dims[0]), along(wv, dims[1])
    if isinstance(p.module()[1], nn.MultiheadAttention):  # it compares sizes with its own
        return refuse(p, (x, weight, bias), "attention")
    if not wv.parameter or rows is None or columns is None:
        return refuse(p, (x, weight, bias), "a matrix product of two activations")
    ids = channels(p, xv, x.ndim - 1, "a linear layer")
    consume(p, xv, ids, columns)
    p.ids.set_role(rows, "out")
    p.ids.block_of(rows).reads_input = xv.fixed == INPUT
    vector(p, rows, bias)
    return Value((Layer(rows, tuple(out.shape), (out.ndim - 1,)),))


def channels(p: Pass, value: Value, dim: int, reader: str) -> Ints | None:
    """Return the ids along `dim`; channels that lie elsewhere are frozen."""
    for layer in value.layers:
        if layer.dims != (dim,):
            p.ids.freeze(layer.ids, f"{reader} reads its channels as another dimension")
    return along(value, dim)


def consume(p: Pass, value: Value, ids: Ints | None, columns: Ints) -> None:
    """Bind a weight's consuming dimension to what it reads."""
    p.ids.set_role(columns, "in")
    if ids is None:
        p.ids.freeze(columns, f"reads {value.fixed}")
    else:
        p.ids.tie(columns, ids)


def vector(p: Pass, ids: Ints | None, tensor: Tensor | None) -> None:
    """Bind a bias, an affine parameter or a statistic to channels."""
    if tensor is None:
        return
    value = p.value(tensor)
    own = along(value, 0)
    if value.parameter and own is not None:
        p.ids.set_role(own, "vector")
    if own is not None and ids is not None:
        p.ids.tie(ids, own)
    elif own is not None:
        p.ids.freeze(own, "belongs to channels that cannot leave")
    elif ids is not None:
        p.ids.freeze(ids, f"combined with {value.fixed}, whose size is fixed")
        p.ids.freeze_value(value, "combined with channels along another dimension")


def refuse(p: Pass, tensors: tuple[Tensor | None, ...], what: str) -> Value:
    """Freeze all these tensors and return a result without channels."""
    for tensor in tensors:
        if tensor is not None:
            p.ids.freeze_value(p.value(tensor), f"used by {what}")
    return Value((), f"the result of {what}")


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

SPATIAL = {
    1: ("avg_pool1d", "reflection_pad1d", "replication_pad1d", "upsample_nearest1d",
        "upsample_linear1d", "_adaptive_avg_pool1d"),
    2: ("_adaptive_avg_pool2d", "adaptive_max_pool2d", "avg_pool2d", "max_pool2d_with_indices",
        "reflection_pad2d", "replication_pad2d", "upsample_bicubic2d", "upsample_bilinear2d",
        "upsample_nearest2d", "_upsample_nearest_exact2d", "_upsample_bilinear2d_aa"),
    3: ("_adaptive_avg_pool3d", "adaptive_max_pool3d", "avg_pool3d", "max_pool3d_with_indices",
        "reflection_pad3d", "replication_pad3d", "upsample_nearest3d", "upsample_trilinear3d"),
}  # fmt: skip

NORMS = ("native_batch_norm", "_native_batch_norm_legit", "_native_batch_norm_legit_no_training",
         "_batch_norm_no_update", "_batch_norm_with_update", "cudnn_batch_norm",
         "miopen_batch_norm")  # fmt: skip

COMPUTING: dict[Any, Rule] = {
    aten.as_strided_: restride,
    aten._log_softmax: across,
    aten._softmax: across,
    aten.addmm: addmm,
    aten.amax: reduction,
    aten.amin: reduction,
    aten.convolution: convolution,
    aten.cumsum: across,
    aten.flip: across,
    aten.linalg_vector_norm: reduction,
    aten.linear: linear,
    aten.logsumexp: reduction,
    aten.mean: reduction,
    aten.mm: mm,
    aten.native_group_norm: group_norm,
    aten.native_layer_norm: layer_norm,
    aten.argmax: reduction,
    aten.argmin: reduction,
    aten.grid_sampler_2d: sampled,
    aten.grid_sampler_3d: sampled,
    aten.max: reduction,
    aten.max_unpool2d: unpool,
    aten.max_unpool3d: unpool,
    aten.min: reduction,
    aten.norm: reduction,
    aten.prod: reduction,
    aten.roll: across,
    aten.std: reduction,
    aten.sum: reduction,
    aten.var: reduction,
    aten.var_mean: reduction,
    **{getattr(aten, name): batch_norm for name in NORMS},
    **{getattr(aten, name): spatial(n) for n, names in SPATIAL.items() for name in names
       if hasattr(aten, name)},
}  # fmt: skip

# By name: they exist once the library that brings them is imported.
FOREIGN: dict[str, Rule] = {"torchvision.roi_align": sampled, "torchvision.roi_pool": sampled}
