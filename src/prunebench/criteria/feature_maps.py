"""Feature maps of layers on training images, for criteria that look at activations.

The network runs in eval mode, without gradients, on the images that the run draws for the present
phase (`ScoringRun.samples`), so that a resumed run sees the same maps. Hooks exist only while a
batch is in the network; modes, buffers and random states stay as they were.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from prunebench.channels.groups import ChannelGroup, Member
from prunebench.channels.unit_weights import producers, scale_names
from prunebench.channels.untouched import untouched
from prunebench.core.errors import ModelError
from prunebench.core.names import unknown_name
from prunebench.criteria.base import Needs, ScoringRun

Maps = dict[str, list[Tensor]]


def feature_maps(run: ScoringRun, layers: Collection[str], needs: Needs) -> Iterator[Maps]:
    """Yield the outputs of some layers for each batch of images, by the layer's path.

    A layer has a tensor for each of its calls in a forward pass, in order: (N, C, h, w) of a
    convolution, batch norm or activation. It is a copy, taken before a following operation changes
    it in place. A layer that is not called has none.

    Raises
    ------
    ModelError
        If a path is no layer of the network, or the output of a layer is no tensor.
    """
    modules = {layer: _module(run.model, layer) for layer in layers}
    for inputs, targets in run.samples(needs):
        with untouched(run.model), torch.no_grad(), _recorded(modules) as found:
            run.loss(inputs, targets)  # the forward pass of any task, detection included
        yield found


def unit_maps(
    run: ScoringRun,
    groups: Mapping[str, ChannelGroup],
    needs: Needs,
    *,
    normalized: bool = False,
) -> Iterator[Maps]:
    """Yield the feature maps of each unit for each batch of images, by the group's name.

    A group has a tensor for each call of each layer that produces its units: the output of the
    convolution, before batch norm and activation, of shape (N, units, channels per unit, h, w). A
    unit of an ordinary convolution has one channel. The output of a linear layer has the dimensions
    of its input in place of h and w, none in a classifier. With `normalized`, the outputs are those
    of the group's batch norms, if it has any; `.relu()` gives what follows them in most networks.
    """
    norms = scale_names(run.model) if normalized else set()
    members = {
        name: [m for m in group.members if m.parameters[0] in norms] or producers(group)
        for name, group in groups.items()
    }
    layers = {_layer(member): None for own in members.values() for member in own}
    linear = {layer for layer in layers if isinstance(_module(run.model, layer), nn.Linear)}
    for maps in feature_maps(run, layers, needs):
        yield {
            name: [
                _by_unit(output, member, -1 if _layer(member) in linear else 1)
                for member in own
                for output in maps[_layer(member)]
            ]
            for name, own in members.items()
        }


def _layer(member: Member) -> str:
    """Return the path of a member's layer."""
    return member.parameters[0].rpartition(".")[0]


def _by_unit(output: Tensor, member: Member, dim: int) -> Tensor:
    """Return an output with its channels in dimension `dim` as (N, units, channels, ...)."""
    units = output.movedim(dim, 1)[:, member.index.to(output.device).flatten()]
    return units.reshape(len(units), *member.index.shape, *units.shape[2:])


def _module(model: nn.Module, layer: str) -> nn.Module:
    modules: dict[str, nn.Module] = dict(model.named_modules())
    if layer not in modules or not layer:
        raise ModelError(unknown_name("layer", layer, [name for name in modules if name]))
    return modules[layer]


@contextmanager
def _recorded(modules: Mapping[str, nn.Module]) -> Iterator[Maps]:
    """Collect the outputs of some modules within the block."""
    found: Maps = {name: [] for name in modules}

    def record(name: str, module: nn.Module, inputs: Any, output: Any) -> None:
        if not isinstance(output, Tensor):
            kind = type(output).__name__
            raise ModelError(f"layer {name!r}: its output is of the type {kind}, and no tensor")
        found[name].append(output.detach().clone())

    with ExitStack() as handles:
        for name, module in modules.items():
            handles.enter_context(module.register_forward_hook(partial(record, name)))
        yield found
