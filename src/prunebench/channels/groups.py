"""Groups of coupled channels as data: found once by `trace`, used by removal and costs."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Literal

from torch import Tensor

from prunebench.channels.examples import Arrangement
from prunebench.channels.flow import Flow

MemberRole = Literal["out", "in", "pass", "vector", "index"]
# Units of grouped convolutions: whole groups, or the same position in all of them.
Grouping = Literal["auto", "whole", "local"]
GroupRole = Literal["stem", "stream", "inside"]


@dataclass(frozen=True)
class Member:
    """One dimension of one parameter or buffer that a group cuts.

    Attributes
    ----------
    parameters
        All names of the tensor; a shared tensor has several.
    dim
        The dimension that is cut; one that both produces and reads channels, as in an autoencoder
        with tied weights, is listed with either role.
    role
        "out" produces the channels, "in" reads them, "vector" is a bias, an affine parameter or a
        running statistic, "pass" is a grouped convolution whose filters both read and produce them,
        "index" is a buffer that picks channels by their positions or by a mask.
    index
        int64 tensor (units, slices per unit): the slices of `dim` that belong to each unit.
    """

    parameters: tuple[str, ...]
    dim: int
    role: MemberRole
    index: Tensor


@dataclass(frozen=True)
class ChannelGroup:
    """Units that can be removed one by one, all coupled in the same way.

    Attributes
    ----------
    name
        Module path of the first layer that produces the units; further groups of the same layer
        end in "#1", "#2" ... Removals do not change the name.
    role
        "stream" if several layers produce the units (sums), otherwise "stem" if the producer reads
        the network's input, otherwise "inside". Layers that only compute factors, as in
        squeeze-and-excitation, do not count.
    frozen
        The reason why the units cannot be removed; empty if they can.
    exact
        Whether the smaller network computes the same as the masked one.
    """

    name: str
    n_units: int
    members: tuple[Member, ...]
    role: GroupRole
    frozen: str = ""
    exact: bool = True

    @property
    def producers(self) -> tuple[str, ...]:
        """Names of the weights that produce the units, in network order."""
        return tuple(m.parameters[0] for m in self.members if m.role == "out")


@dataclass(frozen=True)
class Pad:
    """A padding module that adds constant channels.

    Attributes
    ----------
    module
        Its path; its attribute `padding` contains the two numbers below.
    position
        Position of `before` in `padding`; `after` follows it.
    before, after
        Number of channels added on either side.
    index
        Group name to (units, slices per unit), positions among the before + after channels; slices
        of frozen units are not listed.
    """

    module: str
    position: int
    before: int
    after: int
    index: dict[str, Tensor]


@dataclass(frozen=True)
class Width:
    """A number of channels that a module stores and that no tensor of its own shows.

    Attributes
    ----------
    module
        The module's path.
    attribute
        Name of the attribute; empty for a normalization module without tensors.
    size
        The stored number of channels.
    index
        Group name to (units, slices per unit), its channels; channels of frozen units are not
        listed.
    """

    module: str
    attribute: str
    size: int
    index: dict[str, Tensor]


@dataclass(frozen=True)
class Positions:
    """A buffer whose values are positions of channels, such as a permutation.

    Attributes
    ----------
    names
        All names of the buffer.
    values
        Its values in the traced network, int64 on the CPU.
    size
        The number of channels that it picks from.
    index
        Group name to (units, slices per unit), positions among these channels; slices of frozen
        units are not listed.
    """

    names: tuple[str, ...]
    values: Tensor
    size: int
    index: dict[str, Tensor]


@dataclass(frozen=True)
class Call:
    """One use of a convolution's or linear layer's weight.

    Attributes
    ----------
    weight
        Name of the parameter. If the weight is computed from others, the name of the operation; if
        such a weight loses output channels, after the path of the running module.
    positions
        Number of multiplications per entry of the weight in the traced pass (whole batch).
    entries
        Number of entries of the weight in the traced network.
    outputs
        Number of elements it produces in the traced pass (whole batch).
    dim
        The weight's producing dimension; `outputs` is proportional to its size.
    rows
        Size of this dimension of a computed weight that loses output channels; 0 for other weights.
    per_unit
        Group name to number of these rows per unit.
    """

    weight: str
    positions: int
    entries: int
    outputs: int
    dim: int
    rows: int = 0
    per_unit: Mapping[str, int] = field(default_factory=dict)


@dataclass(frozen=True)
class ChannelGraph:
    """The channels of a network as found in one traced pass.

    Attributes
    ----------
    groups
        The prunable groups, in network order.
    frozen
        The groups that cannot be pruned, with their reasons.
    pads
        Padding modules that add channels.
    widths
        Stored numbers of channels.
    positions
        Buffers that hold positions of channels.
    calls
        Uses of convolution and linear weights, in network order.
    batch
        Number of examples in the traced pass.
    arrangement
        How they lie in the input; see `Batch`.
    shapes
        Shape of every parameter and buffer, under each of its names.
    trainable
        First names of the parameters that require a gradient; a shared parameter counts once.
    flow
        Which call reads which, and where paths meet.
    unknown
        Operations that the tracer does not know; it froze the channels that they read.
    unused
        First names of the parameters that the traced pass did not use, such as those of heads that
        run in training only; removal would not cut them.
    """

    groups: dict[str, ChannelGroup]
    frozen: dict[str, ChannelGroup]
    pads: tuple[Pad, ...]
    widths: tuple[Width, ...]
    positions: tuple[Positions, ...]
    calls: tuple[Call, ...]
    batch: int
    arrangement: Arrangement
    shapes: dict[str, tuple[int, ...]]
    trainable: tuple[str, ...]
    flow: Flow
    unknown: tuple[str, ...]
    unused: tuple[str, ...]

    def with_frozen(self, reasons: Mapping[str, str]) -> ChannelGraph:
        """Return a graph in which these groups are frozen too, each with its reason."""
        moved = {name: replace(self.groups[name], frozen=why) for name, why in reasons.items()}
        groups = {name: group for name, group in self.groups.items() if name not in moved}
        return replace(self, groups=groups, frozen={**self.frozen, **moved})


def check_names(graph: ChannelGraph, names: Iterable[str]) -> None:
    """Raise ValueError for a name that is not one of the graph's prunable groups."""
    for name in names:
        if name in graph.frozen:
            raise ValueError(f"group {name!r} cannot be pruned: {graph.frozen[name].frozen}")
        if name not in graph.groups:
            raise ValueError(f"unknown group {name!r}; the groups are {', '.join(graph.groups)}")
