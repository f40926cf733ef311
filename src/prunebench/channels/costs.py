"""What a network costs, as a function of the units kept in each group.

Multiply-accumulates count convolutions and linear layers only: each entry of a weight once per
position of the output, so a pruned weight's count follows from its shape alone.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

from prunebench.channels.groups import Call, ChannelGraph


@dataclass(frozen=True)
class Extent:
    """Size of a parameter's dimension: `fixed` slices and, per unit of a group, some more."""

    fixed: int
    per_unit: tuple[tuple[str, int], ...]

    def size(self, kept: Mapping[str, int]) -> int:
        """Return the size with so many units kept of every group."""
        return self.fixed + sum(kept[group] * slices for group, slices in self.per_unit)


@dataclass(frozen=True)
class Costs:
    """Multiply-accumulates and parameters, whatever is kept.

    Attributes
    ----------
    units
        Units of every prunable group.
    extents
        Per parameter and buffer, the extent of each dimension.
    calls
        Uses of convolution and linear weights.
    batch
        Examples in the traced pass.
    trainable
        Parameters that count, shared ones once.
    """

    units: dict[str, int]
    extents: dict[str, tuple[Extent, ...]]
    calls: tuple[Call, ...]
    batch: int
    trainable: tuple[str, ...]

    def macs(self, kept: Mapping[str, int] | None = None) -> int:
        """Return the multiply-accumulates of one example; groups not in `kept` keep all units."""
        return sum(self.layer_macs(kept).values())

    def layer_macs(self, kept: Mapping[str, int] | None = None) -> dict[str, int]:
        """Return the multiply-accumulates of one example by weight, in network order."""
        units = self._units(kept)
        macs: dict[str, int] = {}
        for call in self.calls:
            entries = (
                self._entries(call.weight, units) if call.weight in self.extents else call.entries
            )
            macs[call.weight] = macs.get(call.weight, 0) + call.positions * entries
        return {weight: total // self.batch for weight, total in macs.items()}

    def params(self, kept: Mapping[str, int] | None = None) -> int:
        """Return the number of trainable parameters."""
        units = self._units(kept)
        return sum(self._entries(name, units) for name in self.trainable)

    def _units(self, kept: Mapping[str, int] | None) -> dict[str, int]:
        for name in kept or {}:
            if name not in self.units:
                raise ValueError(f"unknown group {name!r}; the groups are {', '.join(self.units)}")
        return {**self.units, **(kept or {})}

    def _entries(self, name: str, units: Mapping[str, int]) -> int:
        return math.prod(extent.size(units) for extent in self.extents[name])


def costs_of(graph: ChannelGraph) -> Costs:
    """Return what the traced network costs."""
    per_unit: dict[tuple[str, int], list[tuple[str, int]]] = {}
    for group in graph.groups.values():
        for member in group.members:
            for name in member.parameters:
                per_unit.setdefault((name, member.dim), []).append(
                    (group.name, member.index.shape[1])
                )
    units = {name: group.n_units for name, group in graph.groups.items()}
    extents = {}
    for name, shape in graph.shapes.items():
        dims = []
        for dim, size in enumerate(shape):
            terms = per_unit.get((name, dim), [])
            taken = sum(units[group] * slices for group, slices in terms)
            dims.append(Extent(size - taken, tuple(terms)))
        extents[name] = tuple(dims)
    return Costs(units, extents, graph.calls, graph.batch, graph.trainable)
