"""Groups of coupled channels as data: found once by `trace`, applied by removal and costs."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Literal

from torch import Tensor

from prunebench.channels.flow import Flow

MemberRole = Literal["out", "in", "pass", "vector"]
# Units of grouped convolutions: whole groups, or the same place in all of them.
Grouping = Literal["auto", "whole", "local"]
GroupRole = Literal["stem", "stream", "inside"]


@dataclass(frozen=True)
class Member:
    """One dimension of one parameter or buffer that a group cuts.

    Attributes
    ----------
    parameters
        All names of the tensor; a shared one has several.
    dim
        The dimension that is cut.
    role
        "out" produces the channels, "in" consumes them, "vector" is a bias, an affine parameter or
        a running statistic, "pass" is a grouped convolution whose filters do both at once.
    index
        (units, slices per unit), int64: the slices of `dim` that belong to each unit.
    """

    parameters: tuple[str, ...]
    dim: int
    role: MemberRole
    index: Tensor


@dataclass(frozen=True)
class ChannelGroup:
    """Units that can leave one by one, all coupled in the same way.

    Attributes
    ----------
    name
        Module path of the first layer that produces the units; a further group of the same layer
        has "#1", "#2" ... behind it. The name survives removals.
    role
        "stream" if several layers produce the units (sums), else "stem" if the producer reads the
        network's input, else "inside". Layers that only compute factors, as in
        squeeze-and-excitation, do not count.
    frozen
        Why the units cannot leave; empty if they can.
    exact
        Whether the smaller network computes what the masked one does.
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
        Its path; the attribute `padding` repeats the two numbers below.
    position
        Place of `before` in `padding`; `after` follows it.
    before, after
        Channels added on either side.
    index
        Group name to (units, slices per unit), positions among before + after; the slices of
        frozen units are not listed.
    """

    module: str
    position: int
    before: int
    after: int
    index: dict[str, Tensor]


@dataclass(frozen=True)
class Width:
    """A normalization module without tensors that repeats the number of its channels.

    Attributes
    ----------
    module
        Its path.
    size
        The number.
    index
        Group name to (units, slices per unit), its channels; those of frozen units are not listed.
    """

    module: str
    size: int
    index: dict[str, Tensor]


@dataclass(frozen=True)
class Call:
    """One use of a convolution's or linear layer's weight.

    Attributes
    ----------
    weight
        Name of the parameter, or of the operation if the weight is computed from others.
    positions
        How often one entry of the weight is multiplied in the traced pass (whole batch).
    entries
        Entries of the weight when traced.
    outputs
        Elements it produces in the traced pass (whole batch).
    dim
        The weight's producing dimension: `outputs` grow with its size.
    """

    weight: str
    positions: int
    entries: int
    outputs: int
    dim: int


@dataclass(frozen=True)
class ChannelGraph:
    """Everything one traced pass says about a network's channels.

    Attributes
    ----------
    groups
        The prunable groups, in network order.
    frozen
        Those that cannot be pruned, with the reason.
    pads
        Padding modules that add channels.
    widths
        Normalization modules without tensors.
    calls
        Uses of convolution and linear weights, in network order.
    batch
        Examples in the traced pass.
    shapes
        Shape of every parameter and buffer, under each of its names.
    trainable
        First names of the parameters that require a gradient, shared ones once.
    flow
        Which of the calls read which, and where paths meet.
    unknown
        Operations on channels that the tracer does not know, so that it froze them.
    unused
        First names of the parameters that the traced pass has not used: heads that run in training
        only would not be cut along.
    """

    groups: dict[str, ChannelGroup]
    frozen: dict[str, ChannelGroup]
    pads: tuple[Pad, ...]
    widths: tuple[Width, ...]
    calls: tuple[Call, ...]
    batch: int
    shapes: dict[str, tuple[int, ...]]
    trainable: tuple[str, ...]
    flow: Flow
    unknown: tuple[str, ...]
    unused: tuple[str, ...]

    def with_frozen(self, reasons: Mapping[str, str]) -> ChannelGraph:
        """Return the graph in which these groups cannot be pruned, each with its reason."""
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
