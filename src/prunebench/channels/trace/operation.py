"""One primitive operation of a traced pass, with its arguments and result."""

from __future__ import annotations

from functools import cache
from typing import Any, NamedTuple

import torch
from torch import Tensor

aten = torch.ops.aten
# Pointwise operations without PyTorch's tag for them, in some version from 2.11 on.
POINTWISE = {
    aten._prelu_kernel,
    aten.celu_,
    aten.copy_,
    aten.elu_,
    aten.gelu_,
    aten.hardsigmoid_,
    aten.hardswish,
    aten.hardswish_,
    aten.hardtanh_,
    aten.leaky_relu,
    aten.leaky_relu_,
    aten.masked_fill,
    aten.mish_,
    aten.rsub,
    aten.selu_,
    aten.threshold_,
    aten.where,
}


class Operation(NamedTuple):
    """A primitive operation that has run.

    Attributes
    ----------
    strides
        Strides of the first operand before the operation ran; an in-place operation may change
        them.
    operands
        The tensors among its arguments.
    """

    func: Any
    args: tuple[Any, ...]
    kwargs: dict[str, Any]
    out: Any
    strides: tuple[int, ...] = ()
    operands: tuple[Tensor, ...] = ()

    @property
    def name(self) -> str:
        """Return the name without its overload, as in "aten.mean"."""
        return str(self.func.overloadpacket)

    @property
    def first_out(self) -> Tensor:
        """Return the result, or the first of several."""
        first: Tensor = self.out[0] if isinstance(self.out, tuple | list) else self.out
        return first

    def arg(self, name: str) -> Any:
        """Return an argument by its name in the operation's schema, or its default."""
        if name in self.kwargs:
            return self.kwargs[name]
        place, default = arguments_of(self.func).get(name, (len(self.args), None))
        return self.args[place] if place < len(self.args) else default


@cache  # torch builds the whole schema again at each request
def arguments_of(func: Any) -> dict[str, tuple[int, Any]]:
    """Return position and default of an operation's arguments, by name."""
    arguments = enumerate(func._schema.arguments)
    return {argument.name: (place, argument.default_value) for place, argument in arguments}


def tensors_in(*values: Any) -> list[Tensor]:
    """Return the tensors among an operation's arguments or results, nested lists included."""
    found = []
    for value in values:
        if isinstance(value, Tensor):
            found.append(value)
        elif isinstance(value, (list, tuple)):
            found += tensors_in(*value)
    return found


@cache
def is_pointwise(func: Any) -> bool:
    """Whether an operation works element by element."""
    return torch.Tag.pointwise in func.tags or func.overloadpacket in POINTWISE
