"""Rules for layers: convolutions and matrix products bind their weights to channels.

Channels at computed weights and at products of two activations are frozen: removing one there has
another effect than zeroing its consumers. Filters of a single channel each are the exception.
"""

from __future__ import annotations

from torch import Tensor, nn

from prunebench.channels.trace.ids import ChannelAxis, Ints, Value, along
from prunebench.channels.trace.operation import Operation
from prunebench.channels.trace.passes import INPUT, Pass

CONVOLUTION = nn.modules.conv._ConvNd
COMPUTED = "a convolution with a computed weight"
FIXED_GROUPS = "a convolution with a hard-coded number of groups"
STATE = "part of the state of a recurrent layer, whose size is fixed"
READS_INPUT = {"weight_ih", "weight_ih_l0", "weight_ih_l0_reverse"}  # recurrent layers and cells


def convolution(p: Pass, op: Operation) -> Value:
    """Bind rows to produced channels and columns to read ones; grouped filters may do both."""
    x, weight, bias, _, _, _, transposed, _, groups = op.args
    xv, wv = p.value(x), p.value(weight)
    places = x if transposed else op.out
    producing = int(transposed)
    positions = places.numel() // places.shape[1]
    rows, columns = along(wv, producing), along(wv, 1 - producing)
    counted = p.request.groups if weight.shape[1] == 1 and not transposed else None
    if p.request.stored and weight.shape[1] == 1 and not transposed:
        read = along(xv, 1)
        counted = p.request.stored()
        if read is not None and len(read) == groups:
            p.ids.tie(counted, read)
    if not wv.parameter and counted is not None and rows is not None:
        p.called_computed(rows, weight, positions, op.out, "convolution")
        return filtered(p, op, rows, counted)
    p.called(wv, weight, producing, positions, op.out, "convolution")
    module = p.module()[1]
    if not wv.parameter or rows is None or columns is None:
        is_depthwise = groups > 1 and weight.shape[1] == 1 and not isinstance(module, CONVOLUTION)
        is_fixed = is_depthwise and counted is None
        return p.refuse((x, weight, bias), FIXED_GROUPS if is_fixed else COMPUTED)
    if transposed and groups > 1:
        return p.refuse((x, weight, bias), "a grouped transposed convolution")
    ids = channels(p, xv, 1, "a convolution")
    rows_by_group = rows.reshape(groups, -1)
    if passes_whole_groups(p, module, weight, groups):
        is_stored = isinstance(module, CONVOLUTION) and module.groups == groups
        if counted is not None:
            p.ids.keep_proportional(counted, rows)
        elif not is_stored:
            return p.refuse((x, weight, bias), FIXED_GROUPS)
        p.ids.set_role(rows, "pass")
        pass_on(p, xv, ids, rows_by_group)
    else:
        consume(p, xv, None if ids is None else ids.reshape(groups, -1), columns)
        produce(p, rows, xv)
        if groups > 1:
            p.ids.tie(rows_by_group[:1], rows_by_group)
    vector(p, rows, bias)
    return Value((ChannelAxis(rows, tuple(op.out.shape), (1,)),))


def filtered(p: Pass, op: Operation, rows: Ints, counted: Ints) -> Value:
    """Follow computed filters of a single channel each, such as copies of one for all channels.

    They are as many as the channels that their number is read from.
    """
    x, weight, bias = op.args[:3]
    xv = p.value(x)
    for axis in p.value(weight).axes:
        if axis.dims != (0,):
            p.ids.freeze(axis.ids, f"used by {COMPUTED}")
    p.ids.keep_proportional(counted, rows)
    pass_on(p, xv, channels(p, xv, 1, "a convolution"), rows.reshape(op.args[8], -1))
    vector(p, rows, bias)
    return Value((ChannelAxis(rows, tuple(op.out.shape), (1,)),))


def pass_on(p: Pass, read: Value, ids: Ints | None, rows_by_group: Ints) -> None:
    """Tie all rows of a group, and the channels that they read."""
    p.ids.tie(rows_by_group[:, :1], rows_by_group)
    if ids is None:
        p.ids.freeze(rows_by_group, f"reads {read.origin} group by group")
    else:
        p.ids.tie(rows_by_group[:, :1], ids.reshape(len(rows_by_group), -1))


def passes_whole_groups(p: Pass, module: nn.Module | None, weight: Tensor, groups: int) -> bool:
    """Whether the units of a convolution are whole groups, or else one position in all of them.

    Removal stores the answer in the module, since the shapes may say otherwise afterwards.
    """
    mark: bool | None = getattr(module, "passes_channels", None)
    if mark is not None:
        return mark
    if weight.shape[1] == 1 or groups == 1:
        return groups > 1
    return p.grouped == "whole" or (p.grouped == "auto" and groups >= weight.shape[1])


def linear(p: Pass, op: Operation) -> Value:
    """Bind rows to produced features and columns to read ones."""
    x, weight = op.args[:2]
    return product(p, x, weight, op.arg("bias"), op.out, (0, 1))


def addmm(p: Pass, op: Operation) -> Value:
    """Follow a linear layer with bias; the weight arrives transposed."""
    return product(p, op.args[1], op.args[2], op.args[0], op.out, (1, 0))


def mm(p: Pass, op: Operation) -> Value:
    """Follow a linear layer without bias; the weight arrives transposed."""
    return product(p, op.args[0], op.args[1], None, op.out, (1, 0))


def product(
    p: Pass, x: Tensor, weight: Tensor, bias: Tensor | None, out: Tensor, dims: tuple[int, int]
) -> Value:
    """Follow a product with a weight; `dims` are its producing and its consuming dimension."""
    xv, wv = p.value(x), p.value(weight)
    p.called(wv, weight, dims[0], x.numel() // x.shape[-1], out, "matrix product")
    rows, columns = along(wv, dims[0]), along(wv, dims[1])
    if isinstance(p.module()[1], nn.MultiheadAttention):  # it compares sizes with its own
        return p.refuse((x, weight, bias), "attention")
    if not wv.parameter or rows is None or columns is None:
        return p.refuse((x, weight, bias), "a matrix product of two activations")
    consume(p, xv, channels(p, xv, x.ndim - 1, "a linear layer"), columns)
    produce(p, rows, xv)
    if isinstance(p.module()[1], nn.RNNBase | nn.RNNCellBase):
        p.ids.freeze(rows, STATE)
        if wv.origin.rpartition(".")[2] not in READS_INPUT:
            p.ids.freeze(columns, STATE)
    vector(p, rows, bias)
    return Value((ChannelAxis(rows, tuple(out.shape), (out.ndim - 1,)),))


def channels(p: Pass, value: Value, dim: int, reader: str) -> Ints | None:
    """Return the ids along `dim`; channels on other dimensions are frozen."""
    for axis in value.axes:
        if axis.dims != (dim,):
            p.ids.freeze(axis.ids, f"{reader} reads its channels as another dimension")
    return along(value, dim)


def consume(p: Pass, value: Value, ids: Ints | None, columns: Ints) -> None:
    """Bind a weight's consuming dimension to the channels that it reads."""
    p.ids.set_role(columns, "in")
    if ids is None:
        p.ids.freeze(columns, f"reads {value.origin}")
    else:
        p.ids.tie(columns, ids)


def produce(p: Pass, rows: Ints, read: Value) -> None:
    """Mark a weight's producing dimension, in a layer that reads `read`."""
    p.ids.set_role(rows, "out")
    p.ids.block_of(rows).reads_input = read.origin == INPUT


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
        p.ids.freeze(own, "belongs to channels that cannot be removed")
    elif ids is not None:
        p.ids.freeze(ids, f"combined with {value.origin}, whose size is fixed")
        p.ids.freeze_value(value, "combined with channels along another dimension")
