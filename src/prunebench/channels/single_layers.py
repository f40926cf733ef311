"""Single convolutions as groups, for methods that zero the filters of each layer separately.

The convolutions in a sum may then have different zero filters, which no smaller network can
express. Such a method ranks the filters of layers, not the units of coupled groups.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn

from prunebench.channels.examples import Example, arguments
from prunebench.channels.groups import ChannelGraph, ChannelGroup, Member
from prunebench.channels.unit_weights import along
from prunebench.channels.untouched import untouched
from prunebench.core.errors import ConfigError


def convolutions(graph: ChannelGraph) -> dict[str, ChannelGroup]:
    """Return a group for every convolution whose channels can be removed, by path.

    In network order; a convolution that only produces the network's output is not listed.
    """
    dims = {
        member.parameters[0]: member.dim
        for group in graph.groups.values()
        for member in group.members
        if member.role in ("out", "pass")
    }
    found = {}
    for weight in dict.fromkeys(call.weight for call in graph.calls):
        if weight in dims and len(graph.shapes[weight]) > 2:
            n, path = graph.shapes[weight][dims[weight]], weight.rpartition(".")[0]
            filters = Member((weight,), dims[weight], "out", torch.arange(n)[:, None])
            found[path] = ChannelGroup(path, n, (filters,), "inside")
    return found


def norms_behind(model: nn.Module, example: Example) -> dict[str, str]:
    """Return the path of the batch norm that reads a convolution's output, by the convolution's.

    Observed while the network runs, so that neither names nor the order of definition matter. A
    norm after a sum, a concatenation or another layer belongs to no single convolution and is not
    listed, and neither are several norms that share a convolution.
    """
    outputs: dict[int, tuple[str, Any]] = {}  # by id; the tensors stay alive, so ids are unique
    pairs: set[tuple[str, str]] = set()

    def follow(path: str, module: nn.Module, args: tuple[Any, ...], out: Any) -> None:
        if isinstance(module, nn.modules.conv._ConvNd):
            outputs[id(out)] = (path, out)
        elif id(args[0]) in outputs:
            pairs.add((outputs[id(args[0])][0], path))

    handles = [
        module.register_forward_hook(lambda *call, path=path: follow(path, *call))
        for path, module in model.named_modules()
        if isinstance(module, nn.modules.conv._ConvNd)
        or (isinstance(module, nn.modules.batchnorm._BatchNorm) and module.affine)
    ]
    try:
        with untouched(model), torch.no_grad():
            model(*arguments(example))
    finally:
        for handle in handles:
            handle.remove()
    often = Counter(path for pair in pairs for path in pair)
    return {conv: norm for conv, norm in pairs if often[conv] == often[norm] == 1}


def with_norms(
    layers: Mapping[str, ChannelGroup], norms: Mapping[str, str]
) -> dict[str, ChannelGroup]:
    """Add the scale and shift of their batch norms to the groups of convolutions.

    Raises
    ------
    ConfigError
        If a convolution has no batch norm of its own.
    """
    found = {}
    for path, layer in layers.items():
        if path not in norms:
            raise ConfigError(
                f"norms 'decay': no batch norm reads the output of {path!r} alone; "
                "use norms 'keep' or scope 'group'"
            )
        index = torch.arange(layer.n_units)[:, None]
        vectors = [Member((f"{norms[path]}.{n}",), 0, "vector", index) for n in ("weight", "bias")]
        found[path] = replace(layer, members=(*layer.members, *vectors))
    return found


def entry_mask(tensor: Tensor, member: Member, kept: Tensor) -> Tensor:
    """Return a bool mask of the tensor's shape, False in the slices of units that are not kept.

    `kept` is bool, (units,).
    """
    slices = torch.ones(tensor.shape[member.dim], dtype=torch.bool, device=kept.device)
    slices[member.index.to(kept.device)] = kept[:, None]
    return along(slices, member.dim, tensor.ndim).expand(tensor.shape)
