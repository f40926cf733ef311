"""The weights of a unit: its filters, its input channels, its batch-norm scales."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from prunebench.channels.groups import ChannelGroup, Member, MemberRole
from prunebench.core.errors import TrainingError


def members_with(group: ChannelGroup, role: MemberRole) -> list[Member]:
    """Return the members with a role: "out" produces the units (filters), "in" reads them."""
    return [member for member in group.members if member.role == role]


def producers(group: ChannelGroup) -> list[Member]:
    """Return the members that produce the group's units: filters, in a plain network."""
    return members_with(group, "out")


def along(values: Tensor, dim: int, ndim: int) -> Tensor:
    """Return `values`, one per slice of `dim`, in a shape that broadcasts over `ndim` dimensions.

    >>> along(torch.arange(3), 1, 4).shape
    torch.Size([1, 3, 1, 1])
    """
    return values.view([-1 if d == dim else 1 for d in range(ndim)])


def member_rows(params: Mapping[str, Tensor], member: Member) -> Tensor:
    """Return one member's weights by unit, shape (units, weights per unit)."""
    weight = params[member.parameters[0]].detach().movedim(member.dim, 0)
    index = member.index.to(weight.device)
    return weight[index.flatten()].reshape(index.shape[0], -1)


def unit_rows(
    params: Mapping[str, Tensor], group: ChannelGroup, role: MemberRole = "out"
) -> Tensor:
    """Return the weights that produce each unit, shape (units, weights per unit).

    If several layers produce a unit (a residual sum), its filters are concatenated. With role
    "in": the weights that read each unit, input channels of the next layers.
    """
    return torch.cat([member_rows(params, m) for m in members_with(group, role)], dim=1)


def mean_magnitude(rows: Tensor) -> Tensor:
    """Return the mean absolute weight of each row of (units, weights), shape (units,).

    >>> mean_magnitude(torch.tensor([[1.0, -1.0], [0.1, 0.3]]))
    tensor([1.0000, 0.2000])
    """
    return rows.abs().mean(dim=1)


def weight_magnitudes(params: Mapping[str, Tensor], layers: Mapping[str, str]) -> dict[str, Tensor]:
    """Return |w| by layer, of the weight's shape; `layers` maps each layer to its weight's name."""
    return {name: params[weight].detach().abs() for name, weight in layers.items()}


def bias_name(member: Member) -> str:
    """Return the name of the bias beside a weight; the layer may have none."""
    return member.parameters[0].rpartition(".")[0] + ".bias"


def filter_rows(values: Mapping[str, Tensor], group: ChannelGroup) -> list[Tensor]:
    """Return (units, entries) for each layer that produces the group: weights, then the bias.

    `values` holds a tensor of the parameter's shape for each weight and, if biases count, for each
    bias.
    """
    found = []
    for member in producers(group):
        rows, bias = member_rows(values, member), values.get(bias_name(member))
        if bias is not None:
            rows = torch.cat([rows, bias.detach()[member.index.to(bias.device)]], dim=1)
        found.append(rows)
    return found


def scale_names(model: nn.Module) -> set[str]:
    """Return the names of the scales of all batch norms that have a scale."""
    return {
        f"{path}.weight"
        for path, module in model.named_modules()
        if isinstance(module, nn.modules.batchnorm._BatchNorm) and module.affine
    }


def scale_members(model: nn.Module, group: ChannelGroup) -> list[Member]:
    """Return the group's batch-norm scales, in network order.

    Raises
    ------
    TrainingError
        If no batch norm belongs to the group.
    """
    names = scale_names(model)
    found = [member for member in group.members if member.parameters[0] in names]
    if not found:
        raise TrainingError(f"group {group.name!r} has no batch norm whose scales could be ranked")
    return found
