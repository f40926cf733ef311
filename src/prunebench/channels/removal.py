"""Remove units from a network, or mask them."""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from prunebench.channels.groups import ChannelGraph, check_names
from prunebench.channels.plan import check_units
from prunebench.core.errors import ModelError

Cuts = Sequence[tuple[int, Tensor]]
Units = Mapping[str, Tensor | Sequence[int]]  # by group


def kept_units(n_units: int, removed: Tensor) -> Tensor:
    """Return the (kept,) remaining units in ascending order.

    >>> kept_units(4, torch.tensor([2, 0]))
    tensor([1, 3])
    """
    keep = np.ones(n_units, bool)  # three times as fast as tensors of this size
    keep[removed.numpy(force=True)] = False
    return torch.from_numpy(np.flatnonzero(keep))


def slicing(
    graph: ChannelGraph, removed: Mapping[str, Tensor]
) -> dict[str, list[tuple[int, Tensor]]]:
    """Return the kept slices of each parameter and buffer: name to (dimension, kept slices) pairs.

    Every cut is decided here. All names of a shared tensor are listed; tensors that keep all slices
    are not.

    Raises
    ------
    ValueError
        For an unknown or frozen group, or a unit that is out of range or listed twice.
    ModelError
        If a group would lose all of its units.
    """
    check_removed(graph, removed)
    gone: dict[tuple[tuple[str, ...], int], list[Tensor]] = {}
    for name, units in removed.items():
        if not units.numel():
            continue
        here = units.cpu()
        for member in graph.groups[name].members:
            slices = member.index[here].reshape(-1)
            gone.setdefault((member.parameters, member.dim), []).append(slices)
    cuts: dict[str, list[tuple[int, Tensor]]] = {}
    for (parameters, dim), slices_ in gone.items():
        keep = kept_units(graph.shapes[parameters[0]][dim], torch.cat(slices_))
        for parameter in parameters:
            cuts.setdefault(parameter, []).append((dim, keep))
    return cuts


def check_removed(graph: ChannelGraph, removed: Mapping[str, Tensor]) -> None:
    """Raise the errors described in `slicing`."""
    check_names(graph, removed)
    for name, units in removed.items():
        check_units(name, units)
        n_units = graph.groups[name].n_units
        if units.numel() and int(units.max()) >= n_units:
            raise ValueError(f"group {name!r} has {n_units} units, no unit {int(units.max())}")
        if units.numel() == n_units:
            raise ModelError(f"group {name!r} would lose all of its {n_units} units")


def check_shapes(model: nn.Module, graph: ChannelGraph) -> None:
    """Raise ModelError if the network's tensors do not have the shapes of the traced network.

    Positions of channels in buffers must be the same, too. Buffers that no group cuts may change,
    such as a cache that depends on the batch.
    """
    cut = {name for group in graph.groups.values() for m in group.members for name in m.parameters}
    parameters = dict(model.named_parameters(remove_duplicate=False))
    tensors = {**dict(model.named_buffers(remove_duplicate=False)), **parameters}
    for name in [*parameters, *sorted(cut - parameters.keys())]:
        now = tuple(tensors[name].shape) if name in tensors else "missing"
        was = graph.shapes.get(name, "missing")
        if now != was:
            raise ModelError(
                f"the network is not the one that was traced: {name!r} is {now}, was {was}; "
                f"trace the network again"
            )
    for positions in graph.positions:
        name = positions.names[0]
        if positions.index and (
            name not in tensors or not torch.equal(tensors[name].cpu().long(), positions.values)
        ):
            raise ModelError(
                f"the positions of channels in {name!r} are not those of the traced network; "
                f"trace the network again"
            )


def slice_tensor(tensor: Tensor, cuts: Cuts) -> Tensor:
    """Return a copy of the kept slices of a weight, mask or momentum, in the same memory format.

    >>> slice_tensor(torch.arange(6).reshape(2, 3), [(1, torch.tensor([0, 2]))])
    tensor([[0, 2],
            [3, 5]])
    """
    result = tensor.detach()
    for dim, keep in sorted(cuts, key=lambda cut: cut[0]):  # rows first, which is faster
        result = result.index_select(dim, keep.to(tensor.device))
    if tensor.ndim == 4 and not tensor.is_contiguous():
        return result.contiguous(memory_format=torch.channels_last)
    return result if cuts else result.clone()


def as_tensors(removed: Units) -> dict[str, Tensor]:
    """Return the units of each group as int64 tensors.

    >>> as_tensors({"conv": [0, 2], "fc": []})
    {'conv': tensor([0, 2]), 'fc': tensor([], dtype=torch.int64)}
    """
    return {
        name: units if isinstance(units, Tensor) else torch.tensor(list(units), dtype=torch.int64)
        for name, units in removed.items()
    }


def mask(model: nn.Module, graph: ChannelGraph, removed: Units) -> nn.Module:
    """Return a copy in which no layer reads the units: their columns in the consumers are zero.

    Zeroing the producers instead would be wrong if an activation does not map 0 to 0. `removed`
    maps groups to the numbers of units.
    """
    removed = as_tensors(removed)
    check_removed(graph, removed)
    check_shapes(model, graph)
    masked = copy.deepcopy(model)
    tensors = dict([*masked.named_parameters(), *masked.named_buffers()])
    with torch.no_grad():
        for name, units in removed.items():
            for member in graph.groups[name].members:
                if member.role == "in":
                    tensor = tensors[member.parameters[0]]
                    columns = member.index[units.cpu()].reshape(-1).to(tensor.device)
                    tensor.index_fill_(member.dim, columns, 0.0)
    return masked


def remove(
    model: nn.Module,
    graph: ChannelGraph,
    removed: Units,
    *,
    in_place: bool = False,
) -> nn.Module:
    """Return a network without the units: `removed` maps groups to the numbers of units.

    The copy shares no memory with the original, which is unchanged unless `in_place`. Cut
    parameters are new objects without gradients; they and their modules keep all other attributes.
    Module attributes that store a shape, such as `out_channels`, are updated.

    Raises
    ------
    ValueError, ModelError
        As in `slicing` and `check_shapes`.

    >>> import prunebench
    >>> model = nn.Sequential(nn.Conv2d(3, 4, 1), nn.Conv2d(4, 2, 1))
    >>> graph = prunebench.trace(model, torch.zeros(1, 3, 8, 8))
    >>> list(graph.groups), prunebench.remove(model, graph, {"0": [1, 3]})[1].weight.shape
    (['0'], torch.Size([2, 2, 1, 1]))
    """
    removed = as_tensors(removed)
    cuts = slicing(graph, removed)
    check_shapes(model, graph)
    # With the cut tensors in the memo, deepcopy does not copy the full ones.
    memo: dict[int, Any] = {}
    modules = dict(model.named_modules(remove_duplicate=False))
    holders = []
    numbers = new_positions(graph, removed)
    for name in dict.fromkeys([*cuts, *numbers]):
        path, _, key = name.rpartition(".")
        module = modules[path]
        own: dict[str, Any] = module._parameters if key in module._parameters else module._buffers
        tensor = own[key]
        holders.append((own, key, id(tensor)))
        if id(tensor) not in memo:
            memo[id(tensor)] = cut_copy(tensor, cuts.get(name, ()), numbers.get(name))
    if in_place:
        for own, key, number in holders:
            own[key] = memo[number]
        smaller = model
    else:
        smaller = copy.deepcopy(model, memo)
    passing = {
        parameter
        for group in graph.groups.values()
        for member in group.members
        if member.role == "pass"
        for parameter in member.parameters
    }
    for path in dict.fromkeys(name.rpartition(".")[0] for name in cuts):
        prefix = f"{path}." if path else ""
        correct_attributes(smaller.get_submodule(path), f"{prefix}weight" in passing)
    correct_pads(smaller, graph, removed)
    correct_widths(smaller, graph, removed)
    return smaller


def new_positions(graph: ChannelGraph, removed: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return the new position of each remaining channel, by the buffer that holds the old ones."""
    found: dict[str, Tensor] = {}
    for positions in graph.positions:
        gone = slices_of(positions.index, removed)
        if len(gone):
            keep = torch.ones(positions.size, dtype=torch.int64).index_fill_(0, gone, 0)
            found |= dict.fromkeys(positions.names, keep.cumsum(0) - 1)
    return found


def slices_of(index: Mapping[str, Tensor], removed: Mapping[str, Tensor]) -> Tensor:
    """Return the slices of all removed units, given the slices per unit of each group."""
    gone = [
        index[name][units.cpu()].reshape(-1) for name, units in removed.items() if name in index
    ]
    return torch.cat([torch.empty(0, dtype=torch.int64), *gone])


def cut_copy(tensor: Tensor, cuts: Cuts, numbers: Tensor | None = None) -> Tensor:
    """Return the kept slices as a parameter or buffer like the original, with its attributes.

    `numbers` are the new values of a tensor that holds positions, by the old ones.
    """
    result = slice_tensor(tensor, cuts)
    if numbers is not None:
        result = numbers.to(result.device)[result.long()].to(result.dtype)
    if isinstance(tensor, nn.Parameter):
        result = nn.Parameter(result, requires_grad=tensor.requires_grad)
    result.__dict__.update(tensor.__dict__)
    return result


def correct_attributes(module: nn.Module, passes: bool) -> None:
    """Update the attributes of a module that store the shapes of its tensors."""
    if isinstance(module, nn.modules.conv._ConvNd):
        rows, columns = module.weight.shape[:2]
        if module.transposed:
            rows, columns = columns, rows
        if passes or module.groups > 1:
            module.passes_channels = passes  # type: ignore[assignment]
        if passes:
            module.groups = module.groups * rows // module.out_channels
        module.out_channels, module.in_channels = rows, columns * module.groups
    elif isinstance(module, nn.Linear):
        module.out_features, module.in_features = module.weight.shape
    elif isinstance(module, nn.GroupNorm | nn.modules.batchnorm._NormBase):
        held = module.weight if module.weight is not None else module.running_mean
        correct_norm(module, len(held))
    elif isinstance(module, nn.PReLU):
        module.num_parameters = len(module.weight)
    elif isinstance(module, nn.RNNCellBase):
        module.input_size = module.weight_ih.shape[1]
    elif isinstance(module, nn.RNNBase):
        module.input_size = module.get_parameter("weight_ih_l0").shape[1]
        module._flat_weights = [getattr(module, name) for name in module._flat_weights_names]


def correct_norm(module: nn.Module, n_channels: int) -> None:
    """Update the number of channels of a normalization module."""
    if isinstance(module, nn.GroupNorm):
        module.num_groups = module.num_groups * n_channels // module.num_channels
        module.num_channels = n_channels
    else:
        module.num_features = n_channels  # type: ignore[assignment]


def correct_widths(model: nn.Module, graph: ChannelGraph, removed: Mapping[str, Tensor]) -> None:
    """Update the stored numbers of channels that the modules' tensors do not show."""
    for width in graph.widths:
        gone = slices_of(width.index, removed)
        module, left = model.get_submodule(width.module), width.size - len(gone)
        if width.attribute and len(gone):
            setattr(module, width.attribute, left)
        elif len(gone):
            correct_norm(module, left)


def correct_pads(model: nn.Module, graph: ChannelGraph, removed: Mapping[str, Tensor]) -> None:
    """Subtract the removed channels from those that padding modules add on either side."""
    for pad in graph.pads:
        gone = slices_of(pad.index, removed)
        if not len(gone):
            continue
        keep = kept_units(pad.before + pad.after, gone)
        before = int((keep < pad.before).sum())
        module: Any = model.get_submodule(pad.module)
        padding = list(module.padding)
        padding[pad.position : pad.position + 2] = [before, len(keep) - before]
        module.padding = tuple(padding)
