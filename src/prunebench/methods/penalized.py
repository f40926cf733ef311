"""What a penalty may lie on, behind one face: filters, input channels, single weights."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Protocol

from torch import Tensor

from prunebench.channels.groups import ChannelGraph, MemberRole
from prunebench.channels.plan import Plan
from prunebench.methods.importance import mean_magnitude, members_with, unit_rows
from prunebench.methods.weights import weight_name, zeroing

Tensors = Mapping[str, Tensor]
Names = Iterable[str]


class Units(Protocol):
    """Scores, penalties and the end of one kind of unit; tensors are by group or layer."""

    def scores(
        self, params: Tensors, graph: ChannelGraph, names: Iterable[str]
    ) -> dict[str, Tensor]:
        """Return the mean absolute weight of each unit."""

    def spread(self, params: Tensors, graph: ChannelGraph, penalty: Tensors) -> dict[str, Tensor]:
        """Return, by weight, the tensor that each step multiplies it with."""

    def fill(self, spread: Tensors, graph: ChannelGraph, penalty: Tensors) -> None:
        """Copy the penalties into what `spread` has returned, in place."""

    def plan(self, graph: ChannelGraph, pruned: Tensors) -> Plan:
        """Return the plan by which the units leave that are True in `pruned`."""


class SliceUnits:
    """Units of coupled groups: filters (role "out") or input channels (role "in").

    Tensors have the shape (units,). A unit that several layers produce, or read, has the mean over
    all of their slices, and all of them are penalized.
    """

    def __init__(self, role: MemberRole) -> None:
        self.role = role

    def scores(
        self, params: Tensors, graph: ChannelGraph, names: Iterable[str]
    ) -> dict[str, Tensor]:
        """Return the mean |w| of each unit's slices; the paper's L1 norm in order."""
        return {n: mean_magnitude(unit_rows(params, graph.groups[n], self.role)) for n in names}

    def spread(self, params: Tensors, graph: ChannelGraph, penalty: Tensors) -> dict[str, Tensor]:
        """Return zeros that broadcast over each weight: one number per slice."""
        found: dict[str, Tensor] = {}
        for name, values in penalty.items():
            for member in members_with(graph.groups[name], self.role):
                weight = params[member.parameters[0]]
                shape = [1] * weight.ndim
                shape[member.dim] = -1
                zeros = values.new_zeros(weight.shape[member.dim]).view(shape)
                found.setdefault(member.parameters[0], zeros)
        return found

    def fill(self, spread: Tensors, graph: ChannelGraph, penalty: Tensors) -> None:
        """Give every slice the penalty of its unit."""
        for name, values in penalty.items():
            for member in members_with(graph.groups[name], self.role):
                along = spread[member.parameters[0]].view(-1)
                along[member.index.to(values.device)] = values[:, None]

    def plan(self, graph: ChannelGraph, pruned: Tensors) -> Plan:
        """Return a removal."""
        return Plan(removed={name: units.nonzero()[:, 0].cpu() for name, units in pruned.items()})


class EntryUnits:
    """Single weights; tensors have a weight's shape."""

    def scores(self, params: Tensors, graph: ChannelGraph, names: Names) -> dict[str, Tensor]:
        """Return |w|."""
        return {name: params[weight_name(name, params)].detach().abs() for name in names}

    def spread(self, params: Tensors, graph: ChannelGraph, penalty: Tensors) -> dict[str, Tensor]:
        """Return the penalties themselves."""
        return {weight_name(name, params): values for name, values in penalty.items()}

    def fill(self, spread: Tensors, graph: ChannelGraph, penalty: Tensors) -> None:
        """Do nothing: steps read the penalties where they are."""

    def plan(self, graph: ChannelGraph, pruned: Tensors) -> Plan:
        """Return masks."""
        return zeroing(graph.shapes, pruned)
