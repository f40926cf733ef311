"""Gradients of channel masks, and Group Fisher's criterion `mask_fisher` computed from them.

Source: Liu et al., Group Fisher Pruning, arXiv 2108.00708, section 3. Every layer has a mask on its
input. Coupled units share one mask element, so the gradients of its copies add up: over the
positions of a layer's input, over the input's slices that belong to one unit, over all calls of a
shared layer, and over all layers that read the unit. The importance is the square of this sum for
each image, summed over images.

No mask is multiplied in. At a mask of one, its gradient is the input times the input's gradient,
which the backward pass computes anyway. An alias of each layer's input separates it from other
uses of the same tensor.

The method `group_fisher` sums mask gradients while the network trains, and removes one unit at a
time. `mask_fisher` computes them for the present network, with batch norm's running statistics.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Annotated, Any, Literal

import torch
from pydantic import Field
from torch import Tensor, nn
from torch.utils.hooks import RemovableHandle

from prunebench.channels.costs import Costs
from prunebench.channels.examples import Example, arguments
from prunebench.channels.groups import ChannelGraph, ChannelGroup, Member
from prunebench.channels.untouched import untouched
from prunebench.core.errors import ModelError
from prunebench.criteria.base import ScoringRun
from prunebench.criteria.gradients import DataCriterion, batch_gradients

Layer = nn.modules.conv._ConvNd | nn.Linear


def readers(group: ChannelGroup) -> list[Member]:
    """Return the members that read the group's units, or, if grouped, also pass them on."""
    return [member for member in group.members if member.role in ("in", "pass")]


def is_linear(graph: ChannelGraph, member: Member) -> bool:
    """Whether a reading or producing member is the weight of a linear layer."""
    return len(graph.shapes[member.parameters[0]]) == 2


def input_channels(layer: nn.Module, member: Member) -> Tensor:
    """Return the input channels of a layer that belong to each unit, (units, channels per unit).

    >>> index = torch.tensor([[0, 1], [2, 3]])  # two filters of each group
    >>> grouped = nn.Conv2d(6, 4, 1, groups=2)
    >>> input_channels(grouped, Member(("weight",), 0, "pass", index))
    tensor([[0, 1, 2],
            [3, 4, 5]])
    """
    index = member.index
    if isinstance(layer, nn.Linear) or layer.groups == 1:
        return index
    assert isinstance(layer, nn.modules.conv._ConvNd)
    columns = layer.in_channels // layer.groups
    if member.role == "pass":  # a group's filters are consecutive and belong to one unit
        filters = layer.out_channels // layer.groups
        groups, columns_read = index[:, ::filters] // filters, torch.arange(columns)
    else:  # the same column in every group
        groups, columns_read = torch.arange(layer.groups)[None], index
    places = groups[:, :, None] * columns + columns_read.reshape(-1, 1, columns_read.shape[-1])
    return places.flatten(1)


def as_slice(channels: Tensor, device: torch.device) -> Tensor | slice:
    """Return (units, channels per unit) as a slice if possible, otherwise on `device`."""
    first = int(channels[0, 0])
    following = torch.arange(first, first + len(channels))[:, None]
    if torch.equal(channels, following):
        return slice(first, first + len(channels))
    return channels.to(device)


@dataclass(frozen=True)
class Reading:
    """The columns of the table that a layer's input adds to: units `start` to `stop`.

    `channels` are the input channels of each unit, (units, channels per unit), or a slice if each
    unit has one channel and they are consecutive.
    """

    start: int
    stop: int
    channels: Tensor | slice


class MaskGradients:
    """A table (batch, units) into which each backward pass adds the gradients of the masks.

    The passes of a step, one for each part of its batch, fill consecutive rows.

    Parameters
    ----------
    model
        The network whose layers are watched.
    groups
        The groups whose units are the table's columns, in this order.
    members
        By group, the members whose masks count; the layers must be convolutions or linear layers.
    batch
        Largest number of images in a batch.

    Raises
    ------
    ModelError
        If a weight belongs to another kind of module.
    """

    def __init__(
        self,
        model: nn.Module,
        groups: Mapping[str, ChannelGroup],
        members: Mapping[str, Sequence[Member]],
        batch: int,
    ) -> None:
        weight = next(model.parameters())
        self.model, self.rows = model, slice(0, 0)
        self.places = places(groups)
        total = sum(group.n_units for group in groups.values())
        self.table = torch.zeros(batch, total, dtype=weight.dtype, device=weight.device)
        self.layers: dict[str, Layer] = {}
        self.readings: dict[str, list[Reading]] = {}
        for name, own in members.items():
            for member in own:
                self._read(member, self.places[name])

    def _read(self, member: Member, place: slice) -> None:
        known = {id(layer): path for path, layer in self.layers.items()}
        found: set[str] = set()
        for parameter in member.parameters:
            path = parameter.rpartition(".")[0]
            layer = self.model.get_submodule(path)
            if not isinstance(layer, Layer):
                raise ModelError(
                    f"{path!r} is a {type(layer).__name__}; mask gradients need the input of a "
                    "convolution or linear layer"
                )
            found.add(known.setdefault(id(layer), path))
            self.layers[known[id(layer)]] = layer
        for path in found:
            layer = self.layers[path]
            reading = Reading(
                place.start,
                place.stop,
                as_slice(input_channels(layer, member), self.table.device),
            )
            self.readings.setdefault(path, []).append(reading)

    def watch(self) -> list[RemovableHandle]:
        """Register the hooks through which each backward pass fills the table."""
        return [
            self.model.register_forward_pre_hook(self._begin),
            *(
                layer.register_forward_pre_hook(partial(self._alias, path))
                for path, layer in self.layers.items()
            ),
        ]

    def check_called(self, example: Example) -> None:
        """Raise ModelError if a layer is never called because its weight is used elsewhere."""
        called: set[str] = set()
        handles = [
            layer.register_forward_pre_hook(lambda *call, path=path: called.add(path))
            for path, layer in self.layers.items()
        ]
        try:
            with untouched(self.model), torch.no_grad():
                self.model(*arguments(example))
        finally:
            for handle in handles:
                handle.remove()
        for path in self.layers:
            if path not in called:
                raise ModelError(f"the weight of {path!r} is used without calling {path!r}")

    def squares(self) -> Tensor:
        """Return the sum over images of (sum over copies of dL/dm)^2, (units,); clear the table.

        L is the differentiated loss, in which a single image's loss is divided by a number (the
        images of the batch, if L is their mean). Multiplied by its square, the result is the sum
        for the images' own losses, so that images of a smaller last batch count as much as others.
        """
        squares = self.table.square().sum(0)
        self.table.zero_()
        self.rows = slice(0, 0)
        return squares

    def _begin(self, model: nn.Module, args: tuple[Any, ...]) -> None:
        if torch.is_grad_enabled():  # evaluation fills no rows
            self.rows = slice(self.rows.stop, self.rows.stop + len(args[0]))

    def _alias(self, path: str, layer: nn.Module, args: tuple[Any, ...]) -> tuple[Any, ...] | None:
        x = args[0]
        if not torch.is_grad_enabled():
            return None
        if not x.requires_grad:
            raise ModelError(
                f"the input of {path!r} has no gradient: the layers before it are frozen"
            )
        # A detector says which image each sampled region belongs to.
        row_images = getattr(self.model, "row_images", None)
        return (_Alias.apply(x, partial(self._add, path, row_images)), *args[1:])

    def _add(self, path: str, row_images: Tensor | None, x: Tensor, grad: Tensor) -> None:
        """Add the mask gradients of an input (rows, c, ...), or (rows, ..., c) of a linear layer.

        A layer may see several rows per image, such as the regions of a detector. `row_images`
        holds the image of each row, int64 (rows,); without it, all images have equally many rows,
        and those of an image are consecutive.
        """
        channel = x.ndim - 1 if isinstance(self.layers[path], nn.Linear) else 1
        product = x.to(self.table.dtype) * grad
        summed = [d for d in range(1, x.ndim) if d != channel]
        sums = product.sum(summed) if summed else product
        images = self.rows.stop - self.rows.start
        if row_images is not None:
            zeros = sums.new_zeros(images, sums.shape[1])
            sums = zeros.index_add_(0, row_images, sums)
        elif len(sums) != images:
            sums = sums.reshape(images, -1, sums.shape[1]).sum(1)
        for reading in self.readings[path]:
            part = sums[:, reading.channels]
            if part.ndim == 3:
                part = part.sum(-1)
            self.table[self.rows, reading.start : reading.stop].add_(part)


class _Alias(torch.autograd.Function):
    """Return x itself; in the backward pass, pass x and its gradient to `add`.

    Unlike a hook on the alias, it frees x as soon as the backward pass no longer needs it.
    """

    @staticmethod
    def forward(ctx: Any, x: Tensor, add: Callable[[Tensor, Tensor], None]) -> Tensor:
        ctx.add = add
        ctx.save_for_backward(x)
        return x.view_as(x)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None]:
        ctx.add(*ctx.saved_tensors, grad)
        return grad, None


def places(groups: Mapping[str, ChannelGroup]) -> dict[str, slice]:
    """Return the position of each group's units in the concatenation of all groups' units."""
    found, start = {}, 0
    for name, group in groups.items():
        found[name] = slice(start, start + group.n_units)
        start += group.n_units
    return found


Normalize = Annotated[
    Literal["memory", "macs", "none"],
    Field(
        description="Divisor of a unit's score. memory: the output elements removed with the unit; "
        "macs: the multiply-accumulates removed with it; none: 1."
    ),
]


def saved_by_a_unit(
    costs: Costs, group: str, normalize: Normalize, left: Mapping[str, int] | None = None
) -> int:
    """Return the divisor of a score, for one image; `left` is the number of units by group."""
    if normalize == "none":
        return 1
    cost = costs.unit_cost(group, left)
    return cost.macs if normalize == "macs" else cost.activations


class MaskFisher(DataCriterion):
    """sum over images of (sum over copies of the mask of dL/dm)^2, per saved cost."""

    summary = "one-shot, smallest squared mask gradients of coupled units (Group Fisher's score)"

    combine: Literal["joint"] = Field(
        "joint", description="Only joint: the copies of a mask are summed before the square."
    )
    normalize: Normalize = "memory"  # costs of the present network

    def scores(self, run: ScoringRun, groups: Mapping[str, ChannelGroup]) -> dict[str, Tensor]:
        """Return the normalized score of each unit; ModelError if a mask has no gradient."""
        counted = {name: readers(group) for name, group in groups.items()}
        gradients = MaskGradients(run.model, groups, counted, self.batch)
        gradients.check_called(run.example)
        total = torch.zeros_like(gradients.table[0])
        trained = {name: p for name, p in run.params.items() if p.requires_grad}
        handles = gradients.watch()
        try:
            for images, _ in batch_gradients(run, trained, self.needs):
                total.add_(gradients.squares(), alpha=images**2)  # of the batch's mean loss
        finally:
            for handle in handles:
                handle.remove()
        return {
            name: total[place] / saved_by_a_unit(run.costs, name, self.normalize)
            for name, place in gradients.places.items()
        }
