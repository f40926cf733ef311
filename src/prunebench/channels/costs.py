"""Costs of a network as a function of the number of units kept in each group.

Multiply-accumulates count convolutions and linear layers only: each entry of a weight once per
position of the output, so that the count of a pruned weight follows from its shape. The number of
output elements follows from it too; Group Fisher Pruning (Liu et al., arXiv 2108.00708) uses it as
the memory cost.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property

from prunebench.channels.groups import Call, ChannelGraph


@dataclass(frozen=True)
class Extent:
    """Size of a parameter's dimension: `fixed` slices, plus some per kept unit of a group."""

    fixed: int
    per_unit: tuple[tuple[str, int], ...]

    def size(self, kept: Mapping[str, int]) -> int:
        """Return the size for these numbers of kept units."""
        return self.fixed + sum(kept[group] * slices for group, slices in self.per_unit)


@dataclass(frozen=True)
class UnitCost:
    """Costs saved by removing one unit; integers, for one example."""

    macs: int
    params: int
    activations: int


@dataclass(frozen=True)
class Costs:
    """Multiply-accumulates, parameters and output elements for any number of kept units.

    In all methods, `kept` maps groups to their number of kept units; other groups keep all units.

    Attributes
    ----------
    units
        Number of units of every prunable group.
    extents
        Extent of each dimension, by parameter or buffer; of rows and the rest for a computed weight
        that loses rows.
    calls
        Uses of convolution and linear weights.
    batch
        Number of examples in the traced pass.
    trainable
        Parameters that count; a shared parameter counts once.
    """

    units: dict[str, int]
    extents: dict[str, tuple[Extent, ...]]
    calls: tuple[Call, ...]
    batch: int
    trainable: tuple[str, ...]

    def macs(self, kept: Mapping[str, int] | None = None) -> int:
        """Return the multiply-accumulates of one example."""
        return sum(self.layer_macs(kept).values())

    def layer_macs(self, kept: Mapping[str, int] | None = None) -> dict[str, int]:
        """Return the multiply-accumulates of one example by weight, in network order."""
        return self._by_weight(self._call_macs, kept)

    def activations(self, kept: Mapping[str, int] | None = None) -> int:
        """Return the output elements of all convolutions and linear layers for one example."""
        return sum(self.layer_activations(kept).values())

    def layer_activations(self, kept: Mapping[str, int] | None = None) -> dict[str, int]:
        """Return the output elements of one example by weight (all its calls), in network order."""
        return self._by_weight(self._call_outputs, kept)

    def params(self, kept: Mapping[str, int] | None = None) -> int:
        """Return the number of trainable parameters."""
        units = self._units(kept)
        return sum(self._entries(name, units) for name in self.trainable)

    def weight_sizes(self, kept: Mapping[str, int] | None = None) -> dict[str, tuple[int, ...]]:
        """Return the size of each dimension of the convolution and linear weights, by name."""
        units = self._units(kept)
        return {
            call.weight: tuple(extent.size(units) for extent in self.extents.get(call.weight, ()))
            for call in self.calls
        }

    def unit_cost(self, group: str, kept: Mapping[str, int] | None = None) -> UnitCost:
        """Return the costs that removing one more unit of `group` saves, given the kept units.

        Exactly `costs(kept) - costs(kept without the unit)`, computed from the cut weights alone.

        Raises
        ------
        ValueError
            If the group is unknown or has no unit left.
        """
        before = self._units({group: self.units.get(group, 0), **(kept or {})})
        if before[group] < 1:
            raise ValueError(f"group {group!r} has no unit left")
        after = {**before, group: before[group] - 1}
        touched = self._touched[group]
        calls = [call for call in self.calls if call.weight in touched]
        return UnitCost(
            macs=sum(self._call_macs(c, before) - self._call_macs(c, after) for c in calls)
            // self.batch,
            params=sum(
                self._entries(name, before) - self._entries(name, after)
                for name in self.trainable
                if name in touched
            ),
            activations=sum(
                self._call_outputs(c, before) - self._call_outputs(c, after) for c in calls
            )
            // self.batch,
        )

    def _by_weight(
        self, count: Callable[[Call, Mapping[str, int]], int], kept: Mapping[str, int] | None
    ) -> dict[str, int]:
        """Return the sum of a count over the calls of each weight, for one example."""
        units = self._units(kept)
        totals: dict[str, int] = {}
        for call in self.calls:
            totals[call.weight] = totals.get(call.weight, 0) + count(call, units)
        return {weight: total // self.batch for weight, total in totals.items()}

    @cached_property
    def _touched(self) -> dict[str, set[str]]:
        """Return the parameters that each group cuts."""
        touched: dict[str, set[str]] = {group: set() for group in self.units}
        for name, dims in self.extents.items():
            for extent in dims:
                for group, _ in extent.per_unit:
                    touched[group].add(name)
        return touched

    def _call_macs(self, call: Call, units: Mapping[str, int]) -> int:
        known = call.weight in self.extents
        return call.positions * (self._entries(call.weight, units) if known else call.entries)

    def _call_outputs(self, call: Call, units: Mapping[str, int]) -> int:
        if call.weight not in self.extents:
            return call.outputs
        rows = self.extents[call.weight][call.dim]
        return call.outputs // rows.size(self.units) * rows.size(units)

    def _units(self, kept: Mapping[str, int] | None) -> dict[str, int]:
        for name in kept or {}:
            if name not in self.units:
                raise ValueError(f"unknown group {name!r}; the groups are {', '.join(self.units)}")
        return {**self.units, **(kept or {})}

    def _entries(self, name: str, units: Mapping[str, int]) -> int:
        return math.prod(extent.size(units) for extent in self.extents[name])


def costs_of(graph: ChannelGraph) -> Costs:
    """Return the costs of the traced network."""
    per_unit: dict[tuple[str, int], dict[str, int]] = {}
    for group in graph.groups.values():
        for member in group.members:
            for name in member.parameters:
                per_unit.setdefault((name, member.dim), {})[group.name] = member.index.shape[1]
    shapes = dict(graph.shapes)
    for call in graph.calls:
        if call.rows:
            shapes[call.weight] = (call.rows, call.entries // call.rows)
            per_unit[call.weight, call.dim] = dict(call.per_unit)
    units = {name: group.n_units for name, group in graph.groups.items()}
    extents = {}
    for name, shape in shapes.items():
        dims = []
        for dim, size in enumerate(shape):
            terms = per_unit.get((name, dim), {})
            taken = sum(units[group] * slices for group, slices in terms.items())
            dims.append(Extent(size - taken, tuple(terms.items())))
        extents[name] = tuple(dims)
    return Costs(units, extents, graph.calls, graph.batch, graph.trainable)
