"""The state of one traced pass: what each tensor is, and which module is running."""

from __future__ import annotations

import weakref
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import cache
from typing import Any, NamedTuple

import numpy as np
from torch import Tensor, nn

from prunebench.channels.flow import FlowNotes
from prunebench.channels.groups import Call, Grouping
from prunebench.channels.trace.ids import CONSTANT, Ids, Ints, Layer, Value, along

INPUT = "the network's input"
WIDTH = -1  # in place of a dimension: the block is a module's number of channels


# Ids of the channels a size is proportional to, True if it is what is left, False if written.
Size = Ints | bool


@dataclass(frozen=True)
class Request:
    """What the call of a torch function under way says about sizes.

    Attributes
    ----------
    sizes
        The sizes asked for; None if the call names none.
    cuts
        What the places of cuts are proportional to; None if they are written in the code.
    internal
        Whether what runs now is called by torch itself, which reads sizes from its operands.
    """

    sizes: tuple[Size, ...] | None = None
    cuts: tuple[Ints, ...] | None = None
    internal: bool = False


class Values:
    """What is known about tensors, by the tensor itself; keeps none of them alive.

    Torch's own dictionary of this kind compares keys in Python: a tenth of the time of a trace.
    """

    def __init__(self) -> None:
        self.known: dict[int, tuple[weakref.ref[Tensor], Value]] = {}

    def get(self, tensor: Tensor) -> Value | None:
        """Return what is known; an entry of a dead tensor with the same id does not count."""
        entry = self.known.get(id(tensor))
        return entry[1] if entry is not None and entry[0]() is tensor else None

    def __setitem__(self, tensor: Tensor, value: Value) -> None:
        self.known[id(tensor)] = (weakref.ref(tensor), value)


@dataclass
class Pass:
    """What the rules of the operations read and write.

    Attributes
    ----------
    names, tensors
        Names and tensor of every parameter and buffer; their place is the number of the owner of
        a block of ids.
    grouped
        How units of grouped convolutions are formed.
    computing
        Whether layers compute values.
    ids
        Ids and their ties.
    values
        What is known about the tensors seen so far.
    calls
        Uses of convolution and linear weights.
    running
        Path and module of the calls of `forward` under way, the innermost last.
    pads
        (path, place in `padding`) of padding modules that add channels to (before, after, ids).
    flow
        The order of layers.
    unknown
        Operations on channels that have no rule, each once.
    widths
        Path of normalization modules without tensors, which repeat the number of channels, to ids.
    request
        What the call under way says about sizes.
    is_counting
        Whether uses of weights are noted, which is so in the first mode.
    """

    names: list[tuple[str, ...]]
    tensors: list[Tensor]
    grouped: Grouping
    computing: bool = True
    ids: Ids = field(default_factory=Ids)
    values: Values = field(default_factory=Values)
    calls: list[Call] = field(default_factory=list)
    running: list[tuple[str, nn.Module]] = field(default_factory=list)
    pads: dict[tuple[str, int], tuple[int, int, Ints]] = field(default_factory=dict)
    flow: FlowNotes = field(default_factory=FlowNotes)
    unknown: dict[str, None] = field(default_factory=dict)
    widths: dict[str, Ints] = field(default_factory=dict)
    request: Request = Request()
    is_counting: bool = True

    def __post_init__(self) -> None:
        self.numbers = {id(tensor): number for number, tensor in enumerate(self.tensors)}

    def value(self, tensor: Tensor) -> Value:
        """Return what is known about a tensor; a parameter gets its ids at its first use."""
        value = self.values.get(tensor)
        if value is not None:
            return value
        number = self.numbers.get(id(tensor))
        if number is None:
            return Value()
        shape = tuple(tensor.shape)
        layers = tuple(
            Layer(self.ids.new(size, number, dim), shape, (dim,)) for dim, size in enumerate(shape)
        )
        self.values[tensor] = value = Value(layers, self.names[number][0], parameter=True)
        return value

    def module(self) -> tuple[str, nn.Module | None]:
        """Return path and module of the innermost `forward` under way."""
        return self.running[-1] if self.running else ("", None)

    def pad_ids(self, path: str, position: int, before: int, after: int) -> Ints:
        """Return (before + after,) ids of a padding module's channels, the same at each call."""
        key = (path, position)
        if key not in self.pads:
            self.pads[key] = (before, after, self.ids.new(before + after, path, position))
        return self.pads[key][2]

    def width(self, channels: Ints, n_channels: int) -> None:
        """Note that the running module repeats the number of these channels, but has no tensor."""
        path, _ = self.module()
        if path not in self.widths:
            self.widths[path] = self.ids.new(n_channels, path, WIDTH)
        self.ids.tie(np.tile(self.widths[path], len(channels) // n_channels), channels)

    def called(
        self, value: Value, weight: Tensor, dim: int, positions: int, out: Tensor, operation: str
    ) -> None:
        """Note a use of a weight, whose rows lie along `dim`, for the costs."""
        if not self.is_counting:
            return
        rows = along(value, dim) if value.parameter else None
        block = None if rows is None else self.ids.block_of(rows)
        if block is None or not isinstance(block.owner, int):
            self.calls.append(Call(operation, positions, weight.numel(), out.numel(), dim))
        else:  # the parameter itself may lie the other way round
            name = self.names[block.owner][0]
            self.calls.append(Call(name, positions, weight.numel(), out.numel(), block.dim))

    def settle(
        self, value: Value, layers: Sequence[Layer | None], reason: str, parameter: bool = False
    ) -> Value:
        """Return `value` with new layers; a layer that lies nowhere any more freezes its channels.

        None in place of a layer stands for one that an operation has used up.
        """
        kept: list[Layer] = []
        for old, new in zip(value.layers, layers, strict=True):
            if new is None or not new.dims:
                self.ids.freeze(old.ids, reason)
                continue
            self.ids.join(kept, new)
        fixed = value.fixed if kept or not value.layers else f"what was {reason}"
        return Value(tuple(kept), fixed, parameter and len(kept) == len(value.layers))


def fixed_of(values: Sequence[Value]) -> str:
    """Say in words where a result without channels comes from."""
    fixed = [value.fixed for value in values if value.fixed != CONSTANT]
    return INPUT if INPUT in fixed else [*fixed, CONSTANT][0]


class Operation(NamedTuple):
    """One primitive operation that has run.

    Attributes
    ----------
    strides
        Of the first operand before it ran; an in-place operation may change them.
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
        """Return the operation without its overload, as in "aten.mean"."""
        return str(self.func.overloadpacket)

    def arg(self, name: str) -> Any:
        """Return an argument by its name in the operation's schema, or its default."""
        if name in self.kwargs:
            return self.kwargs[name]
        place, default = arguments_of(self.func).get(name, (len(self.args), None))
        return self.args[place] if place < len(self.args) else default


@cache  # torch makes the whole schema anew each time it is asked for
def arguments_of(func: Any) -> dict[str, tuple[int, Any]]:
    """Return place and default of an operation's arguments."""
    arguments = enumerate(func._schema.arguments)
    return {argument.name: (place, argument.default_value) for place, argument in arguments}


def tensors_in(*values: Any) -> list[Tensor]:
    """Return the tensors of an operation's arguments or results, which nest in lists at most."""
    found = []
    for value in values:
        if isinstance(value, Tensor):
            found.append(value)
        elif isinstance(value, (list, tuple)):
            found += tensors_in(*value)
    return found


def refuse(p: Pass, tensors: tuple[Tensor | None, ...], what: str) -> Value:
    """Freeze all these tensors and return a result without channels."""
    for tensor in tensors:
        if tensor is not None:
            p.ids.freeze_value(p.value(tensor), f"used by {what}")
    return Value((), f"the result of {what}")


Rule = Callable[[Pass, Operation], Value | Sequence[Value]]
