"""Rules for layers: convolutions and matrix products bind their weights to channels.

Not followed, so frozen: computed weights, and products of two activations; what removing a channel
does there is not what zeroing its consumers does.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from prunebench.channels.trace.ids import Ints, Layer, Value, along
from prunebench.channels.trace.passes import INPUT, Operation, Pass, Rule, refuse

aten = torch.ops.aten


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


LAYERS: dict[Any, Rule] = {
    aten.addmm: addmm,
    aten.convolution: convolution,
    aten.linear: linear,
    aten.mm: mm,
}
