"""The state of one traced pass: facts about each tensor, and the module that is running."""

from __future__ import annotations

import weakref
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import numpy as np
import torch
from torch import Tensor, nn

from prunebench.channels.groups import Call, Grouping
from prunebench.channels.trace.flow_recorder import FlowRecorder
from prunebench.channels.trace.ids import CONSTANT, ChannelAxis, Ids, Ints, Value, along
from prunebench.channels.trace.operation import Operation

INPUT = "the network's input"
# In place of a dimension: the block is a module's number of channels, the channels that a buffer
# picks from by their positions, or the rows of a computed weight.
WIDTH, POSITIONS, ROWS = -1, -2, -3


# Ids of the channels that a size is proportional to; True for -1, False for a hard-coded number.
Size = Ints | bool


@dataclass(frozen=True)
class Request:
    """The sizes that the torch function under way asks for.

    Attributes
    ----------
    sizes
        The requested sizes; None if the call names none.
    cuts
        Ids of the channels that the positions of cuts are proportional to; None if they are
        hard-coded.
    internal
        Whether torch itself calls the operations that run now, and reads sizes from its operands.
    groups
        Ids of the channels that a convolution's number of groups is proportional to; None if it is
        hard-coded.
    stored
        Gives the ids of such channels if their number is an attribute of a module.
    """

    sizes: tuple[Size, ...] | None = None
    cuts: tuple[Ints, ...] | None = None
    internal: bool = False
    groups: Ints | None = None
    stored: Callable[[], Ints] | None = None


class Values:
    """A map from tensors to facts about them; keeps no tensor alive.

    PyTorch's own dictionary of this kind compares keys in Python: a tenth of the time of a trace.
    """

    def __init__(self) -> None:
        self.known: dict[int, tuple[weakref.ref[Tensor], Value]] = {}

    def get(self, tensor: Tensor) -> Value | None:
        """Return the facts; an entry of a dead tensor with the same id does not count."""
        entry = self.known.get(id(tensor))
        return entry[1] if entry is not None and entry[0]() is tensor else None

    def __setitem__(self, tensor: Tensor, value: Value) -> None:
        self.known[id(tensor)] = (weakref.ref(tensor), value)


@dataclass
class Pass:
    """The state that the rules of the operations read and write.

    Attributes
    ----------
    names, tensors
        Names and tensor of every parameter and buffer; the position in both lists is the number
        by which a block of ids refers to its owner.
    grouped
        How units of grouped convolutions are formed.
    computing
        Whether layers compute values.
    ids
        Ids and their ties.
    values
        Facts about the tensors seen so far.
    calls
        Uses of convolution and linear weights.
    running
        Path and module of each `forward` under way, innermost last.
    pads
        (path, position in `padding`) of padding modules that add channels to (before, after, ids).
    flow
        The order of layers.
    unknown
        Operations on channels without a rule, each once.
    widths
        (path, attribute) of stored numbers of channels to ids; see `Width`.
    used_attributes
        (path, attribute) of stored numbers that the code uses otherwise, to the operation.
    positions
        Number of a buffer of positions to the ids of the channels that it picks from.
    request
        Sizes that the call under way asks for.
    is_counting
        Whether uses of weights are recorded; true in the first mode only.
    first_layer
        Shape of the output of the first layer that reads the network's input.
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
    flow: FlowRecorder = field(default_factory=FlowRecorder)
    unknown: dict[str, None] = field(default_factory=dict)
    widths: dict[tuple[str, str], Ints] = field(default_factory=dict)
    used_attributes: dict[tuple[str, str], str] = field(default_factory=dict)
    positions: dict[int, Ints] = field(default_factory=dict)
    request: Request = Request()
    is_counting: bool = True
    first_layer: tuple[int, ...] | None = None

    def __post_init__(self) -> None:
        self.numbers = {id(tensor): number for number, tensor in enumerate(self.tensors)}

    def value(self, tensor: Tensor) -> Value:
        """Return the facts about a tensor; a parameter gets its ids at its first use."""
        value = self.values.get(tensor)
        if value is not None:
            return value
        number = self.numbers.get(id(tensor))
        if number is None:
            return Value()
        shape = tuple(tensor.shape)
        axes = tuple(
            ChannelAxis(self.ids.new(size, number, dim), shape, (dim,))
            for dim, size in enumerate(shape)
        )
        self.values[tensor] = value = Value(axes, self.names[number][0], parameter=True)
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
        """Record that the running module stores the number of these channels, but has no tensor."""
        width = self.stored(self.module()[0], "", n_channels)
        self.ids.tie(np.tile(width, len(channels) // n_channels), channels)

    def stored(self, path: str, attribute: str, n_channels: int) -> Ints:
        """Return the ids of the channels whose number a module stores, the same at each call."""
        key = (path, attribute)
        if key not in self.widths:
            self.widths[key] = self.ids.new(n_channels, joined(path, attribute), WIDTH)
        return self.widths[key]

    def picked(self, index: Tensor, channels: Ints) -> Ints | None:
        """Return the ids of the channels that a buffer picks by their positions or by a mask.

        None if the index is not a whole buffer of the network, which removal would correct.
        """
        value = self.value(index)
        own = along(value, 0)
        if not value.parameter or own is None or index.ndim != 1 or index.is_meta:
            return None
        block = self.ids.block_of(own)
        if len(own) != block.size or not isinstance(block.owner, int):
            return None
        values = index.numpy(force=True)
        is_mask = index.dtype in (torch.bool, torch.uint8)
        found: Ints = channels[values.astype(bool) if is_mask else values]
        self.ids.set_role(own, "index")
        if is_mask:
            self.ids.tie(own, channels)
            return found
        if block.owner not in self.positions:
            name = self.names[block.owner][0]
            self.positions[block.owner] = self.ids.new(len(channels), name, POSITIONS)
        if len(self.positions[block.owner]) != len(channels):
            self.ids.freeze(channels, "indexed by a buffer that indexes another number of channels")
            return None
        self.ids.tie(self.positions[block.owner], channels)
        self.ids.tie(own, found)
        return found

    def called(
        self, value: Value, weight: Tensor, dim: int, positions: int, out: Tensor, operation: str
    ) -> None:
        """Record a use of a weight with producing dimension `dim`, for the costs."""
        if not self.is_counting:
            return
        rows = along(value, dim) if value.parameter else None
        block = None if rows is None else self.ids.block_of(rows)
        if block is None or not isinstance(block.owner, int):
            self.calls.append(Call(operation, positions, weight.numel(), out.numel(), dim))
        else:  # the parameter itself may be transposed
            name = self.names[block.owner][0]
            self.calls.append(Call(name, positions, weight.numel(), out.numel(), block.dim))

    def called_computed(
        self, rows: Ints, weight: Tensor, positions: int, out: Tensor, operation: str
    ) -> None:
        """Record a use of a computed weight whose first dimension loses channels."""
        if not self.is_counting:
            return
        name = f"{joined(self.module()[0], operation)}#{len(self.calls)}"
        self.ids.tie(self.ids.new(len(rows), name, ROWS), rows)
        self.calls.append(Call(name, positions, weight.numel(), out.numel(), 0, len(rows)))

    def settle(
        self,
        value: Value,
        axes: Sequence[ChannelAxis | None],
        reason: str,
        parameter: bool = False,
    ) -> Value:
        """Return `value` with new axes; channels whose axis is None or empty are frozen."""
        kept: list[ChannelAxis] = []
        for old, new in zip(value.axes, axes, strict=True):
            if new is None or not new.dims:
                self.ids.freeze(old.ids, reason)
            else:
                self.ids.join(kept, new)
        origin = value.origin if kept or not value.axes else f"a tensor that was {reason}"
        return Value(tuple(kept), origin, parameter and len(kept) == len(value.axes))

    def refuse(self, tensors: Sequence[Tensor | None], description: str) -> Value:
        """Freeze all these tensors and return a result without channels."""
        for tensor in tensors:
            if tensor is not None:
                self.ids.freeze_value(self.value(tensor), f"used by {description}")
        return Value((), f"the result of {description}")


def joined(path: str, name: str) -> str:
    """Return the name of something of a module; either part may be empty.

    >>> joined("layer.1", "groups"), joined("", "groups")
    ('layer.1.groups', 'groups')
    """
    return f"{path}.{name}" if path and name else path or name


def origin_of(values: Sequence[Value]) -> str:
    """Describe where a result without channels comes from."""
    origins = [value.origin for value in values if value.origin != CONSTANT]
    return INPUT if INPUT in origins else [*origins, CONSTANT][0]


Rule = Callable[[Pass, Operation], Value | Sequence[Value]]
