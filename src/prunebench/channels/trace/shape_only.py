"""Run a network without computing its layers, since shapes alone show where channels go.

Convolutions and matrix products return zeros of the right shape; everything else runs normally. A
network that looks at values (a detector at its boxes, `if x.max() > 0`) is stopped when it does so,
at the operations that PyTorch tags as data-dependent, and must run again with computed values.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from typing import Any

import torch
from torch import Tensor

aten = torch.ops.aten
# These read values without passing the dispatcher.
LEAVES = {Tensor.tolist, Tensor.numpy, Tensor.__array__, Tensor.__dlpack__}
READS = LEAVES | {Tensor.data_ptr, Tensor.storage, Tensor.untyped_storage, Tensor.__repr__}


class ValuesNeeded(BaseException):
    """The network looks at values; not an `Exception`, so that the network does not catch it."""


def run_by_shape(func: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    """Run an operation, or return zeros of the right shape if it is a layer.

    Raises
    ------
    ValuesNeeded
        If more than the values of the result depends on values.
    """
    if looks_at_values(func, args):
        raise ValuesNeeded
    if func is aten.convolution.default:
        x, weight = args[:2]
        shape = convolved(x, weight, *args[3:])
    elif func is aten.addmm.default and len(args) == 3 and not kwargs:
        x, weight = args[1:]
        shape = multiplied(x, weight)
    elif func is aten.mm.default:
        x, weight = args
        shape = multiplied(x, weight)
    else:
        return func(*args, **kwargs)
    if shape is None or min(shape) < 1 or (x.dtype, x.device) != (weight.dtype, weight.device):
        return func(*args, **kwargs)  # it raises the right error
    return zeros(shape, x, weight)


def looks_at_values(func: Any, args: tuple[Any, ...]) -> bool:
    """Whether more than the values of an operation's result depends on values."""
    if func.overloadpacket is aten.index:  # a mask does, a list of positions does not
        return any(i is not None and i.dtype in (torch.bool, torch.uint8) for i in args[1])
    return is_dependent(func)


@cache
def is_dependent(func: Any) -> bool:
    """Whether PyTorch tags an operation so; operations of other libraries count as such."""
    tags = (torch.Tag.data_dependent_output, torch.Tag.dynamic_output_shape)
    return func.namespace != "aten" or any(tag in func.tags for tag in tags)


def convolved(
    x: Tensor,
    weight: Tensor,
    strides: Sequence[int],
    padding: Sequence[int],
    dilation: Sequence[int],
    transposed: bool,
    more: Sequence[int],
    groups: int,
) -> list[int] | None:
    """Return the shape of a convolution's result, or None if it does not fit.

    >>> convolved(torch.ones(2, 3, 9, 9), torch.ones(8, 3, 3, 3), [2], [1], [1], False, [0], 1)
    [2, 8, 5, 5]
    """
    rows, columns = weight.shape[:2]
    if x.ndim != weight.ndim or x.shape[1] != (rows if transposed else columns * groups):
        return None
    sizes = []
    for d, (n, k) in enumerate(zip(x.shape[2:], weight.shape[2:], strict=True)):
        s, p, step, m = (a[d] if len(a) > 1 else a[0] for a in (strides, padding, dilation, more))
        reach = step * (k - 1)
        sizes.append(
            (n - 1) * s - 2 * p + reach + m + 1 if transposed else (n + 2 * p - reach - 1) // s + 1
        )
    return [x.shape[0], columns * groups if transposed else rows, *sizes]


def multiplied(x: Tensor, weight: Tensor) -> list[int] | None:
    """Return the shape of a matrix product, or None if it does not fit."""
    return [x.shape[0], weight.shape[1]] if x.shape[1] == weight.shape[0] else None


def zeros(shape: list[int], *operands: Tensor) -> Tensor:
    """Return zeros, in channels-last format if one of the operands is."""
    layout = {4: torch.channels_last, 5: torch.channels_last_3d}.get(len(shape))
    result = operands[0].new_zeros(shape)
    if layout and any(
        not operand.is_contiguous() and operand.is_contiguous(memory_format=layout)
        for operand in operands
    ):
        return result.contiguous(memory_format=layout)
    return result
