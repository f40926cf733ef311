"""What a unit's weights are, and scores made of them."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from prunebench.channels.groups import ChannelGroup, Member, MemberRole


def members_with(group: ChannelGroup, role: MemberRole) -> list[Member]:
    """Return the members with a role: "out" makes the units (filters), "in" reads them."""
    return [member for member in group.members if member.role == role]


def producers(group: ChannelGroup) -> list[Member]:
    """Return the members whose slices make the group's units: filters, in a plain network."""
    return members_with(group, "out")


def member_rows(params: Mapping[str, Tensor], member: Member) -> Tensor:
    """Return one member's weights unit by unit, shape (units, weights per unit)."""
    weight = params[member.parameters[0]].detach().movedim(member.dim, 0)
    index = member.index.to(weight.device)
    return weight[index.flatten()].reshape(index.shape[0], -1)


def unit_rows(
    params: Mapping[str, Tensor], group: ChannelGroup, role: MemberRole = "out"
) -> Tensor:
    """Return the weights that produce each unit, shape (units, weights per unit).

    A unit that several layers produce (a residual sum) has all its filters side by side. With
    role "in": the weights that read it, input channels of the layers behind.
    """
    return torch.cat([member_rows(params, m) for m in members_with(group, role)], dim=1)


def mean_magnitude(rows: Tensor) -> Tensor:
    """Return the mean absolute weight of each row of (units, weights), shape (units,).

    >>> mean_magnitude(torch.tensor([[1.0, -1.0], [0.1, 0.3]]))
    tensor([1.0000, 0.2000])
    """
    return rows.abs().mean(dim=1)
